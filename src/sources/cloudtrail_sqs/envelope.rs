//! The message bodies of protocols.md §3.5, told apart one by one: any of them may come, mixed, without a setting.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// How often a message may be inside a message: S3 in SNS, or S3 in `EventBridge` in SNS.
const LAYERS_MAX: usize = 3;
/// What `CloudTrail` sends to a topic to see that it may.
const VALIDATION: &str = "CloudTrail validation message.";

/// An object that a message announces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectRef {
    /// The bucket.
    pub bucket: String,
    /// The key, decoded.
    pub key: String,
    /// The version, where the bucket has versions.
    pub version: Option<String>,
    /// The entity tag.
    pub etag: Option<String>,
    /// The bucket's region, where the message says it.
    pub region: Option<String>,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Envelope {
    /// The objects that it announces.
    pub objects: Vec<ObjectRef>,
    /// What else it says, by reason: tests, removals, other services.
    pub skipped: Vec<&'static str>,
    /// Records among good ones that say nothing that we understand, each with why.
    pub bad: Vec<String>,
}

#[derive(Deserialize)]
struct Body<'b> {
    #[serde(rename = "Type", borrow)]
    kind: Option<Cow<'b, str>>,
    #[serde(rename = "Message", borrow)]
    message: Option<&'b RawValue>,
    #[serde(rename = "Event", borrow)]
    event: Option<Cow<'b, str>>,
    #[serde(rename = "Records", borrow)]
    records: Option<&'b RawValue>,
    #[serde(rename = "detail-type", borrow)]
    detail_type: Option<Cow<'b, str>>,
    #[serde(borrow)]
    source: Option<Cow<'b, str>>,
    #[serde(borrow)]
    region: Option<Cow<'b, str>>,
    #[serde(borrow)]
    detail: Option<&'b RawValue>,
    #[serde(rename = "s3Bucket", borrow)]
    s3_bucket: Option<Cow<'b, str>>,
    #[serde(rename = "s3ObjectKey", borrow)]
    s3_object_key: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct S3Record<'b> {
    #[serde(rename = "eventVersion", default, borrow)]
    version: Cow<'b, str>,
    #[serde(rename = "eventSource", default, borrow)]
    source: Cow<'b, str>,
    #[serde(rename = "eventName", default, borrow)]
    name: Cow<'b, str>,
    #[serde(rename = "awsRegion", borrow)]
    region: Option<Cow<'b, str>>,
    #[serde(borrow)]
    s3: Option<S3Part<'b>>,
}

#[derive(Deserialize)]
struct S3Part<'b> {
    #[serde(borrow)]
    bucket: Named<'b>,
    #[serde(borrow)]
    object: Object<'b>,
}

#[derive(Deserialize)]
struct Named<'b> {
    #[serde(borrow)]
    name: Cow<'b, str>,
}

#[derive(Deserialize)]
struct Object<'b> {
    #[serde(borrow)]
    key: Cow<'b, str>,
    #[serde(rename = "versionId", alias = "version-id", borrow)]
    version: Option<Cow<'b, str>>,
    #[serde(rename = "eTag", alias = "etag", borrow)]
    etag: Option<Cow<'b, str>>,
}

#[derive(Deserialize)]
struct Detail<'b> {
    #[serde(borrow)]
    bucket: Named<'b>,
    #[serde(borrow)]
    object: Object<'b>,
    #[serde(rename = "event-version", borrow)]
    event_version: Option<Cow<'b, str>>,
}

/// Reads a message body. An error says why it is in no form that we know.
pub fn read_envelope(body: &str) -> Result<Envelope, String> {
    let mut envelope = Envelope::default();
    read_layer(body, LAYERS_MAX, &mut envelope)?;
    Ok(envelope)
}

fn read_layer(text: &str, layers: usize, out: &mut Envelope) -> Result<(), String> {
    if text.trim() == VALIDATION {
        out.skipped.push("validation");
        return Ok(());
    }
    let body: Body<'_> = serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))?;
    if let (Some("Notification") | None, Some(message)) = (body.kind.as_deref(), body.message) {
        if let Ok(inner) = serde_json::from_str::<String>(message.get()) {
            return match layers.checked_sub(1) {
                Some(layers) => read_layer(&inner, layers, out),
                None => Err(format!("a message inside a message more than {LAYERS_MAX} deep")),
            };
        }
    }
    if matches!(body.kind.as_deref(), Some("SubscriptionConfirmation" | "UnsubscribeConfirmation")) {
        out.skipped.push("subscription");
        return Ok(());
    }
    if body.event.as_deref() == Some("s3:TestEvent") {
        out.skipped.push("test_event");
        return Ok(());
    }
    if let Some(records) = body.records {
        return s3_records(records.get(), out);
    }
    if let (Some(detail_type), Some("aws.s3")) = (body.detail_type.as_deref(), body.source.as_deref()) {
        return event_bridge(detail_type, body.detail, body.region.as_deref(), out);
    }
    if let (Some(bucket), Some(keys)) = (body.s3_bucket, body.s3_object_key) {
        return cloudtrail_notice(&bucket, keys.get(), out);
    }
    Err("a JSON object that is no notification of S3, SNS, EventBridge or CloudTrail".to_owned())
}

fn s3_records(records: &str, out: &mut Envelope) -> Result<(), String> {
    let records: Vec<&RawValue> = serde_json::from_str(records).map_err(|_| "`Records` is not an array".to_owned())?;
    if records.is_empty() {
        out.skipped.push("empty");
    }
    for record in records {
        if let Err(why) = s3_record(record.get(), out) {
            out.bad.push(why);
        }
    }
    match out.bad.first() {
        Some(why) if out.objects.is_empty() && out.skipped.is_empty() => Err(why.clone()),
        _ => Ok(()),
    }
}

fn s3_record(record: &str, out: &mut Envelope) -> Result<(), String> {
    let record: S3Record<'_> = serde_json::from_str(record).map_err(|error| format!("a record of S3 that does not read: {error}"))?;
    if record.source != "aws:s3" {
        return Err(format!("a record of `{}`, not of aws:s3", record.source));
    }
    if !record.name.trim_start_matches("s3:").starts_with("ObjectCreated:") {
        out.skipped.push("not_created");
        return Ok(());
    }
    if !record.version.is_empty() && record.version.split('.').next() != Some("2") {
        return Err(format!("a record of S3 in version {}; we know 2.x", record.version));
    }
    let s3 = record.s3.ok_or_else(|| "a record of S3 without its `s3` member".to_owned())?;
    out.objects.push(object(s3.bucket, s3.object, record.region.as_deref(), form_decoded));
    Ok(())
}

fn object(bucket: Named<'_>, object: Object<'_>, region: Option<&str>, key: impl Fn(&str) -> String) -> ObjectRef {
    ObjectRef {
        bucket: bucket.name.into_owned(),
        key: key(&object.key),
        version: object.version.map(Cow::into_owned).filter(|it| !it.is_empty() && it != "null"),
        etag: object.etag.map(|it| it.trim_matches('"').to_owned()).filter(|it| !it.is_empty()),
        region: region.map(str::to_owned),
    }
}

fn event_bridge(detail_type: &str, detail: Option<&RawValue>, region: Option<&str>, out: &mut Envelope) -> Result<(), String> {
    if detail_type != "Object Created" {
        out.skipped.push("not_created");
        return Ok(());
    }
    let detail = detail.ok_or_else(|| "an event of EventBridge without its `detail`".to_owned())?;
    let detail: Detail<'_> =
        serde_json::from_str(detail.get()).map_err(|error| format!("an event of EventBridge that does not read: {error}"))?;
    if let Some(version) = detail.event_version.filter(|it| !matches!(it.split('.').next(), Some("0" | "1"))) {
        return Err(format!("an event of EventBridge in version {version}; we know 1.x"));
    }
    // Not form-encoded here, other than in S3's own messages.
    out.objects.push(object(detail.bucket, detail.object, region, str::to_owned));
    Ok(())
}

fn cloudtrail_notice(bucket: &str, keys: &str, out: &mut Envelope) -> Result<(), String> {
    let keys: Vec<String> = match serde_json::from_str(keys) {
        Ok(keys) => keys,
        Err(_) => vec![serde_json::from_str(keys).map_err(|_| "`s3ObjectKey` is not a list of keys".to_owned())?],
    };
    if keys.is_empty() {
        out.skipped.push("empty");
    }
    out.objects.extend(keys.into_iter().map(|key| ObjectRef { bucket: bucket.to_owned(), key, ..ObjectRef::default() }));
    Ok(())
}

/// `+` is a space, then `%XX` are bytes: in that order (protocols.md §3.1).
fn form_decoded(key: &str) -> String {
    let mut out = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = if *first == b'%' {
            tail.get(..2).filter(|it| it.iter().all(u8::is_ascii_hexdigit)).and_then(|it| std::str::from_utf8(it).ok())
        } else {
            None
        };
        match (first, hex.and_then(|it| u8::from_str_radix(it, 16).ok())) {
            (_, Some(byte)) => {
                out.push(byte);
                rest = &tail[2..];
                continue;
            }
            (b'+', None) => out.push(b' '),
            (byte, None) => out.push(*byte),
        }
        rest = tail;
    }
    String::from_utf8(out).unwrap_or_else(|_| key.to_owned())
}

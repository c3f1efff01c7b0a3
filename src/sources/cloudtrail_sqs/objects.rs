//! One announced object, from its name to a durable outcome.

use super::clients::Clients;
use super::config::{BucketConfig, CloudTrailSqsConfig};
use super::envelope::ObjectRef;
use super::fetch::{FetchError, Fetched, Room, fetch};
use super::key::{KeyKind, key_account, key_kind};
use crate::clock::Stopwatch;
use crate::metrics;
use crate::sources::{Delivery, Due, MEMORY_BYTES_MAX, NotTaken, Outcome, SetAside, Surroundings, next_try_ms};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Waits between tries of an object that is denied, before it is set aside: within a minute.
const DENIED_WAITS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];
/// The wait before a missing object is asked for once more.
const MISSING_WAITS: [Duration; 1] = [Duration::from_secs(2)];

/// What works on objects needs.
pub(super) struct Objects {
    pub(super) config: CloudTrailSqsConfig,
    pub(super) at: Surroundings,
    pub(super) clients: Clients,
    /// Bytes of objects in memory.
    bytes: Arc<Semaphore>,
    /// Buckets that deny: their objects are set aside at once, until one of them can be read again.
    denied: Mutex<HashSet<String>>,
}

impl Objects {
    pub(super) async fn new(config: CloudTrailSqsConfig, at: Surroundings) -> Self {
        let clients = Clients::new(&config).await;
        let bytes = Arc::new(Semaphore::new((config.in_flight_bytes_max as usize).max(MEMORY_BYTES_MAX as usize)));
        Self { config, at, clients, bytes, denied: Mutex::default() }
    }

    /// Reads an object and hands it over. `Ok`: what the message said of it is durable.
    pub(super) async fn take(&self, object: &ObjectRef) -> Result<(), NotTaken> {
        let skip = match key_kind(&object.key) {
            KeyKind::Log => None,
            KeyKind::Digest => Some("digest"),
            KeyKind::UnknownKind => Some("unknown_kind"),
            KeyKind::OtherProducer => Some("other_producer"),
            KeyKind::Folder => Some("folder"),
        };
        if let Some(reason) = skip {
            return self.skip(reason).await;
        }
        let name = object_name(object);
        if self.at.handoff.has_read(&name).await? {
            return self.skip("already_read").await;
        }
        let Some(bucket) = self.bucket(&object.bucket) else {
            let detail = format!("bucket `{}` is not under `buckets:`; add it there if it is yours", object.bucket);
            return self.park(object, "bucket_not_allowed", detail, None).await;
        };
        match self.fetch_patiently(bucket, object).await {
            Ok(fetched) => self.deliver(bucket, object, fetched, |_| {}).await,
            Err(FetchError::Passing(why)) => Err(NotTaken(why)),
            Err(error) => {
                let next = next_try_ms(self.at.clock.now_ms(), 0);
                self.park(object, reason(&error), error.to_string(), Some(next)).await
            }
        }
    }

    /// Fetches an entry of the quarantine again.
    pub(super) async fn retry(&self, due: &Due) -> Result<(), NotTaken> {
        let Some(object) = parse_pointer(&due.pointer) else {
            return self.at.handoff.postpone(due.id, i64::MAX, "its pointer does not read".to_owned()).await;
        };
        let next = next_try_ms(self.at.clock.now_ms(), due.tries + 1);
        let Some(bucket) = self.bucket(&object.bucket) else {
            return self.at.handoff.postpone(due.id, next, format!("bucket `{}` is not under `buckets:`", object.bucket)).await;
        };
        match self.fetch(bucket, &object).await {
            Ok(fetched) => {
                let id = due.id;
                self.deliver(bucket, &object, fetched, |delivery| {
                    delivery.is_again = true;
                    delivery.settles = vec![id];
                    delivery.settles_uri = true;
                })
                .await
            }
            Err(error) => self.at.handoff.postpone(due.id, next, error.to_string()).await,
        }
    }

    fn bucket(&self, name: &str) -> Option<&BucketConfig> {
        self.config.buckets.iter().find(|it| it.name == name)
    }

    async fn skip(&self, reason: &'static str) -> Result<(), NotTaken> {
        let mut delivery = Delivery::new(&self.config.name, String::new());
        delivery.skipped = vec![(reason, 1)];
        self.at.handoff.deliver(delivery).await.map(|_| ())
    }

    async fn park(&self, object: &ObjectRef, reason: &'static str, detail: String, next_try_ms: Option<i64>) -> Result<(), NotTaken> {
        tracing::warn!(source = self.config.name, uri = uri(object), reason, detail, "set aside");
        let mut delivery = Delivery::new(&self.config.name, uri(object));
        delivery.pointer = Some(object_name(object));
        delivery.set_aside = Some(SetAside { reason, detail, bytes: 0, excerpt: Vec::new(), next_try_ms });
        self.at.handoff.deliver(delivery).await.map(|_| ())
    }

    /// Fetches, and where the answer may be a passing one, asks again after a while.
    async fn fetch_patiently(&self, bucket: &BucketConfig, object: &ObjectRef) -> Result<Fetched, FetchError> {
        let mut tries = 0;
        loop {
            let result = self.fetch(bucket, object).await;
            let waits = match &result {
                Err(FetchError::Denied(_) | FetchError::KmsDenied(_)) if !self.is_denied(&bucket.name) => &DENIED_WAITS[..],
                Err(FetchError::NotFound(_)) => &MISSING_WAITS[..],
                _ => &[],
            };
            let Some(wait) = waits.get(tries) else {
                self.note_access(&bucket.name, &result);
                return result;
            };
            tries += 1;
            if !self.at.wait(*wait).await {
                return Err(FetchError::Passing("stopping".to_owned()));
            }
        }
    }

    fn is_denied(&self, bucket: &str) -> bool {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner).contains(bucket)
    }

    fn note_access(&self, bucket: &str, result: &Result<Fetched, FetchError>) {
        let who = format!("{}: bucket {bucket}", self.config.name);
        let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(_) => {
                denied.remove(bucket);
                self.at.health.up(&who);
            }
            Err(error @ (FetchError::Denied(_) | FetchError::KmsDenied(_))) => {
                denied.insert(bucket.to_owned());
                self.at.health.down(&who, error.to_string());
            }
            Err(_) => {}
        }
    }

    async fn fetch(&self, bucket: &BucketConfig, object: &ObjectRef) -> Result<Fetched, FetchError> {
        let metrics = &self.at.metrics;
        let watch = Stopwatch::start();
        let result = fetch(&self.clients, bucket, object, &Room { memory: &self.bytes, spool: &self.at.handoff.spool() }).await;
        metrics.observe(&metrics::FETCH, &self.config.name, watch.elapsed());
        if let Err(error) = &result {
            metrics.add(&metrics::ERRORS, &self.config.name, reason(error), 1.0);
        }
        result
    }

    /// Hands the object over. Bad bytes are fetched once more: perhaps the way here spoiled them.
    async fn deliver(
        &self,
        bucket: &BucketConfig,
        object: &ObjectRef,
        fetched: Fetched,
        more: impl Fn(&mut Delivery),
    ) -> Result<(), NotTaken> {
        let mut fetched = fetched;
        for is_final in [false, true] {
            let mut delivery = Delivery::new(&self.config.name, uri(object));
            delivery.bytes = fetched.bytes;
            delivery.input = fetched.input.clone();
            delivery.object = Some(object_name(object));
            delivery.pointer = Some(object_name(object));
            delivery.key_account = key_account(&object.key);
            delivery.is_final = is_final;
            more(&mut delivery);
            match self.at.handoff.deliver(delivery).await? {
                Outcome::Done => return Ok(()),
                Outcome::Suspect(why) => {
                    tracing::debug!(uri = uri(object), why, "fetched once more");
                    // The first is let go before there is a second.
                    drop(fetched);
                    fetched = self.fetch(bucket, object).await.map_err(|it| NotTaken(it.to_string()))?;
                }
            }
        }
        Ok(())
    }
}

fn reason(error: &FetchError) -> &'static str {
    match error {
        FetchError::Denied(_) => "access_denied",
        FetchError::KmsDenied(_) => "kms_denied",
        FetchError::NotFound(_) => "not_found",
        FetchError::Passing(_) => "passing",
    }
}

/// `s3://bucket/key`, as events name their origin.
pub(super) fn uri(object: &ObjectRef) -> String {
    format!("s3://{}/{}", object.bucket, object.key)
}

/// The object's name in the ledger, from which it can be fetched again: bucket, key, and the version or else the
/// etag, apart by a character that no bucket or key holds.
fn object_name(object: &ObjectRef) -> String {
    let (kind, which) = match (&object.version, &object.etag) {
        (Some(version), _) => ("v", version.as_str()),
        (None, Some(etag)) => ("e", etag.as_str()),
        (None, None) => ("", ""),
    };
    format!("{}\u{1f}{}\u{1f}{kind}\u{1f}{which}", object.bucket, object.key)
}

fn parse_pointer(pointer: &str) -> Option<ObjectRef> {
    let mut parts = pointer.split('\u{1f}').map(str::to_owned);
    let (bucket, key, kind, which) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let of = |wanted| (kind == wanted).then(|| which.clone());
    Some(ObjectRef { bucket, key, version: of("v"), etag: of("e"), region: None })
}

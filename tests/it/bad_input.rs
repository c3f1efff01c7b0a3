//! Bad input of every kind: set aside with its reason, counted, and its neighbours stored.

use crate::support::aws::{Aws, s3_message};
use crate::support::{TestApp, gz, object, output, record, stdout};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn good(id: &str) -> Value {
    record(id, "2026-01-02T03:04:05Z", "DescribeInstances")
}

type Case = (&'static str, Vec<u8>, Vec<&'static str>, Vec<&'static str>);

/// Name, bytes, the ids that are stored, the reasons that are given.
fn cases() -> Vec<Case> {
    let (a, b) = (good("a").to_string(), good("b").to_string());
    let records = |inner: &str| format!("{{\"Records\":[{inner}]}}").into_bytes();
    let bomb = gz(&vec![0; 256 << 20]);
    let whole = object(&[good("a"), good("b")]);
    let big = {
        let mut it = good("big");
        it["requestParameters"] = json!({"x": "y".repeat(1 << 20)});
        it.to_string()
    };
    let huge = {
        let mut it = good("huge");
        it["requestParameters"] = json!({"x": "y".repeat(17 << 20)});
        it.to_string()
    };
    let deep = a.replace("\"requestParameters\":null", &format!("\"requestParameters\":{}1{}", "[".repeat(10_000), "]".repeat(10_000)));
    let odd =
        a.replace("\"requestParameters\":null", r#""requestParameters":{"k":1,"k":2,"s":"\ud800","n":123456789012345678901234567890}"#);
    vec![
        ("plain.json.gz", records(&a), vec!["a"], vec![]),
        ("gzip-without-the-name", whole.clone(), vec!["a", "b"], vec![]),
        ("cut.json.gz", whole[..whole.len() - 12].to_vec(), vec!["a"], vec!["cut_gzip"]),
        ("tail.json.gz", [whole.clone(), b"tail".to_vec()].concat(), vec!["a", "b"], vec!["bytes_after_gzip"]),
        ("two-members", [gz(format!("{a}\n").as_bytes()), gz(b.as_bytes())].concat(), vec!["a", "b"], vec![]),
        ("bomb", bomb, vec![], vec!["not_json"]),
        ("spaces", gz(&vec![b' '; 17 << 20]), vec![], vec!["too_much_space"]),
        ("missing", b"{\"foo\":1}".to_vec(), vec![], vec!["not_a_record"]),
        ("empty-records", b"{\"Records\":[]}".to_vec(), vec![], vec![]),
        ("empty", vec![], vec![], vec![]),
        ("no-array", b"{\"Records\":{\"a\":1}}".to_vec(), vec![], vec!["records_not_array"]),
        ("a-string", records(&format!("{a},\"text, with ]\",{b}")), vec!["a", "b"], vec!["not_an_object"]),
        ("bad-middle", records(&format!("{a},{{\"eventID\": oops}},{b}")), vec!["a", "b"], vec!["bad_record"]),
        ("open-quote", records(&format!("{a},{{\"eventID\":\"x}},{b}")), vec!["a", "b"], vec!["bad_record"]),
        (
            "utf8",
            [&records(&a)[..records(&a).len() - 2], b",{\"eventID\":\"\xff\"},", b.as_bytes(), b"]}"].concat(),
            vec!["a", "b"],
            vec!["invalid_utf8"],
        ),
        ("utf8-outside", [b"{\"x\":\"\xff\",\"Records\":[", a.as_bytes(), b"]}"].concat(), vec!["a"], vec![]),
        ("utf8-one", [&a.as_bytes()[..a.len() - 1], b",\"x\":\"\xff\"}"].concat(), vec![], vec!["invalid_utf8"]),
        ("cut.json", records(&format!("{a},{b}"))[..a.len() + 40].to_vec(), vec!["a"], vec!["cut"]),
        ("big", records(&format!("{a},{big},{b}")), vec!["a", "b", "big"], vec![]),
        ("huge", records(&format!("{a},{huge},{b}")), vec!["a", "b"], vec!["record_too_large"]),
        ("deep", records(&format!("{deep},{b}")), vec!["b"], vec!["too_deep"]),
        ("odd", records(&odd), vec!["a"], vec![]),
        ("late-key", format!("{{\"x\":{{\"y\":[1]}},\"Records\":[{a}],\"z\":2}}").into_bytes(), vec!["a"], vec![]),
        ("array", format!("[{a},{b}]").into_bytes(), vec!["a", "b"], vec![]),
        ("one", a.clone().into_bytes(), vec!["a"], vec![]),
        ("back-to-back", format!("{a}{b}").into_bytes(), vec!["a", "b"], vec![]),
        ("lines", format!("first line\n{a}\n{{broken\n{b}\n").into_bytes(), vec!["a", "b"], vec!["bad_record", "bad_record"]),
        ("binary", vec![0x7f, b'E', b'L', b'F', 0, 1, 2], vec![], vec!["not_json"]),
    ]
}

fn by_uri(values: &[Value], name: impl Fn(&Value) -> String) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for value in values {
        let uri = value["origin"]["uri"].as_str().unwrap();
        found.entry(uri.rsplit('/').next().unwrap().to_owned()).or_default().push(name(value));
    }
    for it in found.values_mut() {
        it.sort();
    }
    found
}

/// The same ids in every case would be repeats: each case gets its own.
fn own_ids(name: &str, bytes: &[u8]) -> Vec<u8> {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return bytes.to_vec();
    }
    let text: Vec<u8> = bytes.to_vec();
    let mut out = Vec::new();
    let mut rest = &text[..];
    while let Some(at) = rest.windows(11).position(|it| it == b"\"eventID\":\"") {
        out.extend_from_slice(&rest[..at + 11]);
        out.extend_from_slice(format!("{name}-").as_bytes());
        rest = &rest[at + 11..];
    }
    out.extend_from_slice(rest);
    out
}

#[test]
fn each_kind_in_a_folder() {
    for (name, bytes, expected, reasons) in cases() {
        let app = TestApp::new().folder("files");
        app.file(&format!("files/{name}"), own_ids(name, &bytes));
        let sum = app.drain();
        assert_eq!(sum["stored"], expected.len(), "{name}: {sum}");
        assert_eq!(sum["quarantined"], reasons.len(), "{name}: {sum}");
        let parked: Vec<_> = app.quarantine().iter().map(|it| it["reason"].as_str().unwrap().to_owned()).collect();
        assert_eq!(parked, reasons, "{name}");
        assert_eq!(app.drain()["received"], 0, "{name}: read again without a change");
    }
}

#[test]
fn each_kind_through_the_queue() {
    let aws = Aws::start();
    let queue = aws.queue("bad");
    let key = |name: &str| format!("AWSLogs/111122223333/CloudTrail/us-east-1/2026/01/02/{name}");
    let mut bodies = Vec::new();
    for (name, bytes, ..) in cases().into_iter().filter(|(_, bytes, ..)| !bytes.starts_with(&[0x1f, 0x8b])) {
        aws.put(&key(name), own_ids(name, &bytes));
        bodies.push(s3_message(&key(name)));
    }
    aws.send(&queue, &bodies);
    let app = TestApp::new().source(aws.source(&queue));
    app.drain();
    assert_eq!(aws.depth(&queue), 0, "bad input is acknowledged");
    let gzipped = |name: &str| cases().iter().any(|(it, bytes, ..)| *it == name && bytes.starts_with(&[0x1f, 0x8b]));
    let ids = |it: &Value| it["raw"]["eventID"].as_str().unwrap().rsplit('-').next().unwrap().to_owned();
    let (stored, parked) = (by_uri(&app.search(""), ids), by_uri(&app.quarantine(), |it| it["reason"].as_str().unwrap().to_owned()));
    for (name, _, expected, reasons) in cases().into_iter().filter(|(name, ..)| !gzipped(name)) {
        assert_eq!(stored.get(name).cloned().unwrap_or_default(), expected, "{name}: stored");
        assert_eq!(parked.get(name).cloned().unwrap_or_default(), reasons, "{name}: set aside");
    }
}

#[test]
fn a_gzip_cut_at_any_byte_keeps_every_whole_record_before_the_cut() {
    let records: Vec<_> = (0..40).map(|n| good(&format!("event-{n}"))).collect();
    let whole = object(&records);
    let app = TestApp::new();
    for cut in (1..whole.len()).step_by(7) {
        app.file("cut.json.gz", &whole[..cut]);
        let path = app.path("cut.json.gz");
        let output = output(&["replay", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "cut at {cut}");
        let ids: Vec<_> =
            crate::support::lines(&stdout(&output)).iter().map(|it| it["raw"]["eventID"].as_str().unwrap().to_owned()).collect();
        let expected: Vec<_> = (0..ids.len()).map(|n| format!("event-{n}")).collect();
        assert_eq!(ids, expected, "cut at {cut}");
    }
}

#[test]
fn odd_values_come_through_as_they_were() {
    let app = TestApp::new().folder("files");
    let (_, bytes, ..) = cases().into_iter().find(|(name, ..)| *name == "odd").unwrap();
    app.file("files/odd", bytes);
    app.drain();
    let data = app.data();
    let found = stdout(&output(&["search", "requestParameters.k = 2", "--data-dir", data.to_str().unwrap(), "--output", "json"]));
    assert!(found.contains(r#""requestParameters":{"k":1,"k":2,"s":"\ud800","n":123456789012345678901234567890}"#), "{found}");
    assert!(found.contains("duplicate_key"), "{found}");
    assert_eq!(app.search("requestParameters.k = 1").len(), 0, "of a key twice the last counts");
    assert_eq!(app.search("requestParameters.n = \"123456789012345678901234567890\"").len(), 1);
}

//! Audit events cut at any byte: a marked event or a quarantined one, its neighbours whole, and no secret of it anywhere.

use crate::support::planted::Planted;
use crate::support::{TestApp, root, shared};
use planewatch::decode::{Buffers, Item, Records};
use planewatch::event::{Context, Flags, write_json};
use planewatch::normalize::{Normalizer, mask_lexically, watched_keys};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Not even its beginning may be found.
const PLANTED: &str = "pl4n}ted\"-s3]c{ret";
const PLANTED_START: &str = "pl4n";

/// Audit events that carry it, in the order in which an API server writes members.
fn with_secrets() -> Vec<String> {
    let object = |resource: &str, name: &str| json!({"resource": resource, "namespace": "shop", "name": name, "apiVersion": "v1"});
    let make = |object: Value, code: u32, message: &str, request: Value, response: Value| {
        let start = concat!(
            r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"5c1e9a52-aaaa-4bbb-8ccc-0000000000aa","#,
            r#""stage":"ResponseComplete","requestURI":"/api/v1/namespaces/shop/secrets?é","verb":"update","user":{"username":"adä","groups":["dev"]},"#,
            r#""sourceIPs":["203.0.113.7","198.51.100.9"],"userAgent":"kubectl","objectRef":"#
        );
        let status = format!(r#"{{"message":{},"reason":"r","code":{code}}}"#, json!(message));
        format!(
            r#"{start}{object},"responseStatus":{status},"requestObject":{request},"responseObject":{response},"requestReceivedTimestamp":"2026-03-04T05:06:07.123456Z","stageTimestamp":"2026-03-04T05:06:07.223456Z","annotations":{{"a/b":"c"}}}}"#
        )
    };
    let s = PLANTED;
    let applied = json!({"kubectl.kubernetes.io/last-applied-configuration": json!({"data": {"a": "x}", "k": s}}).to_string()});
    let secret =
        json!({"kind": "Secret", "metadata": {"annotations": applied}, "data": {"a": "}]", "k": s}, "stringData": {"é\"": "\\", "k": s}});
    // As other languages write it: the kind comes last.
    let sorted = format!(r#"{{"data":{},"kind":"Secret"}}"#, secret["data"]);
    let refused = format!("Secret \"db\" is invalid: data: Invalid value: {:?}: bad", json!({"data": {"k": s}}).to_string());
    vec![
        make(object("secrets", "db"), 200, "", secret.clone(), secret.clone()),
        make(object("secrets", ""), 200, "", Value::Null, json!({"kind": "SecretList", "items": [secret, secret]})),
        make(object("lists", ""), 200, "", json!({"kind": "List", "items": [secret]}), Value::Null),
        make(object("things", ""), 200, "", json!("x"), Value::Null).replace("\"x\"", &sorted),
        make(object("secrets", "db"), 200, "", json!([{"op": "replace", "path": "/data/k", "value": s}]), Value::Null),
        make(object("secrets", "db"), 422, &refused, Value::Null, json!({"message": refused, "code": 422})),
        make(object("tokenreviews", ""), 201, "", json!({"spec": {"token": s}}), json!({"status": {"token": s}})),
        make(object("pods", "db"), 200, "", json!({"spec": {"containers": [{"env": [{"name": "A", "value": s}]}]}}), Value::Null),
    ]
}

fn neighbour(id: &str) -> String {
    json!({"kind": "Event", "apiVersion": "audit.k8s.io/v1", "auditID": id, "stage": "ResponseComplete", "verb": "get", "stageTimestamp": "2026-03-04T05:06:07Z"}).to_string()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn log_event(message: &str) -> String {
    json!({"id": "1", "timestamp": 1_772_600_768_000_i64, "message": message}).to_string()
}

/// The cut bytes between two whole neighbours, in each form that says where a record ends.
fn forms(cut: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let (before, after) = (neighbour("before"), neighbour("after"));
    let payload = |message: &str| {
        let header = r#""messageType":"DATA_MESSAGE","owner":"111122223333","logGroup":"/aws/eks/prod/cluster","logStream":"kube-apiserver-audit-01""#;
        format!("{{{header},\"logEvents\":[{},{},{}]}}", log_event(&before), log_event(message), log_event(&after)).into_bytes()
    };
    let azure = |log: &str| json!({"time": "2026-03-04T05:06:08Z", "category": "kube-audit", "properties": {"log": log}}).to_string();
    vec![
        ("message", payload(&text(cut))),
        ("message with a mark", payload(&format!("{}[Truncated...]", text(cut)))),
        ("azure", [azure(&before), azure(&text(cut)), azure(&after)].join("\n").into_bytes()),
        ("line", [before.as_bytes(), b"\n", cut, b"\n", after.as_bytes(), b"\n"].concat()),
        ("last line", [before.as_bytes(), b"\n", after.as_bytes(), b"\n", cut, b"\n"].concat()),
    ]
}

/// What came out: ids of whole events, the flags of others, rejects; and all of it as it would be kept.
#[derive(Default)]
struct Came {
    whole: Vec<String>,
    marked: usize,
    rejects: usize,
    kept: Vec<u8>,
}

fn read(bytes: &[u8], buffers: Buffers) -> (Came, Buffers) {
    let (context, mut normalizer, mut came) = (Context::default(), Normalizer::default(), Came::default());
    let mut records = Records::of_bytes(bytes, buffers).unwrap();
    while let Some(item) = records.next().unwrap() {
        match item {
            Item::Record(record) => {
                let event = normalizer.event(&record, &context);
                write_json(&event, &mut came.kept);
                came.kept.push(b'\n');
                let line = came.kept[..came.kept.len() - 1].rsplit(|b| *b == b'\n').next().unwrap();
                let told: Value = serde_json::from_slice(line).unwrap();
                if event.flags.contains(Flags::TRUNCATED) {
                    came.marked += 1;
                    assert!(told["raw"].is_null() && told["raw_text"].is_string(), "{told}");
                } else {
                    came.whole.push(told["raw"]["auditID"].as_str().unwrap_or_default().to_owned());
                }
            }
            Item::Reject(reject) => {
                came.rejects += 1;
                came.kept.extend(format!("{}: {}\n", reject.detail, mask_lexically(&reject.excerpt)).into_bytes());
            }
            Item::Skipped(_) => {}
        }
    }
    (came, records.into_buffers())
}

#[test]
fn cut_at_any_byte_it_is_marked_or_set_aside_and_tells_no_secret() {
    let planted = Planted(vec![PLANTED_START.to_owned()]);
    let mut buffers = Buffers::new(watched_keys());
    for (n, event) in with_secrets().iter().enumerate() {
        assert!(serde_json::from_str::<Value>(event).is_ok(), "{event}");
        assert!(event.contains(PLANTED_START));
        // Behind the auditID and the next member there is enough to keep.
        let enough = event.find(",\"requestURI\"").unwrap();
        for cut in 1..event.len() {
            for (form, bytes) in forms(&event.as_bytes()[..cut]) {
                let what = format!("event {n}, cut at {cut}, {form}");
                let (came, back) = read(&bytes, buffers);
                buffers = back;
                assert_eq!(came.whole, ["before", "after"], "{what}: {}", text(&came.kept));
                assert_eq!(
                    (came.marked, came.rejects),
                    if cut < enough && form != "azure" { (0, 1) } else { (1, 0) },
                    "{what}: {}",
                    text(&came.kept)
                );
                planted.assert_absent(&what, &came.kept);
            }
        }
    }
}

#[test]
fn what_only_stops_where_the_input_does_is_not_taken_for_cut() {
    let mut buffers = Buffers::new(watched_keys());
    let event = &with_secrets()[0];
    let list = format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{},{event},{event}]}}"#, neighbour("before"));
    let lines = format!("{}\n{event}", neighbour("before"));
    let starts = [list.find(event.as_str()).unwrap(), lines.find(event.as_str()).unwrap()];
    for (input, start) in [list, lines].iter().zip(starts) {
        for cut in start + 1..start + event.len() {
            let (came, back) = read(&input.as_bytes()[..cut], buffers);
            buffers = back;
            assert_eq!((came.whole.len(), came.marked, came.rejects), (1, 0, 1), "cut at {cut} of {input}");
        }
    }
}

#[test]
fn what_was_left_is_stored_found_and_counted_once() {
    let app = TestApp::new().folder("files").with("rules", json!({"builtin": true}));
    let events = with_secrets();
    for (n, event) in events.iter().enumerate() {
        for (m, (form, bytes)) in forms(&event.as_bytes()[..event.find("\"requestReceived").unwrap() - 9 - n]).into_iter().enumerate() {
            let id = format!("{n:03}{m:03}");
            let bytes = text(&bytes)
                .replace("5c1e9a52", &format!("5c{id}"))
                .replace("before", &format!("b{id}"))
                .replace("after", &format!("a{id}"));
            app.file(&format!("files/{n}-{form}"), bytes);
        }
    }
    let n = events.len() * 5;
    let sum = app.drain();
    assert_eq!(sum, json!({"received": 3 * n, "stored": 3 * n, "duplicate": 0, "quarantined": 0, "filtered": 0}), "{:?}", app.quarantine());
    let found = app.search("flags = \"truncated\"");
    assert_eq!(found.len(), n);
    assert!(found.iter().all(|it| it["user"] == "adä" && it["action"] == "update" && it["raw"].is_null()));
    assert_eq!(app.search("resource = \"secrets\" and outcome = \"success\" and ip = \"198.51.100.9\" and raw_text = null").len(), 0);
    assert_eq!(app.search("resource = \"tokenreviews\" and raw_text like \"TokenReview\"").len(), 0);
    assert_eq!(app.search("resource = \"tokenreviews\" and raw_text like \"5c006\"").len(), 5);
    assert!(found.iter().filter(|it| it["event_time"] == 1_772_600_768_000_i64).count() >= n / 5 * 3, "the log's own time stands in");
    // Touched, they are read again, and are the same.
    for entry in std::fs::read_dir(app.path("files")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&bytes[..], b"\n"].concat()).unwrap();
    }
    assert_eq!(app.drain(), json!({"received": 3 * n, "stored": 0, "duplicate": 3 * n, "quarantined": 0, "filtered": 0}));
    Planted(vec![PLANTED_START.to_owned()]).assert_absent_everywhere(&app, &app.path("files"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// Bytes that are put in, changed and left out: whatever comes of it is JSON, one line an event.
    #[test]
    fn damaged_payloads_and_lines_are_read_to_their_end(
        file in prop::sample::select(vec!["eks-cut", "eks-firehose", "eks-header-behind", "eks-subscription", "aks-cut", "cut-lines", "aks-wrapped"]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, prop::sample::select(b"\"\\{}[],:\n u0x\xc3".to_vec())), 1..6),
    ) {
        let mut bytes = std::fs::read(root().join(format!("tests/data/kubernetes/{file}.json"))).unwrap();
        for (at, what, byte) in damage {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match what {
                0 => bytes.insert(at, byte),
                1 => bytes[at] = byte,
                2 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        read(&bytes, Buffers::new(watched_keys()));
    }
}

#[test]
fn real_events_cut_anywhere_are_marked_or_set_aside() {
    let Some(folder) = shared("data/k8s-audit-misc") else { return };
    let mut buffers = Buffers::new(watched_keys());
    let all = std::fs::read_to_string(folder.join("k8s-audit.ndjson")).unwrap();
    let mut n = 0;
    for line in all.lines() {
        for cut in (1..line.len()).step_by(17) {
            for (form, bytes) in forms(&line.as_bytes()[..cut]) {
                let (came, back) = read(&bytes, buffers);
                buffers = back;
                assert_eq!((came.whole.len(), came.marked + came.rejects), (2, 1), "{form}, cut at {cut}: {line}");
                n += came.marked;
            }
        }
    }
    assert!(n > 1_000, "only {n} were salvaged");
}

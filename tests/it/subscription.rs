//! Log events of `CloudWatch` Logs, as a subscription filter delivers them: in every form in which they lie in a bucket.

use crate::k8s_log;
use crate::support::aws::{Aws, s3_message};
use crate::support::{TestApp, gz, output, root, stdout};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Payloads back to back, the first a control message, some of other logs than the audit log.
fn payloads() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("tests/data/kubernetes/eks-firehose.json")).unwrap();
    let mut values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    let (mut payloads, mut from) = (Vec::new(), 0);
    while let Some(value) = values.next() {
        value.unwrap();
        payloads.push(text[from..values.byte_offset()].to_owned());
        from = values.byte_offset();
    }
    assert_eq!(payloads.len(), 7);
    payloads
}

/// The ends of the auditIDs in them, with position and cluster. Log events have positions, other objects have none.
const EXPECTED: [(&str, u64, &str); 3] =
    [("000000000004", 1, "shop-prod"), ("000000000005", 5, "shop-test"), ("000000000006", 6, "shop-test")];

/// The same payloads in each form in which Firehose writes them.
fn forms() -> Vec<(&'static str, Vec<u8>)> {
    let payloads = payloads();
    let members: Vec<_> = payloads.iter().map(|it| gz(it.as_bytes())).collect();
    let pretty = |it: &String| serde_json::to_string_pretty(&serde_json::from_str::<Value>(it).unwrap()).unwrap();
    vec![
        ("members", members.concat()),
        ("members-in-gzip.gz", gz(&members.concat())),
        ("one-member", gz(payloads.concat().as_bytes())),
        ("plain", payloads.concat().into_bytes()),
        ("lines", payloads.join("\n").into_bytes()),
        ("pretty", payloads.iter().map(pretty).collect::<Vec<_>>().concat().into_bytes()),
    ]
}

fn told(events: &[Value]) -> BTreeSet<(String, u64, String)> {
    let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
    let one = |it: &Value| {
        let id = text(&it["raw"]["auditID"]);
        (id[id.len() - 12..].to_owned(), it["origin"]["index"].as_u64().unwrap(), text(&it["provider_metadata"]["cluster"]))
    };
    events.iter().map(one).collect()
}

fn expected() -> BTreeSet<(String, u64, String)> {
    EXPECTED.iter().map(|(id, index, cluster)| ((*id).to_owned(), *index, (*cluster).to_owned())).collect()
}

fn total(app: &TestApp, name: &str) -> u64 {
    let db = rusqlite::Connection::open(app.data().join("state.db")).unwrap();
    db.query_row("SELECT IFNULL(SUM(value), 0) FROM counters WHERE name = ?1", [name], |row| row.get(0)).unwrap()
}

#[test]
fn every_form_is_read_by_replay_and_from_a_folder() {
    for (name, bytes) in forms() {
        let app = TestApp::new().folder("files");
        app.file(&format!("files/{name}"), bytes);
        let path = app.path("files");
        let replayed = output(&["replay", path.to_str().unwrap(), "--cluster", "configured"]);
        assert_eq!(replayed.status.code(), Some(0), "{name}");
        assert_eq!(told(&crate::support::lines(&stdout(&replayed))), expected(), "{name}");
        assert_eq!(app.drain(), json!({"received": 3, "stored": 3, "duplicate": 0, "quarantined": 0, "filtered": 0}), "{name}");
        let found = app.search("");
        assert_eq!(told(&found), expected(), "{name}");
        assert_eq!(found.iter().filter(|it| it["provider_metadata"]["account_id"] == "111122223333").count(), 1, "{name}");
        assert_eq!((total(&app, "skipped/control_message"), total(&app, "skipped/other_log")), (1, 4), "{name}");
    }
}

#[test]
fn every_form_is_read_from_a_bucket() {
    let aws = Aws::start();
    for (n, (name, bytes)) in forms().into_iter().enumerate() {
        let queue = aws.queue(&format!("logs-{n}"));
        let key = format!("2026/03/04/05/to-planewatch-1-2026-03-04-05-06-07-{name}");
        aws.put(&key, bytes);
        aws.send(&queue, &[s3_message(&key)]);
        let app = TestApp::new().source(aws.source(&queue));
        assert_eq!(app.drain()["stored"], 3, "{name}");
        assert_eq!(told(&app.search("")), expected(), "{name}");
        assert_eq!(aws.depth(&queue), 0, "{name}");
    }
}

#[test]
fn a_bad_log_event_hides_no_neighbour() {
    let event = |message: &Value| json!({"id": "1", "timestamp": 1_772_600_768_000_i64, "message": message});
    let audit = |id: &str| event(&json!(json!({"kind": "Event", "apiVersion": "audit.k8s.io/v1", "auditID": id}).to_string()));
    let payload = |group: &str, stream: &str, events: &[String]| {
        let (owner, events) = ("111122223333", events.join(","));
        format!(r#"{{"messageType":"DATA_MESSAGE","owner":"{owner}","logGroup":"{group}","logStream":"{stream}","logEvents":[{events}]}}"#)
    };
    let bad = [
        (event(&json!("text")).to_string(), "not_json"),
        (event(&json!("{\"hello\":1}")).to_string(), "not_a_record"),
        (event(&json!("{\"auditID\":\"cut")).to_string(), "cut"),
        (event(&json!("{\"auditID\" 1}")).to_string(), "bad_record"),
        (event(&json!("[Truncated...] the rest of one\"}}")).to_string(), "not_json"),
        (event(&Value::Null).to_string(), "not_a_record"),
        ("7".to_owned(), "not_an_object"),
        ("{\"message\":oops}".to_owned(), "bad_record"),
    ];
    let app = TestApp::new().folder("files");
    let events: Vec<_> = bad.iter().enumerate().flat_map(|(n, (it, _))| [audit(&format!("a{n}")).to_string(), it.clone()]).collect();
    app.file("files/audit", payload("/aws/eks/prod/cluster", "kube-apiserver-audit-01", &events));
    // The log group of something else: what it brings is set aside, since nobody said that it is to be left out.
    app.file("files/other", payload("/aws/lambda/f", "2026/03/04/[$LATEST]01", &[event(&json!("START RequestId: 1")).to_string()]));
    let sum = app.drain();
    assert_eq!((&sum["stored"], &sum["quarantined"]), (&json!(bad.len()), &json!(bad.len() + 1)));
    let mut found: Vec<_> =
        app.quarantine().iter().map(|it| (it["origin"]["index"].as_u64().unwrap(), it["reason"].as_str().unwrap().to_owned())).collect();
    found.sort();
    let mut expected: Vec<_> = bad.iter().enumerate().map(|(n, (_, reason))| (2 * n as u64 + 1, (*reason).to_owned())).collect();
    expected.insert(0, (0, "not_json".to_owned()));
    assert_eq!(found, expected);
}

#[test]
fn a_payload_longer_than_a_record_is_streamed() {
    let filler = "x".repeat(8 << 10);
    let events: Vec<_> = (0..2_500)
        .map(|n| {
            let message = json!({"kind": "Event", "apiVersion": "audit.k8s.io/v1", "auditID": format!("id-{n:012}"), "stage": "ResponseComplete",
                "stageTimestamp": "2026-03-04T05:06:07Z", "responseObject": {"text": filler}});
            json!({"id": n.to_string(), "timestamp": 1_772_600_768_000_i64, "message": message.to_string()}).to_string()
        })
        .collect();
    let header =
        r#""messageType":"DATA_MESSAGE","owner":"111122223333","logGroup":"/aws/eks/prod/cluster","logStream":"kube-apiserver-audit-01""#;
    let events = events.join(",");
    for (name, text, cluster) in [
        ("ahead", format!("{{{header},\"logEvents\":[{events}]}}"), "prod"),
        // What says whose log it is comes 20 MB too late; the source's cluster stands in.
        ("behind", format!("{{\"logEvents\":[{events}],{header}}}"), "configured"),
    ] {
        let app = TestApp::new();
        app.file(name, gz(text.as_bytes()));
        let replayed = output(&["replay", app.path(name).to_str().unwrap(), "--cluster", "configured"]);
        assert_eq!(replayed.status.code(), Some(0), "{name}");
        let found = told(&crate::support::lines(&stdout(&replayed)));
        let expected = (0..2_500).map(|n| (format!("{n:012}"), n, cluster.to_owned())).collect();
        assert!(found == expected, "{name}: {} events", found.len());
    }
}

#[test]
fn a_payload_that_ends_in_the_middle_keeps_what_came_before() {
    let text = payloads()[6].clone();
    let app = TestApp::new();
    for cut in (1..text.len()).step_by(13) {
        app.file("cut", &text[..cut]);
        let replayed = output(&["replay", app.path("cut").to_str().unwrap()]);
        assert_eq!(replayed.status.code(), Some(1), "cut at {cut}");
        let events = crate::support::lines(&stdout(&replayed));
        assert!(
            events.len() <= 2 && events.iter().all(|it| it["flags"].is_null() && it["provider_metadata"]["cluster"] == "shop-test"),
            "{cut}"
        );
    }
}

#[test]
fn who_follows_one_cluster_is_not_told_of_another() {
    let app = k8s_log::app(json!({}));
    app.file("log/audit.log", format!("{}\n", payloads()[2]));
    app.drain();
    let found = app.search("");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["provider_metadata"], json!({"cloud_provider": "kubernetes", "cluster": "test"}));
}

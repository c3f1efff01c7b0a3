//! Exactly one stored event per real event (DESIGN.md §2, Identity).

use crate::support::{TestApp, lines, object, output, record, stdout};
use serde_json::{Value, json};

const TIME: &str = "2026-01-02T03:04:05Z";

#[test]
fn two_sources_two_trails_and_a_planted_record() {
    let app = TestApp::new().folder("trail-a").folder("trail-b");
    let records: Vec<_> = (0..10).map(|n| record(&format!("event-{n}"), TIME, "RunInstances")).collect();
    let mut planted = record("event-3", TIME, "RunInstances");
    planted["userIdentity"]["arn"] = json!("arn:aws:iam::111122223333:user/mallory");
    app.file("trail-a/one.json.gz", object(&records));
    app.file("trail-b/same.json.gz", object(&records[..5]));
    app.file("trail-b/other.json.gz", object(&records[5..]));
    let sum = app.drain();
    assert_eq!(sum, json!({"received": 20, "stored": 10, "duplicate": 10, "quarantined": 0, "filtered": 0}));

    app.file("trail-b/planted.json.gz", object(&[planted.clone(), planted]));
    let sum = app.drain();
    assert_eq!(sum, json!({"received": 2, "stored": 1, "duplicate": 1, "quarantined": 0, "filtered": 0}));
    let both = app.search("eventID = \"event-3\"");
    assert_eq!(both.len(), 2, "the planted record hides nothing");
    assert_eq!(both[0]["_id"], both[1]["_id"]);
    assert_ne!(both[0]["fingerprint"], both[1]["fingerprint"]);
    assert_eq!(app.search("flags = \"conflict\" and user_id ends_with \"mallory\"").len(), 1);
    let alert = own_alert(&app, "planewatch-conflict");
    assert_eq!((&alert["count"], &alert["events"][0]["raw"]["eventID"]), (&json!(1), &json!("event-3")), "{alert}");
}

/// The alert of this trouble.
fn own_alert(app: &TestApp, rule: &str) -> Value {
    let listed = output(&["alerts", "list", "--data-dir", app.data().to_str().unwrap(), "--output", "json"]);
    lines(&stdout(&listed)).into_iter().find(|it| it["ruleId"] == rule).unwrap_or_else(|| panic!("{}", stdout(&listed)))
}

#[test]
fn the_same_id_in_another_hour_is_flagged_when_the_two_meet() {
    let app = TestApp::new().folder("files");
    app.file("files/a", record("x", "2026-01-02T03:04:05Z", "RunInstances").to_string());
    app.file("files/b", record("x", "2026-01-02T09:04:05Z", "RunInstances").to_string());
    assert_eq!(app.drain()["stored"], 2);
    let found = app.search("");
    assert_eq!(found.iter().filter(|it| it["flags"].to_string().contains("conflict")).count(), 1, "{found:?}");
}

#[test]
fn records_without_id_time_or_anything_are_stored_once() {
    let app = TestApp::new().folder("files");
    let bare = json!({"eventName": "Bare"});
    app.file("files/a.json.gz", object(&[bare.clone(), bare, json!({}), json!({"eventTime": "2099-01-01T00:00:00Z"})]));
    let sum = app.drain();
    assert_eq!((sum["stored"].as_u64(), sum["duplicate"].as_u64()), (Some(3), Some(1)));
    assert_eq!(app.search("flags = \"no_event_time\"").len(), 2);
    assert_eq!(app.search("flags = \"clock_skew\"").len(), 1);
}

#[test]
fn a_record_of_another_account_than_its_key_is_flagged() {
    let app = TestApp::new().folder("files");
    let path = |account: &str| format!("files/AWSLogs/{account}/CloudTrail/eu-west-1/2026/01/02/x.json.gz");
    app.file(&path("111122223333"), object(&[record("a", TIME, "A")]));
    app.file(&path("999999999999"), object(&[record("b", TIME, "B")]));
    app.drain();
    let found = app.search("flags = \"account_mismatch\"");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["raw"]["eventID"], "b");
    let alert = own_alert(&app, "planewatch-account-mismatch");
    assert_eq!(alert["aggregates"], json!({"source": "files", "accountId": "111122223333"}));
    assert_eq!(alert["events"][0]["raw"]["eventID"], "b");
}

#[test]
fn a_large_object_is_one_commit_and_repeats_in_it_are_found() {
    let app = TestApp::new().folder("files");
    let mut records: Vec<_> = (0..12_000).map(|n| record(&format!("event-{n}"), TIME, "GetThing")).collect();
    records.extend_from_within(..2_000);
    app.file("files/large.json.gz", object(&records));
    let sum = app.drain();
    assert_eq!(sum, json!({"received": 14_000, "stored": 12_000, "duplicate": 2_000, "quarantined": 0, "filtered": 0}));
    app.file("files/again.json.gz", object(&records[..12_000]));
    assert_eq!(app.drain()["duplicate"], 12_000);
    let indexes: std::collections::BTreeSet<_> = app.search("").iter().map(|it| it["origin"]["index"].as_u64().unwrap()).collect();
    assert_eq!(indexes, (0..12_000).collect());
}

//! `cloudtrail_sqs` against the emulator.

use crate::support::aws::{Aws, BUCKET, s3_message};
use crate::support::{TestApp, independent_count, object, record, shared};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const SANS: &str = "data/sans-s3-ransomware/s3";

pub(crate) fn stored_ids(app: &TestApp) -> Vec<String> {
    let mut ids: Vec<_> = app
        .search("")
        .iter()
        .map(|event| {
            format!("{}|{}", event["provider_metadata"]["account_id"].as_str().unwrap(), event["raw"]["eventID"].as_str().unwrap())
        })
        .collect();
    ids.sort();
    ids
}

fn check_against_count(app: &TestApp, sum: &Value, count: &Value) {
    assert_eq!(sum["received"], count["records"]);
    assert_eq!(sum["stored"], count["distinct"]);
    assert_eq!(sum["quarantined"], 0);
    let expected: Vec<String> = serde_json::from_value(count["ids"].clone()).unwrap();
    assert!(stored_ids(app) == expected, "the stored set is another");
}

#[test]
fn every_object_of_a_real_trail_is_stored_once() {
    let Some(sans) = shared(SANS) else { return };
    let aws = Aws::start();
    let queue = aws.queue("trail");
    aws.announce_to(&queue);
    aws.put_folder(&sans);
    let app = TestApp::new().source(aws.source(&queue));
    let sum = app.drain();
    check_against_count(&app, &sum, &independent_count(&sans));
    assert_eq!(aws.depth(&queue), 0);
    assert_eq!(app.drain()["received"], 0);
}

#[test]
fn faults_of_every_kind_change_nothing() {
    let Some(sans) = shared(SANS) else { return };
    let rule = |fault: Value, probability: f64| {
        let mut rule = json!({"service": "s3", "operation": "GetObject", "probability": probability});
        rule.as_object_mut().unwrap().extend(fault.as_object().unwrap().clone());
        rule
    };
    let aws = Aws::start().with_faults(&json!([
        rule(json!({"error": {"code": "SlowDown", "status": 503}}), 0.05),
        rule(json!({"error": {"code": "InternalError", "status": 500}}), 0.05),
        rule(json!({"reset": true}), 0.05),
        rule(json!({"response": {"abort_frac": 0.3}}), 0.05),
        rule(json!({"response": {"truncate_frac": 0.5}}), 0.05),
        rule(json!({"response": {"corrupt_bytes": 16}}), 0.05),
        rule(json!({"latency": {"min": 5, "max": 50}}), 0.05),
    ]));
    let queue = aws.queue("faulty");
    let keys = aws.put_folder(&sans);
    // Hundreds of objects twice, and the queue gives messages out again while they are worked on.
    let bodies: Vec<_> = keys.iter().chain(&keys[..500]).map(|key| s3_message(key)).collect();
    aws.send(&queue, &bodies);
    let mut source = aws.source(&queue);
    source["visibility_timeout_secs"] = json!(2);
    let app = TestApp::new().source(source);
    let sum = app.drain();
    assert!(aws.fired() > 10, "the proxy did nothing");
    check_against_count(&app, &sum, &independent_count(&sans));
    assert_eq!(app.quarantine(), Vec::<Value>::new());
}

#[test]
fn messages_of_every_shape_are_mixed_in_one_queue() {
    let aws = Aws::start();
    let queue = aws.queue("mixed");
    let prefix = "AWSLogs/111122223333/CloudTrail/us-east-1/2026/01/02";
    let key = |n: usize| format!("{prefix}/a b+c%25é={n}.json.gz");
    for n in 0..8 {
        aws.put(&key(n), object(&[record(&format!("event-{n}"), "2026-01-02T03:04:05Z", "DescribeInstances")]));
    }
    let s3 = |n| serde_json::from_str::<Value>(&s3_message(&key(n))).unwrap();
    let s3_two =
        json!({"Records": [s3(2)["Records"][0], s3(3)["Records"][0], {"eventSource": "aws:s3", "eventName": "ObjectRemoved:Delete"}]});
    let in_sns =
        |inner: &Value| json!({"Type": "Notification", "MessageId": "m", "TopicArn": "t", "Message": inner.to_string()}).to_string();
    let event_bridge = json!({
        "version": "0", "detail-type": "Object Created", "source": "aws.s3", "region": "us-east-1",
        "detail": {"version": "0", "bucket": {"name": BUCKET}, "object": {"key": key(4), "etag": "e", "sequencer": "1"}},
    });
    let notice = json!({"s3Bucket": BUCKET, "s3ObjectKey": [key(6), key(7)]});
    let digest = "AWSLogs/111122223333/CloudTrail-Digest/us-east-1/2026/01/02/d.json.gz";
    let bodies = [
        s3(0).to_string(),
        in_sns(&s3(1)),
        s3_two.to_string(),
        event_bridge.to_string(),
        in_sns(
            &json!({"version": "0", "detail-type": "Object Created", "source": "aws.s3", "detail": {"bucket": {"name": BUCKET}, "object": {"key": key(5)}}}),
        ),
        in_sns(&notice),
        json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": BUCKET}).to_string(),
        json!({"Type": "Notification", "Message": "CloudTrail validation message."}).to_string(),
        json!({"Type": "SubscriptionConfirmation", "Message": "confirm", "Token": "t"}).to_string(),
        s3_message(digest),
        s3_message("AWSLogs/111122223333/CloudTrail-Future/x.json.gz"),
        s3_message("AWSLogs/111122223333/elasticloadbalancing/x.log.gz"),
        s3_message("AWSLogs/111122223333/CloudTrail/"),
        "not json".to_owned(),
        json!({"hello": "world"}).to_string(),
    ];
    aws.send(&queue, &bodies);
    let app = TestApp::new().source(aws.source(&queue));
    let sum = app.drain();
    assert_eq!(sum, json!({"received": 10, "stored": 8, "duplicate": 0, "quarantined": 2, "filtered": 0}));
    let ids: BTreeSet<_> = app.search("").iter().map(|it| it["raw"]["eventID"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, (0..8).map(|n| format!("event-{n}")).collect());
    assert!(app.quarantine().iter().all(|it| it["reason"] == "unknown_envelope"));
    assert_eq!(aws.depth(&queue), 0);
}

#[test]
fn what_cannot_be_fetched_is_parked_and_read_once_it_can_be() {
    let aws = Aws::start();
    let queue = aws.queue("missing");
    let key = "AWSLogs/111122223333/CloudTrail/us-east-1/2026/01/02/late.json.gz";
    let foreign = s3_message("k").replace(BUCKET, "someone-elses");
    aws.send(&queue, &[s3_message(key), foreign]);
    let app = TestApp::new().source(aws.source(&queue));
    let sum = app.drain();
    assert_eq!((sum["quarantined"].as_u64(), sum["stored"].as_u64()), (Some(2), Some(0)));
    let mut reasons: Vec<_> = app.quarantine().iter().map(|it| it["reason"].as_str().unwrap().to_owned()).collect();
    reasons.sort();
    assert_eq!(reasons, ["bucket_not_allowed", "not_found"]);
    assert_eq!(aws.depth(&queue), 0, "parked pointers are acknowledged");

    aws.put(key, object(&[record("late", "2026-01-02T03:04:05Z", "RunInstances")]));
    let data = app.data();
    let due = crate::support::output(&["quarantine", "replay", "--all", "--data-dir", data.to_str().unwrap()]);
    assert!(due.status.success());
    let sum = app.drain();
    assert_eq!((sum["received"].as_u64(), sum["stored"].as_u64()), (Some(1), Some(1)));
    let left = app.quarantine();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["reason"], "bucket_not_allowed");
}

#[test]
fn a_queue_that_is_gone_is_told_and_costs_few_calls() {
    let aws = Aws::start().with_faults(&json!([]));
    let mut source = aws.source("http://127.0.0.1:1/000000000000/nowhere");
    source["queue_url"] = json!(format!("{}/000000000000/nowhere", aws.endpoint()));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let app = TestApp::new().source(source).with("admin", json!({"listen": format!("127.0.0.1:{port}")}));
    let config = app.config();
    let mut run = crate::support::planewatch(&["run", "-c", config.to_str().unwrap()]).spawn().unwrap();
    let http = |path| crate::support::aws::http(port, "GET", path, "");
    crate::support::wait_for("a reason in /readyz", || {
        http("/readyz").is_some_and(|(status, body)| status == 503 && body.contains("trail: queue"))
    });
    assert_eq!(http("/livez").unwrap().0, 200);
    let (_, metrics) = http("/metrics").unwrap();
    assert!(metrics.contains("planewatch_source_up{source=\"trail\"} 0"), "{metrics}");
    assert!(metrics.contains("planewatch_source_errors_total{source=\"trail\",error=\"receive\"} 1"), "{metrics}");
    let pid = i32::try_from(run.id()).unwrap();
    std::process::Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap();
    assert!(run.wait().unwrap().success(), "SIGTERM ends with exit code 0");
}

//! A hunt over more than it holds in memory.

use crate::support::{TestApp, lines, planewatch, record, stderr, stdout};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;

/// More bytes of events than a hunt holds (16 MiB), each an alert of its own.
const EVENTS: usize = 10_000;
const PADDING: usize = 2_000;

fn app() -> TestApp {
    let app = TestApp::new();
    let rule = "title: \"t {{eventID}}\"\nseverity: 2\ntype: CloudTrail\ndescription: test\nfilter: 'eventName != null'\ntags: []\naggregate_fields: [eventID]\n";
    app.file("rules/each.yaml", format!("id: each\n{rule}"));
    app.file("rules/two.yaml", format!("id: two\n{rule}"));
    let mut text = Vec::new();
    for n in 0..EVENTS {
        let mut event = record(&format!("event-{n}"), "2026-11-24T12:00:00Z", "A");
        event["requestParameters"] = json!({"key": format!("{n:06}").repeat(PADDING / 6)});
        writeln!(text, "{event}").unwrap();
    }
    app.file("events.ndjson", text);
    app
}

#[test]
fn events_that_memory_does_not_hold_are_in_their_alerts() {
    let app = app();
    let (events, rules) = (app.path("events.ndjson"), app.path("rules"));
    let args = ["hunt", events.to_str().unwrap(), "--rules", rules.to_str().unwrap(), "--output", "json"];
    let output = planewatch(&args).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for alert in lines(&stdout(&output)) {
        let id = alert["aggregates"]["eventID"].as_str().unwrap().to_owned();
        assert_eq!(alert["events"].as_array().unwrap().len(), 1);
        let event: &Value = &alert["events"][0];
        assert_eq!((event["raw"]["eventID"].as_str(), alert["title"].as_str()), (Some(&*id), Some(&*format!("t {id}"))));
        *seen.entry(id).or_default() += 1;
    }
    assert!(seen.len() == EVENTS && seen.values().all(|n| *n == 2), "{} events", seen.len());

    let output = planewatch(&args).env("TMPDIR", "/no/such/folder").output().unwrap();
    let error = stderr(&output);
    assert!(!output.status.success() && error.contains("/no/such/folder") && error.contains("TMPDIR"), "{error}");
    assert_eq!(stdout(&output), "", "no alert that lacks its events");
}

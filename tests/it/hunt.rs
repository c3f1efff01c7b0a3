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

/// What counts in an alert is in it, however many others of its window come later.
#[test]
fn an_alert_has_its_own_events() {
    let app = TestApp::new();
    let rule = |id: &str, more: &str| {
        format!(
            "id: {id}\ntitle: \"{id} {{{{eventID}}}}\"\nseverity: 2\ntype: CloudTrail\ndescription: test\nfilter: 'eventName = \"A\"'\ntags: []\n{more}"
        )
    };
    app.file("rules/new.yaml", rule("new", "window: 1d\nfirst_seen: {field: awsRegion, history: 7d}\n"));
    app.file("rules/many.yaml", rule("many", "window: 10m\nthreshold: 3\n"));
    let mut events: Vec<_> = (0..3).map(|n| record(&format!("first-{n}"), "2026-11-24T12:00:00Z", "A")).collect();
    // Too far apart to count, in the window of the first and in that of the day.
    events.extend((0..30).map(|n| record(&format!("later-{n:02}"), &format!("2026-11-24T{:02}:{:02}:00Z", 13 + n / 4, n % 4 * 15), "A")));
    app.file("events.json", json!({ "Records": events }).to_string());
    let (events, rules) = (app.path("events.json"), app.path("rules"));
    let output = planewatch(&["hunt", events.to_str().unwrap(), "--rules", rules.to_str().unwrap(), "--output", "json"]).output().unwrap();
    let alerts = lines(&stdout(&output));
    assert_eq!(alerts.len(), 2, "{alerts:#?}");
    for alert in &alerts {
        let ids: Vec<_> = alert["events"].as_array().unwrap().iter().map(|it| it["raw"]["eventID"].as_str().unwrap()).collect();
        assert!(ids.iter().all(|id| id.starts_with("first-")), "{}: {ids:?}", alert["ruleId"]);
        assert_eq!(ids.len() as u64, alert["count"].as_u64().unwrap(), "{}", alert["ruleId"]);
        assert!(alert["title"].as_str().unwrap().contains("first-"), "{}", alert["title"]);
    }
}

//! What comes late: how long rules wait for it, and what they count of it.

use crate::support::{TestApp, lines, object, output, planewatch, record, stderr, stdout};
use planewatch::clock::Clock;
use planewatch::event::time::format_ms;
use serde_json::{Value, json};

fn rule(id: &str, more: &str) -> String {
    format!("id: {id}\ntitle: \"{id}\"\nseverity: 2\ntype: CloudTrail\ndescription: test\nfilter: 'eventName = \"A\"'\ntags: []\n{more}")
}

/// Five events from ten hours ago, under these settings of `rules`.
fn app(settings: &Value) -> TestApp {
    let app = TestApp::new().folder("in");
    app.file("rules/each.yaml", rule("each", ""));
    app.file("rules/many.yaml", rule("many", "threshold: 3\n"));
    app.file("rules/shadow.yaml", rule("shadow", "threshold: 3\nstate: shadow\n"));
    app.file("rules/new.yaml", rule("new", "first_seen: {field: awsRegion, history: 7d}\n"));
    let time = format_ms(Clock::system().now_ms() - 10 * 3_600_000);
    let events: Vec<_> = (0..5).map(|n| record(&format!("event-{n}"), &time, "A")).collect();
    app.file("in/a.json.gz", object(&events));
    let mut rules = json!({"builtin": false, "directories": [app.path("rules")]});
    rules.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let app = app.with("rules", rules);
    assert_eq!(app.drain()["stored"], 5);
    app
}

fn alerts(app: &TestApp) -> Vec<String> {
    let found = app.alerts();
    let mut rules: Vec<_> = found.iter().map(|it| it["ruleId"].as_str().unwrap().to_owned()).collect();
    rules.sort();
    rules
}

/// Matches, and of them late ones, by rule.
fn counts(app: &TestApp) -> Vec<(String, u64, u64)> {
    let rules = app.path("rules");
    let [rules, data] = [&rules, &app.data()].map(|it| it.to_str().unwrap().to_owned());
    let found = lines(&stdout(&output(&["rules", "list", "--rules", &rules, "--data-dir", &data, "--output", "json"])));
    let of = |it: &Value| (it["id"].as_str().unwrap().to_owned(), it["matches"].as_u64().unwrap(), it["late"].as_u64().unwrap());
    found.iter().map(of).collect()
}

#[test]
fn matches_past_the_lateness_are_counted_and_still_alert() {
    let app = app(&json!({}));
    // What is first seen waits; a rule in shadow counts, and keeps no state that anything could come too late for.
    assert_eq!(alerts(&app), ["each", "many"]);
    let expected = [("each", 5, 0), ("many", 5, 5), ("new", 5, 5), ("shadow", 5, 0)];
    assert_eq!(counts(&app), expected.map(|(id, matches, late)| (id.to_owned(), matches, late)));
    let text = stdout(&output(&[
        "rules",
        "list",
        "--rules",
        &app.path("rules").display().to_string(),
        "--data-dir",
        &app.data().display().to_string(),
    ]));
    assert!(text.contains("5 matches, 5 of them late"), "{text}");
}

#[test]
fn lateness_is_configured_and_what_is_first_seen_can_be_told_at_once() {
    let app = app(&json!({"late_max_secs": 86_400, "first_seen_wait_secs": 0}));
    assert_eq!(alerts(&app), ["each", "many", "new"]);
    assert!(counts(&app).iter().all(|(_, matches, late)| (*matches, *late) == (5, 0)), "{:?}", counts(&app));
    let check = |settings: Value| {
        let app = TestApp::new().with("rules", settings);
        let output = planewatch(&["config", "check", "-c", app.config().to_str().unwrap()]).output().unwrap();
        (output.status.success(), stderr(&output))
    };
    for (late_max, wait, is_right) in [(59, 0, false), (60, 60, true), (60, 61, false), (2_592_000, 0, true), (2_592_001, 0, false)] {
        let (is_taken, error) = check(json!({"late_max_secs": late_max, "first_seen_wait_secs": wait}));
        assert_eq!((is_taken, error.contains("_secs is ")), (is_right, !is_right), "{late_max} {wait}: {error}");
    }
}

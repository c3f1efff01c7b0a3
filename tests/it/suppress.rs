//! What a person does with rules and suppressions: try, promote, preview, add.

use crate::support::{TestApp, lines, object, record};
use serde_json::{Value, json};

const TIME: &str = "2026-11-24T12:00:00Z";

fn rule(id: &str, filter: &str, more: &str) -> String {
    format!("id: {id}\ntitle: \"{id}\"\nseverity: 2\ntype: CloudTrail\ndescription: test # kept\nfilter: '{filter}'\ntags: []\n{more}")
}

/// A store with forty events of two users, half of which match `rule-a`.
fn app() -> TestApp {
    let app = TestApp::new().folder("in");
    app.file("rules/a.yaml", rule("rule-a", "eventName = \"A\"", ""));
    app.file("rules/b.yaml", rule("rule-b", "eventName = \"B\" and user in @people", "threshold: 5\nstate: shadow\n"));
    app.file("people.txt", "alice\n");
    let events: Vec<_> = (0..40)
        .map(|n| {
            let mut event = record(&format!("event-{n}"), TIME, if n % 2 == 0 { "A" } else { "B" });
            event["sourceIPAddress"] = json!(if n % 4 == 0 { "192.0.2.1" } else { "192.0.2.2" });
            event
        })
        .collect();
    app.file("in/a.json.gz", object(&events));
    let rules = app.path("rules");
    let people = app.path("people.txt");
    let app = app.with("rules", json!({"builtin": false, "directories": [rules]})).with("lists", json!({"people": people}));
    assert_eq!(app.drain()["stored"], 40);
    app
}

#[test]
fn a_rule_is_tried_on_stored_events_and_promoted() {
    let app = app();
    let rules = ["--rules", "DIR/rules", "--list", "people=DIR/people.txt", "--output", "json"];
    let tried = |id: &str| {
        let (code, out, error) = app.run(&[&["rules", "try", id, "--data-dir", "DIR/data"], &rules[..]].concat());
        assert_eq!(code, 0, "{error}");
        lines(&out)
    };
    // What it finds is what live evaluation found.
    let live = app.alerts();
    let a = tried("rule-a");
    assert_eq!((a.len(), a[0]["count"].as_u64(), &a[0]["id"]), (1, Some(20), &live[0]["id"]));
    assert_eq!(live.len(), 1, "a rule in shadow raises nothing");
    let b = tried("rule-b");
    assert_eq!((b.len(), b[0]["count"].as_u64(), b[0]["events"].as_array().unwrap().len()), (1, Some(20), 10));
    let (code, _, error) = app.run(&[&["rules", "try", "rule-c", "--data-dir", "DIR/data"], &rules[..]].concat());
    assert!(code == 64 && error.contains("no rule has the id `rule-c`"), "{code} {error}");

    let promote = |id: &str| app.run(&[&["rules", "promote", id], &rules[..]].concat());
    assert_eq!(promote("rule-b").0, 0);
    let text = std::fs::read_to_string(app.path("rules/b.yaml")).unwrap();
    assert!(text.contains("state: live\n") && text.contains("# kept"), "{text}");
    let (code, _, error) = promote("rule-b");
    assert!(code == 1 && error.contains("live already"), "{error}");
    let (code, _, error) = app.run(&["rules", "promote", "aws-root-console-login"]);
    assert!(code == 1 && error.contains("built in"), "{code} {error}");
}

#[test]
fn a_suppression_is_looked_at_before_it_is_saved() {
    let app = app();
    let preview = |filter: &str, more: &[&str]| -> Value {
        let (code, out, error) =
            app.run(&[&["suppressions", "preview", filter, "--data-dir", "DIR/data", "--output", "json"], more].concat());
        assert_eq!(code, 0, "{error}");
        serde_json::from_str(&out).unwrap()
    };
    let said = preview("user = \"alice\"", &[]);
    assert_eq!(said["events"], 40, "in shadow a rule matches all the same");
    assert_eq!(said["byRule"], json!({"rule-a": 20, "rule-b": 20}));
    assert_eq!(said["byAction"], json!({"A": 20, "B": 20}));
    assert!(said["advice"][0].as_str().unwrap().contains("too broad: it hides 2 kinds of behaviour"), "{said}");
    let narrow = preview("user = \"alice\"", &["--rule", "rule-a"]);
    assert_eq!((&narrow["events"], &narrow["byUser"]), (&json!(20), &json!({"alice": 20})));
    let better = narrow["better"].as_str().unwrap();
    assert!(better.contains("eventName = \"A\"") && !better.contains("ip ="), "{better}");
    assert_eq!(preview(better, &[])["events"], 20);
    assert_eq!(preview("eventID = \"event-2\"", &[])["advice"][0], "never matches again: `eventID` is new in every event or process");

    let add = |id: &str, filter: &str, more: &[&str]| {
        let args = ["suppressions", "add", id, "--folder", "DIR/quiet", "--filter", filter, "--owner", "ada", "--reason", "it is known"];
        app.run(&[&args, more].concat())
    };
    std::fs::create_dir(app.path("quiet")).unwrap();
    for (id, filter, more, expected) in [
        ("a b", "user = \"x\"", &[][..], "letters, digits"),
        ("a", "user == \"x\"", &[], "write `=`"),
        ("a", "pid = 5", &[], "never matches again"),
        ("a", "user = \"x\"", &["--expires", "soon"], "is not a time"),
    ] {
        let (code, _, error) = add(id, filter, more);
        assert!(code == 64 && error.contains(expected), "{code} {error}");
    }
    assert_eq!(std::fs::read_dir(app.path("quiet")).unwrap().count(), 0, "nothing is left of them");
    let (code, _, error) = add("alice-a", better, &["--rule", "rule-a", "--expires", "2099-01-31", "--by", "bob"]);
    assert_eq!(code, 0, "{error}");
    assert_eq!(add("alice-a", better, &[]).0, 1, "it is there already");
    let (code, out, error) = app.run(&["suppressions", "list", "--suppressions", "DIR/quiet", "--output", "json"]);
    assert_eq!(code, 0, "{error}");
    let saved: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&saved["filter"], &saved["rules"], &saved["createdBy"]), (&json!(better), &json!(["rule-a"]), &json!("bob")));
    // In use it hides what the preview said.
    let quiet = app.path("quiet");
    let app = app.with("suppressions", json!({"directories": [quiet]}));
    let again: Vec<_> = (0..20).map(|n| record(&format!("again-{n}"), TIME, "A")).collect();
    app.file("in/b.json.gz", object(&again));
    app.drain();
    assert_eq!(app.search("alert_metadata.match_state = \"SUPPRESSED\"").len(), 20);
}

#[test]
fn an_alert_is_given_to_a_person_and_noted() {
    let app = app();
    let list = || app.alerts();
    let id = list()[0]["id"].as_str().unwrap().to_owned();
    let alerts = |args: &[&str]| app.run(&[&["alerts"], args, &["--data-dir", "DIR/data"]].concat());
    assert_eq!(alerts(&["assign", &id, "ada"]).0, 0);
    assert_eq!(alerts(&["note", &id, "looked at \"it\"", "--by", "bob"]).0, 0);
    assert_eq!(alerts(&["note", &id, "harmless", "--by", "ada"]).0, 0);
    let alert = &list()[0];
    assert_eq!(alert["assignee"], "ada");
    let notes: Vec<_> = alert["notes"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert!(notes.len() == 2 && notes[0].ends_with("bob: looked at \"it\"") && notes[1].ends_with("ada: harmless"), "{notes:?}");
    assert_eq!(alerts(&["assign", &id]).0, 0);
    assert_eq!(list()[0]["assignee"], Value::Null);
    let (code, _, error) = alerts(&["note", "no-such", "x", "--by", "ada"]);
    assert!(code == 1 && error.contains("there is no alert no-such"), "{error}");
}

#[test]
fn a_person_sees_which_test_of_a_rule_an_event_fails() {
    let app = app();
    app.file("more/c.yaml", rule("rule-c", "eventName = \"A\"", "suppressions: ['ip = \"192.0.2.1\"']\n"));
    let explain = |args: &[&str]| app.run(&[&["explain"], args].concat());
    let of_rule = |id: &str, event: &str| {
        let (code, out, error) = explain(&[
            "--rule",
            id,
            "--rules",
            "DIR/rules",
            "--rules",
            "DIR/more",
            "--list",
            "people=DIR/people.txt",
            "--id",
            event,
            "--data-dir",
            "DIR/data",
            "--output",
            "json",
        ]);
        assert_eq!(code, 0, "{error}");
        serde_json::from_str::<Value>(&out).unwrap()
    };
    let said = of_rule("rule-b", "event-0");
    let tests = said["filter"].as_array().unwrap();
    assert_eq!((&said["matches"], tests.len()), (&json!(false), 3), "{said}");
    assert_eq!(said["alertsAt"], "5 matches within 1h");
    assert_eq!(tests[1], json!({"depth": 1, "holds": false, "what": "eventName = \"B\"", "values": ["A"]}));
    assert_eq!((&tests[2]["holds"], &tests[2]["values"]), (&json!(true), &json!(["alice"])));
    // Every fourth event comes from the address that the rule does not count.
    assert_eq!((&of_rule("rule-c", "event-0")["matches"], &of_rule("rule-c", "event-2")["matches"]), (&json!(false), &json!(true)));
    let (code, out, _) = explain(&["eventName = \"A\"", "--id", "event-0", "--data-dir", "DIR/data"]);
    assert!(code == 0 && out.contains("\nmatches\n  yes eventName"), "{out}");
    for (args, wanted) in [
        (&["eventName = \"A\"", "--id", "event-99", "--data-dir", "DIR/data"][..], "no stored event has the id `event-99`"),
        (&["eventName == \"A\"", "--id", "event-0", "--data-dir", "DIR/data"], "is not an operator"),
        (&["--rule", "rule-x", "--id", "event-0", "--data-dir", "DIR/data"], "no rule has the id `rule-x`"),
        (&["eventName = \"A\"", "--id", "event-0"], "--data-dir"),
        (&["eventName = \"A\""], "<--file"),
        (&["eventName = \"A\"", "--file", "DIR/no-such-file"], "no-such-file"),
    ] {
        let (code, _, error) = explain(args);
        assert!(code != 0 && error.contains(wanted), "{args:?}: {code} {error}");
    }
}

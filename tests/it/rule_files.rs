//! Rules in files as people keep and change them: names, places, slips, tests.

use crate::support::aws::{free_port, http};
use crate::support::{TestApp, lines, object, planewatch, record, wait_for};
use serde_json::{Value, json};

fn rule(id: &str, more: &str) -> String {
    format!(
        "id: {id}\ntitle: \"{id}\"\nseverity: 2\ntype: CloudTrail\ndescription: test\nfilter: 'eventName = \"A\"'\ntags: [attack.impact]\n{more}"
    )
}

fn ids(app: &TestApp, args: &[&str]) -> Vec<String> {
    let (_, out, _) = app.run(&[&["rules", "list", "--output", "json"], args].concat());
    lines(&out).iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_is_hidden_is_no_rule_and_a_file_replaces_a_built_in_one() {
    let app = TestApp::new();
    // As a ConfigMap is mounted: a hidden folder with the files, and links to them.
    app.file("cm/..2026_11_26/a.yaml", rule("a", ""));
    std::os::unix::fs::symlink("..2026_11_26", app.path("cm/..data")).unwrap();
    std::os::unix::fs::symlink("..data/a.yaml", app.path("cm/a.yaml")).unwrap();
    app.file("cm/.git/old.yaml", rule("a", ""));
    app.file("cm/.#a.yaml", "half a");
    assert_eq!(app.run(&["rules", "list", "--rules", "DIR/cm"]).2, "", "nothing that does not load");
    assert_eq!(ids(&app, &["--rules", "DIR/cm"]), ["a"]);

    let (code, text, _) = app.run(&["rules", "show", "aws-root-activity"]);
    assert!(code == 0 && text.contains("\nid: aws-root-activity") || text.starts_with("id: aws-root-activity"), "{text}");
    app.file("own/root.yaml", rule("aws-root-activity", "enabled: false\n"));
    let (_, out, error) = app.run(&["rules", "list", "--rules", "builtin", "--rules", "DIR/own", "--output", "json"]);
    let found: Vec<_> = lines(&out).into_iter().filter(|it| it["id"] == "aws-root-activity").collect();
    assert_eq!((found.len(), &found[0]["enabled"], error.as_str()), (1, &json!(false), ""));

    app.file("own/twice.yaml", rule("aws-root-activity", ""));
    let (_, _, error) = app.run(&["rules", "list", "--rules", "DIR/own"]);
    assert!(error.contains("twice.yaml: not loaded") && error.contains("root.yaml has a rule with the id"), "{error}");
}

#[test]
fn slips_are_said_before_a_rule_is_in_use() {
    let app = TestApp::new();
    for (what, more) in [
        ("did you mean `user`", "aggregate_fields: [userr]\n"),
        ("did you mean `errorCode`", "distinct: {field: errorCod, count: 3}\n"),
        ("did you mean `region`", "first_seen: {field: regoin, history: 7d}\n"),
        ("say what is expected", "tests: [{event: a.json}]\n"),
    ] {
        app.file("r/a.yaml", rule("a", more));
        let (code, _, error) = app.run(&["rules", "lint", "--rules", "DIR/r"]);
        assert!(code == 1 && error.contains(what), "{more}: {code} {error}");
    }
    for title in ["{{userr}} did", "{{user did"] {
        app.file("r/a.yaml", rule("a", "").replace("title: \"a\"", &format!("title: \"{title}\"")));
        let (code, _, error) = app.run(&["rules", "lint", "--rules", "DIR/r"]);
        assert!(code == 1 && error.contains("title:"), "{title}: {code} {error}");
    }
    app.file("r/a.yaml", rule("a", "tests: [{event: none.json, matches: true}]\n"));
    let (code, _, error) = app.run(&["rules", "lint", "--rules", "DIR/r"]);
    assert!(code == 1 && error.contains("none.json: there is no such file") && error.contains("that it does not match"), "{error}");
    for args in [["hunt", "DIR/r/a.yaml", "--rules", "DIR/none"], ["rules", "list", "--rules", "bultin"]] {
        let (code, _, error) = app.run(&args);
        assert!(code == 64 && error.contains("no such file or folder"), "{args:?}: {code} {error}");
    }
}

#[test]
fn tests_of_a_rule_count_alerts_and_what_the_rule_itself_suppresses() {
    let app = TestApp::new();
    let events: Vec<_> = (0..4).map(|n| record(&format!("e{n}"), "2026-11-24T12:00:00Z", "A")).collect();
    app.file("r/four.json", json!({ "Records": events }).to_string());
    let test = |more: &str| {
        app.file("r/a.yaml", rule("a", more));
        let (code, out, _) = app.run(&["rules", "test", "--rules", "DIR/r"]);
        (code, out)
    };
    assert_eq!(test("threshold: 4\ntests: [{event: four.json, matches: true, alerts: 1}]\n").0, 0);
    let (code, out) = test("threshold: 5\ntests: [{event: four.json, alerts: 1}]\n");
    assert!(code == 1 && out.contains("four.json: 0 alerts, and there should be 1"), "{out}");
    let (code, out) = test("suppressions: ['user = \"alice\"']\ntests: [{event: four.json, matches: true}]\n");
    assert!(code == 1 && out.contains("does not match, and should"), "{out}");
}

#[test]
fn a_rule_in_shadow_is_promoted_however_it_is_quoted_or_it_is_said_why_not() {
    let app = TestApp::new();
    for state in ["state: \"shadow\"", "state: 'shadow' # for now", "state : shadow"] {
        app.file("r/a.yaml", rule("a", &format!("{state}\n")));
        let (code, _, error) = app.run(&["rules", "promote", "a", "--rules", "DIR/r"]);
        assert_eq!(code, 0, "{state}: {error}");
        let (_, out, _) = app.run(&["rules", "list", "--rules", "DIR/r", "--output", "json"]);
        assert_eq!(lines(&out)[0]["live"], true, "{state}");
    }
    let flow = "{id: a, title: t, severity: 2, type: CloudTrail, description: d, filter: 'user = \"x\"', state: shadow}";
    app.file("r/a.yaml", flow);
    let (code, _, error) = app.run(&["rules", "promote", "a", "--rules", "DIR/r"]);
    assert!(code == 1 && error.contains("has no line `state: shadow`"), "{error}");
    assert_eq!(std::fs::read_to_string(app.path("r/a.yaml")).unwrap(), flow);
}

#[test]
fn what_does_not_load_at_the_start_is_seen_wherever_one_looks() {
    let port = free_port();
    let app = TestApp::new().folder("in");
    app.file("rules/a.yaml", rule("a", ""));
    app.file("rules/broken.yaml", "id: \"b");
    let rules = app.path("rules");
    let app =
        app.with("rules", json!({"builtin": false, "directories": [rules]})).with("admin", json!({"listen": format!("127.0.0.1:{port}")}));
    let mut child = planewatch(&["run", "-c", app.config().to_str().unwrap()]).spawn().unwrap();
    let alerts = || app.alerts();
    wait_for("the alert", || app.data().join("state.db").exists() && !alerts().is_empty());
    let (status, ready) = http(port, "GET", "/readyz", "").unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(status == 200 && ready.contains("1 did not load") && ready.contains("broken.yaml"), "{ready}");
    let alert = &alerts()[0];
    assert_eq!(alert["ruleId"], "planewatch-rules-not-loaded");
    assert!(alert["title"].as_str().unwrap().contains("broken.yaml: "), "{alert}");
}

#[test]
fn people_are_named_and_what_they_did_is_shown() {
    let app = TestApp::new().folder("in");
    app.file("rules/a.yaml", rule("a", ""));
    app.file("in/a.json.gz", object(&[record("e", "2026-11-24T12:00:00Z", "A")]));
    let rules = app.path("rules");
    let app = app.with("rules", json!({"builtin": false, "directories": [rules]}));
    app.drain();
    let list: Vec<Value> = app.alerts();
    let id = list[0]["id"].as_str().unwrap();
    let listed =
        |more: &[&str]| lines(&app.run(&[&["alerts", "list", "--data-dir", "DIR/data", "--output", "json"], more].concat()).1).len();
    assert_eq!([listed(&["--rule", "a"]), listed(&["--rule", "b"])], [1, 0]);
    assert_eq!([listed(&["--since", "2026-11-24T12:00:00Z"]), listed(&["--since", "2026-11-24T12:00:01Z"])], [1, 0]);
    let data = ["--data-dir", "DIR/data"];
    for (args, what) in [
        (&["dismiss", id, "--reason", "other", "--by", "ada"][..], "--text is empty"),
        (&["dismiss", id, "--reason", "maintenance", "--by", " "], "--by is empty"),
        (&["note", id, "", "--by", "ada"], "the note is empty"),
        (&["note", id, "x", "--by", ""], "--by is empty"),
    ] {
        let (code, _, error) = app.run(&[&["alerts"], args, &data[..]].concat());
        assert!(code == 64 && error.contains(what), "{args:?}: {code} {error}");
    }
    for args in [
        &["assign", id, "bob"][..],
        &["note", id, "asked bob", "--by", "ada"],
        &["dismiss", id, "--reason", "other", "--text", "a drill", "--by", "ada"],
    ] {
        assert_eq!(app.run(&[&["alerts"], args, &data[..]].concat()).0, 0, "{args:?}");
    }
    let (_, text, _) = app.run(&[&["alerts", "show", id], &data[..]].concat());
    for wanted in ["assigned to bob", "ada: asked bob", "by ada, OTHER: a drill"] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
}

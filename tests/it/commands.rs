//! The commands as a person or a script meets them.

use crate::support::{TestApp, object, output, planewatch, record, stderr, stdout};
use serde_json::json;

#[test]
fn the_demo_shows_events_and_search_answers() {
    let app = TestApp::new();
    let dir = app.path("demo");
    let demo = output(&["demo", "--dir", dir.to_str().unwrap()]);
    assert!(demo.status.success(), "{}", stderr(&demo));
    assert!(stdout(&demo).contains("signin:ConsoleLogin"), "{}", stdout(&demo));
    assert!(stdout(&demo).contains("received 16 = stored 15 + duplicate 0 + quarantined 1 + filtered 0"), "{}", stdout(&demo));
    assert!(stdout(&demo).contains("aws-root-console-login  Root console login from 203.0.113.99"), "{}", stdout(&demo));
    let data = dir.join("data");
    let found = output(&["search", "eventName = \"ConsoleLogin\"", "--data-dir", data.to_str().unwrap()]);
    assert_eq!(stdout(&found).lines().count(), 4);
    let again = output(&["demo", "--dir", dir.to_str().unwrap()]);
    assert!(stdout(&again).contains("received 0"), "{}", stdout(&again));
}

#[test]
fn exit_codes_and_messages_say_what_to_do() {
    let app = TestApp::new();
    app.file("bad.yaml", "data_dir: x\nsources: []\nsorces: []\n");
    let bad = app.path("bad.yaml");
    let nowhere = app.path("nowhere");
    for (args, code, expected) in [
        (vec!["search", "a = ", "--data-dir", "x"], 64, "where a value should stand"),
        (vec!["search", "eventName contains 1", "--data-dir", "x"], 64, "did you mean `like`?"),
        (vec!["search", "a = 1", "--data-dir", nowhere.to_str().unwrap()], 64, "holds no planewatch data"),
        (vec!["run", "-c", bad.to_str().unwrap()], 64, "sorces"),
        (vec!["run", "-c", nowhere.to_str().unwrap()], 64, "nowhere"),
        (vec!["replay", nowhere.to_str().unwrap()], 1, "No such file"),
        (vec!["quarantine", "list", "--data-dir", nowhere.to_str().unwrap()], 64, "holds no planewatch data"),
        (vec!["frobnicate"], 64, "unrecognized subcommand"),
    ] {
        let result = output(&args);
        assert_eq!(result.status.code(), Some(code), "{args:?}: {}", stderr(&result));
        assert!(stderr(&result).contains(expected), "{args:?}: {}", stderr(&result));
    }
    assert_eq!(output(&["--help"]).status.code(), Some(0));
    assert_eq!(output(&["completions", "bash"]).status.code(), Some(0));
}

#[test]
fn search_is_newest_first_and_limited_and_bounded_in_time() {
    let app = TestApp::new().folder("files");
    for hour in [3, 1, 4, 2, 5] {
        app.file(&format!("files/{hour}"), record(&format!("at-{hour}"), &format!("2026-01-02T0{hour}:00:00Z"), "A").to_string());
    }
    app.drain();
    let data = app.data();
    let ids = |args: &[&str]| {
        let mut all = vec!["search", "--data-dir", data.to_str().unwrap(), "--output", "json"];
        all.extend(args);
        let events = crate::support::lines(&stdout(&output(&all)));
        events.iter().map(|it| it["raw"]["eventID"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ids(&[]), "at-5 at-4 at-3 at-2 at-1");
    assert_eq!(ids(&["--limit", "2"]), "at-5 at-4");
    assert_eq!(ids(&["--since", "2026-01-02T02:00:00Z", "--until", "2026-01-02T04:00:00Z"]), "at-4 at-3 at-2");
    assert_eq!(ids(&["--since", "1h"]), "");
}

#[test]
fn a_second_run_on_the_folder_is_refused() {
    let app = TestApp::new().folder("files");
    let config = app.config();
    let mut first = planewatch(&["run", "-c", config.to_str().unwrap()]).spawn().unwrap();
    crate::support::wait_for("the first", || app.data().join("state.db").exists());
    let second = output(&["run", "-c", config.to_str().unwrap(), "--drain"]);
    assert_eq!(second.status.code(), Some(75), "{}", stderr(&second));
    assert!(stderr(&second).contains("in use by another planewatch"), "{}", stderr(&second));
    first.kill().unwrap();
    first.wait().unwrap();
    app.drain();
}

#[test]
fn quarantine_drop_and_backup() {
    let app = TestApp::new().folder("files");
    app.file("files/bad", "{\"eventID\": oops}");
    app.file("files/good.json.gz", object(&[record("a", "2026-01-02T03:04:05Z", "A")]));
    app.drain();
    let data = app.data();
    let data = data.to_str().unwrap();
    let entry = &app.quarantine()[0];
    assert_eq!(entry["origin"]["source"], "files");
    assert!(entry["bytes"].as_u64().unwrap() > 0);
    let to = app.path("copy.db");
    assert!(output(&["backup", to.to_str().unwrap(), "--data-dir", data]).status.success());
    assert!(std::fs::metadata(&to).unwrap().len() > 1000);
    assert_eq!(
        output(&["backup", to.to_str().unwrap(), "--data-dir", data]).status.code(),
        Some(74),
        "an existing file is not overwritten"
    );
    let id = entry["id"].to_string();
    assert!(output(&["quarantine", "drop", &id, "--data-dir", data]).status.success());
    assert_eq!(app.quarantine(), Vec::<serde_json::Value>::new());
    assert_eq!(output(&["quarantine", "drop", &id, "--data-dir", data]).status.code(), Some(1));
}

#[test]
fn config_check_prints_what_it_understood() {
    let app = TestApp::new().folder("files").with("organization_id", json!("example"));
    let config = app.config();
    let checked = output(&["config", "check", "--config", config.to_str().unwrap()]);
    assert!(checked.status.success(), "{}", stderr(&checked));
    assert!(stdout(&checked).contains("organization_id: example"), "{}", stdout(&checked));
}

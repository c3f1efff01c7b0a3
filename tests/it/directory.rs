//! Source `directory` and `replay`: forms, names, changes.

use crate::support::{TestApp, gz, object, output, planewatch, record, shared, stderr, stdout, wait_for};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

#[test]
fn a_file_that_grows_is_read_again_and_what_was_cut_is_settled() {
    let app = TestApp::new().folder("files");
    let whole = object(&(0..30).map(|n| record(&format!("event-{n}"), "2026-01-02T03:04:05Z", "RunInstances")).collect::<Vec<_>>());
    app.file("files/log.json.gz", &whole[..whole.len() / 2]);
    let sum = app.drain();
    let before = sum["stored"].as_u64().unwrap();
    assert_eq!(sum["quarantined"], 1);
    assert_eq!(app.quarantine().len(), 1);
    app.file("files/log.json.gz", &whole);
    let sum = app.drain();
    assert_eq!(sum, json!({"received": 30, "stored": 30 - before, "duplicate": before, "quarantined": 0, "filtered": 0}));
    assert_eq!(app.quarantine().len(), 0, "the whole file settles what the cut one left");
    assert_eq!(app.search("").len(), 30);
}

#[test]
fn a_folder_is_watched_and_sigterm_ends_it_in_order() {
    let app = TestApp::new().folder("files");
    let config = app.config();
    let mut run = planewatch(&["run", "-c", config.to_str().unwrap()]).spawn().unwrap();
    wait_for("the state", || app.data().join("state.db").exists());
    app.file("files/deep/er/a.json", record("watched", "2026-01-02T03:04:05Z", "RunInstances").to_string());
    wait_for("the event, beside the running service", || app.search("eventID = \"watched\"").len() == 1);
    std::process::Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap();
    assert!(run.wait().unwrap().success());
    assert_eq!(app.search("eventID = \"watched\"").len(), 1);
    assert_eq!(std::fs::read_dir(app.data().join("log")).unwrap().count(), 0, "the log is sealed before the end");
}

#[test]
fn names_may_hold_any_character() {
    let app = TestApp::new().folder("files");
    let names: [&[u8]; 5] = [b"plain", b"with space +%41\"'", "umlaut-\u{e4}-\u{1f600}".as_bytes(), b"new\nline", b"not-utf8-\xff"];
    for (n, name) in names.iter().enumerate() {
        let text = record(&format!("event-{n}"), "2026-01-02T03:04:05Z", "RunInstances").to_string();
        std::fs::write(app.path("files").join(OsStr::from_bytes(name)), text).unwrap();
    }
    assert_eq!(app.drain()["stored"], 5);
    let uris: Vec<_> = app.search("").iter().map(|it| it["origin"]["uri"].as_str().unwrap().to_owned()).collect();
    assert!(uris.iter().any(|it| it.ends_with("/with space +%41\"'")), "{uris:?}");
    assert!(uris.iter().any(|it| it.ends_with("/not-utf8-\\xff")), "{uris:?}");
    let files = app.path("files");
    let output = output(&["replay", files.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().count(), 5);
}

#[test]
fn framing_cases_of_others() {
    let Some(path) = shared("data/falco-cloudtrail-framing/cases/record_framing.json") else { return };
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let app = TestApp::new();
    for case in cases {
        app.file("case.json", case["payload"].as_str().unwrap());
        let path = app.path("case.json");
        let output = output(&["replay", path.to_str().unwrap()]);
        let found: Vec<_> =
            stdout(&output).lines().map(|line| line.split_once(",\"raw\":").unwrap().1.strip_suffix('}').unwrap().to_owned()).collect();
        let expected: Vec<String> = serde_json::from_value(case["expected_records"].clone()).unwrap();
        assert_eq!(found, expected, "{}", case["name"]);
    }
}

#[test]
fn replay_of_a_real_trail_repeats_every_record() {
    let Some(sans) = shared("data/sans-s3-ransomware/s3") else { return };
    let output = output(&["replay", sans.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let count = crate::support::independent_count(&sans);
    assert_eq!(json!(stdout(&output).lines().count()), count["records"]);
}

#[test]
fn replay_works_on_one_core() {
    // More output than the channels between the threads hold, in more files than are taken ahead.
    let app = TestApp::new().folder("files");
    let text =
        json!({"Records": (0..2_000).map(|n| record(&format!("event-{n}"), "2026-11-24T12:00:00Z", "GetThing")).collect::<Vec<_>>()});
    for n in 0..6 {
        app.file(&format!("files/{n}.json"), text.to_string());
    }
    let one_core = std::process::Command::new("timeout")
        .args(["60", "taskset", "-c", "0", env!("CARGO_BIN_EXE_planewatch"), "replay"])
        .arg(app.path("files"))
        .output()
        .unwrap();
    assert!(one_core.status.success(), "{:?}: {}", one_core.status, String::from_utf8_lossy(&one_core.stderr));
    assert_eq!(String::from_utf8_lossy(&one_core.stdout).lines().count(), 12_000);
}

#[test]
fn replay_reports_bad_records_and_reads_standard_input() {
    let app = TestApp::new();
    let text =
        format!("{}\n{{\"eventID\": broken}}\n{}\n", record("a", "2026-01-02T03:04:05Z", "A"), record("b", "2026-01-02T03:04:05Z", "B"));
    app.file("lines", gz(text.as_bytes()));
    let path = app.path("lines");
    let mut command = planewatch(&["replay", "-", "--output", "json"]);
    let output = command.stdin(std::fs::File::open(&path).unwrap()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output).lines().count(), 2);
    let reported: Value = serde_json::from_str(stderr(&output).lines().next().unwrap()).unwrap();
    assert_eq!((reported["reason"].as_str(), reported["origin"]["index"].as_u64()), (Some("bad_record"), Some(1)));
}

#[test]
fn filters_drop_and_are_counted_and_labels_are_written() {
    let app = TestApp::new()
        .with("accounts", json!({"111122223333": {"name": "production", "labels": {"team": "platform"}}}))
        .with("lists", json!({"noise": ["DescribeInstances"]}));
    let folder = app.path("files");
    let app = app.source(json!({"type": "directory", "name": "files", "path": folder, "drop": ["eventName in @noise"]}));
    app.file("files/a", record("a", "2026-01-02T03:04:05Z", "DescribeInstances").to_string());
    app.file("files/b", record("b", "2026-01-02T03:04:05Z", "RunInstances").to_string());
    assert_eq!(app.drain(), json!({"received": 2, "stored": 1, "duplicate": 0, "quarantined": 0, "filtered": 1}));
    let found = app.search("labels = \"team=platform\" and provider_metadata.account_name = \"production\"");
    assert_eq!(found.len(), 1);
}

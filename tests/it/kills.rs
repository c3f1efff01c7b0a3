//! SIGKILL at random moments, many times: the stored set is that of an undisturbed run.
//!
//! `PLANEWATCH_KILLS` says how many; `make test-kills` runs 200.

use crate::queue::stored_ids;
use crate::rules::stored_alerts;
use crate::support::aws::{Aws, s3_message};
use crate::support::{TestApp, independent_count, planewatch, shared};
use serde_json::json;
use std::time::Duration;

fn kills() -> u64 {
    std::env::var("PLANEWATCH_KILLS").ok().and_then(|it| it.parse().ok()).unwrap_or(12)
}

/// Starts the service and kills it after a random while, again and again.
fn kill_often(app: &TestApp, longest_ms: u64) {
    let config = app.config();
    for _ in 0..kills() {
        let mut run = planewatch(&["run", "-c", config.to_str().unwrap()]).spawn().unwrap();
        std::thread::park_timeout(Duration::from_millis(fastrand::u64(20..longest_ms)));
        run.kill().unwrap();
        run.wait().unwrap();
    }
}

#[test]
fn killed_while_reading_a_queue() {
    let Some(sans) = shared("data/sans-s3-ransomware/s3") else { return };
    let aws = Aws::start();
    let queue = aws.queue("killed");
    let keys = aws.put_folder(&sans);
    let bodies: Vec<_> = keys.iter().map(|key| s3_message(key)).collect();
    aws.send(&queue, &bodies);
    let mut source = aws.source(&queue);
    source["visibility_timeout_secs"] = json!(2);
    let app = TestApp::new().source(source);
    kill_often(&app, 600);
    app.drain();
    assert_eq!(aws.depth(&queue), 0);
    let expected: Vec<String> = serde_json::from_value(independent_count(&sans)["ids"].clone()).unwrap();
    assert!(stored_ids(&app) == expected, "the stored set is another");
    assert_eq!(app.quarantine().len(), 0);
}

#[test]
fn killed_while_reading_a_folder() {
    let Some(sans) = shared("data/sans-s3-ransomware/s3") else { return };
    let app = TestApp::new().source(json!({"type": "directory", "name": "files", "path": sans}));
    kill_often(&app, 150);
    app.drain();
    let expected: Vec<String> = serde_json::from_value(independent_count(&sans)["ids"].clone()).unwrap();
    assert!(stored_ids(&app) == expected, "the stored set is another");
}

#[test]
fn killed_while_rules_run() {
    let Some(sans) = shared("data/sans-s3-ransomware/s3") else { return };
    let with_rules = || {
        let app = TestApp::new().source(json!({"type": "directory", "name": "files", "path": sans}));
        app.with("rules", json!({"builtin": true}))
    };
    let (killed, quiet) = (with_rules(), with_rules());
    kill_often(&killed, 250);
    killed.drain();
    quiet.drain();
    let expected = stored_alerts(&quiet);
    assert!(!expected.is_empty());
    assert_eq!(stored_alerts(&killed), expected);
}

//! Source `k8s_log`: every line once, through rotation of every kind and through kills.

use crate::support::aws::{free_port, http};
use crate::support::k8s::{LogWriter, Rotation, audit_event, pack};
use crate::support::{TestApp, gz, planewatch, wait_for};
use serde_json::{Value, json};
use std::fs;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A service that follows `log/audit.log`.
#[expect(clippy::needless_pass_by_value, reason = "it is written where it is used")]
pub(crate) fn app(more: Value) -> TestApp {
    let app = TestApp::new();
    fs::create_dir_all(app.path("log")).unwrap();
    let mut source =
        json!({"type": "k8s_log", "name": "audit", "cluster": "test", "path": app.path("log/audit.log"), "poll_interval_ms": 20});
    for (key, value) in more.as_object().unwrap() {
        source[key] = value.clone();
    }
    app.source(source)
}

/// A running service, killed at the end.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn start(app: &TestApp) -> Self {
        let config = app.config();
        Self(planewatch(&["run", "-c", config.to_str().unwrap()]).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn writer(app: &TestApp) -> LogWriter {
    LogWriter::new(&app.path("log/audit.log"), Rotation::Rename, "line")
}

fn ids(app: &TestApp) -> Vec<String> {
    let mut ids: Vec<String> = app.search("").iter().map(|it| it["raw"]["auditID"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

/// A counter of the state: over all runs.
pub(crate) fn total(app: &TestApp, name: &str) -> u64 {
    // The service may be about to make its tables.
    let db = rusqlite::Connection::open(app.data().join("state.db")).unwrap();
    let query = "SELECT IFNULL(SUM(value), 0) FROM counters WHERE source = 'audit' AND name = ?1";
    db.query_row(query, [name], |row| row.get(0)).unwrap_or(0)
}

fn positions(app: &TestApp) -> u64 {
    let db = rusqlite::Connection::open(app.data().join("state.db")).unwrap();
    db.query_row("SELECT COUNT(*) FROM files WHERE path != 'begun'", [], |row| row.get(0)).unwrap()
}

/// Every line is stored, and none was taken twice, in all runs together.
fn assert_exactly(app: &TestApp, written: &[String]) {
    let stored = ids(app);
    let mut expected = written.to_vec();
    expected.sort();
    let missing: Vec<_> = expected.iter().filter(|it| stored.binary_search(it).is_err()).take(5).collect();
    assert!(stored == expected, "{} of {} stored; missing {missing:?}", stored.len(), expected.len());
    assert_eq!((total(app, "duplicate"), total(app, "quarantined")), (0, 0));
    assert_eq!(total(app, "received"), expected.len() as u64);
}

fn kills() -> u64 {
    std::env::var("PLANEWATCH_KILLS").ok().and_then(|it| it.parse().ok()).unwrap_or(12)
}

/// A writer that does not stop, rotation every few hundred lines, and kills all the while.
fn rotate_under_load_and_kills(rotation: Rotation) {
    let app = app(json!({}));
    let mut log = LogWriter::new(&app.path("log/audit.log"), rotation, "load");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let is_over = &is_over;
        let writing = threads.spawn(move || {
            while !is_over.load(Ordering::SeqCst) || log.written.len() < 6_000 {
                log.write(fastrand::usize(1..60));
                if fastrand::u8(..) < 30 {
                    let rotated = log.rotate();
                    if rotation == Rotation::Rename && fastrand::bool() {
                        pack(&rotated);
                    }
                }
                std::thread::park_timeout(Duration::from_micros(fastrand::u64(100..4_000)));
            }
            log.written
        });
        for n in 0..kills() {
            let running = Running::start(&app);
            std::thread::park_timeout(Duration::from_millis(fastrand::u64(60..700)));
            if n == 0 {
                wait_for("the first line", || app.data().join("state.db").exists() && total(&app, "stored") > 0);
            }
            drop(running);
        }
        is_over.store(true, Ordering::SeqCst);
        let written = writing.join().unwrap();
        app.drain();
        assert_exactly(&app, &written);
        app.drain();
        assert_exactly(&app, &written);
    });
}

#[test]
fn rotated_by_rename_under_load_and_kills() {
    rotate_under_load_and_kills(Rotation::Rename);
}

#[test]
fn rotated_by_copytruncate_under_load_and_kills() {
    rotate_under_load_and_kills(Rotation::CopyTruncate);
}

#[test]
fn rotated_by_copytruncate_with_holes_under_load_and_kills() {
    rotate_under_load_and_kills(Rotation::CopyTruncateWithHoles);
}

#[test]
fn a_packed_file_is_read_where_its_plain_one_was_left() {
    let app = app(json!({}));
    let mut log = writer(&app);
    // Read to its end, in part, and never.
    log.write(500);
    app.drain();
    let read = log.rotate();
    log.write(700);
    app.drain();
    log.write(300);
    let in_part = log.rotate();
    log.write(900);
    let never = log.rotate();
    log.write(10);
    for rotated in [read, in_part, never] {
        pack(&rotated);
    }
    assert_eq!(app.drain()["received"], 300 + 900 + 10);
    assert_exactly(&app, &log.written);
    assert_eq!(app.drain()["received"], 0, "all were read");
    let index = |id: &str| app.search(&format!("auditID = \"{id}\""))[0]["origin"].clone();
    assert_eq!(index("line-001499")["index"], 999, "the index goes on in the packed file");
    assert!(index("line-001499")["uri"].as_str().unwrap().ends_with(".002.log.gz"));
    assert_eq!(index("line-001500")["index"], 0);
}

#[test]
fn a_damaged_packed_file_gives_what_it_has_and_is_set_aside_once() {
    let app = app(json!({}));
    let lines: String = (0..5_000).map(|n| audit_event(&format!("packed-{n:05}")).to_string() + "\n").collect();
    let packed = gz(lines.as_bytes());
    app.file("log/audit.log", "").file("log/audit-2026-11-24T10-00-00.000.log.gz", &packed[..packed.len() / 2]);
    app.file("log/audit-2026-11-24T11-00-00.000.log.gz", "\x1f\u{8b} no gzip");
    let sum = app.drain();
    let stored = sum["stored"].as_u64().unwrap();
    assert!(stored > 1_000, "{sum}");
    let mut reasons: Vec<_> = app.quarantine().iter().map(|it| it["reason"].as_str().unwrap().to_owned()).collect();
    reasons.sort();
    assert_eq!(reasons, ["cut", "cut_gzip", "not_json"], "the line that was cut, the stream, and what is no gzip");
    assert_eq!(app.drain()["received"], 0);
}

#[test]
fn half_a_line_waits_and_the_rest_of_a_rotated_file_does_not() {
    let app = app(json!({}));
    let mut log = writer(&app);
    let line = audit_event("half").to_string();
    log.write(3);
    log.put(&line.as_bytes()[..100]);
    assert_eq!(app.drain()["received"], 3, "an unfinished line stays unread");
    assert_eq!(app.drain()["received"], 0);
    log.put(&line.as_bytes()[100..]);
    log.put(b"\n");
    log.write(1);
    assert_eq!(app.drain(), json!({"received": 2, "stored": 2, "duplicate": 0, "quarantined": 0, "filtered": 0}));
    let running = Running::start(&app);
    log.put(audit_event("no-line-end").to_string().as_bytes());
    log.rotate();
    log.write(1);
    wait_for("the rest of the rotated file", || ids(&app).len() == 7);
    drop(running);
    let index = |id: &str| app.search(&format!("auditID = \"{id}\""))[0]["origin"]["index"].clone();
    assert_eq!((index("half"), index("no-line-end"), index("line-000004")), (json!(3), json!(5), json!(0)));
    log.put(&line.as_bytes()[..100]);
    log.rotate();
    assert_eq!(app.drain()["quarantined"], 1, "half a line that nothing follows");
    assert_eq!(app.quarantine()[0]["reason"], "cut");
    assert_eq!(app.drain()["received"], 0);
}

#[test]
fn an_inode_that_is_used_again_is_another_file() {
    use std::os::unix::fs::MetadataExt;
    let app = app(json!({}));
    let path = app.path("log/audit.log");
    let text = |name: &str, n: usize| (0..n).map(|n| audit_event(&format!("{name}-{n}")).to_string() + "\n").collect::<String>();
    let mut expected = 0;
    let mut n_reused = 0;
    let mut inode = 0;
    for round in 0..20 {
        // Longer and shorter than before.
        let n = if round % 2 == 0 { 5 } else { 9 };
        fs::write(&path, text(&format!("round-{round}"), n)).unwrap();
        expected += n;
        n_reused += usize::from(fs::metadata(&path).unwrap().ino() == inode);
        inode = fs::metadata(&path).unwrap().ino();
        assert_eq!(app.drain()["stored"], n, "round {round}");
        // In place, and as a new file that mostly gets the number of the old one.
        if round < 10 {
            fs::remove_file(&path).unwrap();
        }
    }
    assert!(n_reused >= 9, "the inode was used again only {n_reused} times");
    assert_eq!(ids(&app).len(), expected);
    assert_eq!(total(&app, "duplicate"), 0);
}

#[test]
fn bad_lines_hide_no_neighbour_and_long_ones_are_not_held() {
    let app = app(json!({}));
    let event = |id: &str| audit_event(id).to_string();
    let bad = ["no JSON", "[1,2", "{\"auditID\": \"cut", "{\"kind\":\"EventList\",\"items\":[", &"x".repeat(100_000), "\u{0}\u{0}"];
    let mut text = String::new();
    for (n, line) in bad.iter().enumerate() {
        text.extend([event(&format!("neighbour-{n}")).as_str(), "\n", line, "\n\n"]);
    }
    text.extend([event("before").as_str(), "\n{\"long\": \"", &"y".repeat(40 << 20), "\n", &event("after"), "\n"]);
    app.file("log/audit.log", text);
    let running = Running::start(&app);
    wait_for("the last line", || app.data().join("state.db").exists() && app.search("auditID = \"after\"").len() == 1);
    let status = fs::read_to_string(format!("/proc/{}/status", running.0.id())).unwrap();
    let peak_kib: u64 = status.lines().find_map(|it| it.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak_kib < 100 << 10, "{peak_kib} KiB for a line of 40 MiB");
    drop(running);
    assert_eq!(ids(&app).len(), bad.len() + 2);
    let quarantine = app.quarantine();
    let found: Vec<_> = quarantine.iter().map(|it| (it["origin"]["index"].as_u64().unwrap(), it["reason"].as_str().unwrap())).collect();
    // Blank lines and holes do not count.
    let expected = [
        (1, "not_json"),
        (3, "not_an_object"),
        (3, "not_an_object"),
        (3, "cut"),
        (5, "cut"),
        (7, "cut"),
        (9, "not_json"),
        (12, "record_too_large"),
    ];
    assert_eq!(found, expected);
    assert_eq!(quarantine.last().unwrap()["bytes"], (40 << 20) + 11);
}

#[test]
fn a_line_that_was_cut_is_stored_with_what_is_left_and_half_a_line_is_not() {
    let app = app(json!({}));
    let mut log = writer(&app);
    let line = audit_event("5c1e9a52").to_string();
    let enough = line.find("\"stage\"").unwrap() + 30;
    log.write(1);
    log.put(&[&line.as_bytes()[..enough], b"\n"].concat());
    log.write(1);
    log.put(&line.as_bytes()[..enough]);
    assert_eq!(app.drain(), json!({"received": 3, "stored": 3, "duplicate": 0, "quarantined": 0, "filtered": 0}));
    let found = app.search("flags = \"truncated\"");
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["origin"]["index"], &found[0]["raw"]), (&json!(1), &Value::Null));
    log.rotate();
    assert_eq!(app.drain()["quarantined"], 1, "what a rotated file ends with may have been cut anywhere on its way");
}

#[test]
fn more_rotated_files_than_are_held_open_are_all_read() {
    let app = app(json!({}));
    let mut log = writer(&app);
    let n = 300;
    for _ in 0..n {
        log.write(1);
        log.rotate();
    }
    assert_eq!(app.drain()["stored"], n);
    // Those that were read come first, and fill the room.
    log.write(1);
    log.rotate();
    assert_eq!(app.drain()["received"], 1);
    assert_eq!(positions(&app), n + 1);
}

#[test]
fn a_missing_file_is_said_and_waited_for() {
    let port = free_port();
    let app = app(json!({})).with("admin", json!({"listen": format!("127.0.0.1:{port}")}));
    let _running = Running::start(&app);
    let ready = || http(port, "GET", "/readyz", "").unwrap_or_default();
    wait_for("the reason", || ready().0 == 503);
    assert!(ready().1.contains("audit.log: not there; waiting for it"), "{}", ready().1);
    let mut log = writer(&app);
    log.write(2);
    wait_for("the lines", || app.search("").len() == 2);
    wait_for("being ready", || ready().0 == 200);
    let metrics = http(port, "GET", "/metrics", "").unwrap().1;
    assert!(metrics.contains("planewatch_source_up{source=\"audit\"} 1"), "{metrics}");
    log.put(b"half a line");
    wait_for("unread bytes", || http(port, "GET", "/metrics", "").unwrap().1.contains("planewatch_log_unread_bytes{source=\"audit\"} 11"));
}

#[test]
fn start_at_the_end_leaves_what_was_there() {
    let app = app(json!({"start": "end"}));
    let mut log = writer(&app);
    log.write(40);
    pack(&log.rotate());
    log.write(30);
    log.rotate();
    log.write(20);
    log.put(b"{\"auditID\": \"half");
    assert_eq!(app.drain()["received"], 0);
    log.put(b" a line\"}\n");
    log.write(5);
    log.rotate();
    log.write(7);
    assert_eq!(app.drain()["stored"], 13, "the line that was unfinished is whole now");
    let origin = app.search("auditID = \"line-000090\"")[0]["origin"].clone();
    assert_eq!(origin["index"], 21, "lines that were left count");
    assert_eq!(app.drain()["received"], 0);
}

#[test]
fn start_at_the_end_of_nothing_is_the_beginning() {
    let app = app(json!({"start": "end"}));
    app.drain();
    let mut log = writer(&app);
    log.write(3);
    assert_eq!(app.drain()["stored"], 3);
}

#[test]
fn positions_of_files_that_are_gone_are_forgotten() {
    let app = app(json!({"poll_interval_ms": 10}));
    let mut log = writer(&app);
    let running = Running::start(&app);
    for n in 1..=30 {
        log.write(1);
        wait_for("the line", || app.data().join("state.db").exists() && total(&app, "stored") == n);
        fs::remove_file(log.rotate()).unwrap();
    }
    log.write(1);
    // Removed files are held open for ten seconds, as their writer may not have let go of them.
    wait_for("the end of the positions", || positions(&app) == 1);
    drop(running);
    assert_exactly(&app, &log.written);
}

#[test]
fn mistakes_in_the_configuration_are_told() {
    for (more, expected) in [
        (json!({"cluster": ""}), "source `audit`: `cluster:` is empty"),
        (json!({"poll_interval_ms": 1}), "poll_interval_ms is 1, must be 10 to 60000"),
        (json!({"forward": {"url": "http://collector.example/k8s"}}), "in the clear"),
        (json!({"forward": {"url": "https://a/b", "cert_file": "c"}}), "come together"),
        (json!({"forward": {"url": "https://a/b"}, "drop": ["verb = \"get\""]}), "give it to the receiver"),
        (json!({"start": "middle"}), "middle"),
    ] {
        let app = app(more);
        let config = app.config();
        let output = crate::support::output(&["config", "check", "-c", config.to_str().unwrap()]);
        let text = crate::support::stderr(&output);
        assert!(output.status.code() == Some(64) && text.contains(expected), "{text}\nwithout {expected}");
    }
}

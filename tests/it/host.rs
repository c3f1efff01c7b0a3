//! Events of host sensors: read from files, posted to `ingest`, stored, searched, matched.

use crate::support::aws::{free_port, http_as};
use crate::support::judge::each_event;
use crate::support::{TestApp, output, planewatch, root, shared, stderr, stdout, wait_for};
use planewatch::filter::{Filter, Lists, Scratch};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

/// The JSON objects that stand in a text between prose, as they are spelled.
fn objects(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        let mut values = serde_json::Deserializer::from_str(&rest[at..]).into_iter::<Value>();
        match values.next() {
            Some(Ok(Value::Object(_))) => {
                let end = at + values.byte_offset();
                found.push(rest[at..end].to_owned());
                rest = &rest[end..];
            }
            _ => rest = &rest[at + 1..],
        }
    }
    found
}

/// Which of some records match a filter.
fn matching(records: &[String], filter: &Filter) -> Vec<bool> {
    let (mut scratch, mut said) = (Scratch::default(), Vec::new());
    for text in records {
        each_event(text, |event| said.push(filter.matches(event, &mut scratch)));
    }
    assert_eq!(said.len(), records.len());
    said
}

#[test]
fn filters_find_the_guides_events() {
    let Some(guide) = shared("reference/guide.txt") else { return };
    let samples = objects(&std::fs::read_to_string(guide).unwrap());
    assert_eq!(samples.len(), 3);
    let table = std::fs::read_to_string(root().join("tests/data/host/guide.tsv")).unwrap();
    let app = TestApp::new().folder("in");
    app.file("in/events.ndjson", samples.iter().map(|it| it.replace('\n', " ") + "\n").collect::<String>());
    assert_eq!(app.drain(), json!({"received": 3, "stored": 3, "duplicate": 0, "quarantined": 0, "filtered": 0}));
    for line in table.lines().filter(|it| !it.starts_with('#')) {
        let (text, expected) = line.split_once('\t').unwrap();
        let filter = Filter::new(text, &Lists::default()).unwrap_or_else(|error| panic!("{text}: {error}"));
        let found: String = "LCW".chars().zip(matching(&samples, &filter)).filter(|it| it.1).map(|it| it.0).collect();
        assert_eq!(found, expected.trim_matches('-'), "{text}");
        // What is stored answers as what came.
        assert_eq!(app.search(text).len(), found.len(), "{text}");
    }
}

/// Filters and suppressions that stand in the guide and in the page on the language: lines of code with a comparison.
#[test]
fn the_guides_own_filters_run_on_its_events() {
    let (Some(guide), Some(page)) = (shared("reference/guide.txt"), shared("spec/FILTER.md")) else { return };
    let guide = std::fs::read_to_string(guide).unwrap();
    let samples = objects(&guide);
    let parts = guide.split("codeblock").map(|it| it.replace('\n', " "));
    let of_guide = parts.filter_map(|it| {
        let from = it.find("user = ").or_else(|| it.find("pid = "))?;
        let from = it.find("pid = ").filter(|pid| *pid < from).unwrap_or(from);
        let text = it[from..].split("  *").next()?.split("  Suppression").next()?.split("   .. ").next()?.trim().to_owned();
        // The guide's last one is a form to fill in, not a filter: it has XXXX where values belong.
        (!text.contains('{') && !text.contains("XXXX")).then_some(text)
    });
    let page = std::fs::read_to_string(page).unwrap();
    let of_page = page.split("```").nth(1).unwrap().lines().filter(|it| it.contains('=') || it.contains('>')).map(str::to_owned);
    let lists: Lists = [("break_glass".to_owned(), vec!["ada".to_owned()])].into();
    let all: Vec<String> = of_guide.chain(of_page).collect();
    assert!(all.len() >= 8, "{all:#?}");
    for text in all {
        let filter = Filter::new(&text, &lists).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(matching(&samples, &filter), [false, false, false], "{text}");
    }
}

fn event(n: usize, more: &Value) -> Value {
    let mut event = json!({
        "_id": format!("id-{n}"), "agent_id": "11111111-2222-3333-4444-555555555555", "organization_id": "0123456789abcdef01234567",
        "timestamp": 1_795_524_000_000_i64 + n as i64, "event_time": 1_795_524_000_000_i64 + n as i64, "event_type": "audit",
        "user": "ada", "exe": "/usr/bin/id", "arguments": "id", "session": 12, "provider_metadata": {"cloud_provider": "aws", "account_id": "111122223333"},
    });
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

fn ndjson(events: &[Value]) -> String {
    events.iter().map(Value::to_string).collect::<Vec<_>>().join("\n") + "\n"
}

fn post(port: u16, token: &str, body: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let head = format!("POST /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n");
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).ok()?;
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer.split(' ').nth(1)?.parse().ok()
}

#[test]
fn posted_events_are_durable_before_their_200_and_nothing_else_gets_in() {
    let port = free_port();
    let app = TestApp::new();
    app.file("token", "first-token\n");
    let token = app.path("token");
    let app = app.with("accounts", json!({"111122223333": {"name": "prod"}})).with("rules", json!({})).source(json!({
        "type": "ingest", "name": "hosts", "listen": format!("127.0.0.1:{port}"), "token_file": token, "body_bytes_max": 100_000,
        "drop": ["command = \"noise\""],
    }));
    let start = || planewatch(&["run", "-c", app.config().to_str().unwrap()]).spawn().unwrap();
    let mut running = start();
    wait_for("the listener", || post(port, "first-token", "") == Some(200));
    let reverse = json!({"exe": "/usr/bin/bash", "command": "bash", "type": "connect", "syscall": "connect", "dst_ip": "203.0.113.9",
        "connection": {"addr": "203.0.113.9", "port": 4444}});
    let good = [event(1, &json!({})), event(2, &reverse), event(3, &json!({"command": "noise"}))];
    assert_eq!(post(port, "first-token", &ndjson(&good)), Some(200));
    assert_eq!(post(port, "first-token", &ndjson(&good[..2])), Some(200), "a repeat is known");
    // What is wrong hides nothing: no JSON, no host event, an event that only AWS may bring.
    let trail = json!({"eventVersion": "1.11", "eventID": "e", "eventName": "StopLogging", "eventSource": "cloudtrail.amazonaws.com"});
    let spoofed = event(9, &json!({"event_type": "cloudtrail"}));
    let mixed = format!("{{\"_id\": 5,\n{}{}{}{}", json!({"a": 1}), "\n", ndjson(&[trail, spoofed]), ndjson(&[event(4, &json!({}))]));
    assert_eq!(post(port, "first-token", &mixed), Some(200));
    assert_eq!(post(port, "wrong", &ndjson(&good)), Some(401));
    assert_eq!(post(port, "first-token", &"x".repeat(100_001)), Some(413));
    assert_eq!(http_as(port, "POST", "/events", "application/json", "{}").map(|it| it.0), Some(401));
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(app.search("event_type = \"audit\"").len(), 3);
    let shell = &app.search("ip = \"203.0.113.0/24\" and port = 4444")[0];
    assert_eq!(shell["agent_id"], "11111111-2222-3333-4444-555555555555");
    assert_eq!(shell["event_type"], "audit");
    assert_eq!(shell["origin"]["source"], "hosts");
    assert_eq!(shell["provider_metadata"]["account_name"], "prod");
    assert_eq!(shell["raw"]["connection"]["port"], 4444);
    // An event of ours may say that a body was too large.
    assert_eq!(app.search("event_type != \"kubernetesEvent\"").len(), 3);
    assert_eq!(app.quarantine().len(), 4, "{:?}", app.quarantine());
    let alerts = stdout(&output(&["alerts", "list", "--data-dir", app.data().to_str().unwrap(), "--output", "json"]));
    assert!(alerts.contains("host-shell-connects-out"), "{alerts}");
}

#[test]
fn host_events_outlive_the_log_and_are_hunted_in_files() {
    let app = TestApp::new().folder("in");
    let kinds = ["audit", "login", "winsec", "file"];
    let events: Vec<_> = (0..40).map(|n| event(n, &json!({"event_type": kinds[n % 4], "name": format!("n{n}"), "action": n}))).collect();
    app.file("in/a.ndjson", ndjson(&events));
    app.file("in/b.json", json!(events[..10]).to_string());
    assert_eq!(app.drain()["duplicate"], 10);
    for kind in kinds {
        assert_eq!(app.search(&format!("event_type = \"{kind}\"")).len(), 10, "{kind}");
    }
    assert_eq!(app.search("name = \"n7\" and action = 7 and user = \"ada\"").len(), 1);
    let hunted = output(&["hunt", app.path("in").to_str().unwrap(), "--rules", "builtin", "--output", "json"]);
    assert!(hunted.status.success(), "{}", stderr(&hunted));
}

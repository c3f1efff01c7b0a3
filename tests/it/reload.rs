//! Rules, lists and suppressions are read again while the service runs: whole or not at all, and no event is lost.

use crate::support::aws::{free_port, http};
use crate::support::{TestApp, object, planewatch, record, wait_for};
use serde_json::{Value, json};
use std::process::Child;
use std::time::{Duration, Instant};

/// A second (the promise), and what a busy machine adds.
const WITHIN: Duration = Duration::from_secs(3);
const TIME: &str = "2026-11-24T12:00:00Z";

struct Service {
    app: TestApp,
    port: u16,
    child: Child,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn rule(id: &str, filter: &str) -> String {
    format!("id: {id}\ntitle: \"{id} by {{{{user}}}}\"\nseverity: 2\ntype: CloudTrail\ndescription: test\nfilter: '{filter}'\ntags: []\n")
}

fn suppression(id: &str, filter: &str, expires: &str) -> String {
    format!("id: {id}\nfilter: '{filter}'\nowner: ada\nreason: known\nexpires: \"{expires}\"\n")
}

impl Service {
    fn start() -> Self {
        let app = TestApp::new().folder("in");
        app.file("rules/a.yaml", rule("rule-a", "eventName = \"A\""));
        app.file("quiet/none.txt", "");
        app.file("names.txt", "B\n");
        let port = free_port();
        let [rules, quiet, names] = ["rules", "quiet", "names.txt"].map(|it| app.path(it));
        let app = app
            .with("rules", json!({"builtin": false, "directories": [rules]}))
            .with("suppressions", json!({"directories": [quiet]}))
            .with("lists", json!({"names": names}))
            .with("admin", json!({"listen": format!("127.0.0.1:{port}")}));
        let child = planewatch(&["run", "-c", app.config().to_str().unwrap()]).spawn().unwrap();
        let it = Self { app, port, child };
        wait_for("the service", || it.get("/readyz").is_some());
        it
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        http(self.port, "GET", path, "")
    }

    fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.get("/metrics").unwrap();
        text.lines().find_map(|it| it.strip_prefix(series)?.trim().parse().ok()).unwrap_or(0.0)
    }

    fn takes(&self, what: &str, change: impl FnOnce(&TestApp)) {
        let count = |result: &str| self.metric(&format!("planewatch_rules_reloads_total{{source=\"rules\",result=\"{result}\"}}"));
        let (before, start) = (count(what), Instant::now());
        change(&self.app);
        wait_for(&format!("files that are {what}"), || count(what) > before);
        assert!(start.elapsed() < WITHIN, "{:?}", start.elapsed());
    }

    /// Brings an event and waits until it is stored.
    fn event(&self, n: usize, name: &str) {
        self.app.file(&format!("in/{n}.json.gz"), object(&[record(&format!("event-{n}"), TIME, name)]));
        wait_for("the event", || self.app.search(&format!("eventID = \"event-{n}\"")).len() == 1);
    }

    fn alerts(&self) -> Vec<Value> {
        self.app.alerts()
    }

    fn count(&self, rule: &str) -> u64 {
        self.alerts().iter().filter(|it| it["ruleId"] == rule).map(|it| it["count"].as_u64().unwrap()).sum()
    }
}

#[test]
fn changed_files_are_in_use_within_a_second_and_broken_ones_change_nothing() {
    let it = Service::start();
    it.event(1, "A");
    assert_eq!(it.count("rule-a"), 1);
    it.takes("taken", |app| {
        app.file("rules/b.yaml", rule("rule-b", "eventName in @names"));
    });
    assert_eq!(it.metric("planewatch_rules{source=\"rules\"}") as u64, 2);
    it.event(2, "B");
    assert_eq!(it.count("rule-b"), 1);

    // One broken file among good changes: none of them counts.
    it.takes("refused", |app| {
        app.file("rules/a.yaml", rule("rule-a", "eventName = \"never\""));
        app.file("rules/c.yaml", rule("rule-c", "eventName == \"A\""));
    });
    let (status, text) = it.get("/readyz").unwrap();
    assert!(status == 200 && text.starts_with("ok\n") && text.contains("note: rules: ") && text.contains("c.yaml"), "{status} {text}");
    it.event(3, "A");
    assert_eq!(it.count("rule-a"), 2, "those from before run");
    let own = it.alerts().into_iter().find(|it| it["ruleId"] == "planewatch-rules-not-loaded").unwrap();
    assert!(own["title"].as_str().unwrap().contains("c.yaml"), "{own}");

    it.takes("taken", |app| {
        app.file("rules/c.yaml", rule("rule-c", "eventName = \"C\""));
    });
    assert_eq!(it.get("/readyz").unwrap(), (200, "ok\n".to_owned()));
    it.event(4, "A");
    assert_eq!(it.count("rule-a"), 2, "the change of before counts now");
    it.takes("taken", |app| {
        app.file("names.txt", "B\nlisted\n");
    });
    it.event(5, "listed");
    assert_eq!(it.count("rule-b"), 2);
    it.takes("taken", |app| {
        app.file("quiet/s.yaml", suppression("s", "user = \"alice\"", "2099-01-01"));
    });
    it.event(6, "C");
    assert_eq!(it.count("rule-c"), 0);
    assert_eq!(it.app.search("alert_metadata.match_state = \"SUPPRESSED\"").len(), 1);
    // An end that is near, or past, is said as an alert; past it hides nothing.
    it.takes("taken", |app| {
        app.file("quiet/s.yaml", suppression("s", "user = \"alice\"", "2020-01-01"));
    });
    wait_for("the announcement", || it.count("planewatch-suppression-expires") == 1);
    it.event(7, "C");
    assert_eq!(it.count("rule-c"), 1);
    it.takes("taken", |app| std::fs::remove_file(app.path("rules/b.yaml")).unwrap());
    it.event(8, "B");
    assert_eq!(it.count("rule-b"), 2);
}

#[test]
fn events_that_come_while_rules_change_are_judged_once_each() {
    let it = Service::start();
    const FILES: usize = 60;
    for n in 0..FILES {
        // A rule that matches the same by another filter: whichever set an event meets, it matches once.
        let filter = if n % 2 == 0 { "eventName = \"A\"" } else { "eventName starts_with \"A\" and eventName ends_with \"A\"" };
        it.app.file("rules/a.yaml", rule("rule-a", filter));
        let events: Vec<_> = (0..50).map(|k| record(&format!("{n}-{k}"), TIME, "A")).collect();
        it.app.file(&format!("in/{n}.json.gz"), object(&events));
    }
    wait_for("all events", || it.metric("planewatch_records_stored_total{source=\"in\"}") as usize == FILES * 50);
    assert_eq!(it.count("rule-a") as usize, FILES * 50);
}

#[test]
fn a_source_that_is_down_becomes_an_alert() {
    let port = free_port();
    let app = TestApp::new().with("source_down_after_secs", json!(1));
    let app = app.source(json!({"type": "ingest", "name": "hosts", "listen": format!("127.0.0.1:{port}"), "token_file": "/no/such/file"}));
    // A watch raises alerts of its own; that its name begins the other's must not silence that.
    let app = app.source(json!({"type": "k8s_watch", "name": "host", "cluster": "c", "kubeconfig": "/no/such/file"}));
    let mut child = planewatch(&["run", "-c", app.config().to_str().unwrap()]).spawn().unwrap();
    let alerts = || app.alerts();
    wait_for("the alert", || app.data().join("state.db").exists() && alerts().iter().any(|it| it["ruleId"] == "planewatch-source-down"));
    child.kill().unwrap();
    child.wait().unwrap();
    let alert = &alerts()[0];
    assert_eq!(alert["aggregates"]["source"], "hosts", "{alert}");
    assert!(alert["title"].as_str().unwrap().contains("/no/such/file"), "{alert}");
}

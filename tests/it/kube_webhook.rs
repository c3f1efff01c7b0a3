//! The audit webhook of a real API server, with the kubeconfigs that we recommend, beside its log.

use crate::support::audit::{Line, assert_stored, by_line, events_by_line, name, without_kind};
use crate::support::aws::free_port;
use crate::support::kube::{Kube, deployed};
use crate::support::kube_operations::operations;
use crate::support::{TestApp, planewatch, wait_for};
use regex::Regex;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::TcpStream;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often the receiver is killed under load.
const KILLS: usize = 50;

/// An API server that is not started, which will post to this port as this kubeconfig of ours says.
fn posting_to(port: u16, kubeconfig: &str) -> Option<Kube> {
    let kube = Kube::prepare()?;
    kube.pki.server("planewatch").client("tls", "kube-apiserver", None);
    let text = deployed(kubeconfig);
    let text = text.replace("planewatch.example.com:9443", &format!("127.0.0.1:{port}"));
    let text = text.replace("/etc/kubernetes/planewatch", kube.pki.dir.to_str().unwrap());
    Some(kube.webhook(&text))
}

fn receiver(kube: &Kube, port: u16, cluster: &str) -> Value {
    json!({
        "type": "k8s_webhook", "name": "webhook", "cluster": cluster, "listen": format!("127.0.0.1:{port}"), "path": "/k8s/audit/prod",
        "tls": {
            "cert_file": kube.pki.path("planewatch.crt"), "key_file": kube.pki.path("planewatch.key"),
            "client_ca_file": kube.pki.path("ca.crt"), "client_names": ["kube-apiserver"],
        },
    })
}

fn start(app: &TestApp, port: u16) -> Child {
    let config = app.config();
    let mut run = planewatch(&["run", "-c", config.to_str().unwrap()]).spawn().unwrap();
    wait_for("the receiver", || {
        assert!(run.try_wait().unwrap().is_none(), "planewatch ended");
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    run
}

fn stop(mut run: Child) {
    std::process::Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap();
    assert!(run.wait().unwrap().success());
}

fn stored(app: &TestApp, cluster: &str) -> Vec<Value> {
    app.search(&format!("cluster = \"{cluster}\""))
}

fn wait_until_stored(app: &TestApp, kube: &Kube, cluster: &str) {
    wait_for(&format!("every line of the log, in {cluster}"), || {
        let (lines, events) = (kube.audited(), stored(app, cluster));
        by_line(&lines).keys().eq(events_by_line(&events).keys())
    });
}

/// An event without what tells where and when it was collected.
fn said(event: &Value) -> Value {
    let mut event = event.clone();
    for name in ["_id", "_insert_time", "origin", "agent_id"] {
        event.as_object_mut().unwrap().remove(name);
    }
    event["provider_metadata"].as_object_mut().unwrap().remove("cluster");
    event["raw"] = without_kind(&event["raw"]);
    event
}

#[test]
fn webhook_and_log_bring_the_same_events_each_once() {
    let port = free_port();
    let Some(kube) = posting_to(port, "webhook-mtls.kubeconfig.yaml") else { return };
    let log = |name: &str, cluster: &str| json!({"type": "k8s_log", "name": name, "cluster": cluster, "path": kube.audit_log()});
    let both = json!([receiver(&kube, port, "posted"), log("log", "written")]);
    // One name for both: what comes second, by either way, is a repeat.
    let as_one = json!([receiver(&kube, port, "one"), log("log-again", "one")]);

    let app = TestApp::new().with("sources", both);
    let run = start(&app, port);
    let kube = kube.start();
    operations(&kube, "shop", 500);
    for cluster in ["posted", "written"] {
        wait_until_stored(&app, &kube, cluster);
    }
    stop(run);
    let app = app.with("sources", as_one);
    let run = start(&app, port);
    operations(&kube, "second", 100);
    wait_until_stored(&app, &kube, "one");
    stop(run);

    let (posted, written) = (stored(&app, "posted"), stored(&app, "written"));
    let (posted_lines, written_lines) = (events_by_line(&posted), events_by_line(&written));
    assert!(posted.len() > 500, "only {} events", posted.len());
    for (line, event) in &posted_lines {
        assert_eq!(said(event), said(written_lines[line]));
    }
    let lines = kube.audited();
    assert_stored(&lines, &stored(&app, "one"), "one");
    let first: Vec<_> = lines.into_iter().filter(|it| written_lines.contains_key(&name(it))).collect();
    assert_stored(&first, &written, "written");
    assert_eq!(app.quarantine(), [] as [Value; 0]);
}

#[test]
fn the_api_server_posts_with_a_token() {
    let port = free_port();
    let Some(kube) = posting_to(port, "webhook-token.kubeconfig.yaml") else { return };
    std::fs::write(kube.pki.dir.join("token"), "a-token-of-the-audit-webhook").unwrap();
    let mut source = receiver(&kube, port, "prod");
    let tls = source["tls"].as_object_mut().unwrap();
    tls.remove("client_ca_file");
    tls.remove("client_names");
    source["token_file"] = json!(kube.pki.path("token"));
    let app = TestApp::new().source(source);
    let run = start(&app, port);
    let kube = kube.start();
    operations(&kube, "shop", 20);
    wait_until_stored(&app, &kube, "prod");
    stop(run);
    assert_stored(&kube.audited(), &stored(&app, "prod"), "prod");
}

/// Lines that the API server gave up on, after five attempts: it names each in its own log.
fn given_up(kube: &Kube) -> BTreeSet<Line> {
    let line = Regex::new(r#"AUDIT: id="([^"]+)" stage="([^"]+)""#).unwrap();
    line.captures_iter(&kube.log()).map(|it| (it[1].to_owned(), it[2].to_owned())).collect()
}

#[test]
fn killed_under_the_load_of_an_api_server() {
    let port = free_port();
    let Some(kube) = posting_to(port, "webhook-mtls.kubeconfig.yaml") else { return };
    let app = TestApp::new().source(receiver(&kube, port, "prod"));
    let kube = kube.flag("--audit-webhook-batch-max-wait=100ms").start();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            for round in 0.. {
                operations(&kube, &format!("round-{round}"), 40);
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        for _ in 0..KILLS {
            let mut run = start(&app, port);
            std::thread::park_timeout(Duration::from_millis(fastrand::u64(50..900)));
            run.kill().unwrap();
            run.wait().unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
        load.join().unwrap();
    });

    let run = start(&app, port);
    wait_for("every line that was answered 200", || {
        let (lines, events) = (kube.audited(), stored(&app, "prod"));
        let (lines, events, lost) = (by_line(&lines), events_by_line(&events), given_up(&kube));
        lines.keys().all(|line| events.contains_key(line) || lost.contains(line))
    });
    stop(run);
    let events = stored(&app, "prod");
    let stored = events_by_line(&events);
    let kept: Vec<_> = kube.audited().into_iter().filter(|it| stored.contains_key(&name(it))).collect();
    assert!(kept.len() > 500, "only {} events under load", kept.len());
    assert!(given_up(&kube).len() < kept.len() / 2, "the API server gave up on most: this shows little");
    assert_stored(&kept, &events, "prod");
    assert_eq!(app.quarantine(), [] as [Value; 0]);
}

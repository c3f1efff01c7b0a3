//! `planewatch run` with a `k8s_webhook` source, posted to over TLS: a 400-event `EventList` to its durable 200 (goal: p99
//! under 15 ms), and memory at 4,000 events a second (goal: under 100 MiB).
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, missing_docs, dead_code, reason = "a bench may panic")]

#[path = "../tests/it/support/https.rs"]
mod https;

use https::{Authority, Client, write_identity};
use serde_json::json;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const BATCH_EVENTS: usize = 400;
/// Connections of one API server: its batches are posted several at a time.
const CONNECTIONS: usize = 4;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(default)
}

/// Events as a busy cluster's: some of them with bodies.
fn batch(first: usize) -> Vec<u8> {
    let event = |n: usize| {
        let body = if n.is_multiple_of(5) { json!({"kind": "ConfigMap", "data": {"text": "x".repeat(2_000)}}) } else { json!(null) };
        json!({"level": "Metadata", "auditID": format!("00000000-0000-4000-8000-{n:012}"), "stage": "ResponseComplete", "verb": "get",
            "requestURI": format!("/api/v1/namespaces/team-{}/configmaps/settings-{n}", n % 40),
            "user": {"username": format!("system:serviceaccount:team-{}:app", n % 40),
                "groups": ["system:serviceaccounts", "system:authenticated"],
                "extra": {"authentication.kubernetes.io/pod-name": [format!("app-{n}")]}},
            "sourceIPs": [format!("10.0.{}.{}", n / 250 % 250, n % 250)], "userAgent": "app/v1.2 (linux/amd64) kubernetes/$Format",
            "objectRef": {"resource": "configmaps", "namespace": format!("team-{}", n % 40), "name": format!("settings-{n}"), "apiVersion": "v1"},
            "responseStatus": {"metadata": {}, "code": 200}, "requestObject": body,
            "requestReceivedTimestamp": "2026-01-02T03:04:05.000001Z", "stageTimestamp": "2026-01-02T03:04:05.004321Z",
            "annotations": {"authorization.k8s.io/decision": "allow",
                "authorization.k8s.io/reason": "RBAC: allowed by RoleBinding \"app/team\" of Role \"app\" to ServiceAccount \"app/team\""}})
    };
    let items: Vec<_> = (first..first + BATCH_EVENTS).map(|n| event(n).to_string()).collect();
    let items = items.join(",");
    format!("{{\"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\",\"metadata\":{{}},\"items\":[{items}]}}").into_bytes()
}

/// The program, ended with the bench.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Service {
    fn peak_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let kib: f64 = status.lines().find_map(|it| it.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok()).unwrap();
        kib / 1024.0
    }
}

fn start(dir: &std::path::Path) -> (Service, Client) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    write_identity(dir, "server", &servers.sign("planewatch", &["localhost"]));
    std::fs::write(dir.join("clients.pem"), &clients.pem).unwrap();
    let config = json!({"data_dir": dir.join("data"), "rules": {"builtin": true}, "sources": [{
        "type": "k8s_webhook", "name": "bench", "cluster": "bench", "listen": format!("127.0.0.1:{port}"), "path": "/audit",
        "tls": {"cert_file": dir.join("server.crt"), "key_file": dir.join("server.key"), "client_ca_file": dir.join("clients.pem"),
            "client_names": ["api"]}}]});
    let file = dir.join("planewatch.yaml");
    std::fs::write(&file, config.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_planewatch"));
    let child = command.args(["run", "-c"]).arg(file).env("PLANEWATCH_LOG", "warn").stdin(Stdio::null()).spawn().unwrap();
    let client = Client::new(port, "/audit", &servers.pem, Some(&clients.sign("api", &[])));
    let start = Instant::now();
    while client.connect().is_err() {
        assert!(start.elapsed() < Duration::from_mins(1), "the service does not listen");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    (Service(child), client)
}

/// Posts at a rate over several connections; returns how long each batch took.
fn post(client: &Client, first: usize, batches: usize, per_second: f64) -> Vec<Duration> {
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CONNECTIONS)
            .map(|worker| {
                scope.spawn(move || {
                    let mut connection = client.connect().unwrap();
                    let mut times = Vec::new();
                    for n in (worker..batches).step_by(CONNECTIONS) {
                        let body = batch(first + n * BATCH_EVENTS);
                        let due = begin + Duration::from_secs_f64(n as f64 / per_second);
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        let sent = Instant::now();
                        let answer = connection.post(&body).unwrap();
                        assert_eq!(answer.status, 200, "{answer:?}");
                        times.push(sent.elapsed());
                    }
                    times
                })
            })
            .collect();
        workers.into_iter().flat_map(|it| it.join().unwrap()).collect()
    })
}

fn report(name: &str, mut times: Vec<Duration>, elapsed: Duration, service: &Service) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let rate = (times.len() * BATCH_EVENTS) as f64 / elapsed.as_secs_f64();
    let (half, most, all, peak) = (at(0.5), at(0.99), at(1.0), service.peak_mib());
    println!("{name:<28} {rate:8.0} events/s   p50 {half:6.1} ms   p99 {most:6.1} ms   max {all:6.1} ms   peak {peak:6.1} MiB");
}

fn main() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (service, client) = start(dir.path());
    println!("one batch: {BATCH_EVENTS} events, {} KiB", batch(0).len() >> 10);
    let (per_second, seconds) = (setting("EVENTS_PER_SECOND", 4_000), setting("SECONDS_EACH", 20));
    let batches = (per_second * seconds) as usize / BATCH_EVENTS;
    let mut first = 0;
    for (name, rate) in [("at the rate", per_second as f64 / BATCH_EVENTS as f64), ("as fast as it goes", f64::MAX)] {
        let begin = Instant::now();
        let times = post(&client, first, batches, rate);
        report(name, times, begin.elapsed(), &service);
        first += batches * BATCH_EVENTS;
    }
}

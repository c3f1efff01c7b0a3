//! `k8s_webhook`: the real program, posted to over TLS as an API server does.

use crate::support::https::{Authority, Client, write_identity};
use crate::support::webhook::{PATH, TOKEN, Webhook, batch, ids, padded};
use crate::support::{TestApp, gz, output, stderr, stdout, wait_for};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// "Inside 5 s" (DESIGN.md §3), and what a busy machine adds.
const BOUND: Duration = Duration::from_secs(8);

#[test]
fn a_batch_is_on_disk_before_its_200_and_a_repeat_is_known() {
    let hook = Webhook::with_token(&json!({}));
    let mut running = hook.run();
    let mut connection = hook.known().connect().unwrap();
    let answer = connection.post(&batch("a", 400)).unwrap();
    assert_eq!((answer.status, answer.body.as_str(), answer.header("content-type")), (200, "", None));
    // On the same connection, and as gzip: the same events.
    assert_eq!(connection.post(&gz(&batch("a", 400))).unwrap().status, 200);
    running.kill();
    assert_eq!(hook.stored(), ids("a", 400).into_iter().collect::<Vec<_>>());
    let event = &hook.app.search("")[0];
    assert_eq!(event["provider_metadata"]["cluster"], "prod", "{event}");
    assert_eq!(event["origin"]["uri"], format!("https:{PATH}"), "{event}");
    let sum = hook.run_and_read_sum();
    assert_eq!(sum, [800, 400, 400, 0, 0]);
}

#[test]
fn who_has_no_right_token_is_refused_and_counted() {
    let hook = Webhook::with_token(&json!({}));
    let running = hook.run();
    let (body, stranger) = (batch("a", 1), hook.client(None));
    let answer = stranger.post(&body).unwrap();
    assert_eq!((answer.status, answer.header("www-authenticate"), answer.header("connection")), (401, Some("Bearer"), Some("close")));
    assert_eq!(stranger.with_token("wrong").status(&body), Some(401));
    assert_eq!(stranger.with_token(&TOKEN[1..]).status(&body), Some(401));
    assert_eq!(stranger.with_token("").status(&body), Some(401));
    for path in ["/", "/k8s/audit", "/k8s/audit/prod/", "/k8s/audit/prod/x", "//k8s/audit/prod", "/K8S/audit/prod"] {
        assert_eq!(hook.known().with_path(path).status(&body), Some(404), "{path}");
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let answer = hook.known().connect().unwrap().request(method, "Content-Length: 0\r\n", b"").unwrap();
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
    }
    let answer = hook.known().connect().unwrap().request("POST", "Content-Length: x\r\n", b"");
    assert_eq!(answer.map(|it| it.status).ok(), Some(400));
    // A head may have 32 KiB, and not a byte more.
    let long = |bytes: usize| {
        let headers = |fill: usize| format!("X: {}\r\nContent-Length: 0\r\n", "x".repeat(fill));
        let fill = bytes - hook.known().head("POST", &headers(0)).len();
        hook.known().connect().unwrap().request("POST", &headers(fill), b"").map(|it| it.status).ok()
    };
    assert_eq!(long(32 << 10), Some(200));
    assert_eq!(long((32 << 10) + 1), Some(431));
    assert_eq!(hook.known().status(&body), Some(200));
    assert_eq!(hook.refused("no_token"), 1);
    assert_eq!(hook.refused("wrong_token"), 3);
    assert_eq!(hook.refused("path"), 6);
    assert_eq!(hook.refused("method"), 4);
    wait_for("the count of bad requests", || hook.refused("bad_request") == 2);
    let log = running.log();
    assert_eq!(log.matches("reason=\"path\"").count(), 1, "six refusals, one line: {log}");
    assert!(!log.contains(TOKEN) && !log.contains(&TOKEN[1..]), "{log}");
    assert_eq!(hook.stored(), ["a-00000"]);
}

#[test]
fn who_has_no_right_certificate_is_refused_and_counted() {
    let hook = Webhook::with_names(&json!({}));
    let _running = hook.run();
    let body = batch("a", 1);
    let signed = |name: &str, dns: &[&str]| hook.client(Some(&hook.client_ca.sign(name, dns)));
    assert_eq!(signed("api", &[]).status(&body), Some(200));
    assert_eq!(signed("other", &["x.example", "api.example"]).status(&body), Some(200));
    assert_eq!(hook.client(None).status(&body), Some(401));
    assert_eq!(hook.known().status(&body), Some(401), "a token is no certificate");
    for (name, dns) in [("system:node:worker-1", &["worker-1"][..]), ("API", &[]), ("api ", &[]), ("", &["xapi.example"])] {
        assert_eq!(signed(name, dns).status(&body), Some(403), "{name}");
    }
    let stranger = Authority::new("clients").sign("api", &[]);
    assert_eq!(hook.client(Some(&stranger)).status(&body), None, "another authority of the same name");
    let of_server = hook.server_ca.sign("api", &[]);
    assert_eq!(hook.client(Some(&of_server)).status(&body), None, "the server's authority signs no clients");
    let expired = hook.client_ca.sign_until("api", &[], 2020);
    assert_eq!(hook.client(Some(&expired)).status(&body), None);
    wait_for("the handshakes to be counted", || hook.refused("certificate_issuer") == 2 && hook.refused("certificate_expired") == 1);
    assert_eq!((hook.refused("no_certificate"), hook.refused("name_not_allowed")), (2, 4));
    assert_eq!(hook.stored(), ["a-00000"]);
    assert_eq!(hook.reasons().as_deref(), Some("ok\n"), "others' mistakes are not ours");
}

#[test]
fn token_and_certificate_are_both_asked_for_where_both_are_set() {
    let hook = Webhook::with_names(&json!({"token_file": "token"}));
    let _running = hook.run();
    let (body, identity) = (batch("a", 1), hook.client_ca.sign("api", &[]));
    assert_eq!(hook.client(Some(&identity)).status(&body), Some(401));
    assert_eq!(hook.known().status(&body), Some(401));
    assert_eq!(hook.client(Some(&identity)).with_token(TOKEN).status(&body), Some(200));
}

#[test]
fn a_body_at_its_ceiling_is_taken_and_one_byte_more_is_not() {
    // In memory, and in a file.
    for ceiling in [50_000, 1_500_000] {
        let hook = Webhook::with_token(&json!({"body_bytes_max": ceiling, "spool_bytes_max": ceiling}));
        let running = hook.run();
        let (at, past) = (padded(batch("at", 7), ceiling), padded(batch("past", 7), ceiling + 1));
        assert_eq!(hook.known().status(&at), Some(200), "{ceiling}");
        let answer = hook.known().post(&past).unwrap();
        assert_eq!((answer.status, answer.header("retry-after")), (413, None), "{ceiling}: {answer:?}");
        // The same without a length.
        let chunked = |body: &[u8]| {
            let mut all = Vec::new();
            for chunk in body.chunks(9_999) {
                all.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                all.extend_from_slice(chunk);
                all.extend_from_slice(b"\r\n");
            }
            all.extend_from_slice(b"0\r\n\r\n");
            hook.known().connect().unwrap().request("POST", "Transfer-Encoding: chunked\r\n", &all).unwrap().status
        };
        assert_eq!(chunked(&padded(batch("at-too", 7), ceiling)), 200, "{ceiling}");
        assert_eq!(chunked(&past), 413, "{ceiling}");
        assert_eq!(hook.refused("too_large"), 2);
        let log = running.log();
        assert!(log.contains("ERROR") && log.contains("--audit-webhook-truncate-enabled"), "{log}");
        wait_for("an event that rules can match", || {
            hook.app.search("event_type = \"kubernetesEvent\" and action = \"BodyTooLarge\" and raw like \"truncate-enabled\"").len() == 1
        });
        assert_eq!(hook.stored().len(), 14);
        assert_eq!(hook.reasons().as_deref(), Some("ok\n"));
        let left: Vec<_> = std::fs::read_dir(hook.app.data().join("tmp")).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert!(left.iter().all(|it| !it.to_string_lossy().starts_with("body-")), "{left:?}");
    }
}

#[test]
fn slow_clients_are_cut_off_and_others_are_served() {
    let hook = Webhook::with_token(&json!({"header_timeout_secs": 1, "body_timeout_secs": 1}));
    let _running = hook.run();
    let start = Instant::now();
    // Says nothing at all; says nothing behind the handshake; a head in drops; a body in drops.
    let silent = TcpStream::connect(("127.0.0.1", hook.port)).unwrap();
    let mut shaken = hook.known().connect().unwrap();
    shaken.write(b"").unwrap();
    let mut head = hook.known().connect().unwrap();
    let mut body = hook.known().connect().unwrap();
    body.head("POST", "Content-Length: 1000\r\n").unwrap();
    let drops = std::thread::spawn(move || {
        while head.write(b"P").is_ok() {
            std::thread::park_timeout(Duration::from_millis(50));
        }
    });
    assert_eq!(hook.known().status(&batch("a", 1)), Some(200));
    assert_eq!(body.answer().unwrap().status, 408);
    drops.join().unwrap();
    assert!(shaken.answer().is_err());
    silent.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let heard = std::io::Read::read(&mut &silent, &mut [0; 8]);
    assert!(heard.as_ref().map_or_else(|it| it.kind() == std::io::ErrorKind::ConnectionReset, |n| *n == 0), "{heard:?}");
    let elapsed = start.elapsed();
    assert!((Duration::from_secs(1)..BOUND).contains(&elapsed), "{elapsed:?}");
    wait_for("each to be counted", || {
        hook.refused("slow_body") == 1 && hook.refused("slow_head") == 2 && hook.refused("slow_handshake") == 1
    });
    wait_for("their connections to be closed", || hook.metric("planewatch_http_connections{source=\"prod\"}") == 0);
}

#[test]
fn connections_past_their_number_are_closed_at_once() {
    let hook = Webhook::with_token(&json!({"connections_max": 2}));
    let _running = hook.run();
    let (mut first, mut second) = (hook.known().connect().unwrap(), hook.known().connect().unwrap());
    assert_eq!(first.post(&batch("a", 1)).unwrap().status, 200);
    assert_eq!(second.post(&batch("b", 1)).unwrap().status, 200);
    assert_eq!(hook.known().status(&batch("c", 1)), None);
    assert_eq!(hook.refused("connections"), 1);
    assert_eq!(first.post(&batch("d", 1)).unwrap().status, 200, "who is there stays");
    drop(second);
    wait_for("room for another", || hook.known().status(&batch("c", 1)) == Some(200));
}

#[test]
fn a_malformed_batch_is_accepted_and_set_aside_with_its_reason() {
    let hook = Webhook::with_token(&json!({}));
    let mut running = hook.run();
    let post = |body: &[u8]| hook.known().status(body);
    let good = String::from_utf8(batch("good", 3)).unwrap();
    assert_eq!(post(b"no JSON"), Some(200));
    assert_eq!(post(&gz(good.as_bytes())[..90]), Some(200));
    assert_eq!(post(good.replace("good-00001", "broken\u{1}").as_bytes()), Some(200), "one of three");
    assert_eq!(post(b"{\"items\": 1}"), Some(200));
    // Who posts for a cluster says nothing about AWS.
    let forged = crate::support::record("forged", "2026-01-02T03:04:05Z", "ConsoleLogin").to_string();
    assert_eq!(post(forged.as_bytes()), Some(200));
    running.kill();
    assert_eq!(hook.stored(), ["good-00000", "good-00002"]);
    let mut reasons: Vec<_> = hook.app.quarantine().iter().map(|it| it["reason"].as_str().unwrap().to_owned()).collect();
    reasons.sort();
    assert_eq!(reasons, ["bad_record", "cut_gzip", "not_a_record", "not_a_record", "not_json"]);
    assert_eq!(hook.run_and_read_sum(), [7, 2, 0, 5, 0]);
}

#[test]
fn certificates_and_tokens_change_without_a_restart() {
    let hook = Webhook::with_names(&json!({"token_file": "token"}));
    let running = hook.run();
    let dir = hook.app.dir.path();
    let identity = hook.client_ca.sign("api", &[]);
    let old = hook.client(Some(&identity)).with_token(TOKEN);
    let n = AtomicUsize::new(0);
    let body = || batch(&format!("n{}", n.fetch_add(1, Ordering::Relaxed)), 1);
    let mut open = old.connect().unwrap();
    assert_eq!(open.post(&body()).unwrap().status, 200);

    // Two tokens while they change, then one.
    hook.app.file("token", format!("{TOKEN}\nthe-next-token\n"));
    wait_for("the next token", || old.with_token("the-next-token").status(&body()) == Some(200));
    assert_eq!(open.post(&body()).unwrap().status, 200);
    hook.app.file("token", "the-next-token\n");
    wait_for("the old token to end", || old.status(&body()) == Some(401));
    let client = old.with_token("the-next-token");

    // What cannot be used leaves the old in use, and is said.
    hook.app.file("token", "\n");
    wait_for("the empty token file to be said", || hook.reasons().unwrap().contains("no token"));
    hook.app.file("server.crt", "no certificate");
    wait_for("the bad certificate to be said", || {
        let reasons = hook.reasons().unwrap();
        reasons.contains("server.crt: no certificate") && reasons.contains("stays in use")
    });
    assert_eq!(client.status(&body()), Some(200), "the old ones are in use");
    assert!(running.log().contains("server.crt: no certificate"));
    hook.app.file("token", "the-next-token\n");

    // Another authority for the server.
    let servers = Authority::new("the next servers");
    write_identity(dir, "server", &servers.sign("planewatch", &["localhost"]));
    let next = Client::new(hook.port, PATH, &servers.pem, Some(&identity)).with_token("the-next-token");
    wait_for("the next certificate", || next.status(&body()) == Some(200));
    assert_eq!(client.status(&body()), None);
    wait_for("all to be well", || hook.reasons().as_deref() == Some("ok\n"));

    // Another authority for clients: it decides over connections that are open, too.
    let mut open = next.connect().unwrap();
    assert_eq!(open.post(&body()).unwrap().status, 200);
    let clients = Authority::new("the next clients");
    hook.app.file("clients.pem", &clients.pem);
    wait_for("the old authority to end", || next.status(&body()).is_none());
    wait_for("the open connection to end", || open.post(&body()).is_err());
    let identity = clients.sign("x", &["api.example"]);
    let last = Client::new(hook.port, PATH, &servers.pem, Some(&identity)).with_token("the-next-token");
    assert_eq!(last.status(&body()), Some(200));
}

#[test]
fn without_room_a_client_is_told_when_to_come_again() {
    let hook = Webhook::with_token(&json!({"in_flight_bytes_max": 65_536}));
    let _running = hook.run();
    let (slow_body, body) = (padded(batch("slow", 3), 60_000), padded(batch("b", 3), 60_000));
    let mut slow = hook.known().connect().unwrap();
    slow.head("POST", "Content-Length: 60000\r\n").unwrap();
    slow.write(&slow_body[..1]).unwrap();
    let mut connection = hook.known().connect().unwrap();
    let start = Instant::now();
    let answer = connection.post(&body).unwrap();
    let elapsed = start.elapsed();
    assert_eq!(answer.status, 429, "{answer:?}");
    let again: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=5).contains(&again), "{answer:?}");
    assert!(elapsed < BOUND, "{elapsed:?}");
    // A small one finds room; a long one goes into a file and needs little.
    assert_eq!(hook.known().status(&batch("small", 1)), Some(200));
    slow.write(&slow_body[1..]).unwrap();
    assert_eq!(slow.answer().unwrap().status, 200);
    assert_eq!(connection.post(&body).unwrap().status, 200, "on the connection that was told to come again");
    assert_eq!(hook.refused("no_room"), 1);
    assert_eq!(hook.stored().len(), 7);
}

#[test]
fn a_long_body_needs_no_memory_and_leaves_no_file() {
    let hook = Webhook::with_token(&json!({}));
    let running = hook.run();
    // 40 MB of events; the service may have 100 MiB.
    let body = batch("long", 75_000);
    assert!(body.len() > 30 << 20);
    assert_eq!(hook.known().status(&body), Some(200));
    let peak = running.peak_kib();
    assert!(peak < 100 << 10, "{peak} KiB");
    assert_eq!(
        std::fs::read_dir(hook.app.data().join("tmp")).unwrap().filter(|it| it.as_ref().unwrap().path().extension().is_none()).count(),
        0
    );
    assert_eq!(hook.metric("planewatch_records_stored_total{source=\"prod\"}"), 75_000);
}

#[test]
fn clusters_share_a_listener_and_nothing_else() {
    let mut hook = Webhook::with_token(&json!({"drop": ["user = \"nobody\""]}));
    hook.app.file("token-of-stage", "the-token-of-stage");
    hook.add(&json!({"name": "stage", "cluster": "stage", "path": "/k8s/audit/stage"}), &json!({"token_file": "token-of-stage"}));
    let mut running = hook.run();
    let stage = hook.client(None).with_token("the-token-of-stage").with_path("/k8s/audit/stage");
    assert_eq!((hook.known().status(&batch("p", 2)), stage.status(&batch("s", 3))), (Some(200), Some(200)));
    assert_eq!(stage.with_path(PATH).status(&batch("x", 1)), Some(401), "another cluster's token");
    assert_eq!(hook.known().with_path("/k8s/audit/stage").status(&batch("x", 1)), Some(401));
    assert_eq!(hook.metric("planewatch_http_refused_total{source=\"stage\",reason=\"wrong_token\"}"), 1);
    running.kill();
    let of = |cluster: &str| hook.app.search(&format!("provider_metadata.cluster = \"{cluster}\"")).len();
    assert_eq!((of("prod"), of("stage")), (2, 3));
}

#[test]
fn a_stop_finishes_what_is_in_hand() {
    let hook = Webhook::with_token(&json!({}));
    let mut running = hook.run();
    let body = batch("a", 5);
    let mut idle = hook.known().connect().unwrap();
    assert_eq!(idle.post(&batch("b", 1)).unwrap().status, 200);
    let mut slow = hook.known().connect().unwrap();
    slow.head("POST", &format!("Content-Length: {}\r\n", body.len())).unwrap();
    slow.write(&body[..1]).unwrap();
    wait_for("it to be in hand", || hook.metric("planewatch_messages_in_flight{source=\"prod\"}") == 1);
    let start = Instant::now();
    running.terminate();
    wait_for("the port to be closed", || TcpStream::connect(("127.0.0.1", hook.port)).is_err());
    slow.write(&body[1..]).unwrap();
    assert_eq!(slow.answer().unwrap().status, 200);
    assert!(running.wait().success());
    assert!(start.elapsed() < Duration::from_secs(20), "an idle connection holds nothing up");
    assert_eq!(hook.stored().len(), 6);
}

#[test]
fn while_draining_there_is_nothing_to_wait_for() {
    let hook = Webhook::with_token(&json!({}));
    assert_eq!(hook.app.drain()["received"], 0);
}

#[test]
fn what_keeps_it_from_listening_is_said_and_passes() {
    let hook = Webhook::with_token(&json!({}));
    let taken = TcpListener::bind(("127.0.0.1", hook.port)).unwrap();
    std::fs::rename(hook.app.path("server.key"), hook.app.path("later.key")).unwrap();
    let _running = hook.start();
    wait_for("the missing key to be said", || hook.reasons().is_some_and(|it| it.contains("server.key")));
    assert_eq!(hook.metric("planewatch_source_up{source=\"prod\"}"), 0);
    std::fs::rename(hook.app.path("later.key"), hook.app.path("server.key")).unwrap();
    wait_for("the taken port to be said", || hook.reasons().is_some_and(|it| it.contains("another process")));
    drop(taken);
    wait_for("it to listen", || hook.reasons().as_deref() == Some("ok\n"));
    assert_eq!(hook.known().status(&batch("a", 1)), Some(200));
    assert_eq!(hook.metric("planewatch_source_up{source=\"prod\"}"), 1);
}

#[test]
fn without_authentication_it_does_not_start() {
    let app = TestApp::new()
        .source(json!({"type": "k8s_webhook", "name": "prod", "cluster": "prod", "listen": "127.0.0.1:1", "path": PATH,
        "tls": {"cert_file": "c", "key_file": "k"}}));
    let config = app.config();
    for command in [&["config", "check", "-c"][..], &["run", "-c"]] {
        let output = output(&[command, &[config.to_str().unwrap()]].concat());
        assert_eq!(output.status.code(), Some(64), "{}", stdout(&output));
        assert!(stderr(&output).contains("set token_file, or tls.client_ca_file and tls.client_names"), "{}", stderr(&output));
    }
}

/// Posts a batch until it is answered with 200, as an API server does, and faster.
fn post_until_taken(client: &Client, body: &[u8], end: Instant) {
    while client.status(body) != Some(200) {
        assert!(Instant::now() < end, "not taken in time");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn killed_under_load_nothing_answered_is_missing_and_nothing_is_twice() {
    let kills = std::env::var("PLANEWATCH_KILLS").ok().and_then(|it| it.parse().ok()).unwrap_or(12);
    let hook = Webhook::with_token(&json!({}));
    let answered = Mutex::new(BTreeSet::new());
    let (batches, is_over) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let end = Instant::now() + Duration::from_secs(60 + 10 * kills);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while is_over.load(Ordering::Relaxed) == 0 {
                    let prefix = format!("batch-{}", batches.fetch_add(1, Ordering::Relaxed));
                    post_until_taken(&hook.known(), &batch(&prefix, 50), end);
                    answered.lock().unwrap().extend(ids(&prefix, 50));
                }
            });
        }
        for _ in 0..kills {
            let (mut running, before) = (hook.start(), answered.lock().unwrap().len());
            wait_for("something to be answered", || answered.lock().unwrap().len() > before);
            std::thread::park_timeout(Duration::from_millis(fastrand::u64(0..150)));
            running.kill();
        }
        let _running = hook.start();
        is_over.store(1, Ordering::Relaxed);
        wait_for("the last ones", || answered.lock().unwrap().len() == 50 * batches.load(Ordering::Relaxed));
    });
    let answered = answered.into_inner().unwrap();
    assert!(answered.len() as u64 > 50 * kills);
    assert_eq!(hook.stored(), answered.into_iter().collect::<Vec<_>>(), "each answered event once, and no other");
}

impl Webhook {
    /// Starts it once more, for received, stored, duplicate, quarantined, filtered since the beginning.
    fn run_and_read_sum(&self) -> [i64; 5] {
        let _running = self.run();
        ["received", "stored", "duplicate", "quarantined", "filtered"]
            .map(|it| self.metric(&format!("planewatch_records_{it}_total{{source=\"prod\"}}")))
    }
}

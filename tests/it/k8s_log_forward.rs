//! `forward:` of `k8s_log`, against a receiver that fails in every way that HTTP knows.

use crate::k8s_log::{Running, app, total};
use crate::support::aws::{free_port, http};
use crate::support::k8s::{LogWriter, Rotation, audit_event};
use crate::support::webhook::{PATH, Webhook};
use crate::support::{TestApp, wait_for};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the receiver does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Closes before it reads.
    Drop,
    /// Reads all and closes without an answer, having kept it or not.
    DropAfter {
        is_kept: bool,
    },
    /// Answers, with these headers, and keeps nothing.
    Answer(u16, &'static str),
}

type Decide = Box<dyn Fn(usize, &Value, usize) -> Fault + Send + Sync>;

/// What came in.
#[derive(Debug, Default)]
struct Got {
    /// Events that were answered with 200, by id: how often they came.
    events: HashMap<String, usize>,
    lists: Vec<usize>,
    bytes_max: usize,
    tokens: Vec<String>,
    n_requests: usize,
}

struct Receiver {
    port: u16,
    got: Arc<Mutex<Got>>,
    is_over: Arc<AtomicBool>,
}

impl Receiver {
    /// `decide` hears the request's number, its list and its length.
    fn start(tls: Option<Arc<rustls::ServerConfig>>, decide: impl Fn(usize, &Value, usize) -> Fault + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = Self { port: listener.local_addr().unwrap().port(), got: Arc::default(), is_over: Arc::new(AtomicBool::new(false)) };
        let (got, is_over) = (Arc::clone(&receiver.got), Arc::clone(&receiver.is_over));
        let decide: Arc<Decide> = Arc::new(Box::new(decide));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let (got, decide, tls) = (Arc::clone(&got), Arc::clone(&decide), tls.clone());
                let stream = stream.unwrap();
                std::thread::spawn(move || {
                    // A client that goes away is no failure of the test.
                    let _ = match tls {
                        Some(tls) => serve(rustls::StreamOwned::new(rustls::ServerConnection::new(tls).unwrap(), stream), &got, &decide),
                        None => serve(stream, &got, &decide),
                    };
                });
            }
        });
        receiver
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/k8s/audit/test", self.port)
    }

    fn ids(&self) -> Vec<String> {
        let mut ids: Vec<_> = self.got.lock().unwrap().events.keys().cloned().collect();
        ids.sort();
        ids
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Requests of one connection, one after the other.
fn serve(stream: impl Read + Write, got: &Mutex<Got>, decide: &Decide) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut token) = (0, String::new());
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        assert!(line.starts_with("POST /k8s/audit/test HTTP/1.1"), "{line}");
        loop {
            line.clear();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(": ") else { break };
            match name.to_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap(),
                "authorization" => value.clone_into(&mut token),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let list: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((list["kind"].as_str(), list["apiVersion"].as_str()), (Some("EventList"), Some("audit.k8s.io/v1")));
        let n = {
            let mut got = got.lock().unwrap();
            got.n_requests += 1;
            got.n_requests
        };
        let fault = decide(n, &list, length);
        if matches!(fault, Fault::None | Fault::DropAfter { is_kept: true }) {
            let mut got = got.lock().unwrap();
            let items = list["items"].as_array().unwrap();
            for item in items {
                *got.events.entry(item["auditID"].as_str().unwrap_or("none").to_owned()).or_default() += 1;
            }
            got.lists.push(items.len());
            got.bytes_max = got.bytes_max.max(length);
            got.tokens.push(token);
        }
        match fault {
            Fault::Drop | Fault::DropAfter { .. } => return Ok(()),
            Fault::None => write!(stream.get_mut(), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?,
            Fault::Answer(status, headers) => write!(stream.get_mut(), "HTTP/1.1 {status} x\r\n{headers}Content-Length: 5\r\n\r\nsorry")?,
        }
        stream.get_mut().flush()?;
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is written where it is used")]
fn forwarding(url: &str, more: Value) -> TestApp {
    let mut forward = json!({"url": url});
    for (key, value) in more.as_object().unwrap() {
        forward[key] = value.clone();
    }
    app(json!({"forward": forward}))
}

fn writer(app: &TestApp) -> LogWriter {
    LogWriter::new(&app.path("log/audit.log"), Rotation::Rename, "sent")
}

#[test]
fn faults_of_every_kind_and_kills_lose_nothing() {
    let receiver = Receiver::start(None, |_, list, _| match fastrand::u8(..20) {
        0 => Fault::Drop,
        1 => Fault::DropAfter { is_kept: false },
        2 => Fault::DropAfter { is_kept: true },
        3 => Fault::Answer(429, "Retry-After: 0\r\n"),
        4 => Fault::Answer(503, "Retry-After: 0\r\n"),
        5 => Fault::Answer(500, "Retry-After: 0\r\n"),
        6 if list["items"].as_array().unwrap().len() > 50 => Fault::Answer(413, ""),
        _ => Fault::None,
    });
    let app = forwarding(&receiver.url(), json!({}));
    let mut log = writer(&app);
    for _ in 0..8 {
        log.write(fastrand::usize(100..900));
        if fastrand::bool() {
            log.rotate();
        }
        let running = Running::start(&app);
        log.write(200);
        std::thread::park_timeout(Duration::from_millis(fastrand::u64(100..1_500)));
        drop(running);
    }
    let sum = app.drain();
    assert_eq!(sum["received"], 0, "what is sent on is outside the sum");
    assert_eq!(receiver.ids(), log.written, "nothing is lost");
    assert_eq!(total(&app, "forwarded"), log.written.len() as u64, "each is counted once, however often it was sent");
    let got = receiver.got.lock().unwrap();
    assert!(got.lists.iter().all(|n| *n <= 400) && got.lists.iter().any(|n| *n > 50), "{:?}", got.lists);
    drop(got);
    assert_eq!(app.search("").len(), 0, "and nothing is stored here");
}

#[test]
fn what_is_no_event_or_too_large_stays_here_with_its_reason() {
    let receiver = Receiver::start(None, |_, _, length| if length > 200_000 { Fault::Answer(413, "") } else { Fault::None });
    let app = forwarding(&receiver.url(), json!({}));
    let mut log = writer(&app);
    log.write(399);
    log.put(b"no JSON\n[{\"auditID\": \"an array\"}]\n");
    log.write(1_000);
    let mut large = audit_event("large");
    large["requestObject"] = json!({"password": "hunter2", "text": "x".repeat(300_000)});
    log.put(format!("{large}\n").as_bytes());
    log.write(1);
    assert_eq!(app.drain(), json!({"received": 3, "stored": 0, "duplicate": 0, "quarantined": 3, "filtered": 0}));
    assert_eq!(receiver.ids(), log.written);
    assert!(receiver.got.lock().unwrap().events.values().all(|n| *n == 1), "nothing went wrong, so nothing came twice");
    assert_eq!(total(&app, "forwarded"), 1_400);
    let found: Vec<_> =
        app.quarantine().iter().map(|it| (it["origin"]["index"].as_u64().unwrap(), it["reason"].as_str().unwrap().to_owned())).collect();
    assert_eq!(found, [(399, "not_json".to_owned()), (400, "not_json".to_owned()), (1_401, "too_large_to_forward".to_owned())]);
    assert_eq!(app.drain()["received"], 0);
}

#[test]
fn retry_after_is_obeyed_and_a_refusal_is_said() {
    let is_open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&is_open);
    let receiver = Receiver::start(None, move |n, _, _| match n {
        1 => Fault::Answer(429, "Retry-After: 2\r\n"),
        2 => Fault::None,
        _ if gate.load(Ordering::SeqCst) => Fault::None,
        _ => Fault::Answer(401, ""),
    });
    let port = free_port();
    let app = forwarding(&receiver.url(), json!({})).with("admin", json!({"listen": format!("127.0.0.1:{port}")}));
    let mut log = writer(&app);
    log.write(1);
    let _running = Running::start(&app);
    wait_for("the first request", || receiver.got.lock().unwrap().n_requests == 1);
    let start = std::time::Instant::now();
    wait_for("the second", || receiver.ids().len() == 1);
    assert!(start.elapsed() > Duration::from_millis(1_500), "{:?}", start.elapsed());
    log.write(1);
    let ready = || http(port, "GET", "/readyz", "").unwrap_or_default();
    wait_for("the reason", || ready().0 == 503);
    assert!(ready().1.contains("answers 401") && ready().1.contains("forward.token_file"), "{}", ready().1);
    is_open.store(true, Ordering::SeqCst);
    wait_for("being ready", || ready().0 == 200);
    wait_for("the second event", || receiver.ids().len() == 2);
    let forwarded = "planewatch_records_forwarded_total{source=\"audit\"} 2";
    wait_for("the metric", || http(port, "GET", "/metrics", "").unwrap().1.contains(forwarded));
}

/// An authority, and a certificate of it for 127.0.0.1, as PEM files: `NAME-ca.pem`, `NAME.pem`, `NAME-key.pem`.
fn certificate(app: &TestApp, name: &str) -> (rcgen::Certificate, rcgen::Certificate, rcgen::KeyPair) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("{name} authority"));
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::from_params(&params, &ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let certificate = params.signed_by(&key, &issuer).unwrap();
    app.file(&format!("{name}-ca.pem"), ca.pem()).file(&format!("{name}.pem"), certificate.pem());
    app.file(&format!("{name}-key.pem"), key.serialize_pem());
    (ca, certificate, key)
}

#[test]
fn over_tls_with_a_client_certificate_and_a_token() {
    let app = TestApp::new();
    let (_, server, server_key) = certificate(&app, "server");
    let (client_ca, ..) = certificate(&app, "client");
    certificate(&app, "stranger");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(client_ca.der().clone()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.der().clone()], key)
        .unwrap();
    let receiver = Receiver::start(Some(Arc::new(tls)), |_, _, _| Fault::None);
    let url = format!("https://127.0.0.1:{}/k8s/audit/test", receiver.port);
    let port = free_port();
    // The client's files are links, so that they can be changed while it runs.
    let install = |name: &str| {
        for (from, to) in [(format!("{name}.pem"), "shown.pem"), (format!("{name}-key.pem"), "shown-key.pem")] {
            fs::copy(app.path(&from), app.path(to)).unwrap();
        }
    };
    install("stranger");
    app.file("token", "first\n");
    fs::create_dir_all(app.path("log")).unwrap();
    let app = &app;
    let forward = |ca: &str| json!({"url": url, "ca_file": app.path(ca), "cert_file": app.path("shown.pem"), "key_file": app.path("shown-key.pem"), "token_file": app.path("token")});
    let run = |ca: &str| {
        let config = json!({
            "data_dir": app.data(), "admin": {"listen": format!("127.0.0.1:{port}")},
            "sources": [{"type": "k8s_log", "name": "audit", "cluster": "test", "path": app.path("log/audit.log"), "forward": forward(ca)}],
        });
        let path = app.path("planewatch.yaml");
        fs::write(&path, config.to_string()).unwrap();
        Running(crate::support::planewatch(&["run", "-c", path.to_str().unwrap()]).spawn().unwrap())
    };
    let ready = || http(port, "GET", "/readyz", "").unwrap_or_default();
    let mut log = writer(app);
    log.write(3);
    // A receiver whose certificate comes from elsewhere gets nothing.
    let running = run("client-ca.pem");
    wait_for("the reason", || ready().0 == 503);
    assert!(ready().1.contains("certificate"), "{}", ready().1);
    drop(running);
    // A certificate that the receiver does not know, until the file is another.
    let running = run("server-ca.pem");
    wait_for("the reason", || ready().0 == 503);
    assert_eq!(receiver.ids().len(), 0);
    install("client");
    wait_for("the events", || receiver.ids() == log.written);
    wait_for("being ready", || ready().0 == 200);
    app.file("token", "second\n");
    log.write(1);
    wait_for("the last event", || receiver.ids() == log.written);
    drop(running);
    let got = receiver.got.lock().unwrap();
    assert_eq!((got.tokens.first().unwrap().as_str(), got.tokens.last().unwrap().as_str()), ("Bearer first", "Bearer second"));
}

/// Both ends are ours, and both are killed while lines are written, rotated and sent.
#[test]
fn to_a_receiver_of_ours_each_line_once_whoever_is_killed() {
    let hook = Webhook::with_token(&json!({"cluster": "test"}));
    let forward = json!({
        "url": format!("https://localhost:{}{PATH}", hook.port), "token_file": hook.app.path("token"), "ca_file": hook.app.path("servers.pem"),
    });
    hook.app.file("servers.pem", &hook.server_ca.pem);
    let app = app(json!({"forward": forward}));
    let mut log = writer(&app);
    let mut receiver = hook.run();
    for n in 0..8 {
        log.write(fastrand::usize(200..1_200));
        if fastrand::bool() {
            log.rotate();
        }
        let sender = Running::start(&app);
        log.write(300);
        let before = hook.stored().len();
        wait_for("something that was sent", || hook.stored().len() > before);
        if n % 2 == 0 {
            receiver.kill();
            receiver = hook.start();
        }
        std::thread::park_timeout(Duration::from_millis(fastrand::u64(1..300)));
        drop(sender);
    }
    wait_for("the receiver", || hook.reasons().as_deref() == Some("ok\n"));
    assert_eq!(app.drain()["received"], 0);
    assert_eq!(hook.stored(), log.written, "each line once, and none is missing");
    assert_eq!(total(&app, "forwarded"), log.written.len() as u64);
}

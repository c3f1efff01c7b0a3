//! `k8s_webhook` before a store that is paused, slow, or fails: the client hears 429 in time, and nothing is lost sight of.

use crate::support::aws::free_port;
use crate::support::https::{Authority, Client, write_identity};
use crate::support::wait_for;
use crate::support::webhook::{TOKEN, batch};
use planewatch::clock::Clock;
use planewatch::metrics::Metrics;
use planewatch::sources::k8s_webhook::{self, K8sWebhookConfig};
use planewatch::sources::{BoxFuture, Delivery, Due, Handoff, Health, Input, NotTaken, Outcome, Surroundings};
use serde_json::json;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};

/// A store that does as it is told.
struct Told {
    paused: Mutex<Option<String>>,
    fails: Mutex<bool>,
    /// One permit lets one delivery through.
    gate: Semaphore,
    delivered: Mutex<Vec<u64>>,
    spool: PathBuf,
}

impl Handoff for Told {
    fn deliver(&self, delivery: Delivery) -> BoxFuture<'_, Result<Outcome, NotTaken>> {
        Box::pin(async move {
            if *self.fails.lock().unwrap() {
                return Err(NotTaken("the disk is gone".to_owned()));
            }
            self.gate.acquire().await.unwrap().forget();
            let length = match &delivery.input {
                Input::Memory(bytes) | Input::Lines(bytes) => bytes.len() as u64,
                Input::File(path) => std::fs::metadata(path).unwrap().len(),
                Input::None => 0,
            };
            assert_eq!(length, delivery.bytes, "the body is there until it is durable");
            self.delivered.lock().unwrap().push(length);
            Ok(Outcome::Done)
        })
    }

    fn has_read<'f>(&'f self, _: &'f str) -> BoxFuture<'f, Result<bool, NotTaken>> {
        Box::pin(async { Ok(false) })
    }

    fn file_stamps<'f>(
        &'f self,
        _: &'f str,
        _: Option<std::ops::Range<&'f str>>,
    ) -> BoxFuture<'f, Result<HashMap<String, String>, NotTaken>> {
        Box::pin(async { Ok(HashMap::new()) })
    }

    fn due<'f>(&'f self, _: &'f str) -> BoxFuture<'f, Result<Vec<Due>, NotTaken>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn postpone(&self, _: i64, _: i64, _: String) -> BoxFuture<'_, Result<(), NotTaken>> {
        Box::pin(async { Ok(()) })
    }

    fn paused(&self) -> Option<String> {
        self.paused.lock().unwrap().clone()
    }

    fn spool(&self) -> PathBuf {
        self.spool.clone()
    }

    fn inflate(&self, input: Box<dyn std::io::Read + Send>) -> std::io::Result<Box<dyn std::io::BufRead + Send>> {
        Ok(Box::new(std::io::BufReader::new(input)))
    }
}

/// The source in this process, on a store that is told what to do.
struct Inside {
    told: Arc<Told>,
    client: Client,
    stop: watch::Sender<bool>,
    source: Option<std::thread::JoinHandle<()>>,
    dir: tempfile::TempDir,
}

impl Inside {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let servers = Authority::new("servers");
        write_identity(dir.path(), "server", &servers.sign("planewatch", &["localhost"]));
        std::fs::write(dir.path().join("token"), TOKEN).unwrap();
        std::fs::create_dir(dir.path().join("spool")).unwrap();
        let port = free_port();
        let config: K8sWebhookConfig = serde_json::from_value(json!({
            "name": "prod", "cluster": "prod", "listen": format!("127.0.0.1:{port}"), "path": "/a", "token_file": dir.path().join("token"),
            "tls": {"cert_file": dir.path().join("server.crt"), "key_file": dir.path().join("server.key")},
        }))
        .unwrap();
        let told = Arc::new(Told {
            paused: Mutex::default(),
            fails: Mutex::default(),
            gate: Semaphore::new(0),
            delivered: Mutex::default(),
            spool: dir.path().join("spool"),
        });
        let (stop, stopped) = watch::channel(false);
        let at = Surroundings {
            handoff: Arc::clone(&told) as Arc<dyn Handoff>,
            metrics: Arc::new(Metrics::default()),
            health: Arc::new(Health::default()),
            clock: Clock::system(),
            stop: stopped,
            is_drain: false,
        };
        let source = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(k8s_webhook::run(vec![config], at));
        });
        let client = Client::new(port, "/a", &servers.pem, None).with_token(TOKEN);
        wait_for("the source to listen", || client.connect().is_ok());
        Self { told, client, stop, source: Some(source), dir }
    }

    fn spooled(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("spool")).unwrap().count()
    }

    fn stop(&mut self) {
        let _ = self.stop.send(true);
        self.source.take().unwrap().join().unwrap();
    }
}

#[test]
fn a_store_that_is_paused_or_fails_makes_429() {
    let mut inside = Inside::start();
    *inside.told.paused.lock().unwrap() = Some("the disk is full".to_owned());
    let mut connection = inside.client.connect().unwrap();
    let answer = connection.post(&batch("a", 400)).unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("5")), "{answer:?}");
    assert!(!answer.body.contains("disk"), "what is wrong here is not the client's to know");
    *inside.told.paused.lock().unwrap() = None;
    *inside.told.fails.lock().unwrap() = true;
    let answer = connection.post(&batch("a", 400)).unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("5")), "{answer:?}");
    *inside.told.fails.lock().unwrap() = false;
    inside.told.gate.add_permits(1);
    assert_eq!(connection.post(&batch("a", 400)).unwrap().status, 200, "on the same connection");
    inside.stop();
}

#[test]
fn a_slow_store_holds_no_client_and_loses_no_body() {
    let mut inside = Inside::start();
    // One in memory, one in a file.
    let bodies = [batch("short", 1), batch("long", 4_000)];
    for (n, body) in bodies.iter().enumerate() {
        let start = Instant::now();
        let answer = inside.client.post(body).unwrap();
        let elapsed = start.elapsed();
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("3")), "{answer:?}");
        assert!((Duration::from_secs(2)..Duration::from_secs(5)).contains(&elapsed), "{elapsed:?}");
        assert_eq!(inside.spooled(), n, "what is not yet decided stays");
    }
    // A stop waits for what is still on its way to the disk.
    let told = Arc::clone(&inside.told);
    let _ = inside.stop.send(true);
    wait_for("the port to be closed", || inside.client.connect().is_err());
    assert!(told.delivered.lock().unwrap().is_empty());
    told.gate.add_permits(2);
    inside.stop();
    let mut delivered = told.delivered.lock().unwrap().clone();
    delivered.sort_unstable();
    assert_eq!(delivered, bodies.map(|it| it.len() as u64));
    assert_eq!(inside.spooled(), 0);
}

//! An API server that answers as a test tells it to: for faults that a real one cannot be brought to make.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    pub(crate) body: String,
    /// How many came before it of the same path: watches are counted apart.
    pub(crate) nth: usize,
    /// What the test set by [`FakeKube::phase`].
    pub(crate) phase: usize,
    pub(crate) at: Instant,
}

impl Asked {
    pub(crate) fn is_watch(&self) -> bool {
        self.parameter("watch") == Some("true")
    }

    fn bare(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }

    pub(crate) fn is_of(&self, resource: &str) -> bool {
        self.bare().ends_with(&format!("/{resource}"))
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let mut all = self.path.split_once('?')?.1.split('&').filter_map(|it| it.split_once('='));
        all.find(|(it, _)| *it == name).map(|(_, value)| value)
    }
}

/// What becomes of a request.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// A status and a body, and the end.
    Whole(u16, String),
    /// 200 and the beginning of a body, whose rest does not come.
    Open(String),
    /// The connection is closed without an answer.
    None,
}

impl Answer {
    /// A refusal, as the API server words them.
    pub(crate) fn refusal(code: u16, reason: &str, message: &str) -> Self {
        Self::Whole(code, failure(code, reason, message).to_string())
    }
}

/// An object of kind `Status`.
pub(crate) fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code})
}

/// An object as a list has it: without its kind.
pub(crate) fn object(name: &str, version: u64) -> Value {
    let created = "2026-11-24T10:00:00Z";
    let metadata =
        json!({"name": name, "uid": format!("uid-{name}"), "resourceVersion": version.to_string(), "creationTimestamp": created});
    json!({ "metadata": metadata })
}

/// A page of a list; `next` leads to the following one.
pub(crate) fn page(version: u64, next: &str, items: &[Value]) -> Answer {
    let metadata = json!({"resourceVersion": version.to_string(), "continue": next});
    Answer::Whole(200, json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}).to_string())
}

/// A line of a watch of roles.
pub(crate) fn line(kind: &str, mut object: Value) -> String {
    if kind != "ERROR" {
        object["kind"] = "Role".into();
        object["apiVersion"] = "rbac.authorization.k8s.io/v1".into();
    }
    format!("{}\n", json!({"type": kind, "object": object}))
}

type Decide = dyn Fn(&Asked) -> Answer + Send + Sync;

#[derive(Default)]
struct State {
    asked: Mutex<Vec<Asked>>,
    open: Mutex<Vec<TcpStream>>,
    phase: AtomicUsize,
    is_over: AtomicBool,
}

pub(crate) struct FakeKube {
    port: u16,
    state: Arc<State>,
    dir: tempfile::TempDir,
}

impl FakeKube {
    /// One that answers like this.
    pub(crate) fn start(decide: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let kube = Self { port, state: Arc::default(), dir: tempfile::tempdir().unwrap() };
        let (state, decide): (_, Arc<Decide>) = (Arc::clone(&kube.state), Arc::new(decide));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if state.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let (state, decide, stream) = (Arc::clone(&state), Arc::clone(&decide), stream.unwrap());
                // A client that goes away is no failure of the test.
                std::thread::spawn(move || serve(stream, &state, &*decide).ok());
            }
        });
        kube
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        let path = self.dir.path().join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": format!("http://127.0.0.1:{}", self.port)}}],
            "users": [{"name": "nobody", "user": {}}], "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "nobody"}}],
        });
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// From now on the requests are of this phase, and what stays open is ended.
    pub(crate) fn phase(&self, phase: usize) {
        self.state.phase.store(phase, Ordering::SeqCst);
        for stream in self.state.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn watches(&self, resource: &str) -> Vec<Asked> {
        self.asked(|it| it.is_of(resource) && it.is_watch())
    }

    /// Without those that only look which version the server is at.
    pub(crate) fn lists(&self, resource: &str) -> Vec<Asked> {
        self.asked(|it| it.is_of(resource) && !it.is_watch() && it.parameter("limit") != Some("1"))
    }

    fn asked(&self, is_wanted: impl Fn(&Asked) -> bool) -> Vec<Asked> {
        self.state.asked.lock().unwrap().iter().filter(|it| is_wanted(it)).cloned().collect()
    }
}

impl Drop for FakeKube {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        self.phase(0);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// One request: each has a connection of its own.
fn serve(stream: TcpStream, state: &State, decide: &Decide) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    stream.read_line(&mut first)?;
    let mut head = first.split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (head.next(), head.next()) else { return Ok(()) };
    loop {
        let mut header = String::new();
        stream.read_line(&mut header)?;
        let Some((name, value)) = header.trim().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let mut asked = Asked { method, path, body, nth: 0, phase: state.phase.load(Ordering::SeqCst), at: Instant::now() };
    let mut all = state.asked.lock().unwrap();
    asked.nth = all.iter().filter(|it| it.is_watch() == asked.is_watch() && it.bare() == asked.bare()).count();
    all.push(asked.clone());
    drop(all);
    let (answer, phase) = (decide(&asked), asked.phase);
    let mut stream = stream.into_inner();
    let head = |code: u16| format!("HTTP/1.1 {code} -\r\nContent-Type: application/json\r\nConnection: close\r\n");
    match answer {
        Answer::None => Ok(()),
        Answer::Whole(code, body) => write!(stream, "{}Content-Length: {}\r\n\r\n{body}", head(code), body.len()),
        Answer::Open(body) => {
            state.open.lock().unwrap().push(stream.try_clone()?);
            if state.phase.load(Ordering::SeqCst) != phase {
                return Ok(());
            }
            write!(stream, "{}Transfer-Encoding: chunked\r\n\r\n", head(200))?;
            if !body.is_empty() {
                write!(stream, "{:x}\r\n{body}\r\n", body.len())?;
            }
            // Until the client goes, or the test ends it.
            stream.read_exact(&mut [0])
        }
    }
}

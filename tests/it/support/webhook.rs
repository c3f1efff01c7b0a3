//! A running service with a `k8s_webhook` source, and batches to post to it.

use super::aws::{free_port, http};
use super::https::{Authority, Client, Identity, write_identity};
use super::{TestApp, planewatch, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

pub(crate) const PATH: &str = "/k8s/audit/prod";
pub(crate) const TOKEN: &str = "an-audit-token-of-ours";

/// Authorities, ports, and a configuration with one source; `run` starts the program.
pub(crate) struct Webhook {
    pub(crate) app: TestApp,
    /// Signs the server.
    pub(crate) server_ca: Authority,
    /// Signs clients.
    pub(crate) client_ca: Authority,
    pub(crate) port: u16,
    pub(crate) admin: u16,
}

impl Webhook {
    /// A source that asks for a token; `more` is added to it.
    pub(crate) fn with_token(more: &Value) -> Self {
        let mut source = json!({"token_file": "token"});
        merge(&mut source, more);
        Self::with(&source)
    }

    /// A source that asks for a certificate named `api` or `api.example`; `more` is added to it.
    pub(crate) fn with_names(more: &Value) -> Self {
        let mut source = json!({"tls": {"client_ca_file": "clients.pem", "client_names": ["api", "api.example"]}});
        merge(&mut source, more);
        Self::with(&source)
    }

    /// A source with these keys. Files are named below the test's folder.
    pub(crate) fn with(more: &Value) -> Self {
        let (port, admin) = (free_port(), free_port());
        let app = TestApp::new().with("admin", json!({"listen": format!("127.0.0.1:{admin}")}));
        let (server_ca, client_ca) = (Authority::new("servers"), Authority::new("clients"));
        write_identity(app.dir.path(), "server", &server_ca.sign("planewatch", &["localhost"]));
        app.file("clients.pem", &client_ca.pem).file("token", format!("{TOKEN}\n"));
        let mut it = Self { app, server_ca, client_ca, port, admin };
        it.add(&json!({"name": "prod", "cluster": "prod", "path": PATH}), more);
        it
    }

    /// Adds a source on the same listener.
    pub(crate) fn add(&mut self, keys: &Value, more: &Value) {
        let mut source = json!({"type": "k8s_webhook", "listen": format!("127.0.0.1:{}", self.port),
            "tls": {"cert_file": "server.crt", "key_file": "server.key"}});
        merge(&mut source, keys);
        merge(&mut source, more);
        for pointer in ["/token_file", "/tls/cert_file", "/tls/key_file", "/tls/client_ca_file"] {
            if let Some(file) = source.pointer_mut(pointer) {
                *file = json!(self.app.path(file.as_str().unwrap()));
            }
        }
        let app = std::mem::replace(&mut self.app, TestApp::new());
        self.app = app.source(source);
    }

    /// A client that trusts the server and shows this certificate.
    pub(crate) fn client(&self, identity: Option<&Identity>) -> Client {
        Client::new(self.port, PATH, &self.server_ca.pem, identity)
    }

    /// A client with the right token.
    pub(crate) fn known(&self) -> Client {
        self.client(None).with_token(TOKEN)
    }

    /// Starts the program, and waits until it is ready.
    pub(crate) fn run(&self) -> Running {
        let running = self.start();
        // Ready, and not only not yet unwell.
        wait_for("the source to be ready", || {
            self.reasons().as_deref() == Some("ok\n") && self.metric("planewatch_source_up{source=\"prod\"}") == 1
        });
        running
    }

    pub(crate) fn start(&self) -> Running {
        let log = self.app.path("log");
        let stderr = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut command = planewatch(&["run", "-c", self.app.config().to_str().unwrap()]);
        let child = command.env("PLANEWATCH_LOG", "info").stderr(stderr).stdout(Stdio::null()).spawn().unwrap();
        Running { child, log }
    }

    /// What `/readyz` says; none while nobody answers.
    pub(crate) fn reasons(&self) -> Option<String> {
        http(self.admin, "GET", "/readyz", "").map(|(_, text)| text)
    }

    /// A metric's value, 0 where it is not there. `series` is all before the value.
    pub(crate) fn metric(&self, series: &str) -> i64 {
        let (_, text) = http(self.admin, "GET", "/metrics", "").unwrap();
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok()).unwrap_or(0)
    }

    pub(crate) fn refused(&self, reason: &str) -> i64 {
        self.metric(&format!("planewatch_http_refused_total{{source=\"prod\",reason=\"{reason}\"}}"))
    }

    /// auditID of every stored event, with repeats.
    pub(crate) fn stored(&self) -> Vec<String> {
        let mut ids: Vec<_> = self
            .app
            .search("event_type = \"kubernetesAudit\"")
            .iter()
            .map(|it| it["raw"]["auditID"].as_str().unwrap().to_owned())
            .collect();
        ids.sort();
        ids
    }
}

fn merge(into: &mut Value, more: &Value) {
    for (key, value) in more.as_object().unwrap() {
        match into.get_mut(key) {
            Some(old) if old.is_object() && value.is_object() => merge(old, value),
            _ => into[key] = value.clone(),
        }
    }
}

/// The program, killed at the end.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn terminate(&self) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// The most memory that it had, KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        status.lines().find_map(|it| it.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok()).unwrap()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One audit event.
pub(crate) fn audit(id: &str) -> Value {
    json!({"level": "Metadata", "auditID": id, "stage": "ResponseComplete", "requestURI": "/api/v1/namespaces/default/pods", "verb": "list",
        "user": {"username": "ada", "groups": ["devs"]}, "sourceIPs": ["192.0.2.9"], "userAgent": "kubectl", "responseStatus": {"code": 200},
        "objectRef": {"resource": "pods", "namespace": "default", "apiVersion": "v1"}, "requestReceivedTimestamp": "2026-01-02T03:04:05.000001Z",
        "stageTimestamp": "2026-01-02T03:04:05.000002Z", "annotations": {"authorization.k8s.io/decision": "allow"}})
}

/// What an API server posts: events named `prefix-0` and so on.
pub(crate) fn batch(prefix: &str, n: usize) -> Vec<u8> {
    let items: Vec<_> = ids(prefix, n).iter().map(|id| audit(id).to_string()).collect();
    let items = items.join(",");
    format!("{{\"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\",\"metadata\":{{}},\"items\":[{items}]}}").into_bytes()
}

pub(crate) fn ids(prefix: &str, n: usize) -> BTreeSet<String> {
    (0..n).map(|it| format!("{prefix}-{it:05}")).collect()
}

/// The same bytes with spaces in front of the last brace, so that they are this long.
pub(crate) fn padded(mut body: Vec<u8>, length: usize) -> Vec<u8> {
    let brace = body.pop().unwrap();
    assert!(body.len() < length);
    body.resize(length - 1, b' ');
    body.push(brace);
    body
}

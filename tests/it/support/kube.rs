//! Kubernetes on this machine: the real API server over the real etcd, with our audit policy, and kubectl.
//!
//! There is no controller manager, scheduler or kubelet: objects are stored and validated, pods do not run.

use super::aws::{free_port, http, http_as};
use super::pki::Pki;
use super::{lines, root, wait_for};
use serde_json::{Value, json};
use std::fs;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// Who calls. The admin is of `system:masters`; `dev` is a user without rights; a stranger's token is wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Who {
    Admin,
    Dev,
    Anonymous,
    Stranger,
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Dev => "dev",
            Self::Anonymous => "anonymous",
            Self::Stranger => "stranger",
        }
    }
}

/// An API server and its etcd. Both end with it.
pub(crate) struct Kube {
    pub(crate) dir: TempDir,
    pub(crate) pki: Pki,
    port: u16,
    etcd_port: u16,
    flags: Vec<String>,
    etcd: Option<Child>,
    server: Option<Child>,
}

/// A file of `deploy/kubernetes`.
pub(crate) fn deployed(name: &str) -> String {
    fs::read_to_string(root().join("deploy/kubernetes").join(name)).unwrap()
}

fn tool(name: &str) -> PathBuf {
    std::env::var("PLANEWATCH_TOOLS").map_or_else(|_| root().join("target/tools"), PathBuf::from).join("kube").join(name)
}

impl Kube {
    /// One that is not started. None, with a word, where the real parts could not be built, which CI does not accept.
    pub(crate) fn prepare() -> Option<Self> {
        if let Some(missing) = ["etcd", "kube-apiserver", "kubectl"].map(tool).iter().find(|it| !it.exists()) {
            assert!(std::env::var_os("CI").is_none(), "{} is not installed: run `scripts/tools.sh kube`", missing.display());
            eprintln!("skipped: no {}; `scripts/tools.sh kube` builds it and needs Go 1.26", missing.display());
            return None;
        }
        let base = root().join("target/test-data");
        fs::create_dir_all(&base).unwrap();
        let dir = tempfile::tempdir_in(base).unwrap();
        let pki = Pki::new(&dir.path().join("pki"));
        pki.server("server").key("service-accounts");
        pki.client("admin", "admin", Some("system:masters")).client("dev", "dev", Some("devs"));
        let kube = Self { dir, pki, port: free_port(), etcd_port: free_port(), flags: Vec::new(), etcd: None, server: None };
        fs::create_dir(kube.path("audit")).unwrap();
        Some(kube.policy(&deployed("audit-policy.yaml")))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Another audit policy than the one that we recommend.
    pub(crate) fn policy(self, text: &str) -> Self {
        fs::write(self.path("policy.yaml"), text).unwrap();
        self
    }

    /// Sends its audit events to this kubeconfig too; tries again soon, but as often as it does by default.
    pub(crate) fn webhook(self, kubeconfig: &str) -> Self {
        let path = self.path("webhook.kubeconfig");
        fs::write(&path, kubeconfig).unwrap();
        self.flag("--audit-webhook-batch-max-wait=1s")
            .flag("--audit-webhook-initial-backoff=1s")
            .flag(&format!("--audit-webhook-config-file={}", path.display()))
    }

    pub(crate) fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    pub(crate) fn start(mut self) -> Self {
        let client = format!("http://127.0.0.1:{}", self.etcd_port);
        let peer = format!("http://127.0.0.1:{}", free_port());
        let mut etcd = Command::new(tool("etcd"));
        etcd.arg("--data-dir").arg(self.path("etcd")).args(["--unsafe-no-fsync", "--log-level=error"]);
        etcd.args(["--listen-client-urls", &client, "--advertise-client-urls", &client, "--listen-peer-urls", &peer]);
        self.etcd = Some(spawn(etcd, &self.path("etcd.log")));
        wait_for("etcd", || http(self.etcd_port, "GET", "/health", "").is_some_and(|(status, _)| status == 200));
        for who in [Who::Admin, Who::Dev, Who::Anonymous, Who::Stranger] {
            fs::write(self.kubeconfig(who), self.identity(who).to_string()).unwrap();
        }
        self.start_server();
        self
    }

    /// Ends the API server as a crash would, and starts it again on the same port.
    pub(crate) fn restart(&mut self) {
        self.stop_server();
        self.start_server();
    }

    /// Ends the API server; what it wrote is then complete.
    pub(crate) fn stop_server(&mut self) {
        end(&mut self.server);
    }

    fn start_server(&mut self) {
        let mut server = Command::new(tool("kube-apiserver"));
        let mut flag = |name: &str, value: &str| {
            server.arg(format!("--{name}={value}"));
        };
        flag("etcd-servers", &format!("http://127.0.0.1:{}", self.etcd_port));
        flag("bind-address", "127.0.0.1");
        flag("secure-port", &self.port.to_string());
        flag("tls-cert-file", &self.pki.path("server.crt"));
        flag("tls-private-key-file", &self.pki.path("server.key"));
        flag("client-ca-file", &self.pki.path("ca.crt"));
        flag("service-account-key-file", &self.pki.path("service-accounts.pub"));
        flag("service-account-signing-key-file", &self.pki.path("service-accounts.key"));
        flag("service-account-issuer", "https://kubernetes.default.svc");
        flag("service-cluster-ip-range", "10.0.0.0/24");
        flag("authorization-mode", "RBAC");
        flag("disable-admission-plugins", "ServiceAccount");
        flag("endpoint-reconciler-type", "none"); // a loopback address is refused as an endpoint
        flag("audit-policy-file", self.path("policy.yaml").to_str().unwrap());
        flag("audit-log-path", self.audit_log().to_str().unwrap());
        server.args(&self.flags);
        self.server = Some(spawn(server, &self.path("kube-apiserver.log")));
        wait_for("the API server", || {
            let ended = self.server.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the API server ended: {}", self.log());
            self.kubectl(Who::Admin, &["get", "--raw", "/readyz"]).status.success()
        });
    }

    /// What the API server says about itself.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("kube-apiserver.log")).unwrap_or_default()
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.path("audit/audit.log")
    }

    /// What the audit log holds now.
    pub(crate) fn audited(&self) -> Vec<Value> {
        lines(&fs::read_to_string(self.audit_log()).unwrap())
    }

    pub(crate) fn kubeconfig(&self, who: Who) -> PathBuf {
        self.path(&format!("{}.kubeconfig", who.name()))
    }

    fn identity(&self, who: Who) -> Value {
        let user = match who {
            // kubectl asks a person for a name where there is none; the API server ignores a password.
            Who::Anonymous => json!({"username": "nobody", "password": "nothing"}),
            Who::Stranger => json!({"token": "wrong"}),
            _ => json!({
                "client-certificate": self.pki.path(&format!("{}.crt", who.name())),
                "client-key": self.pki.path(&format!("{}.key", who.name())),
            }),
        };
        let server = format!("https://127.0.0.1:{}", self.port);
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority": self.pki.path("ca.crt")}}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        })
    }

    pub(crate) fn kubectl(&self, who: Who, args: &[&str]) -> Output {
        self.kubectl_with(who, args, "")
    }

    /// kubectl with something on its standard input: `-f -`.
    pub(crate) fn kubectl_with(&self, who: Who, args: &[&str], input: &str) -> Output {
        let mut command = Command::new(tool("kubectl"));
        command.arg("--kubeconfig").arg(self.kubeconfig(who)).arg("--cache-dir").arg(self.path("kubectl-cache")).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).env_remove("KUBECONFIG");
        let mut child = command.spawn().unwrap();
        // It may end before it has read all.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// kubectl as admin; it must succeed. Its output.
    pub(crate) fn admin(&self, args: &[&str]) -> String {
        self.admin_with(args, "")
    }

    /// Creates what a manifest describes.
    pub(crate) fn create(&self, manifest: &str) {
        self.admin_with(&["create", "-f", "-"], manifest);
    }

    /// kubectl as admin with something on its standard input; it must succeed. Its output.
    pub(crate) fn admin_with(&self, args: &[&str], input: &str) -> String {
        let output = self.kubectl_with(Who::Admin, args, input);
        assert!(output.status.success(), "kubectl {args:?}: {}", super::stderr(&output));
        super::stdout(&output)
    }

    /// A request as admin that kubectl does not make by itself; its status.
    pub(crate) fn request(&self, method: &str, path: &str, content_type: &str, body: &str) -> u16 {
        let port = free_port();
        let mut proxy = Command::new(tool("kubectl"));
        proxy.arg("--kubeconfig").arg(self.kubeconfig(Who::Admin)).args(["proxy", "--port", &port.to_string()]);
        let mut proxy = Some(spawn(proxy, &self.path("proxy.log")));
        wait_for("kubectl proxy", || http(port, "GET", "/version", "").is_some());
        let answer = http_as(port, method, path, content_type, body);
        end(&mut proxy);
        answer.unwrap().0
    }

    /// Forgets all old revisions, so that a watch which asks for one is told 410.
    pub(crate) fn compact(&self) {
        let ask = |path: &str, body: Value| -> Value {
            let (status, answer) = http(self.etcd_port, "POST", path, &body.to_string()).unwrap();
            assert_eq!(status, 200, "{answer}");
            serde_json::from_str(answer.trim()).unwrap()
        };
        // `AA==` is the lowest key there is.
        let answer = ask("/v3/kv/range", json!({"key": "AA==", "range_end": "AA==", "limit": 1}));
        ask("/v3/kv/compaction", json!({"revision": answer["header"]["revision"], "physical": true}));
    }
}

impl Drop for Kube {
    fn drop(&mut self) {
        end(&mut self.server);
        end(&mut self.etcd);
    }
}

fn spawn(mut command: Command, log: &Path) -> Child {
    let log = File::options().create(true).append(true).open(log).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

fn end(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

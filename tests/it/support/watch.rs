//! A running service with a `k8s_watch` source, as our RBAC lets it, and what it stored.

use super::aws::{free_port, http};
use super::kube::{Kube, Who, deployed};
use super::{TestApp, planewatch, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::{Child, Command};

/// A change by uid, version and action.
pub(crate) type Key = (String, String, String);

pub(crate) struct Watch {
    pub(crate) app: TestApp,
    admin: u16,
    run: Option<Child>,
}

/// Gives the service account of deploy/kubernetes its rights; the kubeconfig that acts as it.
pub(crate) fn grant(kube: &Kube) -> std::path::PathBuf {
    kube.admin_with(&["apply", "-f", "-"], &deployed("watch-rbac.yaml"));
    let token = kube.admin(&["create", "token", "planewatch", "--namespace", "planewatch", "--duration", "24h"]);
    let mut kubeconfig: Value = serde_json::from_slice(&std::fs::read(kube.kubeconfig(Who::Admin)).unwrap()).unwrap();
    kubeconfig["users"][0]["user"] = json!({"token": token.trim()});
    let path = kube.path("planewatch.kubeconfig");
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    path
}

impl Watch {
    /// One that is not started; `more` is added to the source.
    pub(crate) fn new(kubeconfig: &std::path::Path, more: &Value) -> Self {
        let admin = free_port();
        let mut source = json!({"type": "k8s_watch", "name": "watch", "cluster": "test", "kubeconfig": kubeconfig});
        for (key, value) in more.as_object().unwrap() {
            source[key] = value.clone();
        }
        let listen = format!("127.0.0.1:{admin}");
        Self { app: TestApp::new().source(source).with("admin", json!({"listen": listen})), admin, run: None }
    }

    pub(crate) fn start(&mut self) {
        let config = self.app.config();
        let log = std::fs::File::options().create(true).append(true).open(self.app.path("log.txt")).unwrap();
        let mut command = planewatch(&["run", "-c", config.to_str().unwrap()]);
        let run = command.env("PLANEWATCH_LOG", "info").stderr(log).spawn().unwrap();
        self.run = Some(run);
        wait_for("the admin port", || http(self.admin, "GET", "/livez", "").is_some_and(|(status, _)| status == 200));
    }

    pub(crate) fn signal(&self, signal: &str) {
        let id = self.run.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// SIGTERM, and a good end.
    pub(crate) fn stop(&mut self) {
        self.signal("-TERM");
        assert!(self.run.take().unwrap().wait().unwrap().success(), "{}", self.log());
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.signal("-KILL");
        self.run.take().unwrap().wait().unwrap();
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.app.path("log.txt")).unwrap_or_default()
    }

    pub(crate) fn ready(&self) -> (u16, String) {
        http(self.admin, "GET", "/readyz", "").unwrap_or_default()
    }

    /// A metric's value; 0 where it is not there.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let line = self.metrics().lines().find_map(|it| it.strip_prefix(series).map(str::to_owned));
        line.map_or(0.0, |it| it.trim().parse().unwrap())
    }

    pub(crate) fn metrics(&self) -> String {
        http(self.admin, "GET", "/metrics", "").unwrap_or_default().1
    }

    /// Whether all kinds that there are have been listed and are watched.
    pub(crate) fn is_complete(&self) -> bool {
        // Twelve, and the API itself.
        self.metrics().lines().filter(|it| it.starts_with("planewatch_watch_up{") && it.ends_with(" 1")).count() == 13
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.metric("planewatch_watch_leader{source=\"watch\"}") > 0.5
    }

    /// Every stored change, with how often it is stored.
    pub(crate) fn changes(&self, filter: &str) -> BTreeMap<Key, usize> {
        let mut all = BTreeMap::new();
        for event in self.app.search(filter) {
            *all.entry(key(&event)).or_default() += 1;
        }
        all
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(mut run) = self.run.take() {
            let _ = run.kill();
            let _ = run.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

pub(crate) fn key(event: &Value) -> Key {
    let meta = |name: &str| event["raw"]["metadata"][name].as_str().unwrap_or_default().to_owned();
    (meta("uid"), meta("resourceVersion"), event["action"].as_str().unwrap_or_default().to_owned())
}

/// Makes, changes and deletes roles; each is then to be there as added, modified and deleted.
pub(crate) fn churn(kube: &Kube, prefix: &str, n: usize) {
    let each = |f: &dyn Fn(usize) -> Value| -> String {
        json!({"apiVersion": "v1", "kind": "List", "items": (0..n).map(f).collect::<Vec<_>>()}).to_string()
    };
    let role = |n: usize, verbs: &[&str]| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": format!("{prefix}-{n:03}"), "namespace": "default"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": verbs}],
        })
    };
    kube.admin_with(&["create", "-f", "-"], &each(&|n| role(n, &["get"])));
    kube.admin_with(&["replace", "-f", "-"], &each(&|n| role(n, &["get", "list"])));
    kube.admin_with(&["delete", "--wait=false", "-f", "-"], &each(&|n| role(n, &["get"])));
}

/// How often the roles of a churn were seen added, modified and deleted.
pub(crate) fn seen(watches: &[&Watch], prefix: &str) -> [usize; 3] {
    ["added", "modified", "deleted"].map(|action| {
        let filter = format!(
            "event_type = \"kubernetesConfig\" and resource = \"roles\" and action = \"{action}\" and name starts_with \"{prefix}\""
        );
        watches.iter().map(|it| it.app.search(&filter).len()).sum()
    })
}

/// No change is stored twice, in one store or in two.
pub(crate) fn assert_no_repeats(watches: &[&Watch]) {
    let mut all: BTreeMap<Key, usize> = BTreeMap::new();
    for watch in watches {
        for (key, n) in watch.changes("") {
            *all.entry(key).or_default() += n;
        }
    }
    all.retain(|_, n| *n > 1);
    assert!(all.is_empty(), "stored more than once: {all:?}");
}

//! The builder: a folder, a configuration, the program.

pub(crate) mod audit;
pub(crate) mod aws;
pub(crate) mod disk;
pub(crate) mod fake_kube;
pub(crate) mod https;
pub(crate) mod judge;
pub(crate) mod k8s;
pub(crate) mod kube;
pub(crate) mod kube_operations;
pub(crate) mod pki;
pub(crate) mod planted;
pub(crate) mod watch;
pub(crate) mod webhook;

use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder of real input beside the checkout. None on a user's machine, where it does not exist.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let path = root().join("../shared").join(path);
    if !path.exists() {
        eprintln!("skipped: no ../shared");
        return None;
    }
    Some(path)
}

/// The program with these arguments.
pub(crate) fn planewatch(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_planewatch"));
    command.args(args).stdin(Stdio::null()).env("PLANEWATCH_LOG", "warn").env_remove("AWS_PROFILE");
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test").env("AWS_REGION", "us-east-1");
    command
}

/// Runs it to its end.
pub(crate) fn output(args: &[&str]) -> Output {
    planewatch(args).output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A service in a folder of its own.
pub(crate) struct TestApp {
    pub(crate) dir: TempDir,
    sources: Vec<Value>,
    more: Value,
}

impl TestApp {
    pub(crate) fn new() -> Self {
        let base = root().join("target/test-data");
        fs::create_dir_all(&base).unwrap();
        Self { dir: tempfile::tempdir_in(base).unwrap(), sources: Vec::new(), more: json!({}) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A folder for a `directory` source, made here.
    pub(crate) fn folder(mut self, name: &str) -> Self {
        fs::create_dir_all(self.path(name)).unwrap();
        let path = self.path(name);
        self.sources.push(json!({"type": "directory", "name": name, "path": path, "scan_interval_secs": 1}));
        self
    }

    pub(crate) fn source(mut self, source: Value) -> Self {
        self.sources.push(source);
        self
    }

    pub(crate) fn with(mut self, key: &str, value: Value) -> Self {
        self.more[key] = value;
        self
    }

    pub(crate) fn file(&self, path: &str, bytes: impl AsRef<[u8]>) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub(crate) fn config(&self) -> PathBuf {
        let mut config = json!({"data_dir": self.data(), "sources": self.sources});
        for (key, value) in self.more.as_object().unwrap() {
            config[key] = value.clone();
        }
        let path = self.path("planewatch.yaml");
        fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// `run --drain`; returns its sum.
    pub(crate) fn drain(&self) -> Value {
        let config = self.config();
        let output = output(&["run", "-c", config.to_str().unwrap(), "--drain", "--output", "json"]);
        assert!(output.status.success(), "{}", stderr(&output));
        let sum: Value = serde_json::from_str(stdout(&output).trim()).unwrap_or_else(|_| panic!("{}{}", stdout(&output), stderr(&output)));
        let n = |name: &str| sum[name].as_u64().unwrap();
        assert_eq!(n("received"), n("stored") + n("duplicate") + n("quarantined") + n("filtered"), "{sum}");
        sum
    }

    /// Runs a command in which `DIR` stands for the folder; its exit code, output and errors.
    pub(crate) fn run(&self, args: &[&str]) -> (i32, String, String) {
        let args: Vec<String> = args.iter().map(|it| it.replace("DIR", self.dir.path().to_str().unwrap())).collect();
        let output = planewatch(&args.iter().map(String::as_str).collect::<Vec<_>>()).output().unwrap();
        (output.status.code().unwrap(), stdout(&output), stderr(&output))
    }

    /// `alerts list`, as JSON. Nothing while there is no store yet.
    pub(crate) fn alerts(&self) -> Vec<Value> {
        lines(&stdout(&output(&["alerts", "list", "--data-dir", self.data().to_str().unwrap(), "--output", "json"])))
    }

    /// `search`, as JSON.
    pub(crate) fn search(&self, filter: &str) -> Vec<Value> {
        let data = self.data();
        let output = output(&["search", filter, "--data-dir", data.to_str().unwrap(), "--limit", "0", "--output", "json"]);
        assert!(output.status.success(), "{}", stderr(&output));
        lines(&stdout(&output))
    }

    pub(crate) fn quarantine(&self) -> Vec<Value> {
        let data = self.data();
        let output = output(&["quarantine", "list", "--data-dir", data.to_str().unwrap(), "--output", "json"]);
        assert!(output.status.success(), "{}", stderr(&output));
        lines(&stdout(&output))
    }
}

pub(crate) fn lines(text: &str) -> Vec<Value> {
    // serde_json refuses lone surrogates, which we hand on as they came.
    text.replace("\\ud800", "?").lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Waits for a condition; panics with its name when it does not come true.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_mins(1), "waited in vain for: {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A `CloudTrail` record of ours.
pub(crate) fn record(id: &str, time: &str, name: &str) -> Value {
    json!({
        "eventVersion": "1.11", "eventID": id, "eventTime": time, "eventName": name, "eventSource": "ec2.amazonaws.com",
        "awsRegion": "eu-west-1", "sourceIPAddress": "192.0.2.7", "userAgent": "test", "recipientAccountId": "111122223333",
        "userIdentity": {"type": "IAMUser", "userName": "alice", "arn": "arn:aws:iam::111122223333:user/alice", "accountId": "111122223333"},
        "requestParameters": null, "responseElements": null, "readOnly": true,
    })
}

/// Records in an object as `CloudTrail` writes them.
pub(crate) fn object(records: &[Value]) -> Vec<u8> {
    gz(json!({"Records": records}).to_string().as_bytes())
}

pub(crate) fn gz(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Records and distinct identities below a folder, counted by a script that shares no code with us.
pub(crate) fn independent_count(folder: &Path) -> Value {
    let output = Command::new("python3").arg(root().join("tests/count.py")).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

//! What benches share that measure the program as a whole.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The objects that `scripts/bench.sh` makes.
pub(crate) fn corpus() -> PathBuf {
    let name = std::env::var("CORPUS").unwrap_or_else(|_| "target/corpus/cloudtrail-500000/AWSLogs".to_owned());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    assert!(path.is_dir(), "{} is not there: `make bench` makes it, or name another in CORPUS", path.display());
    path
}

/// CPU seconds of all children that have ended.
fn children_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<f64> = stat.rsplit(')').next().unwrap().split_whitespace().map(|it| it.parse().unwrap_or(0.0)).collect();
    (fields[13] + fields[14]) / 100.0
}

/// Drains a source into a data folder; what it read, its CPU seconds, and the most memory that it was seen to have, MiB.
pub(crate) fn drain(dir: &Path, source: &serde_json::Value) -> (u64, f64, f64) {
    let config = dir.with_extension("yaml");
    let text = serde_json::json!({"data_dir": dir, "sources": [source]});
    std::fs::write(&config, text.to_string()).unwrap();
    let before = children_cpu();
    let mut command = Command::new(env!("CARGO_BIN_EXE_planewatch"));
    command.args(["run", "--drain", "--output", "json", "-c"]).arg(&config).env("PLANEWATCH_LOG", "warn");
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test").stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0.0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let kib = text.lines().find_map(|it| it.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        peak = kib.map_or(peak, |it| it / 1024.0);
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    let cpu = children_cpu() - before;
    let sum: serde_json::Value = serde_json::from_reader(child.stdout.take().unwrap()).unwrap();
    assert_eq!(sum["quarantined"], 0, "{sum}");
    (sum["received"].as_u64().unwrap(), cpu, peak)
}

//! Source `k8s_log`: the audit log file of a Kubernetes API server, followed through rotation (protocols.md §6.5).
//!
//! A content is known by what it says, not by its name: so it is read once, whether it is renamed, copied and cut, or
//! packed. How far it was taken is committed with its events.

mod begin;
mod config;
mod contents;
mod follow;
mod forward;
mod known;
mod lines;
mod outlet;
mod position;
mod scan;
mod tls;

pub use config::{ForwardConfig, K8sLogConfig, Start};

use super::Surroundings;
use crate::clock::Stopwatch;
use crate::metrics;
use follow::{Follower, Looked, Trouble};
use outlet::Outlet;
use std::io;
use std::time::Duration;

/// While the log is rotated it is missing for a moment; that is not worth a word before this long.
const MISSING_GRACE: Duration = Duration::from_secs(5);
/// The pause after something could not be read.
const TROUBLE_PAUSE: Duration = Duration::from_secs(1);

/// Follows the log until it is told to stop, or, when draining, until every file was read to its end.
pub async fn run(config: K8sLogConfig, at: Surroundings) {
    let poll = Duration::from_millis(config.poll_interval_ms);
    let Some(mut follower) = start(&config, &at).await else { return };
    let mut last_there: Option<Stopwatch> = None;
    loop {
        let looked = follower.look().await;
        if matches!(looked, Ok(Looked { has_log: true, .. })) {
            last_there = Some(Stopwatch::start());
            up(&config, &at);
        }
        let pause = match looked {
            Ok(Looked { is_news: true, .. }) => Duration::ZERO,
            Ok(Looked { has_log: true, .. }) => poll,
            Ok(_) => {
                if last_there.is_none_or(|it| it.elapsed() >= MISSING_GRACE) {
                    down(&config, &at, &missing(&config));
                }
                poll
            }
            Err(Trouble::Stopped) => return,
            Err(trouble) => {
                metrics_error(&config, &at);
                down(&config, &at, &advice(&trouble, &config));
                if at.is_drain {
                    return;
                }
                TROUBLE_PAUSE
            }
        };
        let is_over = at.is_drain && !pause.is_zero();
        if is_over || !at.wait(pause).await {
            return;
        }
    }
}

async fn start(config: &K8sLogConfig, at: &Surroundings) -> Option<Follower> {
    loop {
        match Follower::new(config.clone(), at.clone(), Outlet::new(config, at)).await {
            Ok(follower) => return Some(follower),
            Err(error) => {
                tracing::warn!(source = config.name, %error, "the state did not answer; asked again");
                if !at.wait(TROUBLE_PAUSE).await {
                    return None;
                }
            }
        }
    }
}

fn up(config: &K8sLogConfig, at: &Surroundings) {
    if at.health.up(&config.name) {
        tracing::info!(source = config.name, "works again");
    }
    at.metrics.set(&metrics::UP, &config.name, "", 1.0);
}

fn down(config: &K8sLogConfig, at: &Surroundings, why: &str) {
    if at.health.down(&config.name, why) {
        tracing::error!(source = config.name, "{why}");
    }
    at.metrics.set(&metrics::UP, &config.name, "", 0.0);
}

fn metrics_error(config: &K8sLogConfig, at: &Surroundings) {
    at.metrics.add(&metrics::ERRORS, &config.name, "read", 1.0);
}

fn missing(config: &K8sLogConfig) -> String {
    format!(
        "{}: not there; waiting for it. Start the API server with `--audit-log-path` and a policy, or correct `path`",
        config.path.display()
    )
}

/// What went wrong, and what to do about it.
fn advice(trouble: &Trouble, config: &K8sLogConfig) -> String {
    match trouble {
        Trouble::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => missing(config),
        Trouble::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => format!(
            "{trouble}; the API server writes its audit log with mode 0600 in a folder with mode 0700: run planewatch as the API server's \
             user (root, mostly), or let it read all files (CAP_DAC_READ_SEARCH)"
        ),
        _ => trouble.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_done_is_said() {
        let config: K8sLogConfig = serde_json::from_str(r#"{"name": "a", "cluster": "c", "path": "/a/audit.log"}"#).unwrap();
        let io = |kind| advice(&Trouble::Io { path: config.path.clone(), source: io::Error::from(kind) }, &config);
        assert!(io(io::ErrorKind::PermissionDenied).starts_with("/a/audit.log: permission denied; the API server writes"));
        assert!(io(io::ErrorKind::NotFound).contains("correct `path`"));
        assert_eq!(io(io::ErrorKind::IsADirectory), "/a/audit.log: is a directory");
    }
}

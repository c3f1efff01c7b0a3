//! Settings of the source, and what is wrong with them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The shortest and the longest pause between two looks, ms.
const POLL_INTERVAL_MS: std::ops::RangeInclusive<u64> = 10..=60_000;

/// Settings of a `k8s_log` source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct K8sLogConfig {
    /// The source's name: unique, in metrics and events.
    pub name: String,
    /// The Kubernetes cluster, named in every event of it.
    pub cluster: String,
    /// What the API server was given as `--audit-log-path`. Its rotated files are found beside it.
    pub path: PathBuf,
    /// Where to begin when the source runs for the first time.
    #[serde(default)]
    pub start: Start,
    /// How long to wait between two looks at the file, milliseconds.
    #[serde(default = "poll_interval_ms")]
    pub poll_interval_ms: u64,
    /// Send the events to another planewatch instead of storing them here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward: Option<ForwardConfig>,
    /// Filters; records that match one are not stored, and counted as filtered.
    #[serde(default)]
    pub drop: Vec<String>,
}

/// Where to begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With everything that is there, rotated files too.
    #[default]
    Beginning,
    /// With what is written from now on.
    End,
}

/// Where to send events to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForwardConfig {
    /// The receiver: `https:` and the path of its `k8s_webhook`. `http:` for a loopback address alone.
    pub url: String,
    /// A file with the bearer token to show. Read again for each request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// A PEM file with the authorities that the receiver's certificate may come from. By default those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// A PEM file with the client certificate to show, and those between it and its authority. Read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// A PEM file with that certificate's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

fn poll_interval_ms() -> u64 {
    200
}

impl K8sLogConfig {
    /// What is wrong with the settings, for a person.
    pub fn check(&self) -> Result<(), String> {
        if self.cluster.is_empty() {
            return Err("`cluster:` is empty; name the cluster, it is in every event".to_owned());
        }
        if self.path.file_name().is_none() {
            return Err(format!("path `{}` names no file; give what `--audit-log-path` says", self.path.display()));
        }
        if !POLL_INTERVAL_MS.contains(&self.poll_interval_ms) {
            let (from, to) = (POLL_INTERVAL_MS.start(), POLL_INTERVAL_MS.end());
            return Err(format!("poll_interval_ms is {}, must be {from} to {to}", self.poll_interval_ms));
        }
        let Some(forward) = &self.forward else { return Ok(()) };
        if !self.drop.is_empty() {
            return Err("`drop:` has no effect beside `forward:`; give it to the receiver's source".to_owned());
        }
        forward.check()
    }
}

impl ForwardConfig {
    fn check(&self) -> Result<(), String> {
        let url: http::Uri = self.url.parse().map_err(|error| format!("forward.url `{}`: {error}", self.url))?;
        let host = url.host().unwrap_or_default();
        match url.scheme_str() {
            _ if host.is_empty() => return Err(format!("forward.url `{}` names no host", self.url)),
            Some("https") => {}
            Some("http") if is_loopback(host) => {}
            Some("http") => return Err(format!("forward.url `{}`: events would travel in the clear; use https", self.url)),
            _ => return Err(format!("forward.url `{}` is neither https nor http", self.url)),
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            return Err("forward: cert_file and key_file come together".to_owned());
        }
        Ok(())
    }
}

/// Only an address is sure to stay on this machine: a name is whatever a resolver says.
fn is_loopback(host: &str) -> bool {
    host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(change: impl Fn(&mut K8sLogConfig)) -> String {
        let mut config: K8sLogConfig = serde_json::from_str(r#"{"name": "a", "cluster": "c", "path": "/a/audit.log"}"#).unwrap();
        config.check().unwrap();
        change(&mut config);
        config.check().err().unwrap_or_default()
    }

    fn url(url: &str) -> String {
        let forward: ForwardConfig = serde_json::from_value(serde_json::json!({"url": url})).unwrap();
        forward.check().err().unwrap_or_default()
    }

    #[test]
    fn mistakes_are_told() {
        assert!(wrong(|it| it.cluster.clear()).contains("cluster"));
        assert!(wrong(|it| it.path = PathBuf::from("/")).contains("no file"));
        assert_eq!(wrong(|it| it.poll_interval_ms = 10), "");
        assert_eq!(wrong(|it| it.poll_interval_ms = 60_000), "");
        assert!(wrong(|it| it.poll_interval_ms = 9).contains("10 to 60000"));
        assert!(wrong(|it| it.poll_interval_ms = 60_001).contains("10 to 60000"));
    }

    #[test]
    fn events_leave_the_machine_encrypted() {
        for right in ["https://collector:9443/k8s/audit/a", "http://127.0.0.1:1/a", "http://[::1]:1/a"] {
            assert_eq!(url(right), "", "{right}");
        }
        for bad in ["http://collector/a", "http://localhost/a", "http://10.0.0.1/a", "http://127.0.0.1.example/a", "ftp://a/b", "/a", "a b"]
        {
            assert_ne!(url(bad), "", "{bad}");
        }
    }
}

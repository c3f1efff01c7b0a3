//! Settings of the source, and what must be right about several of them together.

use crate::sources::http::TlsConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Settings of a `k8s_webhook` source. Several may share one `listen`, each with a path of its own; then what is about
/// the listener must be the same for all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct K8sWebhookConfig {
    /// The source's name: unique, in metrics and events.
    pub name: String,
    /// The Kubernetes cluster whose API server posts here; named in every event.
    pub cluster: String,
    /// Address and port.
    pub listen: String,
    /// The path that its API server posts to, exactly; one per cluster.
    pub path: String,
    /// Certificate and key, and whose client certificates are accepted.
    pub tls: TlsConfig,
    /// A file with the bearer token, one a line; each of them is accepted. Read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// The longest body, bytes. A longer one is refused for good: bound it by `--audit-webhook-truncate-enabled`.
    #[serde(default = "body_bytes_max")]
    pub body_bytes_max: u64,
    /// Of the listener: bytes of bodies that are held in memory at once, over all connections.
    #[serde(default = "in_flight_bytes_max")]
    pub in_flight_bytes_max: u64,
    /// Of the listener: bytes of longer bodies that are held in files below `data_dir` at once.
    #[serde(default = "spool_bytes_max")]
    pub spool_bytes_max: u64,
    /// Of the listener: connections at once.
    #[serde(default = "connections_max")]
    pub connections_max: usize,
    /// Of the listener: how long a handshake, and a request's head, may take, seconds.
    #[serde(default = "header_timeout_secs")]
    pub header_timeout_secs: u64,
    /// Of the listener: how long a body may take, seconds. An API server gives up after 30.
    #[serde(default = "body_timeout_secs")]
    pub body_timeout_secs: u64,
    /// Filters; records that match one are not stored, and counted as filtered.
    #[serde(default)]
    pub drop: Vec<String>,
}

fn body_bytes_max() -> u64 {
    256 << 20
}

fn in_flight_bytes_max() -> u64 {
    16 << 20
}

fn spool_bytes_max() -> u64 {
    512 << 20
}

fn connections_max() -> usize {
    256
}

fn header_timeout_secs() -> u64 {
    10
}

fn body_timeout_secs() -> u64 {
    30
}

/// The longest ceiling that can be asked for, bytes: 1 TiB.
const BYTES_MAX: u64 = 1 << 40;
/// The least room in memory, bytes.
const IN_FLIGHT_BYTES_MIN: u64 = 64 << 10;
/// Room in memory that can be asked for at most, bytes.
const IN_FLIGHT_BYTES_MAX: u64 = 1 << 30;
/// Connections that can be asked for at most.
const CONNECTIONS_MAX: usize = 65_536;
/// A timeout that can be asked for at most, seconds.
const TIMEOUT_SECS_MAX: u64 = 3_600;

impl K8sWebhookConfig {
    /// Where it listens.
    pub(super) fn address(&self) -> Result<SocketAddr, String> {
        self.listen.parse().map_err(|_| format!("listen `{}` is not an address and port, like 127.0.0.1:9443", self.listen))
    }

    fn check(&self) -> Result<(), String> {
        self.address()?;
        if self.cluster.trim().is_empty() {
            return Err("`cluster:` is empty; events of two clusters would be taken for one".to_owned());
        }
        let is_path = self.path.starts_with('/') && self.path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#'));
        if !is_path || self.path.len() > 1 && self.path.ends_with('/') {
            return Err(format!("path `{}` must start with `/`, not end with it, and have neither spaces, `?` nor `#`", self.path));
        }
        match (&self.tls.client_ca_file, self.tls.client_names.is_empty(), &self.token_file) {
            (None, false, _) => return Err("tls.client_names without tls.client_ca_file: nobody would say that a name is right".to_owned()),
            (None, true, None) => {
                return Err("nobody is asked who posts, so anyone could write events; \
                     set token_file, or tls.client_ca_file and tls.client_names"
                    .to_owned());
            }
            (Some(_), true, None) => {
                return Err(
                    "tls.client_ca_file without tls.client_names and token_file: whoever has a certificate of that CA could write \
                     events, and the cluster's own CA signs every kubelet too; set tls.client_names, or token_file"
                        .to_owned(),
                );
            }
            _ => {}
        }
        self.check_limits()
    }

    fn check_limits(&self) -> Result<(), String> {
        let within = |what: &str, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) { Ok(()) } else { Err(format!("{what} is {value}, must be {least} to {most}")) }
        };
        within("body_bytes_max", self.body_bytes_max, 1, BYTES_MAX)?;
        within("in_flight_bytes_max", self.in_flight_bytes_max, IN_FLIGHT_BYTES_MIN, IN_FLIGHT_BYTES_MAX)?;
        within("spool_bytes_max", self.spool_bytes_max, self.body_bytes_max, BYTES_MAX)
            .map_err(|it| format!("{it}: a body of body_bytes_max must find room"))?;
        within("connections_max", self.connections_max as u64, 1, CONNECTIONS_MAX as u64)?;
        within("header_timeout_secs", self.header_timeout_secs, 1, TIMEOUT_SECS_MAX)?;
        within("body_timeout_secs", self.body_timeout_secs, 1, TIMEOUT_SECS_MAX)
    }

    /// What is about the listener and another source says otherwise, if anything.
    fn differs(&self, other: &Self) -> Option<&'static str> {
        let pairs = [
            ("tls.cert_file", self.tls.cert_file == other.tls.cert_file),
            ("tls.key_file", self.tls.key_file == other.tls.key_file),
            ("tls.client_ca_file", self.tls.client_ca_file == other.tls.client_ca_file),
            ("in_flight_bytes_max", self.in_flight_bytes_max == other.in_flight_bytes_max),
            ("spool_bytes_max", self.spool_bytes_max == other.spool_bytes_max),
            ("connections_max", self.connections_max == other.connections_max),
            ("header_timeout_secs", self.header_timeout_secs == other.header_timeout_secs),
            ("body_timeout_secs", self.body_timeout_secs == other.body_timeout_secs),
        ];
        pairs.iter().find(|(_, is_same)| !is_same).map(|(what, _)| *what)
    }
}

/// Checks these sources, each and together.
pub fn check(sources: &[&K8sWebhookConfig]) -> Result<(), String> {
    for (n, source) in sources.iter().enumerate() {
        let of = |what: String| format!("source `{}`: {what}", source.name);
        source.check().map_err(of)?;
        for before in &sources[..n] {
            let is_shared = source.address().map_err(of)? == before.address()?;
            if is_shared && source.path == before.path {
                return Err(of(format!(
                    "listens on {} {} as `{}` does; give each cluster a path",
                    source.listen, source.path, before.name
                )));
            }
            if let Some(what) = source.differs(before).filter(|_| is_shared) {
                return Err(of(format!("shares {} with `{}`, so {what} must be the same", source.listen, before.name)));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn source(name: &str, path: &str, more: &Value) -> K8sWebhookConfig {
        let mut it = json!({"name": name, "cluster": name, "listen": "127.0.0.1:9443", "path": path,
            "tls": {"cert_file": "c", "key_file": "k"}, "token_file": "t"});
        for (key, value) in more.as_object().unwrap() {
            it[key] = value.clone();
        }
        serde_json::from_value(it).unwrap()
    }

    fn one(more: &Value) -> Result<(), String> {
        check(&[&source("a", "/a", more)])
    }

    #[test]
    fn who_posts_must_be_asked() {
        let tls = |more: Value| {
            let mut tls = json!({"cert_file": "c", "key_file": "k"});
            tls.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            tls
        };
        assert_eq!(one(&json!({})), Ok(()));
        assert_eq!(one(&json!({"token_file": null, "tls": tls(json!({"client_ca_file": "ca", "client_names": ["x"]}))})), Ok(()));
        assert_eq!(one(&json!({"tls": tls(json!({"client_ca_file": "ca"}))})), Ok(()), "a token, and any certificate of the CA");
        for (more, expected) in [
            (json!({"token_file": null}), "anyone could write events"),
            (json!({"token_file": null, "tls": tls(json!({"client_ca_file": "ca"}))}), "every kubelet"),
            (json!({"tls": tls(json!({"client_names": ["x"]}))}), "without tls.client_ca_file"),
        ] {
            let error = one(&more).unwrap_err();
            assert!(error.contains(expected) && error.starts_with("source `a`"), "{error}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        for (more, expected) in [
            (json!({"listen": "localhost"}), "address and port"),
            (json!({"cluster": " "}), "cluster"),
            (json!({"path": "a"}), "start with `/`"),
            (json!({"path": "/a/"}), "not end with it"),
            (json!({"path": "/a?b"}), "neither"),
            (json!({"path": "/a b"}), "spaces"),
            (json!({"body_bytes_max": 0}), "body_bytes_max is 0"),
            (json!({"spool_bytes_max": (256 << 20) - 1}), "must find room"),
            (json!({"in_flight_bytes_max": (64 << 10) - 1}), "in_flight_bytes_max"),
            (json!({"connections_max": 0}), "connections_max"),
            (json!({"header_timeout_secs": 0}), "header_timeout_secs"),
            (json!({"body_timeout_secs": 3_601}), "body_timeout_secs"),
        ] {
            let error = one(&more).unwrap_err();
            assert!(error.contains(expected), "{more}: {error}");
        }
        for good in
            [json!({"path": "/"}), json!({"spool_bytes_max": 256 << 20, "in_flight_bytes_max": 64 << 10, "body_timeout_secs": 3_600})]
        {
            assert_eq!(one(&good), Ok(()), "{good}");
        }
    }

    #[test]
    fn sources_share_a_listener_when_they_agree_on_it() {
        let a = source("a", "/a", &json!({}));
        let both = |more: Value| check(&[&a, &source("b", "/b", &more)]);
        assert_eq!(both(json!({"token_file": "other", "body_bytes_max": 1})), Ok(()));
        assert!(both(json!({"path": "/a"})).unwrap_err().contains("give each cluster a path"));
        assert!(both(json!({"connections_max": 1})).unwrap_err().contains("connections_max must be the same"));
        let other = json!({"cert_file": "other", "key_file": "k"});
        assert!(both(json!({"tls": other})).unwrap_err().contains("tls.cert_file must be the same"));
        assert_eq!(both(json!({"tls": other, "listen": "127.0.0.1:9444", "path": "/a"})), Ok(()), "another listener");
        let grouped =
            super::super::listeners(vec![a.clone(), source("c", "/c", &json!({"listen": "[::1]:9443"})), source("b", "/b", &json!({}))]);
        let names: Vec<Vec<_>> = grouped.iter().map(|it| it.iter().map(|it| it.name.as_str()).collect()).collect();
        assert_eq!(names, [&["a", "b"][..], &["c"]]);
    }
}

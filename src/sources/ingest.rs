//! Source `ingest`: host events that are posted as NDJSON (or in any form that a file may have). 200 means that they are
//! durable; what is wrong with one goes to quarantine, and its neighbours are stored.

use super::Surroundings;
use super::http::{self, Certificate, Limits, Listen, Route, TlsConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How long a handshake, and a request's head, may take.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_mins(1);
/// Connections at once.
const CONNECTIONS_MAX: usize = 256;
/// Bytes of bodies that are held in memory at once.
const IN_FLIGHT_BYTES_MAX: u64 = 16 << 20;
/// Bytes of longer bodies that are held in files at once.
const SPOOL_BYTES_MAX: u64 = 512 << 20;
/// The longest body that can be asked for: it must find room.
const BODY_BYTES_MAX: u64 = SPOOL_BYTES_MAX;
/// What helps a client whose bodies are too long.
const TOO_LARGE_ADVICE: &str = "post fewer events at once, or raise body_bytes_max";

/// Settings of an `ingest` source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IngestConfig {
    /// The source's name: unique, in metrics and events.
    pub name: String,
    /// Address and port.
    pub listen: String,
    /// The path that is posted to, exactly. Without it any path is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A file with the bearer token, one a line; each of them is accepted. Read again when it changes.
    pub token_file: PathBuf,
    /// Certificate and key, and whose client certificates are accepted. Without it only this machine may post.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// Listen without TLS on an address that others reach: behind a proxy that has it. Tokens and events are readable on the way.
    #[serde(default)]
    pub allow_plaintext: bool,
    /// The longest body, bytes.
    #[serde(default = "body_bytes_max")]
    pub body_bytes_max: u64,
    /// Filters; records that match one are not stored, and counted as filtered.
    #[serde(default)]
    pub drop: Vec<String>,
}

fn body_bytes_max() -> u64 {
    64 << 20
}

impl IngestConfig {
    fn address(&self) -> Result<SocketAddr, String> {
        self.listen.parse().map_err(|_| format!("listen `{}` is not an address and port, like 127.0.0.1:9444", self.listen))
    }

    /// Checks what the types cannot.
    pub fn check(&self) -> Result<(), String> {
        let address = self.address()?;
        if self.tls.is_none() && !self.allow_plaintext && !address.ip().is_loopback() {
            return Err(format!(
                "listen `{address}` can be reached by others and has no TLS, so anyone on the way could read the token; \
                 set tls, use 127.0.0.1, or set allow_plaintext behind a proxy that has TLS"
            ));
        }
        if let Some(path) = self.path.as_ref().filter(|it| !it.starts_with('/') || it.contains(['?', '#', ' '])) {
            return Err(format!("path `{path}` must start with `/` and have neither spaces, `?` nor `#`"));
        }
        if let Some(tls) = self.tls.as_ref().filter(|it| it.client_ca_file.is_none() && !it.client_names.is_empty()) {
            return Err(format!(
                "tls.client_names {:?} without tls.client_ca_file: nobody would say that a name is right",
                tls.client_names
            ));
        }
        if !(1..=BODY_BYTES_MAX).contains(&self.body_bytes_max) {
            return Err(format!("body_bytes_max is {}, must be 1 to {BODY_BYTES_MAX}", self.body_bytes_max));
        }
        Ok(())
    }
}

/// Serves until it is told to stop.
pub async fn run(config: IngestConfig, at: Surroundings) {
    let address = match config.check().and_then(|()| config.address()) {
        Ok(address) => address,
        // The configuration's check has seen it before; one that was made otherwise is refused here.
        Err(why) => {
            tracing::error!(source = config.name, "{why}");
            at.health.down(&config.name, why);
            return;
        }
    };
    let limits = Limits {
        connections_max: CONNECTIONS_MAX,
        header_timeout: HEADER_TIMEOUT,
        body_timeout: BODY_TIMEOUT,
        in_flight_bytes_max: IN_FLIGHT_BYTES_MAX,
        spool_bytes_max: SPOOL_BYTES_MAX,
    };
    let route = Route {
        source: config.name,
        path: config.path,
        token_file: Some(config.token_file),
        certificate: Certificate::asked(config.tls.as_ref()),
        body_bytes_max: config.body_bytes_max,
        too_large_advice: TOO_LARGE_ADVICE,
    };
    http::serve(Listen { address, tls: config.tls, limits }, vec![route], at).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(more: &Value) -> Result<(), String> {
        let mut it = json!({"name": "hosts", "listen": "127.0.0.1:9444", "token_file": "t"});
        it.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value::<IngestConfig>(it).unwrap().check()
    }

    #[test]
    fn mistakes_are_told_and_tokens_do_not_go_in_the_open() {
        let tls = json!({"cert_file": "c", "key_file": "k"});
        for good in [
            json!({}),
            json!({"listen": "[::1]:1", "path": "/events"}),
            json!({"listen": "0.0.0.0:1", "tls": tls}),
            json!({"listen": "0.0.0.0:1", "allow_plaintext": true}),
            json!({"body_bytes_max": BODY_BYTES_MAX}),
        ] {
            assert_eq!(check(&good), Ok(()), "{good}");
        }
        for (bad, expected) in [
            (json!({"listen": "here"}), "address and port"),
            (json!({"listen": "0.0.0.0:1"}), "allow_plaintext"),
            (json!({"path": "events"}), "start with `/`"),
            (json!({"path": "/a b"}), "spaces"),
            (json!({"body_bytes_max": 0}), "must be 1 to"),
            (json!({"body_bytes_max": BODY_BYTES_MAX + 1}), "must be 1 to"),
            (json!({"tls": {"cert_file": "c", "key_file": "k", "client_names": ["a"]}}), "without tls.client_ca_file"),
        ] {
            let error = check(&bad).unwrap_err();
            assert!(error.contains(expected), "{bad}: {error}");
        }
    }
}

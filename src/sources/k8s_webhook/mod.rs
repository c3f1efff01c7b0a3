//! Source `k8s_webhook`: what an API server's audit backend posts (protocols.md §6.4). A batch is answered with 200 when it
//! is durable; a malformed one too, since the API server would send it four more times: it is in quarantine then.

mod config;

pub use config::{K8sWebhookConfig, check};

use super::Surroundings;
use super::http::{self, Certificate, Limits, Listen, Route};
use std::time::Duration;

/// What helps an API server whose batches are too long.
const TOO_LARGE_ADVICE: &str = "the API server gives this batch up after five tries and its events are lost: \
    start it with --audit-webhook-truncate-enabled, or raise body_bytes_max";

/// The sources of each listener, in the order of their first.
pub fn listeners(sources: Vec<K8sWebhookConfig>) -> Vec<Vec<K8sWebhookConfig>> {
    let mut listeners: Vec<Vec<K8sWebhookConfig>> = Vec::new();
    for source in sources {
        match listeners.iter_mut().find(|it| it[0].address() == source.address()) {
            Some(listener) => listener.push(source),
            None => listeners.push(vec![source]),
        }
    }
    listeners
}

/// Serves the sources of one listener until it is told to stop.
pub async fn run(sources: Vec<K8sWebhookConfig>, at: Surroundings) {
    let Some(first) = sources.first() else { return };
    let address = match address_of(&sources) {
        Ok(address) => address,
        // `config::check` has seen it before; a configuration that was made otherwise is refused here.
        Err(why) => {
            tracing::error!("{why}");
            at.health.down(&first.name, why);
            return;
        }
    };
    let listen = Listen {
        address,
        tls: Some(first.tls.clone()),
        limits: Limits {
            connections_max: first.connections_max,
            header_timeout: Duration::from_secs(first.header_timeout_secs),
            body_timeout: Duration::from_secs(first.body_timeout_secs),
            in_flight_bytes_max: first.in_flight_bytes_max,
            spool_bytes_max: first.spool_bytes_max,
        },
    };
    http::serve(listen, sources.into_iter().map(route).collect(), at).await;
}

fn address_of(sources: &[K8sWebhookConfig]) -> Result<std::net::SocketAddr, String> {
    check(&sources.iter().collect::<Vec<_>>())?;
    sources[0].address()
}

fn route(source: K8sWebhookConfig) -> Route {
    Route {
        source: source.name,
        path: Some(source.path),
        token_file: source.token_file,
        certificate: Certificate::asked(Some(&source.tls)),
        body_bytes_max: source.body_bytes_max,
        too_large_advice: TOO_LARGE_ADVICE,
    }
}

//! What sources that are posted to share: a listener, with TLS or (on this machine alone) without, with one path per source, who may post there, and limits that
//! hold whoever is on the other side.
//!
//! HTTP/1.1 alone, so that a connection is one request at a time and every limit is exact. An answer of 200 means that
//! the body is durable. Nothing waits without a bound: what finds no room hears 429 and comes again.

mod access;
mod body;
mod budget;
mod connection;
mod credentials;
mod listener;
mod pace;
mod peer;
mod quiet;
mod refusal;
mod tls;

pub use listener::serve;
pub use tls::TlsConfig;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where one listener listens, and what it bears.
#[derive(Debug, Clone)]
pub struct Listen {
    /// The address and port.
    pub address: SocketAddr,
    /// The certificate, its key, and who signs clients. None: no TLS.
    pub tls: Option<TlsConfig>,
    /// What it bears.
    pub limits: Limits,
}

/// What a listener bears, over all its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; further ones are closed at once.
    pub connections_max: usize,
    /// How long a handshake may take, and a request's head.
    pub header_timeout: Duration,
    /// How long a body may take.
    pub body_timeout: Duration,
    /// Bytes of bodies held in memory.
    pub in_flight_bytes_max: u64,
    /// Bytes of bodies held in files.
    pub spool_bytes_max: u64,
}

/// One path, and whose it is.
#[derive(Debug, Clone)]
pub struct Route {
    /// The source's name.
    pub source: String,
    /// The path, exactly. None: any.
    pub path: Option<String>,
    /// The file with the tokens that are accepted. None: no token is asked for.
    pub token_file: Option<PathBuf>,
    /// Whether a certificate is asked for, and of whom.
    pub certificate: Certificate,
    /// The longest body, bytes.
    pub body_bytes_max: u64,
    /// What to do about a body that is longer, for the log.
    pub too_large_advice: &'static str,
}

/// What certificate a client needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificate {
    /// None.
    NotAsked,
    /// Any that the client CA signed.
    OfTheCa,
    /// One that the client CA signed, for one of these names.
    Named(Vec<String>),
}

impl Certificate {
    /// What a listener with these settings asks for.
    pub fn asked(tls: Option<&TlsConfig>) -> Self {
        match tls {
            Some(tls) if tls.client_ca_file.is_some() && tls.client_names.is_empty() => Self::OfTheCa,
            Some(tls) if tls.client_ca_file.is_some() => Self::Named(tls.client_names.clone()),
            _ => Self::NotAsked,
        }
    }
}

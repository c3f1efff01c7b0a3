//! The HTTPS client that forwards: rustls with aws-lc-rs, whose files are read again when they change.

use super::config::ForwardConfig;
use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An unused connection is closed after this long, before a receiver or what is between may have dropped it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The client.
pub(super) type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    /// A file cannot be read, or holds something else.
    #[error("forward.{key} {}: {what}", path.display())]
    File {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The system's authorities cannot be read.
    #[error("the system's certificate authorities cannot be read: {0}; name the receiver's in forward.ca_file")]
    Roots(String),
    /// What the files hold does not fit together.
    #[error("forward: {0}; do cert_file and key_file belong together?")]
    Rustls(#[from] rustls::Error),
}

/// A client and what its files looked like.
#[derive(Debug, Default)]
pub(super) struct Clients {
    made: Option<(HttpClient, Vec<Option<SystemTime>>)>,
}

impl Clients {
    /// The client; made anew when one of its files has changed.
    pub(super) fn client(&mut self, config: &ForwardConfig) -> Result<HttpClient, TlsError> {
        let files = [&config.ca_file, &config.cert_file, &config.key_file];
        let looks: Vec<_> = files.iter().map(|it| std::fs::metadata(it.as_ref()?).and_then(|it| it.modified()).ok()).collect();
        if let Some((client, made_of)) = &self.made {
            if *made_of == looks {
                return Ok(client.clone());
            }
        }
        let client = make(config)?;
        self.made = Some((client.clone(), looks));
        Ok(client)
    }
}

fn make(config: &ForwardConfig) -> Result<HttpClient, TlsError> {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_nodelay(true);
    connector.enforce_http(false);
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls(config)?);
    let builder = if config.url.starts_with("http:") { builder.https_or_http() } else { builder.https_only() };
    let connector = builder.enable_http1().wrap_connector(connector);
    Ok(Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE_TIMEOUT).build(connector))
}

fn tls(config: &ForwardConfig) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(roots(config)?);
    let (Some(cert_file), Some(key_file)) = (&config.cert_file, &config.key_file) else { return Ok(builder.with_no_client_auth()) };
    let certificates = certificates("cert_file", cert_file)?;
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| wrong("key_file", key_file, &error))?;
    Ok(builder.with_client_auth_cert(certificates, key)?)
}

fn roots(config: &ForwardConfig) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = &config.ca_file {
        for certificate in certificates("ca_file", file)? {
            roots.add(certificate).map_err(|error| wrong("ca_file", file, &error))?;
        }
        return Ok(roots);
    }
    // Over plain HTTP, to this machine, none is needed.
    if config.url.starts_with("https:") {
        let native = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(native.certs);
        if roots.is_empty() {
            return Err(TlsError::Roots(native.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string)));
        }
    }
    Ok(roots)
}

fn certificates(key: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let found = found.map_err(|error| wrong(key, file, &error))?;
    if found.is_empty() { Err(wrong(key, file, &"no certificate in it")) } else { Ok(found) }
}

fn wrong(key: &'static str, path: &Path, what: &impl ToString) -> TlsError {
    TlsError::File { key, path: path.to_owned(), what: what.to_string() }
}

//! The certificate, its key and the client CA, from files to what a handshake needs.

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The longest file with certificates, a key or tokens, bytes.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;

/// The files that TLS needs. They are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate and what signed it, PEM.
    pub cert_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
    /// Who signs the certificates of clients, PEM. With it, a client needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca_file: Option<PathBuf>,
    /// Names that a client's certificate may have: its common name, or a DNS name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_names: Vec<String>,
}

/// Why credentials could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What is in a file is not what is expected.
    #[error("{}: {what}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl CredentialError {
    pub(super) fn content(path: &Path, what: impl Into<String>) -> Self {
        Self::Content { path: path.to_owned(), what: what.into() }
    }
}

/// Reads a small file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, CredentialError> {
    let io = |source| CredentialError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(io)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(CredentialError::content(path, format!("longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

/// The bytes of the files that TLS needs.
pub(super) struct TlsBytes {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl TlsBytes {
    pub(super) fn read(config: &TlsConfig) -> Result<Self, CredentialError> {
        let client_ca = config.client_ca_file.as_deref().map(read).transpose()?;
        Ok(Self { cert: read(&config.cert_file)?, key: read(&config.key_file)?, client_ca })
    }

    /// Tells one content from another.
    pub(super) fn fingerprint(&self) -> u128 {
        let ca = self.client_ca.as_deref().unwrap_or_default();
        let lengths = [self.cert.len().to_le_bytes(), self.key.len().to_le_bytes()].concat();
        xxhash_rust::xxh3::xxh3_128(&[&lengths, &self.cert[..], &self.key, ca].concat())
    }

    /// What a handshake needs. Every handshake is a whole one: a resumed one would not look at the certificate again.
    pub(super) fn server_config(&self, config: &TlsConfig) -> Result<ServerConfig, CredentialError> {
        let chain = certificates(&config.cert_file, &self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| CredentialError::content(&config.key_file, format!("no private key in PEM: {error}")))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| CredentialError::content(&config.cert_file, error.to_string()))?;
        let builder = match (&self.client_ca, &config.client_ca_file) {
            (Some(bytes), Some(path)) => builder.with_client_cert_verifier(verifier(path, bytes, provider)?),
            _ => builder.with_no_client_auth(),
        };
        let mut server = builder.with_single_cert(chain, key).map_err(|error| {
            CredentialError::content(&config.cert_file, format!("does not go with {}: {error}", config.key_file.display()))
        })?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(server)
    }
}

fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let all = all.map_err(|error| CredentialError::content(path, format!("not PEM: {error}")))?;
    if all.is_empty() { Err(CredentialError::content(path, "no certificate in PEM")) } else { Ok(all) }
}

/// A client without a certificate gets through the handshake, so that it hears 401 and why.
fn verifier(
    path: &Path,
    bytes: &[u8],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, CredentialError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, bytes)? {
        roots.add(certificate).map_err(|error| CredentialError::content(path, error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|error| CredentialError::content(path, error.to_string()))
}

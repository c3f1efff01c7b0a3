//! Certificates of our own, and a client that posts over TLS as simply as it gets: bytes out, bytes in.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A certificate authority.
pub(crate) struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pub(crate) pem: String,
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: rcgen::Issuer::new(params, key), pem }
    }

    /// A certificate with this common name and these DNS names.
    pub(crate) fn sign(&self, common: &str, dns: &[&str]) -> Identity {
        self.sign_until(common, dns, 4096)
    }

    /// The same, which ends with that year.
    pub(crate) fn sign_until(&self, common: &str, dns: &[&str], year: i32) -> Identity {
        let mut params = rcgen::CertificateParams::new(dns.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, common);
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        Identity { cert: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }
}

/// What an answer said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|it| it.split_once(':'));
        lines.find(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// Who posts, and where.
#[derive(Clone)]
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    pub(crate) port: u16,
    pub(crate) path: String,
    pub(crate) token: Option<String>,
}

/// A connection that stays open.
pub(crate) struct Connection {
    stream: StreamOwned<ClientConnection, TcpStream>,
    client: Client,
}

impl Client {
    /// Trusts this authority, and shows this certificate.
    pub(crate) fn new(port: u16, path: &str, trusted: &str, identity: Option<&Identity>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(it) => {
                let chain = vec![CertificateDer::from_pem_slice(it.cert.as_bytes()).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(it.key.as_bytes()).unwrap()).unwrap()
            }
        };
        Self { config: Arc::new(config), port, path: path.to_owned(), token: None }
    }

    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    pub(crate) fn with_path(&self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self.clone() }
    }

    pub(crate) fn connect(&self) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(Arc::clone(&self.config), name).map_err(std::io::Error::other)?;
        Ok(Connection { stream: StreamOwned::new(tls, stream), client: self.clone() })
    }

    /// One batch on a connection of its own.
    /// The head of a request, as an API server's: with its timeout behind the path.
    pub(crate) fn head(&self, method: &str, headers: &str) -> String {
        let token = self.token.as_ref().map(|it| format!("Authorization: Bearer {it}\r\n")).unwrap_or_default();
        format!("{method} {}?timeout=30s HTTP/1.1\r\nHost: localhost\r\n{token}{headers}\r\n", self.path)
    }

    pub(crate) fn post(&self, body: &[u8]) -> std::io::Result<Answer> {
        self.connect()?.post(body)
    }

    /// Whether a handshake succeeds at all.
    pub(crate) fn status(&self, body: &[u8]) -> Option<u16> {
        self.post(body).ok().map(|it| it.status)
    }
}

impl Connection {
    pub(crate) fn post(&mut self, body: &[u8]) -> std::io::Result<Answer> {
        self.request("POST", &format!("Content-Length: {}\r\n", body.len()), body)
    }

    /// A head with these further lines, and what follows it; then the answer.
    pub(crate) fn request(&mut self, method: &str, headers: &str, body: &[u8]) -> std::io::Result<Answer> {
        self.head(method, headers)?;
        // A server that refuses may close while we still send; its answer is there all the same.
        let _ = self.write(body);
        self.answer()
    }

    pub(crate) fn head(&mut self, method: &str, headers: &str) -> std::io::Result<()> {
        let head = self.client.head(method, headers);
        self.write(head.as_bytes())
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    pub(crate) fn answer(&mut self) -> std::io::Result<Answer> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            self.stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).map_err(std::io::Error::other)?;
        let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
        let mut answer = Answer { status, head, body: String::new() };
        let mut body = vec![0; answer.header("content-length").and_then(|it| it.parse().ok()).unwrap_or(0)];
        self.stream.read_exact(&mut body)?;
        answer.body = String::from_utf8_lossy(&body).into_owned();
        Ok(answer)
    }
}

/// Writes an identity beside each other, replacing what was there.
pub(crate) fn write_identity(dir: &Path, name: &str, identity: &Identity) {
    std::fs::write(dir.join(format!("{name}.crt")), &identity.cert).unwrap();
    std::fs::write(dir.join(format!("{name}.key")), &identity.key).unwrap();
}

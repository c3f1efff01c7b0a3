//! Certificates and tokens, read again when their files change. What does not read leaves the old one in use, and says so.

use super::access::{Tokens, read_tokens};
use super::tls::{TlsBytes, TlsConfig};
use rustls::ServerConfig;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// Something that was read from files.
#[derive(Debug, Default)]
struct Seen {
    /// The content that was looked at last.
    content: Option<u128>,
    /// Why it could not be used, if so.
    problem: Option<String>,
}

impl Seen {
    /// Takes what was read now; says whether it is another content that can be used.
    fn take<T>(&mut self, read: Result<(u128, T), String>, parse: impl FnOnce(T) -> Result<(), String>) -> bool {
        let parsed = match read {
            Ok((content, _)) if self.content == Some(content) => return false,
            Ok((content, bytes)) => {
                self.content = Some(content);
                parse(bytes)
            }
            // Not remembered as seen: when it can be read again, it may be what it was.
            Err(problem) => {
                self.content = None;
                Err(problem)
            }
        };
        self.problem = parsed.err();
        self.problem.is_none()
    }
}

/// How connections of a listener begin.
#[derive(Debug, Clone)]
pub(super) enum Security {
    /// At once.
    Plain,
    /// With a handshake.
    Tls(Arc<ServerConfig>),
}

/// All that a listener knows of who it is and who may post.
#[derive(Debug)]
pub(super) struct Credentials {
    tls: Option<TlsConfig>,
    tls_seen: Seen,
    server: watch::Sender<Option<Security>>,
    /// A source's name, its file, its tokens.
    tokens: Vec<(String, PathBuf, Arc<Tokens>, Seen)>,
}

impl Credentials {
    pub(super) fn new(tls: Option<TlsConfig>, server: watch::Sender<Option<Security>>) -> Self {
        if tls.is_none() {
            server.send_replace(Some(Security::Plain));
        }
        Self { tls, tls_seen: Seen::default(), server, tokens: Vec::new() }
    }

    /// The tokens of a source, kept as its file has them.
    pub(super) fn tokens(&mut self, source: &str, file: Option<PathBuf>) -> Arc<Tokens> {
        let tokens = Arc::new(Tokens::default());
        if let Some(file) = file {
            self.tokens.push((source.to_owned(), file, Arc::clone(&tokens), Seen::default()));
        }
        tokens
    }

    /// Whether there is a certificate to listen with, or none is needed.
    pub(super) fn has_certificate(&self) -> bool {
        self.server.borrow().is_some()
    }

    /// Looks at the files. Blocks for as long as reading takes.
    pub(super) fn refresh(&mut self) {
        let Self { tls, tls_seen, server, tokens } = self;
        if let Some(tls) = tls {
            refresh_tls(tls, tls_seen, server);
        }
        for (source, file, tokens, seen) in tokens {
            let read = read_tokens(file).map_err(|it| it.to_string());
            let read = read.map(|it| (xxhash_rust::xxh3::xxh3_128(it.join("\n").as_bytes()), it));
            let is_new = seen.take(read, |it| {
                tokens.set(it);
                Ok(())
            });
            if is_new {
                tracing::info!(source, file = %file.display(), "the tokens are read");
            }
        }
    }

    /// What does not work for a source now.
    pub(super) fn problem(&self, source: &str) -> Option<String> {
        let tokens = self.tokens.iter().find(|(it, ..)| it == source);
        let of_tls = self.tls_seen.problem.as_ref().map(|it| said(it, self.has_certificate(), "listen", "certificate"));
        let of_tokens = tokens.and_then(|(.., tokens, seen)| Some((seen.problem.as_ref()?, tokens.are_read())));
        of_tls.or_else(|| of_tokens.map(|(it, has_old)| said(it, has_old, "tell who may post", "token")))
    }
}

fn refresh_tls(tls: &TlsConfig, tls_seen: &mut Seen, server: &watch::Sender<Option<Security>>) {
    let read = TlsBytes::read(tls).map(|it| (it.fingerprint(), it)).map_err(|it| it.to_string());
    let is_new = tls_seen.take(read, |bytes| {
        let config = bytes.server_config(tls).map_err(|it| it.to_string())?;
        // Connections of the old one end after their request, so that the new client CA decides over all.
        server.send_replace(Some(Security::Tls(Arc::new(config))));
        Ok(())
    });
    if is_new {
        tracing::info!(certificate = %tls.cert_file.display(), "the certificate is read");
    }
}

fn said(problem: &str, has_old: bool, purpose: &str, what: &str) -> String {
    if has_old {
        format!("{problem}; the {what} read before stays in use")
    } else {
        format!("{problem}; without a {what} it cannot {purpose}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn self_signed() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn what_does_not_read_leaves_the_old_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let tls = TlsConfig { cert_file: path("cert"), key_file: path("key"), client_ca_file: None, client_names: Vec::new() };
        let (sender, server) = watch::channel(None);
        let mut credentials = Credentials::new(Some(tls), sender);
        let config = |server: &watch::Receiver<Option<Security>>| match server.borrow().clone() {
            Some(Security::Tls(config)) => config,
            other => panic!("{other:?}"),
        };
        let tokens = credentials.tokens("prod", Some(path("token")));
        credentials.refresh();
        assert!(credentials.problem("prod").unwrap().contains("cannot listen"));
        assert!(!credentials.has_certificate());

        let (cert, key) = self_signed();
        fs::write(path("cert"), &cert).unwrap();
        fs::write(path("key"), key).unwrap();
        credentials.refresh();
        assert!(credentials.problem("prod").unwrap().contains("who may post"), "the token is not there yet");
        assert_eq!(credentials.problem("other"), None);
        fs::write(path("token"), "one").unwrap();
        credentials.refresh();
        assert_eq!(credentials.problem("prod"), None);
        let first = config(&server);
        credentials.refresh();
        assert!(Arc::ptr_eq(&first, &config(&server)), "nothing changed");

        // A key that is another's, a certificate that is none, an empty token file.
        fs::write(path("key"), self_signed().1).unwrap();
        credentials.refresh();
        let problem = credentials.problem("prod").unwrap();
        assert!(problem.contains("does not go with") && problem.contains("stays in use"), "{problem}");
        credentials.refresh();
        assert!(credentials.problem("prod").is_some(), "it stays wrong");
        fs::write(path("cert"), "no PEM").unwrap();
        credentials.refresh();
        assert!(credentials.problem("prod").unwrap().contains("no certificate"));
        fs::remove_file(path("cert")).unwrap();
        credentials.refresh();
        assert!(Arc::ptr_eq(&first, &config(&server)));
        fs::write(path("token"), "").unwrap();
        let (cert, key) = self_signed();
        fs::write(path("cert"), cert).unwrap();
        fs::write(path("key"), key).unwrap();
        credentials.refresh();
        assert!(!Arc::ptr_eq(&first, &config(&server)), "a new one");
        assert!(credentials.problem("prod").unwrap().contains("the token read before stays in use"));
        assert!(tokens.are_read());
    }
}

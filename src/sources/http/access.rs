//! Who may post: what a path asks for must all be there. A token is compared in constant time.

use super::peer::Peer;
use super::refusal::Refusal;
use super::tls::{CredentialError, read};
use super::{Certificate, Route};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use subtle::ConstantTimeEq;

/// Tokens that are accepted at once: the old and the new one while they change.
pub(super) const TOKENS_MAX: usize = 16;

/// The tokens of one path, as its file has them now.
#[derive(Debug, Default)]
pub(super) struct Tokens(RwLock<Option<Arc<[String]>>>);

impl Tokens {
    pub(super) fn set(&self, tokens: Vec<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(tokens.into());
    }

    pub(super) fn are_read(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Whether this is one of them. The time that it takes says how long they are, and nothing of what is in them.
    fn accept(&self, presented: &[u8]) -> bool {
        let tokens = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        tokens.iter().flat_map(|it| it.iter()).fold(subtle::Choice::from(0), |found, it| found | it.as_bytes().ct_eq(presented)).into()
    }
}

/// Reads a file with one token a line; lines that start with `#` are comments.
pub(super) fn read_tokens(path: &Path) -> Result<Vec<String>, CredentialError> {
    let wrong = |what: String| CredentialError::content(path, what);
    let text = String::from_utf8(read(path)?).map_err(|_| wrong("not text".to_owned()))?;
    let tokens: Vec<_> = text.lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with('#')).map(str::to_owned).collect();
    if tokens.is_empty() {
        return Err(wrong("no token in it".to_owned()));
    }
    if tokens.len() > TOKENS_MAX {
        return Err(wrong(format!("{} tokens, at most {TOKENS_MAX}", tokens.len())));
    }
    if let Some(at) = tokens.iter().position(|it| !it.bytes().all(|b| b.is_ascii_graphic())) {
        return Err(wrong(format!("token {} has a character that no header may have", at + 1)));
    }
    Ok(tokens)
}

/// Whether this client may post there.
pub(super) fn check(route: &Route, tokens: &Tokens, peer: &Peer, headers: &HeaderMap) -> Result<(), Refusal> {
    match (&route.certificate, &peer.names) {
        (Certificate::NotAsked, _) | (Certificate::OfTheCa, Some(_)) => {}
        (_, None) => return Err(Refusal::NoCertificate),
        (Certificate::Named(allowed), Some(names)) => {
            if !names.iter().any(|it| allowed.contains(it)) {
                return Err(Refusal::NameNotAllowed(names.clone()));
            }
        }
    }
    if route.token_file.is_some() {
        if !tokens.are_read() {
            return Err(Refusal::NotReady);
        }
        let presented = headers.get(AUTHORIZATION).ok_or(Refusal::NoToken)?;
        if !bearer(presented.as_bytes()).is_some_and(|it| tokens.accept(it)) {
            return Err(Refusal::WrongToken);
        }
    }
    Ok(())
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(certificate: Certificate, has_token: bool) -> Route {
        Route {
            source: "s".to_owned(),
            path: None,
            token_file: has_token.then(|| "t".into()),
            certificate,
            body_bytes_max: 1,
            too_large_advice: "",
        }
    }

    fn tokens(all: &[&str]) -> Tokens {
        let tokens = Tokens::default();
        tokens.set(all.iter().map(|it| (*it).to_owned()).collect());
        tokens
    }

    fn name(names: Option<&[&str]>) -> Peer {
        Peer { names: names.map(|it| it.iter().map(|it| (*it).to_owned()).collect()) }
    }

    fn with(authorization: Option<&str>) -> HeaderMap {
        authorization.map(|it| (AUTHORIZATION, it.parse().unwrap())).into_iter().collect()
    }

    #[test]
    fn a_token_is_accepted_whole_and_alone() {
        let route = route(Certificate::NotAsked, true);
        let tokens = tokens(&["old-token", "new-token"]);
        let ask = |header: Option<&str>| check(&route, &tokens, &name(None), &with(header)).err().map(|it| it.name());
        assert_eq!(ask(Some("Bearer old-token")), None);
        assert_eq!(ask(Some("bearer  new-token ")), None);
        assert_eq!(ask(None), Some("no_token"));
        for wrong in
            ["", "Bearer", "Bearer ", "Bearer old-toke", "Bearer old-tokenn", "Basic old-token", "old-token", "Bearer old-token new-token"]
        {
            assert_eq!(ask(Some(wrong)), Some("wrong_token"), "{wrong:?}");
        }
        assert_eq!(check(&route, &Tokens::default(), &name(None), &with(Some("Bearer "))).unwrap_err().name(), "not_ready");
    }

    #[test]
    fn what_is_asked_for_must_all_be_there() {
        let named = || Certificate::Named(vec!["api".to_owned(), "b.example".to_owned()]);
        let tokens = tokens(&["token"]);
        let token = Some("Bearer token");
        for (certificate, has_token, names, header, expected) in [
            (named(), false, Some(&["x", "b.example"][..]), None, None),
            (named(), false, Some(&["API"][..]), None, Some("name_not_allowed")),
            (named(), false, Some(&[][..]), None, Some("name_not_allowed")),
            (named(), false, None, token, Some("no_certificate")),
            (named(), true, Some(&["api"][..]), None, Some("no_token")),
            (named(), true, Some(&["api"][..]), token, None),
            (Certificate::OfTheCa, true, Some(&["any"][..]), token, None),
            (Certificate::OfTheCa, true, None, token, Some("no_certificate")),
            (Certificate::NotAsked, true, None, token, None),
        ] {
            let found = check(&route(certificate.clone(), has_token), &tokens, &name(names), &with(header)).err().map(|it| it.name());
            assert_eq!(found, expected, "{certificate:?} {has_token} {names:?} {header:?}");
        }
    }

    #[test]
    fn files_with_tokens_are_read_up_to_their_limits() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            read_tokens(file.path()).map_err(|it| it.to_string())
        };
        assert_eq!(read("# of prod\n one \r\n\ntwo\n").unwrap(), ["one", "two"]);
        assert!(read("\n# none\n").unwrap_err().contains("no token"));
        assert!(read("a b\n").unwrap_err().contains("token 1"));
        assert_eq!(read(&"t\n".repeat(TOKENS_MAX)).unwrap().len(), TOKENS_MAX);
        assert!(read(&"t\n".repeat(TOKENS_MAX + 1)).unwrap_err().contains("at most 16"));
        let max = super::super::tls::FILE_BYTES_MAX as usize;
        assert_eq!(read(&"t".repeat(max)).unwrap()[0].len(), max);
        assert!(read(&"t".repeat(max + 1)).unwrap_err().contains("longer than"));
        assert!(read_tokens(Path::new("/no/such/file")).unwrap_err().to_string().contains("/no/such/file"));
    }
}

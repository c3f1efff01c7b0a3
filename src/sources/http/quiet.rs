//! Log lines at a bounded rate: the first of a kind at once, then one in a while with how many there were.

use crate::clock::Stopwatch;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a kind is quiet after it was logged.
const QUIET: Duration = Duration::from_secs(10);

/// A source's name, and a kind.
type Kind = (String, &'static str);

/// See the module. Kinds are names of ours, never what a client sent, so that there are few.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    kinds: Mutex<HashMap<Kind, (Stopwatch, u64)>>,
}

impl Quiet {
    /// Whether to log now: if so, how many were not logged since the last time.
    pub(super) fn is_due(&self, source: &str, kind: &'static str) -> Option<u64> {
        self.is_due_after(source, kind, QUIET)
    }

    fn is_due_after(&self, source: &str, kind: &'static str, quiet: Duration) -> Option<u64> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        match kinds.get_mut(&(source.to_owned(), kind)) {
            None => {
                kinds.insert((source.to_owned(), kind), (Stopwatch::start(), 0));
                Some(0)
            }
            Some((since, more)) if since.elapsed() >= quiet => {
                *since = Stopwatch::start();
                Some(std::mem::take(more))
            }
            Some((_, more)) => {
                *more += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_said_once_in_a_while_with_its_number() {
        let quiet = Quiet::default();
        assert_eq!(quiet.is_due("a", "x"), Some(0));
        assert_eq!((quiet.is_due("a", "x"), quiet.is_due("a", "x")), (None, None));
        assert_eq!((quiet.is_due("a", "y"), quiet.is_due("b", "x")), (Some(0), Some(0)));
        assert_eq!(quiet.is_due_after("a", "x", Duration::ZERO), Some(2));
        assert_eq!(quiet.is_due("a", "x"), None);
    }
}

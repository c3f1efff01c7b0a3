//! Whether the sources work, for `/readyz`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Reasons why something does not work, by who has it.
#[derive(Debug, Default)]
pub struct Health {
    reasons: Mutex<BTreeMap<String, String>>,
    notes: Mutex<BTreeMap<String, String>>,
}

impl Health {
    /// Says why something does not work. True when that is news.
    pub fn down(&self, who: &str, why: impl Into<String>) -> bool {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner).insert(who.to_owned(), why.into()).is_none()
    }

    /// Says that it works (again). True when that is news.
    pub fn up(&self, who: &str) -> bool {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner).remove(who).is_some()
    }

    /// Says what a person should look at although all works; none: no more.
    pub fn note(&self, who: &str, what: Option<String>) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        match what {
            Some(what) => notes.insert(who.to_owned(), what),
            None => notes.remove(who),
        };
    }

    /// All notes, one a line.
    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(who, what)| format!("{who}: {what}")).collect()
    }

    /// All reasons, by who has them.
    pub fn all(&self) -> BTreeMap<String, String> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All reasons, one a line.
    pub fn reasons(&self) -> Vec<String> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(who, why)| format!("{who}: {why}")).collect()
    }
}

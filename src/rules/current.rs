//! What is in use, and can be replaced while it is: who works with it keeps what it began with.

use std::sync::{Arc, PoisonError, RwLock};

/// The rules in use, or what else is read from files.
#[derive(Debug, Default)]
pub struct Current<T>(RwLock<Arc<T>>);

impl<T> Current<T> {
    /// This one, until another takes its place.
    pub fn new(it: T) -> Self {
        Self(RwLock::new(Arc::new(it)))
    }

    /// The one that is in use now: for a whole delivery, so that no part of it is judged otherwise.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Another takes its place.
    pub fn set(&self, it: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(it);
    }
}

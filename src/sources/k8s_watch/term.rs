//! One term of office: from becoming the leader to ceasing to be it. A source without a Lease has one that never ends.

use std::collections::BTreeMap;
use tokio::sync::watch;
use tokio::time::Instant;

/// How far each kind was stored, by its resource: a version to watch from.
pub(super) type Positions = BTreeMap<String, String>;

/// A term.
#[derive(Debug)]
pub(super) struct Term {
    /// Until when it surely lasts. None: for ever.
    held_until: watch::Sender<Option<Instant>>,
    positions: watch::Sender<Positions>,
    /// When the predecessor last came further, ms: what was there by then, it stored.
    pub(super) since_ms: Option<i64>,
}

impl Term {
    /// A term that lasts until then, and goes on where the predecessor said that it had come.
    pub(super) fn new(held_until: Option<Instant>, positions: Positions, since_ms: Option<i64>) -> Self {
        Self { held_until: watch::Sender::new(held_until), positions: watch::Sender::new(positions), since_ms }
    }

    /// The term lasts longer.
    pub(super) fn extend(&self, until: Instant) {
        self.held_until.send_replace(Some(until));
    }

    /// Goes on only in the term. Else it waits: for more of it, or to be given up together with whoever waits.
    pub(super) async fn wait_until_held(&self) {
        let mut held_until = self.held_until.subscribe();
        let _ = held_until.wait_for(|until| until.is_none_or(|until| Instant::now() < until)).await;
    }

    /// Waits for the end of the term, which may be put off meanwhile.
    pub(super) async fn wait_until_over(&self) {
        loop {
            let until = *self.held_until.borrow();
            match until {
                Some(until) if until <= Instant::now() => return,
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        }
    }

    /// A kind was stored up to here.
    pub(super) fn came_to(&self, resource: &str, position: &str) {
        self.positions.send_modify(|it| {
            it.insert(resource.to_owned(), position.to_owned());
        });
    }

    /// How far all kinds were stored, now and when that changes.
    pub(super) fn positions(&self) -> watch::Receiver<Positions> {
        self.positions.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn nothing_is_stored_after_the_term() {
        let term = Term::new(Some(Instant::now()), Positions::new(), None);
        let waited = tokio::time::timeout(Duration::from_millis(10), term.wait_until_held()).await;
        assert!(waited.is_err(), "the term is over");
        term.extend(Instant::now() + Duration::from_mins(1));
        term.wait_until_held().await;
        assert!(tokio::time::timeout(Duration::from_millis(10), term.wait_until_over()).await.is_err(), "it is not over any more");
        Term::new(None, Positions::new(), None).wait_until_held().await;
    }
}

//! Whether the watches live: for `/readyz`, for metrics, and as an event that rules can match.

use super::api::ApiError;
use super::kinds::{Kind, names};
use crate::clock::Stopwatch;
use crate::metrics;
use crate::sources::Surroundings;
use crate::sources::own::OwnEvent;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often it is looked whether trouble lasts.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// One thing that does not work.
#[derive(Debug)]
struct Trouble {
    why: String,
    since: Stopwatch,
    /// An event said so.
    is_told: bool,
    /// It works again; an event is to say that, too.
    is_over: bool,
}

/// The state of a source's watches.
pub(super) struct Vitals {
    source: String,
    alert_after: Duration,
    at: Surroundings,
    troubles: Mutex<BTreeMap<&'static str, Trouble>>,
}

impl Vitals {
    pub(super) fn new(source: &str, alert_after: Duration, at: Surroundings) -> Self {
        Self { source: source.to_owned(), alert_after, at, troubles: Mutex::default() }
    }

    /// Something (a resource, or the Lease) works.
    pub(super) fn up(&self, what: &'static str) {
        self.at.metrics.set(&metrics::WATCH_UP, &self.source, what, 1.0);
        self.up_or_absent(what);
    }

    fn up_or_absent(&self, what: &'static str) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trouble) = troubles.get_mut(what) {
            trouble.is_over = true;
            if !trouble.is_told {
                troubles.remove(what);
            }
        }
        if self.at.health.up(&self.who(what)) {
            tracing::info!(source = self.source, what, "works again");
        }
        self.set_up(&troubles);
    }

    /// Something does not work.
    pub(super) fn down(&self, what: &'static str, error: &ApiError) {
        self.at.metrics.set(&metrics::WATCH_UP, &self.source, what, 0.0);
        if matches!(error, ApiError::NotServed) && Kind::named(what).is_some_and(Kind::is_recent) {
            // An older cluster, in which there is nothing to see.
            tracing::warn!(source = self.source, what, "{error}");
            return self.up_or_absent(what);
        }
        let why = error.to_string();
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Trouble { why: String::new(), since: Stopwatch::start(), is_told: false, is_over: false };
        let trouble = troubles.entry(what).or_insert_with(fresh);
        (trouble.why, trouble.is_over) = (why.clone(), false);
        if self.at.health.down(&self.who(what), &why) {
            tracing::error!(source = self.source, what, "{why}");
        }
        self.set_up(&troubles);
    }

    /// The watches are another replica's now: what was said of them is not true any more.
    pub(super) fn retire(&self) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.retain(|what, _| Kind::named(what).is_none());
        for what in names() {
            self.at.health.up(&self.who(&what));
        }
        for gauge in [&metrics::WATCH_UP, &metrics::WATCH_HEARD, &metrics::WATCH_OBJECTS] {
            self.at.metrics.forget(gauge, &self.source);
        }
        self.set_up(&troubles);
    }

    fn who(&self, what: &str) -> String {
        format!("{}/{what}", self.source)
    }

    fn set_up(&self, troubles: &BTreeMap<&'static str, Trouble>) {
        let is_up = troubles.values().all(|it| it.is_over);
        self.at.metrics.set(&metrics::UP, &self.source, "", f64::from(u8::from(is_up)));
    }

    /// Says in events what has been dead for long, and what is not any more. Never ends.
    pub(super) async fn watch(&self) {
        while self.at.wait(LOOK_INTERVAL).await {
            let (down, up) = self.news();
            if !down.is_empty() {
                self.tell("Warning", "WatchDown", &down).await;
            }
            if !up.is_empty() {
                self.tell("Normal", "WatchUp", &up).await;
            }
        }
        // What is in hand is finished elsewhere.
        std::future::pending::<()>().await;
    }

    /// What is to be told: what is down with its reason, what was down and for how long.
    fn news(&self) -> (Vec<String>, Vec<String>) {
        let (mut down, mut up) = (Vec::new(), Vec::new());
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.retain(|what, it| {
            if it.is_over {
                up.push(format!("{what} is watched again, after {} s", it.since.elapsed().as_secs()));
                return false;
            }
            if !it.is_told && it.since.elapsed() >= self.alert_after {
                it.is_told = true;
                down.push(format!("{what}: {}", it.why));
            }
            true
        });
        (down, up)
    }

    /// Stores an Event of our own: rules can match it.
    pub(super) async fn tell(&self, kind: &'static str, reason: &'static str, what: &[String]) {
        let (now_ms, message) = (self.at.clock.now_ms(), what.join("; "));
        let event = OwnEvent { source: &self.source, kind, reason, message: &message, now_ms };
        self.at.deliver(event.delivery()).await;
    }
}

//! One kind of object, followed: a list when nothing is known, then a watch from where the list was, for ever.

use super::api::{Access, ApiError};
use super::kinds::Kind;
use super::known::{Known, version};
use super::list::News;
use super::outlet::{Batch, Outlet};
use super::term::Term;
use super::vitals::Vitals;
use crate::metrics;
use crate::sources::Surroundings;
use crate::sources::retry::pause;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The first pause after a failure; it doubles.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// The longest pause after a failure.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// So many watches from one position that say nothing, and it is taken for one that the server cannot serve.
const SILENT_ENDS_MAX: u32 = 3;

/// What all kinds of a source share in one term.
pub(super) struct Shared {
    pub(super) source: String,
    pub(super) at: Surroundings,
    pub(super) access: Arc<Access>,
    pub(super) vitals: Arc<Vitals>,
    pub(super) term: Arc<Term>,
    /// Few pages of lists at a time.
    pub(super) listing: Semaphore,
}

/// Why following stopped for a moment.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The source is to stop.
    Stopped,
    /// The API server.
    Api(ApiError),
}

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

/// Follows one kind.
pub(super) struct Follower {
    pub(super) kind: &'static Kind,
    pub(super) shared: Arc<Shared>,
    pub(super) known: Known,
    /// In a row, until a watch has shown that it lives.
    pub(super) failures: u32,
    outlet: Outlet,
}

/// What to do next.
#[derive(Debug, Clone)]
pub(super) enum Next {
    /// See where this replica, or its predecessor, came to.
    Begin,
    /// List, and tell what is news.
    List(News),
    /// Watch from this version.
    Watch(String),
}

impl Follower {
    /// A follower of this kind.
    pub(super) fn new(kind: &'static Kind, shared: Arc<Shared>) -> Self {
        let outlet = Outlet {
            at: shared.at.clone(),
            source: shared.source.clone(),
            resource: kind.resource,
            uri: format!("{}{}", shared.access.api().server, kind.path()),
            term: Arc::clone(&shared.term),
            taken: 0,
        };
        Self { kind, shared, known: Known::default(), failures: 0, outlet }
    }

    /// Follows until the source is to stop; when draining, until everything that is there now is stored.
    pub(super) async fn run(mut self) {
        let mut next = Next::Begin;
        loop {
            let trouble = match self.step(&mut next).await {
                Ok(()) if self.shared.at.is_drain && matches!(next, Next::Watch(_)) => return,
                Ok(()) => continue,
                Err(trouble) => trouble,
            };
            let Trouble::Api(error) = trouble else { return };
            let at = &self.shared.at;
            at.metrics.add(&metrics::WATCH_ENDS, &self.shared.source, error.name(), 1.0);
            let is_first = self.failures == 0;
            self.failures = self.failures.saturating_add(1);
            if let Some(instead) = self.instead(&next, &error) {
                next = Next::List(instead);
                // Once in a row of failures; and nothing is known to be forgotten where a watch only ends.
                if is_first {
                    self.tell_gap(&error).await;
                    continue;
                }
            }
            self.shared.access.renew_after(&error).await;
            self.shared.vitals.down(self.kind.resource, &error);
            if at.is_drain || !at.wait(pause(self.failures, PAUSE_FIRST, PAUSE_MAX)).await {
                return;
            }
        }
    }

    /// What a list stands in for is said. Core Events come and go by themselves, and of them little is to be had later.
    async fn tell_gap(&self, error: &ApiError) {
        let text = format!("{}: {error}; what came and went meanwhile is not known, what there is now is listed", self.kind.resource);
        tracing::info!(source = self.shared.source, "{text}");
        if self.kind.is_deletion_news() {
            self.shared.vitals.tell("Warning", "WatchGap", &[text]).await;
        }
    }

    /// The list that is to stand in for what the server does not have any more.
    fn instead(&self, failed: &Next, error: &ApiError) -> Option<News> {
        match (error, failed) {
            (ApiError::Gone(_), Next::List(News::None(at))) => Some(News::After(*at)),
            (ApiError::Gone(_), Next::Watch(_)) | (ApiError::Ahead(_), _) => Some(News::All),
            (ApiError::Ended, Next::Watch(_)) if self.failures >= SILENT_ENDS_MAX => Some(News::All),
            _ => None,
        }
    }

    /// One step; where it fails, `next` says what failed, with the position that it came to.
    async fn step(&mut self, next: &mut Next) -> Result<(), Trouble> {
        match next {
            Next::Begin => *next = self.begin().await?,
            Next::List(news) => {
                let position = self.list(*news).await?;
                if self.failures == 0 {
                    self.alive();
                }
                *next = Next::Watch(position);
            }
            Next::Watch(position) => {
                // What broke the watch may be that the server is another by now.
                if self.failures > 0 {
                    self.look_for_regress(position).await?;
                }
                let is_heard = self.watch(position).await?;
                if !is_heard {
                    self.look_for_regress(position).await?;
                }
            }
        }
        Ok(())
    }

    /// Where to begin: where this replica came to, or its predecessor, whichever is further.
    async fn begin(&mut self) -> Result<Next, Trouble> {
        let stamps = self.stamps().await?;
        self.known = Known::new(self.kind.resource, &stamps);
        let own = stamps.get(self.kind.resource).cloned();
        let left = self.shared.term.positions().borrow().get(self.kind.resource).and_then(|it| version(it));
        let at = own.as_deref().and_then(version);
        Ok(match (left, own) {
            (Some(left), _) if at.is_none_or(|at| at < left) => {
                self.look_for_regress(&left.to_string()).await?;
                Next::List(News::None(left))
            }
            // A list says the same as a watch that goes on, without waiting for what may come.
            (_, Some(position)) if !self.shared.at.is_drain => {
                self.look_for_regress(&position).await?;
                Next::Watch(position)
            }
            _ => Next::List(News::All),
        })
    }

    /// A server that is behind a version says nothing until it has come there, or says so.
    async fn look_for_regress(&mut self, position: &str) -> Result<(), Trouble> {
        let now = self.newest().await?;
        match (version(&now), version(position)) {
            (Some(now), Some(position)) if now < position => {
                Err(ApiError::Ahead(format!("it is at {now}, and {position} was stored")).into())
            }
            _ => Ok(()),
        }
    }

    /// What the state remembers of the kind.
    pub(super) async fn stamps(&self) -> Result<HashMap<String, String>, Trouble> {
        let resource = self.kind.resource;
        // Its own key, and those that go on with a slash, which is before `0`.
        let end = format!("{resource}0");
        let stamps = self.shared.at.handoff.file_stamps(&self.shared.source, Some(resource..&*end)).await;
        stamps.map_err(|error| ApiError::State(error.to_string()).into())
    }

    /// Makes a batch durable.
    pub(super) async fn take(&mut self, batch: Batch, position: Option<&str>) -> Result<(), Trouble> {
        self.outlet.take(batch, position).await.ok_or(Trouble::Stopped)
    }

    /// Waits for the API server, but not longer than the source runs.
    pub(super) async fn unless_stopped<T>(&self, asked: impl Future<Output = Result<T, ApiError>>) -> Result<T, Trouble> {
        let mut stop = self.shared.at.stop.clone();
        tokio::select! {
            answer = asked => Ok(answer?),
            _ = stop.wait_for(|it| *it) => Err(Trouble::Stopped),
        }
    }

    /// The watch lives.
    pub(super) fn alive(&mut self) {
        self.failures = 0;
        let (metrics, source, resource) = (&self.shared.at.metrics, &self.shared.source, self.kind.resource);
        self.shared.vitals.up(resource);
        metrics.set(&metrics::WATCH_OBJECTS, source, resource, self.known.len() as f64);
        metrics.set(&metrics::WATCH_HEARD, source, resource, self.shared.at.clock.now_ms() as f64 / 1e3);
    }
}

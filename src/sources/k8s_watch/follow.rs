//! One kind of object, followed: a list when nothing is known, then a watch from where the list was, for ever.

use super::api::{Api, ApiError};
use super::kinds::Kind;
use super::known::{Known, version};
use super::list::News;
use super::outlet::{Batch, Outlet};
use super::stream::{Line, Lines, Said, Verb, read};
use super::term::Term;
use super::vitals::Vitals;
use crate::metrics;
use crate::sources::Surroundings;
use crate::sources::retry::pause;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long the server keeps a watch open, seconds. It ends it then, and the next one goes on.
const WATCH_SECS: u64 = 290;
/// A watch in which nothing comes for this long is dead: bookmarks come every minute, and the end is due before.
const SILENCE_MAX: Duration = Duration::from_secs(WATCH_SECS + 30);
/// How long is waited for more changes, so that what comes together is stored together.
const LINGER: Duration = Duration::from_millis(20);
/// The first pause after a failure; it doubles.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// The longest pause after a failure.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What all kinds of a source share in one term.
pub(super) struct Shared {
    pub(super) source: String,
    pub(super) at: Surroundings,
    pub(super) api: Api,
    pub(super) vitals: Arc<Vitals>,
    pub(super) term: Arc<Term>,
    /// One list at a time.
    pub(super) listing: Arc<Semaphore>,
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
    outlet: Outlet,
}

/// What to do next.
#[derive(Debug)]
enum Next {
    List(News),
    Watch(String),
}

impl Follower {
    /// A follower of this kind.
    pub(super) fn new(kind: &'static Kind, shared: Arc<Shared>) -> Self {
        let outlet = Outlet {
            at: shared.at.clone(),
            source: shared.source.clone(),
            resource: kind.resource,
            uri: format!("{}{}", shared.api.server, kind.path()),
            term: Arc::clone(&shared.term),
            taken: 0,
        };
        Self { kind, shared, known: Known::default(), outlet }
    }

    /// Follows until the source is to stop; when draining, until everything that is there now is stored.
    pub(super) async fn run(mut self) {
        let mut next = None;
        let mut failures = 0;
        loop {
            let step = match next.take() {
                None => self.begin().await,
                Some(step) => self.step(step, &mut next).await,
            };
            let at = &self.shared.at;
            match step {
                Ok(Next::Watch(_)) if at.is_drain => return,
                Ok(step) => {
                    next = Some(step);
                    failures = 0;
                }
                Err(Trouble::Stopped) => return,
                Err(Trouble::Api(error)) => {
                    at.metrics.add(&metrics::WATCH_ENDS, &self.shared.source, error.name(), 1.0);
                    self.shared.vitals.down(self.kind.resource, &error);
                    failures += 1;
                    if at.is_drain || !at.wait(pause(failures, PAUSE_FIRST, PAUSE_MAX)).await {
                        return;
                    }
                }
            }
        }
    }

    /// One list, or one watch to its end. After a failure `again` says where to go on.
    async fn step(&mut self, step: Next, again: &mut Option<Next>) -> Result<Next, Trouble> {
        match step {
            Next::List(news) => {
                *again = Some(Next::List(news));
                let listed = self.list(news).await;
                // The version that the predecessor came to is forgotten: what there is now, then.
                if let (Err(Trouble::Api(ApiError::Gone(_))), News::None(at)) = (&listed, news) {
                    return Ok(Next::List(News::After(at)));
                }
                let position = listed?;
                self.alive();
                Ok(Next::Watch(position))
            }
            Next::Watch(mut position) => {
                let watched = self.watch(&mut position).await;
                match watched {
                    Err(Trouble::Api(error @ ApiError::Gone(_))) => {
                        tracing::info!(source = self.shared.source, resource = self.kind.resource, %error, "listed anew");
                        self.shared.at.metrics.add(&metrics::WATCH_ENDS, &self.shared.source, error.name(), 1.0);
                        Ok(Next::List(News::All))
                    }
                    Ok(()) => Ok(Next::Watch(position)),
                    Err(trouble) => {
                        *again = Some(Next::Watch(position));
                        Err(trouble)
                    }
                }
            }
        }
    }

    /// Where to begin: where this replica came to, or its predecessor, whichever is further.
    async fn begin(&mut self) -> Result<Next, Trouble> {
        let stamps = self.stamps().await?;
        self.known = Known::new(self.kind.resource, &stamps);
        let own = stamps.get(self.kind.resource).cloned();
        let left = self.shared.term.positions().borrow().get(self.kind.resource).and_then(|it| version(it));
        let is_ours = |left| own.as_deref().and_then(version).is_some_and(|own| own >= left);
        Ok(match (left, &own) {
            (Some(left), _) if !is_ours(left) => Next::List(News::None(left)),
            // A list says the same as a watch that goes on, without waiting for what may come.
            (_, Some(position)) if !self.shared.at.is_drain => Next::Watch(position.clone()),
            _ => Next::List(News::All),
        })
    }

    /// What the state remembers of the source.
    pub(super) async fn stamps(&self) -> Result<HashMap<String, String>, Trouble> {
        let stamps = self.shared.at.handoff.file_stamps(&self.shared.source).await;
        stamps.map_err(|error| ApiError::State(error.to_string()).into())
    }

    /// Watches from a position until the server ends it; moves the position.
    async fn watch(&mut self, position: &mut String) -> Result<(), Trouble> {
        let path = self.kind.path();
        let query = format!("watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECS}&resourceVersion={position}");
        let mut stop = self.shared.at.stop.clone();
        let api = self.shared.api.clone();
        let asked = format!("{path}?{query}");
        let body = tokio::select! {
            _ = stop.wait_for(|it| *it) => return Err(Trouble::Stopped),
            body = api.get(&asked) => body?,
        };
        let mut lines = Lines::new(body);
        self.alive();
        loop {
            let first = tokio::select! {
                _ = stop.wait_for(|it| *it) => return Err(Trouble::Stopped),
                first = tokio::time::timeout(SILENCE_MAX, lines.next()) => first.map_err(|_| ApiError::Silent(SILENCE_MAX))?,
            };
            let mut taking = Taking { batch: Batch::default(), position: position.clone(), end: End::NotYet };
            self.take_line(first, &mut taking);
            while matches!(taking.end, End::NotYet) && !taking.batch.is_full() {
                let Ok(more) = tokio::time::timeout(LINGER, lines.next()).await else { break };
                self.take_line(more, &mut taking);
            }
            self.alive();
            if taking.position != *position || !taking.batch.is_empty() {
                self.take(taking.batch, Some(&taking.position)).await?;
                *position = taking.position;
            }
            match taking.end {
                End::NotYet => {}
                End::AsItShould => return Ok(()),
                End::Failed(error) => return Err(error.into()),
            }
        }
    }

    /// One line, or the end of them.
    fn take_line(&mut self, line: Result<Option<Line>, ApiError>, taking: &mut Taking) {
        let line = match line {
            Ok(Some(Line::Whole(line))) => line,
            Ok(Some(Line::Long(bytes, excerpt))) => return taking.batch.refuse(bytes, excerpt),
            Ok(None) => {
                taking.end = End::AsItShould;
                return;
            }
            Err(error) => {
                taking.end = End::Failed(error);
                return;
            }
        };
        match read(&line) {
            Said::Change(verb, meta) => {
                if !self.known.has(&meta) {
                    if verb != Verb::Deleted || self.kind.is_deletion_news() {
                        taking.batch.push(&line);
                    }
                    let key = self.known.key(&meta.uid);
                    if verb == Verb::Deleted {
                        taking.batch.forget(key);
                        self.known.remove(&meta.uid);
                    } else {
                        taking.batch.remember(key, &meta);
                        self.known.insert(&meta.uid, &meta.resource_version);
                    }
                }
                taking.position = meta.resource_version;
            }
            Said::Bookmark(at) => taking.position = at,
            Said::Over(error) => taking.end = End::Failed(error),
            // Set aside by whoever decodes it, with its reason.
            Said::Unknown => taking.batch.push(&line),
        }
    }

    /// Makes a batch durable.
    pub(super) async fn take(&mut self, batch: Batch, position: Option<&str>) -> Result<(), Trouble> {
        self.outlet.take(batch, position).await.ok_or(Trouble::Stopped)
    }

    /// The watch lives.
    fn alive(&self) {
        let (metrics, source, resource) = (&self.shared.at.metrics, &self.shared.source, self.kind.resource);
        self.shared.vitals.up(resource);
        metrics.set(&metrics::WATCH_OBJECTS, source, resource, self.known.len() as f64);
        metrics.set(&metrics::WATCH_HEARD, source, resource, self.shared.at.clock.now_ms() as f64 / 1e3);
    }
}

/// What is being gathered for one delivery.
struct Taking {
    batch: Batch,
    position: String,
    end: End,
}

/// Whether a watch goes on.
enum End {
    NotYet,
    /// The server ended it, as it does after [`WATCH_SECS`].
    AsItShould,
    Failed(ApiError),
}

//! One watch, from its first line to its end.

use super::api::ApiError;
use super::follow::{Follower, Trouble};
use super::outlet::Batch;
use super::stream::{Line, Lines, Said, Verb, read};
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// How long the server keeps a watch open, seconds. It ends it then, and the next one goes on.
const WATCH_SECS: u64 = 290;
/// A watch in which nothing comes for this long is dead: bookmarks come every minute, and the end is due before.
const SILENCE_MAX: Duration = Duration::from_secs(WATCH_SECS + 30);
/// A watch lives when it has lasted for so long, though nothing was said in it.
const LIVES_AFTER: Duration = Duration::from_secs(2);
/// How long is waited for one more change, so that what comes together is stored together.
const LINGER: Duration = Duration::from_millis(20);
/// How long changes are gathered at most.
const LINGER_MAX: Duration = Duration::from_millis(200);

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

impl Follower {
    /// Watches from a position until the server ends it; moves the position. Whether anything was said.
    pub(super) async fn watch(&mut self, position: &mut String) -> Result<bool, Trouble> {
        let query = format!("watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECS}&resourceVersion={position}");
        let asked = format!("{}?{query}", self.kind.path());
        let api = self.shared.access.api();
        let mut lines = Lines::new(self.unless_stopped(api.get(&asked)).await?);
        let (begin, mut is_heard) = (Instant::now(), false);
        if self.failures == 0 {
            self.alive();
        }
        loop {
            let Some(first) = self.first(&mut lines, begin).await? else { continue };
            let mut taking = Taking { batch: Batch::default(), position: position.clone(), end: End::NotYet };
            self.take_line(first, &mut taking);
            let until = Instant::now() + LINGER_MAX;
            while matches!(taking.end, End::NotYet) && !taking.batch.is_full() {
                let Ok(Ok(more)) = timeout_at(until, timeout(LINGER, lines.next())).await else { break };
                self.take_line(more, &mut taking);
            }
            if taking.position != *position || !taking.batch.is_empty() {
                is_heard = true;
                self.take(taking.batch, Some(&taking.position)).await?;
                *position = taking.position;
                self.alive();
            }
            match taking.end {
                End::NotYet => {}
                End::AsItShould if !is_heard && begin.elapsed() < LIVES_AFTER => return Err(ApiError::Ended.into()),
                End::AsItShould => return Ok(is_heard),
                End::Failed(error) => return Err(error.into()),
            }
        }
    }

    /// The next line, however long it takes; none: nothing yet, and the watch lives.
    async fn first(&mut self, lines: &mut Lines, begin: Instant) -> Result<Option<Result<Option<Line>, ApiError>>, Trouble> {
        let lives_at = begin + LIVES_AFTER;
        let is_young = Instant::now() < lives_at;
        let until = if is_young { lives_at } else { Instant::now() + SILENCE_MAX };
        let mut stop = self.shared.at.stop.clone();
        let next = tokio::select! {
            next = timeout_at(until, lines.next()) => next,
            _ = stop.wait_for(|it| *it) => return Err(Trouble::Stopped),
        };
        match next {
            Ok(line) => Ok(Some(line)),
            Err(_) if is_young => {
                self.alive();
                Ok(None)
            }
            Err(_) => Err(ApiError::Silent(SILENCE_MAX).into()),
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
                    } else if self.known.insert(&meta.uid, &meta.resource_version) {
                        taking.batch.remember(key, &meta);
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
}

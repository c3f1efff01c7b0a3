//! The keeper: a thread that writes Parquet and merges runs, while the committer commits.

use super::StoreError;
use super::evidence::{self, Named};
use super::handle::{Message, Shared};
use super::ids::IdSet;
use super::runs::Run;
use super::seal::{Sealed, merge_runs, merge_segments, seal};
use super::state::{Log, Segment};
use crate::event::EventId;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

/// How long the keeper waits before it tries again what failed.
const RETRY: Duration = Duration::from_millis(500);

/// Work for the keeper.
pub(super) enum Job {
    /// Make Parquet of a log.
    Seal { log: Log, ids: Arc<IdSet> },
    /// Make one run of several; hours before `floor` that no segment has are not kept.
    MergeRuns { runs: Vec<Arc<Run>>, floor: i64, covered: Vec<(i64, i64)> },
    /// Make one segment of several.
    MergeSegments(Vec<Segment>),
    /// Find the events that alerts show.
    Find(Vec<Named>),
}

/// What the keeper has done, for the committer to name.
pub(super) enum Done {
    /// A log's files are in `tmp/`.
    Sealed { log: Log, sealed: Sealed },
    /// A merged run is in `tmp/`.
    MergedRuns { old: Vec<u64>, seq: u64, entries: u64, floor: i64 },
    /// Merged segments are in `tmp/`.
    MergedSegments { old: Vec<Segment>, new: Vec<Segment> },
    /// Events that alerts show, as far as they are stored.
    Found(Vec<Named>, HashMap<EventId, String>),
    /// It did not work; it is tried again when it is due again.
    GaveUp,
}

/// Works until the store closes.
pub(super) fn run(shared: &Shared, jobs: &Receiver<Job>, out: &SyncSender<Done>, committer: &SyncSender<Message>) {
    while let Ok(job) = jobs.recv() {
        let done = match job {
            Job::Seal { log, ids } => loop {
                match seal(&shared.layout, &*shared.disk, &log, &ids) {
                    Ok(sealed) => break Done::Sealed { log, sealed },
                    Err(error) => {
                        shared.pause(&error);
                        if shared.is_closing() {
                            return;
                        }
                        std::thread::park_timeout(RETRY);
                    }
                }
            },
            Job::MergeRuns { runs, floor, covered } => {
                let keep = |hour: i64| hour >= floor || covered.iter().any(|(min, max)| (*min..=*max).contains(&hour));
                let merged = merge_runs(&shared.layout, &*shared.disk, &runs, keep);
                given_up(merged, |(seq, entries)| Done::MergedRuns { old: runs.iter().map(|it| it.seq).collect(), seq, entries, floor })
            }
            Job::MergeSegments(old) => {
                let merged = merge_segments(&shared.layout, &*shared.disk, &old);
                given_up(merged, |new| Done::MergedSegments { old, new })
            }
            Job::Find(named) => given_up(evidence::find(&shared.layout.dir, &named), |found| Done::Found(named, found)),
        };
        if out.send(done).is_err() {
            return;
        }
        // Should its queue be full, it is awake.
        let _ = committer.try_send(Message::Wake);
    }
}

fn given_up<T>(result: Result<T, StoreError>, done: impl FnOnce(T) -> Done) -> Done {
    match result {
        Ok(result) => done(result),
        Err(error) => {
            tracing::warn!(%error, "upkeep did not work; it is tried again");
            Done::GaveUp
        }
    }
}

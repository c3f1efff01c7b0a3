//! A delivery too large for one group: its events go straight into Parquet, and one transaction names all of it.
//!
//! Atomic at any size, in bounded memory: rows are held up to a row group, ids up to a run. Other deliveries wait.

use super::commit::{Committer, entry_of, first_counts, kept, record};
use super::disk::CrashPoint;
use super::ids::IdSet;
use super::intake::{Intake, Verdict};
use super::runs::{Run, write_run};
use super::seal::Sorter;
use super::state::{self, Segment};
use super::{Batch, StoreError};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use tokio::sync::oneshot;

/// Ids held before they become a run.
const PENDING_IDS: usize = 30_000;
/// Rows of one file, about: its footer stays small.
const FILE_ROWS: u64 = 400_000;

/// A piece of a large delivery.
pub(super) enum Piece {
    /// Events.
    Rows(Batch),
    /// The end: rejects, counts, and what names the delivery.
    End(Box<Intake>),
}

/// The sending side of a large delivery. Dropped before its end, nothing of it is stored.
#[derive(Debug)]
pub struct Bulk {
    pieces: SyncSender<Piece>,
    answer: oneshot::Receiver<Result<Verdict, Arc<StoreError>>>,
}

impl Bulk {
    pub(super) fn new(pieces: SyncSender<Piece>, answer: oneshot::Receiver<Result<Verdict, Arc<StoreError>>>) -> Self {
        Self { pieces, answer }
    }

    /// Adds events. Blocks while the store is behind. False: the store has given up; [`Bulk::finish`] says why.
    pub fn add(&self, batch: Batch) -> bool {
        self.pieces.send(Piece::Rows(batch)).is_ok()
    }

    /// Ends the delivery; returns when all of it is durable. Blocks.
    pub fn finish(self, intake: Intake) -> Result<Verdict, Arc<StoreError>> {
        let _ = self.pieces.send(Piece::End(Box::new(intake)));
        drop(self.pieces);
        self.answer.blocking_recv().unwrap_or_else(|_| Err(Arc::new(StoreError::Closed)))
    }
}

#[derive(Default)]
struct Written {
    segments: Vec<Segment>,
    runs: Vec<Arc<Run>>,
}

impl Committer {
    /// Takes the pieces of a large delivery as they come, and commits them as one.
    pub(super) fn commit_bulk(&mut self, pieces: &Receiver<Piece>) -> Result<Verdict, StoreError> {
        if let Some(why) = self.shared.paused() {
            return Err(StoreError::Paused(why));
        }
        let mut written = Written::default();
        let result = self.take_bulk(pieces, &mut written);
        if result.is_err() {
            self.ids.remove_runs(&written.runs.iter().map(|it| it.seq).collect::<Vec<_>>());
            let layout = &self.shared.layout;
            let segments = written.segments.iter().map(|it| layout.tmp_segment(it.seq));
            for path in segments.chain(written.runs.iter().map(|it| layout.tmp_run(it.seq))) {
                let _ = self.shared.disk.remove(&path);
            }
        }
        result
    }

    fn take_bulk(&mut self, pieces: &Receiver<Piece>, written: &mut Written) -> Result<Verdict, StoreError> {
        let shared = Arc::clone(&self.shared);
        let now = shared.clock.now_ms();
        let mut pending = IdSet::default();
        let mut counts = super::Counts::default();
        let mut sorter = Sorter::new(&shared.layout, &*shared.disk);
        let end = loop {
            let step = match pieces.recv() {
                Ok(Piece::Rows(batch)) => self.keep_new_pending(batch, now, &mut pending, &mut counts).and_then(|rows| sorter.add(rows)),
                Ok(Piece::End(intake)) => break intake,
                Err(_) => Err(StoreError::Aborted("its reader stopped".to_owned())),
            };
            let step = step.and_then(|()| if pending.len() >= PENDING_IDS { self.flush_ids(&mut pending, written) } else { Ok(()) });
            if let Err(error) = step {
                sorter.abandon();
                return Err(error);
            }
            if sorter.rows_max() >= FILE_ROWS {
                written.segments.extend(std::mem::replace(&mut sorter, Sorter::new(&shared.layout, &*shared.disk)).finish()?);
            }
        };
        if let Some(object) = end.object.as_ref().filter(|_| !end.is_again) {
            if state::in_ledger(&self.db, object)? {
                sorter.abandon();
                // Seen only now because another delivery of it was committed meanwhile: nothing of this one is kept.
                return self.already_read(*end, written);
            }
        }
        written.segments.extend(sorter.finish()?);
        self.flush_ids(&mut pending, written)?;
        counts.add(&first_counts(&end));
        self.name_bulk(*end, Verdict::Stored(counts), written, now)
    }

    fn already_read(&mut self, end: Intake, written: &mut Written) -> Result<Verdict, StoreError> {
        self.ids.remove_runs(&written.runs.iter().map(|it| it.seq).collect::<Vec<_>>());
        for segment in written.segments.drain(..) {
            let _ = self.shared.disk.remove(&self.shared.layout.tmp_segment(segment.seq));
        }
        for run in written.runs.drain(..) {
            let _ = self.shared.disk.remove(&self.shared.layout.tmp_run(run.seq));
        }
        self.name_bulk(end, Verdict::AlreadyRead, written, self.shared.clock.now_ms())
    }

    fn keep_new_pending(
        &mut self,
        mut batch: Batch,
        now: i64,
        pending: &mut IdSet,
        counts: &mut super::Counts,
    ) -> Result<Batch, StoreError> {
        let mut keep = vec![true; batch.len()];
        for (row, keep) in keep.iter_mut().enumerate() {
            let entry = entry_of(&batch, row);
            *keep = self.is_new(Some(pending), entry, &mut batch.flags[row])?;
            if !*keep {
                continue;
            }
            pending.insert(entry);
        }
        Ok(kept(batch, &keep, now, counts))
    }

    fn flush_ids(&mut self, pending: &mut IdSet, written: &mut Written) -> Result<(), StoreError> {
        if pending.len() == 0 {
            return Ok(());
        }
        let layout = &self.shared.layout;
        let seq = layout.take_seq();
        let path = layout.tmp_run(seq);
        write_run(&*self.shared.disk, &path, std::mem::take(pending).sorted().into_iter().map(Ok))?;
        let run = Arc::new(Run::open(seq, &path)?);
        written.runs.push(Arc::clone(&run));
        self.ids.add_run(run)
    }

    /// The transaction, then the files into their places, then the counters.
    fn name_bulk(&mut self, end: Intake, verdict: Verdict, written: &Written, now: i64) -> Result<Verdict, StoreError> {
        let shared = Arc::clone(&self.shared);
        let at_dir = || StoreError::at(&shared.layout.dir);
        shared.disk.sync_dir(&shared.layout.tmp()).map_err(at_dir())?;
        shared.disk.reached(CrashPoint::BulkWritten).map_err(at_dir())?;
        let tx = self.db.transaction()?;
        for segment in &written.segments {
            state::insert_segment(&tx, segment)?;
        }
        for run in &written.runs {
            state::insert_run(&tx, run)?;
        }
        record(&tx, &end, &verdict, now)?;
        tx.commit()?;
        // From here on the delivery is stored, whatever else fails: the files are found in tmp/ too.
        if let Err(error) = shared
            .disk
            .reached(CrashPoint::BulkCommitted)
            .map_err(at_dir())
            .and_then(|()| self.place(&written.segments, &runs_of(&written.runs)))
        {
            self.shared.pause(&error);
        }
        self.publish(&[end], &[verdict]);
        Ok(verdict)
    }
}

fn runs_of(runs: &[Arc<Run>]) -> Vec<(u64, PathBuf)> {
    runs.iter().map(|run| (run.seq, run.path.clone())).collect()
}

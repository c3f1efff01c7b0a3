//! Deliveries that do not go through the log: one too large for a group, and many whose source can wait for its answer
//! while they come thick and fast. Their events go straight into Parquet, and one transaction names all of them.
//!
//! Atomic at any size, in bounded memory: rows are held up to a row group, ids up to a run. Other deliveries wait.
//! A failure takes the whole session with it; sources send again what could wait, and then each by itself.

use super::commit::{Committer, entry_of, first_counts, intake_size, kept, record};
use super::disk::CrashPoint;
use super::handle::{Message, Reply, Shared};
use super::ids::IdSet;
use super::intake::{Counts, Intake, Verdict};
use super::runs::{Run, write_run};
use super::seal::Sorter;
use super::state::{self, Segment};
use super::tallies::Tallies;
use super::{Batch, StoreError};
use crate::clock::Stopwatch;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;
use tokio::sync::oneshot;

/// Ids held before they become a run.
const PENDING_IDS: usize = 30_000;
/// Rows of one file, about: its footer stays small.
const FILE_ROWS: u64 = 400_000;
/// A session takes no further delivery from so many rows on.
const SESSION_ROWS: u64 = 60_000;
/// Nor from so many matches of rules on: each takes some hundred bytes until the commit.
const SESSION_MATCHES: u64 = 16_384;
/// Nor after this long: sources wait for their answers.
const SESSION_TIME: Duration = Duration::from_secs(2);
/// Nor when nothing came for this long.
const SESSION_IDLE: Duration = Duration::from_millis(20);

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

    /// Ends the delivery. What comes back is to be waited for: then all of it is durable.
    pub fn finish(self, intake: Intake) -> Answer {
        // A store that has given up says why in its answer.
        let _ = self.pieces.send(Piece::End(Box::new(intake)));
        Answer(self.answer)
    }
}

/// What becomes of a large delivery.
#[derive(Debug)]
pub struct Answer(oneshot::Receiver<Result<Verdict, Arc<StoreError>>>);

impl Answer {
    /// Waits for it.
    pub async fn wait(self) -> Result<Verdict, Arc<StoreError>> {
        self.0.await.unwrap_or_else(|_| Err(Arc::new(StoreError::Closed)))
    }
}

/// What a session has made so far.
struct Session<'s> {
    shared: &'s Shared,
    sorter: Sorter<'s>,
    pending: IdSet,
    segments: Vec<Segment>,
    runs: Vec<Arc<Run>>,
    taken: Vec<Intake>,
    verdicts: Vec<Verdict>,
    replies: Vec<Reply>,
    /// What rules found, gathered: it does not grow with what comes.
    tallies: Tallies,
    rows: u64,
    now: i64,
}

impl<'s> Session<'s> {
    fn new(shared: &'s Shared) -> Self {
        Self {
            shared,
            sorter: Sorter::new(&shared.layout, &*shared.disk),
            pending: IdSet::default(),
            segments: Vec::new(),
            runs: Vec::new(),
            taken: Vec::new(),
            verdicts: Vec::new(),
            replies: Vec::new(),
            tallies: Tallies::default(),
            rows: 0,
            now: shared.clock.now_ms(),
        }
    }

    /// Ends the files that are open; the next rows begin new ones.
    fn end_files(&mut self) -> Result<(), StoreError> {
        let fresh = Sorter::new(&self.shared.layout, &*self.shared.disk);
        self.segments.extend(std::mem::replace(&mut self.sorter, fresh).finish()?);
        Ok(())
    }

    fn took(&mut self, mut intake: Intake, verdict: Verdict) {
        intake.room = None;
        self.taken.push(intake);
        self.verdicts.push(verdict);
    }

    /// Removes every file; gives back the runs' numbers, for the index to forget.
    fn abandon(&mut self) -> Vec<u64> {
        let (layout, disk) = (&self.shared.layout, &self.shared.disk);
        std::mem::replace(&mut self.sorter, Sorter::new(layout, &**disk)).abandon();
        let segments = self.segments.drain(..).map(|it| layout.tmp_segment(it.seq));
        let runs: Vec<u64> = self.runs.drain(..).map(|it| it.seq).collect();
        for path in segments.chain(runs.iter().map(|seq| layout.tmp_run(*seq))) {
            let _ = disk.remove(&path);
        }
        runs
    }
}

impl Committer {
    /// Whether deliveries that can wait come so fast that they are better taken together.
    pub(super) fn is_rush(&mut self, intake: &Intake) -> bool {
        let now = self.shared.clock.now_ms();
        if now - self.rush.0 >= 1_000 {
            self.rush = (now, 0);
        }
        self.rush.1 += intake_size(intake) as u64;
        self.rush.1 >= self.shared.options.rush_bytes
    }

    /// Takes a delivery and those that follow it, and commits them as one.
    pub(super) fn commit_session(&mut self, first: Message, messages: &Receiver<Message>, waiting: &mut VecDeque<Message>) {
        let shared = Arc::clone(&self.shared);
        let mut session = Session::new(&shared);
        let result = self.fill(&mut session, first, messages, waiting).and_then(|()| self.name_session(&mut session));
        if result.is_err() {
            let runs = session.abandon();
            self.ids.remove_runs(&runs);
        }
        let verdicts = std::mem::take(&mut session.verdicts);
        self.answer(std::mem::take(&mut session.replies), result.map(|()| verdicts));
    }

    fn fill(
        &mut self,
        session: &mut Session<'_>,
        first: Message,
        messages: &Receiver<Message>,
        waiting: &mut VecDeque<Message>,
    ) -> Result<(), StoreError> {
        let watch = Stopwatch::start();
        let mut next = Some(first);
        while let Some(message) = next.take() {
            let is_first = session.replies.is_empty();
            match message {
                Message::Intake(intake, reply) if is_first || intake.can_wait => {
                    session.replies.push(reply);
                    self.refuse_if_paused()?;
                    self.take_whole(session, *intake)?;
                }
                Message::Bulk { pieces, reply, can_wait } if is_first || can_wait => {
                    session.replies.push(reply);
                    self.refuse_if_paused()?;
                    self.take_pieces(session, &pieces)?;
                    if !can_wait {
                        break;
                    }
                }
                Message::Ask(question) => question(&self.db),
                Message::Wake => {}
                other => {
                    waiting.push_front(other);
                    break;
                }
            }
            self.hear_keeper();
            let is_full = session.rows >= SESSION_ROWS || session.tallies.matches() >= SESSION_MATCHES;
            if is_full || watch.elapsed() >= SESSION_TIME {
                break;
            }
            next = waiting.pop_front().or_else(|| messages.recv_timeout(SESSION_IDLE).ok());
        }
        Ok(())
    }

    fn refuse_if_paused(&self) -> Result<(), StoreError> {
        self.shared.paused().map_or(Ok(()), |why| Err(StoreError::Paused(why)))
    }

    fn take_whole(&mut self, session: &mut Session<'_>, mut intake: Intake) -> Result<(), StoreError> {
        let mut counts = first_counts(&intake);
        for batch in std::mem::take(&mut intake.batches) {
            self.take_rows(session, batch, &mut counts)?;
        }
        session.took(intake, Verdict::Stored(counts));
        Ok(())
    }

    fn take_pieces(&mut self, session: &mut Session<'_>, pieces: &Receiver<Piece>) -> Result<(), StoreError> {
        let mut counts = Counts::default();
        let end = loop {
            match pieces.recv() {
                Ok(Piece::Rows(batch)) => {
                    self.take_rows(session, batch, &mut counts)?;
                    self.hear_keeper();
                }
                Ok(Piece::End(intake)) => break *intake,
                Err(_) => return Err(StoreError::Aborted("its reader stopped".to_owned())),
            }
        };
        if let Some(object) = end.object.as_ref().filter(|_| !end.is_again) {
            if state::in_ledger(&self.db, object)? {
                // Seen only now because another delivery of it was committed meanwhile: nothing of this one is kept.
                // It is alone in its session: what names an object cannot wait.
                let runs = session.abandon();
                self.ids.remove_runs(&runs);
                session.pending = IdSet::default();
                session.tallies = Tallies::default();
                session.took(end, Verdict::AlreadyRead);
                return Ok(());
            }
        }
        counts.add(&first_counts(&end));
        session.took(end, Verdict::Stored(counts));
        Ok(())
    }

    fn take_rows(&mut self, session: &mut Session<'_>, mut batch: Batch, counts: &mut Counts) -> Result<(), StoreError> {
        let mut keep = vec![true; batch.len()];
        for (row, keep) in keep.iter_mut().enumerate() {
            let entry = entry_of(&batch, row);
            *keep = self.is_new(Some(&session.pending), entry, &mut batch.flags[row])?;
            if *keep {
                session.pending.insert(entry);
            }
        }
        let rows = kept(batch, &keep, session.now, counts);
        session.rows += rows.len() as u64;
        session.tallies.add(&rows);
        session.sorter.add(rows)?;
        if session.sorter.rows_max() >= FILE_ROWS {
            session.end_files()?;
        }
        if session.pending.len() >= PENDING_IDS { self.flush_ids(session) } else { Ok(()) }
    }

    fn flush_ids(&mut self, session: &mut Session<'_>) -> Result<(), StoreError> {
        if session.pending.len() == 0 {
            return Ok(());
        }
        let layout = &session.shared.layout;
        let seq = layout.take_seq();
        let path = layout.tmp_run(seq);
        write_run(&*session.shared.disk, &path, std::mem::take(&mut session.pending).sorted().into_iter().map(Ok))?;
        let run = Arc::new(Run::open(seq, &path)?);
        session.runs.push(Arc::clone(&run));
        self.ids.add_unnamed_run(run)
    }

    /// The transaction, then the files into their places, then the counters.
    fn name_session(&mut self, session: &mut Session<'_>) -> Result<(), StoreError> {
        session.end_files()?;
        self.flush_ids(session)?;
        let shared = session.shared;
        let at_dir = || StoreError::at(&shared.layout.dir);
        shared.disk.sync_dir(&shared.layout.tmp()).map_err(at_dir())?;
        shared.disk.reached(CrashPoint::BulkWritten).map_err(at_dir())?;
        let tx = self.db.transaction()?;
        for segment in &session.segments {
            state::insert_segment(&tx, segment)?;
        }
        for run in &session.runs {
            state::insert_run(&tx, run)?;
        }
        for (intake, verdict) in session.taken.iter().zip(&session.verdicts) {
            record(&tx, intake, verdict, session.now)?;
        }
        std::mem::take(&mut session.tallies).record(&tx, self.shared.options.lateness, session.now)?;
        tx.commit()?;
        // From here on the deliveries are stored, whatever else fails: the files are found in tmp/ too.
        self.ids.name_runs();
        let runs: Vec<(u64, PathBuf)> = session.runs.iter().map(|run| (run.seq, run.path.clone())).collect();
        let placed = shared.disk.reached(CrashPoint::BulkCommitted).map_err(at_dir()).and_then(|()| self.place(&session.segments, &runs));
        if let Err(error) = placed {
            self.shared.pause(&error);
        }
        self.publish(&session.taken, &session.verdicts);
        self.merge_runs();
        Ok(())
    }
}

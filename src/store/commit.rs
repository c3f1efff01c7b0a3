//! The committer: one thread, one function that commits, in one documented order.
//!
//! 1. decide: the object against the ledger, each event against the stored ids;
//! 2. write frames to the log, at the length that the state has recorded;
//! 3. sync the log;
//! 4. one `SQLite` transaction: log length, ledger, positions, quarantine, counters, matches, alerts;
//! 5. publish: ids into memory, counters, and then, only then, the verdict that lets the source acknowledge.
//!
//! A crash after 2 or 3 leaves a tail past the recorded length, cut at the next start. A failure is the same: the
//! log is given up where it stands, and the sources hear an error and keep what they have.

use super::disk::{CrashPoint, DiskFile};
use super::frame::FrameWriter;
use super::handle::{Message, Reply, Shared};
use super::ids::{IdIndex, IdSet, Known};
use super::intake::{Counts, Intake, Verdict};
use super::keeper::{Done, Job};
use super::runs::Entry;
use super::state::{self, Log};
use super::tallies::Tallies;
use super::{Batch, StoreError, quarantine};
use crate::event::Flags;
use crate::event::time::HOUR_MS;
use rusqlite::Connection;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, PoisonError};
use tokio::sync::oneshot;

/// Native records in one group commit, about.
const GROUP_RAW_BYTES: usize = 1 << 20;
/// A batch this large gets a frame of its own; smaller ones share one.
const OWN_FRAME_RAW_BYTES: usize = 32 << 10;

/// The log that is being written.
pub(super) struct OpenLog {
    pub(super) log: Log,
    pub(super) file: Box<dyn DiskFile>,
}

pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    pub(super) db: Connection,
    pub(super) ids: IdIndex,
    pub(super) jobs: SyncSender<Job>,
    done: Receiver<Done>,
    pub(super) log: Option<OpenLog>,
    frames: FrameWriter,
    buffer: Vec<u8>,
    pub(super) trash: Vec<(i64, PathBuf)>,
    pub(super) waiting_for_seal: Vec<oneshot::Sender<()>>,
    pub(super) keeper_is_busy: bool,
    pub(super) next_upkeep_ms: i64,
    /// Ids of hours up to this one may have been forgotten.
    pub(super) forgotten_hour: i64,
    /// Since when, ms, and how much of what can wait has come.
    pub(super) rush: (i64, u64),
    _lock: File,
}

impl Committer {
    pub(super) fn new(
        shared: Arc<Shared>,
        db: Connection,
        ids: IdIndex,
        (jobs, done): (SyncSender<Job>, Receiver<Done>),
        lock: File,
    ) -> Result<Self, StoreError> {
        let forgotten_hour = state::meta(&db, "forgotten_hour")?.and_then(|it| it.parse().ok()).unwrap_or(i64::MIN);
        let committer = Self {
            shared,
            db,
            ids,
            jobs,
            done,
            log: None,
            frames: FrameWriter::new()?,
            buffer: Vec::new(),
            trash: Vec::new(),
            waiting_for_seal: Vec::new(),
            keeper_is_busy: false,
            next_upkeep_ms: 0,
            forgotten_hour,
            rush: (0, 0),
            _lock: lock,
        };
        // Logs that a crash left are not written any more: they are sealed first of all.
        for log in state::logs(&committer.db)? {
            if let Some((_, ids)) = committer.ids.sealing.iter().find(|(seq, _)| *seq == log.seq) {
                let _ = committer.jobs.send(Job::Seal { log, ids: Arc::clone(ids) });
            }
        }
        Ok(committer)
    }

    pub(super) fn run(&mut self, messages: &Receiver<Message>) {
        // Deliveries that wait while the keeper is behind: as many as the pipeline lets wait for a commit.
        let mut waiting: VecDeque<Message> = VecDeque::new();
        loop {
            let is_behind = self.is_behind();
            let message = match if is_behind { None } else { waiting.pop_front() } {
                Some(message) => Ok(message),
                None => messages.recv_timeout(self.shared.options.tick),
            };
            match message {
                Ok(message @ (Message::Intake(..) | Message::Bulk { .. })) if is_behind => waiting.push_back(message),
                Ok(Message::Intake(intake, reply)) if intake.can_wait && self.is_rush(&intake) => {
                    self.commit_session(Message::Intake(intake, reply), messages, &mut waiting);
                }
                Ok(Message::Intake(intake, reply)) => {
                    let mut size = intake_size(&intake);
                    let mut group = vec![(*intake, reply)];
                    while size < GROUP_RAW_BYTES {
                        match waiting.pop_front().map_or_else(|| messages.try_recv(), Ok) {
                            Ok(Message::Intake(intake, reply)) => {
                                size += intake_size(&intake);
                                group.push((*intake, reply));
                            }
                            Ok(other) => {
                                waiting.push_front(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.commit_group(group);
                }
                Ok(message @ Message::Bulk { .. }) => self.commit_session(message, messages, &mut waiting),
                Ok(Message::Wake) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::Seal(reply)) => {
                    self.waiting_for_seal.push(reply);
                    self.rotate();
                }
                Ok(Message::Ask(question)) => question(&self.db),
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => return self.empty_trash(i64::MAX),
            }
            self.hear_keeper();
            self.upkeep();
        }
    }

    /// Names what the keeper has done meanwhile.
    pub(super) fn hear_keeper(&mut self) {
        while let Ok(done) = self.done.try_recv() {
            self.done(done);
        }
    }

    /// Whether the log has grown to twice its size because the keeper could not take it: then deliveries wait, or
    /// the ids in memory would grow with what comes.
    fn is_behind(&self) -> bool {
        let is_long = self.log.as_ref().is_some_and(|it| it.log.events >= 2 * self.shared.options.seal_events);
        is_long && !self.ids.sealing.is_empty() && self.shared.paused().is_none()
    }

    fn commit_group(&mut self, group: Vec<(Intake, Reply)>) {
        let (mut intakes, replies): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let result = match self.shared.paused() {
            Some(why) => Err(StoreError::Paused(why)),
            None => self.commit(&mut intakes),
        };
        self.answer(replies, result);
    }

    pub(super) fn answer(&mut self, replies: Vec<Reply>, result: Result<Vec<Verdict>, StoreError>) {
        match result {
            Ok(verdicts) => {
                for (reply, verdict) in replies.into_iter().zip(verdicts) {
                    let _ = reply.send(Ok(verdict));
                }
            }
            Err(error) => {
                if !matches!(error, StoreError::Paused(_) | StoreError::Aborted(_)) {
                    self.shared.pause(&error);
                }
                let error = Arc::new(error);
                for reply in replies {
                    let _ = reply.send(Err(Arc::clone(&error)));
                }
            }
        }
    }

    /// Commits a group of deliveries: the one function. The steps are those of the module's description.
    fn commit(&mut self, group: &mut [Intake]) -> Result<Vec<Verdict>, StoreError> {
        let now = self.shared.clock.now_ms();
        let mut added = Vec::new();
        let result = self.decide(group, now, &mut added).and_then(|(verdicts, batches)| {
            let appended = self.append(&batches, now)?;
            let mut tallies = Tallies::default();
            for batch in &batches {
                tallies.add(batch);
            }
            batches.into_iter().for_each(Batch::recycle);
            self.transact(group, &verdicts, tallies, appended, now)?;
            Ok((verdicts, appended))
        });
        match result {
            Ok((verdicts, appended)) => {
                if let (Some(open), Some((length, events))) = (&mut self.log, appended) {
                    open.log.length = length;
                    open.log.events = events;
                }
                self.publish(group, &verdicts);
                if self.log.as_ref().is_some_and(|it| it.log.events >= self.shared.options.seal_events) {
                    self.rotate();
                }
                Ok(verdicts)
            }
            Err(error) => {
                for entry in &added {
                    self.ids.current.remove(entry);
                }
                // What stands behind the recorded length is not to be trusted, nor is the file.
                self.give_up_log();
                Err(error)
            }
        }
    }

    /// Step 1. Ids go into memory here and out again if the commit fails.
    fn decide(&mut self, group: &mut [Intake], now: i64, added: &mut Vec<Entry>) -> Result<(Vec<Verdict>, Vec<Batch>), StoreError> {
        let mut verdicts = Vec::with_capacity(group.len());
        let mut batches: Vec<Batch> = Vec::new();
        let mut objects = std::collections::HashSet::new();
        for intake in group {
            if let Some(object) = intake.object.clone().filter(|_| !intake.is_again) {
                if state::in_ledger(&self.db, &object)? || !objects.insert(object) {
                    verdicts.push(Verdict::AlreadyRead);
                    continue;
                }
            }
            let mut counts = first_counts(intake);
            for batch in std::mem::take(&mut intake.batches) {
                let kept = self.keep_new(batch, now, &mut counts, added)?;
                match batches.last_mut() {
                    _ if kept.is_empty() => {}
                    Some(last)
                        if kept.raw_bytes() < OWN_FRAME_RAW_BYTES
                            && last.raw_bytes() < OWN_FRAME_RAW_BYTES
                            && last.event_type == kept.event_type
                            && last.has_rules_of(&kept) =>
                    {
                        last.append_all(&kept);
                        kept.recycle();
                    }
                    _ => batches.push(kept),
                }
            }
            verdicts.push(Verdict::Stored(counts));
        }
        Ok((verdicts, batches))
    }

    /// Whether an event is to be stored; flags it where its id is known for something else, or too old to be known.
    pub(super) fn is_new(&mut self, pending: Option<&IdSet>, entry: Entry, flags: &mut Flags) -> Result<bool, StoreError> {
        match self.ids.look_up(pending, entry)? {
            Known::Duplicate => return Ok(false),
            Known::Conflict => flags.insert(Flags::CONFLICT),
            Known::New if entry.hour <= self.forgotten_hour => flags.insert(Flags::LATE),
            Known::New => {}
        }
        Ok(true)
    }

    fn keep_new(&mut self, mut batch: Batch, now: i64, counts: &mut Counts, added: &mut Vec<Entry>) -> Result<Batch, StoreError> {
        let mut keep = vec![true; batch.len()];
        for (row, keep) in keep.iter_mut().enumerate() {
            let entry = entry_of(&batch, row);
            *keep = self.is_new(None, entry, &mut batch.flags[row])?;
            if !*keep {
                continue;
            }
            self.ids.current.insert(entry);
            added.push(entry);
        }
        Ok(kept(batch, &keep, now, counts))
    }

    /// Steps 2 and 3; returns the log's new length and number of events. Nothing to write: none.
    fn append(&mut self, batches: &[Batch], now: i64) -> Result<Option<(u64, u64)>, StoreError> {
        if batches.is_empty() {
            return Ok(None);
        }
        self.buffer.clear();
        for batch in batches {
            self.frames.write(batch, now, &mut self.buffer)?;
        }
        if self.log.is_none() {
            self.log = Some(self.new_log(now)?);
        }
        let Some(open) = &mut self.log else { return Err(StoreError::Closed) };
        let path = self.shared.layout.log(open.log.seq);
        open.file.write_all(&self.buffer).map_err(StoreError::at(&path))?;
        self.shared.disk.reached(CrashPoint::FramesWritten).map_err(StoreError::at(&path))?;
        open.file.sync().map_err(StoreError::at(&path))?;
        self.shared.disk.reached(CrashPoint::LogSynced).map_err(StoreError::at(&path))?;
        let length = open.log.length + self.buffer.len() as u64;
        let events = open.log.events + batches.iter().map(|it| it.len() as u64).sum::<u64>();
        self.buffer.shrink_to(GROUP_RAW_BYTES);
        Ok(Some((length, events)))
    }

    fn new_log(&self, now: i64) -> Result<OpenLog, StoreError> {
        let layout = &self.shared.layout;
        let seq = layout.take_seq();
        let file = self.shared.disk.create_new(&layout.log(seq)).map_err(StoreError::at(&layout.log(seq)))?;
        self.shared.disk.sync_dir(&layout.logs()).map_err(StoreError::at(&layout.logs()))?;
        Ok(OpenLog { log: Log { seq, length: 0, events: 0, opened_ms: now }, file })
    }

    /// Step 4.
    fn transact(
        &mut self,
        group: &[Intake],
        verdicts: &[Verdict],
        tallies: Tallies,
        appended: Option<(u64, u64)>,
        now: i64,
    ) -> Result<(), StoreError> {
        let tx = self.db.transaction()?;
        if let (Some(open), Some((length, events))) = (&self.log, appended) {
            tx.prepare_cached("INSERT INTO log VALUES (?1, ?2, ?3, ?4) ON CONFLICT (seq) DO UPDATE SET length = ?2, events = ?3")?
                .execute((open.log.seq, length, events, open.log.opened_ms))?;
        }
        for (intake, verdict) in group.iter().zip(verdicts) {
            record(&tx, intake, verdict, now)?;
        }
        tallies.record(&tx, self.shared.options.lateness, now)?;
        tx.commit()?;
        self.shared.disk.reached(CrashPoint::StateCommitted).map_err(StoreError::at(&self.shared.layout.dir))
    }

    /// Step 5.
    pub(super) fn publish(&self, group: &[Intake], verdicts: &[Verdict]) {
        let mut totals = self.shared.totals.lock().unwrap_or_else(PoisonError::into_inner);
        for (intake, verdict) in group.iter().zip(verdicts) {
            for (name, n) in counters_of(intake, verdict) {
                match totals.iter_mut().find(|(source, it, _)| *source == intake.source && *it == name) {
                    Some((.., total)) => *total += n,
                    None if n > 0 => totals.push((intake.source.clone(), name, n)),
                    None => {}
                }
            }
        }
    }
}

pub(super) fn intake_size(intake: &Intake) -> usize {
    intake.batches.iter().map(Batch::raw_bytes).sum()
}

pub(super) fn first_counts(intake: &Intake) -> Counts {
    let quarantined = intake.rejects.len() as u64 + intake.rejects_unlisted;
    Counts { received: quarantined + intake.filtered, quarantined, filtered: intake.filtered, ..Counts::default() }
}

pub(super) fn entry_of(batch: &Batch, row: usize) -> Entry {
    Entry { hour: batch.event_times[row].div_euclid(HOUR_MS), id: batch.ids[row], fingerprint: batch.fingerprints[row] }
}

/// The rows that are kept, with their insert time; counts all.
pub(super) fn kept(mut batch: Batch, keep: &[bool], now: i64, counts: &mut Counts) -> Batch {
    counts.received += batch.len() as u64;
    batch.insert_times.fill(now);
    if keep.contains(&false) {
        let mut rest = Batch::recycled(batch.event_type);
        rest.append(&batch, |row| keep[row]);
        counts.duplicate += (batch.len() - rest.len()) as u64;
        std::mem::replace(&mut batch, rest).recycle();
    }
    counts.stored += batch.len() as u64;
    let with = |flag| batch.flags.iter().filter(|it| it.contains(flag)).count() as u64;
    counts.conflict += with(Flags::CONFLICT);
    counts.account_mismatch += with(Flags::ACCOUNT_MISMATCH);
    counts.late += with(Flags::LATE);
    batch
}

/// Every counter that a delivery moves.
fn counters_of(intake: &Intake, verdict: &Verdict) -> Vec<(String, u64)> {
    match verdict {
        Verdict::AlreadyRead => vec![("skipped/already_read".to_owned(), 1)],
        Verdict::Stored(counts) => {
            let mut all: Vec<_> = counts.named().into_iter().map(|(name, n)| (name.to_owned(), n)).collect();
            all.push(("bytes".to_owned(), intake.bytes));
            all.extend(intake.skipped.iter().map(|(reason, n)| (format!("skipped/{reason}"), *n)));
            if intake.forwarded > 0 {
                all.push(("forwarded".to_owned(), intake.forwarded));
            }
            if intake.rejects_unlisted > 0 {
                all.push(("quarantined/unlisted".to_owned(), intake.rejects_unlisted));
            }
            all.extend(intake.rejects.iter().map(|it| (format!("quarantined/{}", it.reason), 1)));
            all
        }
    }
}

/// What the state remembers of one delivery, in the commit's transaction.
pub(super) fn record(tx: &rusqlite::Transaction<'_>, intake: &Intake, verdict: &Verdict, now: i64) -> Result<(), StoreError> {
    for (name, n) in counters_of(intake, verdict) {
        state::add_counter(tx, &intake.source, &name, n)?;
    }
    if let Some(uri) = &intake.settles_uri {
        quarantine::settle_uri(tx, &intake.source, uri)?;
    }
    for id in &intake.settles {
        quarantine::settle(tx, *id)?;
    }
    if *verdict == Verdict::AlreadyRead {
        return Ok(());
    }
    for parked in &intake.rejects {
        quarantine::insert(tx, &intake.source, parked, now)?;
    }
    if let Some(object) = &intake.object {
        state::add_to_ledger(tx, object, now)?;
    }
    for (path, stamp) in &intake.files {
        tx.prepare_cached("INSERT INTO files VALUES (?1, ?2, ?3) ON CONFLICT (source, path) DO UPDATE SET stamp = ?3")?.execute((
            &intake.source,
            path,
            stamp,
        ))?;
    }
    for path in &intake.forgets {
        tx.prepare_cached("DELETE FROM files WHERE source = ?1 AND path = ?2")?.execute((&intake.source, path))?;
    }
    Ok(())
}

//! What the committer does between commits: sealing, merging, retention, trash, and waking from a full disk.

use super::commit::Committer;
use super::disk::CrashPoint;
use super::evidence::{self, Named};
use super::keeper::{Done, Job};
use super::recover::sync_parent;
use super::runs::Run;
use super::seal::Sealed;
use super::state::{self, Log, Segment};
use super::{StoreError, alerts};
use crate::event::EventId;
use crate::event::time::HOUR_MS;
use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// How long a file that is off the list stays, for readers that had the list before, ms.
const GRACE_MS: i64 = 5 * 60_000;
/// How often retention and merging are looked at, ms.
const UPKEEP_MS: i64 = 10_000;
/// Ids of `CloudTrail` events are kept at least this long, hours: a queue's longest retention, 14 days.
const IDS_HOURS: i64 = 14 * 24;
/// A segment with more rows is not merged again.
const MERGE_ROWS_MAX: u64 = 300_000;
/// How much is written to see whether the disk works.
const PROBE_BYTES: usize = 64 << 10;
/// How many logs may wait for the keeper before the log is left to grow.
const SEALING_MAX: usize = 2;

impl Committer {
    /// Starts a new log with the next commit, and lets the keeper seal this one.
    pub(super) fn rotate(&mut self) {
        if let Some(open) = self.log.take_if(|it| it.log.events > 0 && self.ids.sealing.len() < SEALING_MAX) {
            let ids = Arc::new(std::mem::take(&mut self.ids.current));
            self.ids.sealing.push((open.log.seq, Arc::clone(&ids)));
            let _ = self.jobs.send(Job::Seal { log: open.log, ids });
        }
        self.answer_sealed();
    }

    fn answer_sealed(&mut self) {
        let has_events = self.log.as_ref().is_some_and(|it| it.log.events > 0);
        if !has_events && self.ids.sealing.is_empty() {
            for reply in self.waiting_for_seal.drain(..) {
                let _ = reply.send(());
            }
        }
    }

    /// Leaves the log where it is: its recorded part is whole, what is behind it may be anything.
    pub(super) fn give_up_log(&mut self) {
        let Some(open) = self.log.take() else { return };
        if open.log.events > 0 {
            let ids = Arc::new(std::mem::take(&mut self.ids.current));
            self.ids.sealing.push((open.log.seq, Arc::clone(&ids)));
            let _ = self.jobs.send(Job::Seal { log: open.log, ids });
        } else {
            let _ = self.shared.disk.remove(&self.shared.layout.log(open.log.seq));
        }
    }

    /// Names what the keeper has done.
    pub(super) fn done(&mut self, done: Done) {
        let result = match done {
            Done::Sealed { log, sealed } => self.name_sealed(&log, &sealed),
            Done::MergedRuns { old, seq, entries, floor } => {
                self.keeper_is_busy = false;
                self.name_merged_runs(&old, seq, entries, floor)
            }
            Done::MergedSegments { old, new } => {
                self.keeper_is_busy = false;
                self.name_merged_segments(&old, &new)
            }
            Done::Found(named, found) => {
                self.keeper_is_busy = false;
                self.keep_evidence(&named, &found)
            }
            Done::GaveUp => {
                self.keeper_is_busy = false;
                Ok(())
            }
        };
        if let Err(error) = result {
            self.shared.pause(&error);
        }
        if self.waiting_for_seal.is_empty() {
            self.merge_runs();
        }
        if !self.waiting_for_seal.is_empty() || self.log.as_ref().is_some_and(|it| it.log.events >= self.shared.options.seal_events) {
            self.rotate();
        }
    }

    fn name_sealed(&mut self, log: &Log, sealed: &Sealed) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let at_dir = || StoreError::at(&shared.layout.dir);
        let Some((seq, _)) = sealed.run else { return Ok(()) };
        let run = match self.commit_sealed(log, sealed, seq) {
            Ok(run) => run,
            Err(error) => {
                // Nothing is named: the log stays, and is sealed again.
                self.seal_again(log);
                return Err(error);
            }
        };
        shared.disk.reached(CrashPoint::SealCommitted).map_err(at_dir())?;
        self.ids.add_run(Arc::clone(&run))?;
        self.ids.sealing.retain(|(seq, _)| *seq != log.seq);
        self.place(&sealed.segments, &[(seq, run.path.clone())])?;
        shared.disk.reached(CrashPoint::SealRenamed).map_err(at_dir())?;
        self.throw_away(shared.layout.log(log.seq));
        self.answer_sealed();
        Ok(())
    }

    /// The transaction that names a sealed log's files instead of the log.
    fn commit_sealed(&mut self, log: &Log, sealed: &Sealed, seq: u64) -> Result<Arc<Run>, StoreError> {
        let shared = Arc::clone(&self.shared);
        let run = Arc::new(Run::open(seq, &shared.layout.tmp_run(seq))?);
        shared.disk.reached(CrashPoint::SealWritten).map_err(StoreError::at(&shared.layout.dir))?;
        let tx = self.db.transaction()?;
        for segment in &sealed.segments {
            state::insert_segment(&tx, segment)?;
        }
        state::insert_run(&tx, &run)?;
        tx.execute("DELETE FROM log WHERE seq = ?1", [log.seq])?;
        tx.commit()?;
        Ok(run)
    }

    /// The files of the first attempt stay in `tmp/` until the next start: after a failed commit only the state, read
    /// anew, knows for certain that it does not name them.
    fn seal_again(&self, log: &Log) {
        if let Some((_, ids)) = self.ids.sealing.iter().find(|(seq, _)| *seq == log.seq) {
            let _ = self.jobs.send(Job::Seal { log: *log, ids: Arc::clone(ids) });
        }
    }

    /// Moves named files from `tmp/` to where they belong. They are found in both places.
    pub(super) fn place(&self, segments: &[Segment], runs: &[(u64, PathBuf)]) -> Result<(), StoreError> {
        let (layout, disk) = (&self.shared.layout, &*self.shared.disk);
        for segment in segments {
            let folder = layout.segment_folder(segment);
            disk.create_dir_all(&folder).map_err(StoreError::at(&folder))?;
            sync_parent(disk, &folder)?;
            let place = layout.segment(segment);
            disk.rename(&layout.tmp_segment(segment.seq), &place).map_err(StoreError::at(&place))?;
            disk.sync_dir(&folder).map_err(StoreError::at(&folder))?;
        }
        for (seq, from) in runs {
            let place = layout.run(*seq);
            disk.rename(from, &place).map_err(StoreError::at(&place))?;
        }
        for folder in [layout.ids(), layout.events(), layout.tmp()] {
            disk.sync_dir(&folder).map_err(StoreError::at(&folder))?;
        }
        Ok(())
    }

    fn name_merged_runs(&mut self, old: &[u64], seq: u64, entries: u64, floor: i64) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let at_dir = || StoreError::at(&shared.layout.dir);
        let path = shared.layout.tmp_run(seq);
        shared.disk.reached(CrashPoint::MergeWritten).map_err(at_dir())?;
        let run = (entries > 0).then(|| Run::open(seq, &path).map(Arc::new)).transpose()?;
        let tx = self.db.transaction()?;
        for seq in old {
            tx.execute("DELETE FROM runs WHERE seq = ?1", [seq])?;
        }
        if let Some(run) = &run {
            state::insert_run(&tx, run)?;
        }
        state::set_meta(&tx, "forgotten_hour", &self.forgotten_hour.max(floor - 1).to_string())?;
        tx.commit()?;
        self.forgotten_hour = self.forgotten_hour.max(floor - 1);
        shared.disk.reached(CrashPoint::MergeCommitted).map_err(at_dir())?;
        self.ids.remove_runs(old);
        match run {
            Some(run) => {
                self.ids.add_run(Arc::clone(&run))?;
                self.place(&[], &[(seq, run.path.clone())])?;
            }
            None => shared.disk.remove(&path).map_err(StoreError::at(&path))?,
        }
        // Only this process reads runs: their files may go at once.
        for seq in old {
            let _ = shared.disk.remove(&shared.layout.run(*seq));
        }
        Ok(())
    }

    fn name_merged_segments(&mut self, old: &[Segment], new: &[Segment]) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let at_dir = || StoreError::at(&shared.layout.dir);
        shared.disk.reached(CrashPoint::MergeWritten).map_err(at_dir())?;
        let tx = self.db.transaction()?;
        for segment in old {
            tx.execute("DELETE FROM segments WHERE seq = ?1", [segment.seq])?;
        }
        for segment in new {
            state::insert_segment(&tx, segment)?;
        }
        tx.commit()?;
        shared.disk.reached(CrashPoint::MergeCommitted).map_err(at_dir())?;
        self.place(new, &[])?;
        for segment in old {
            self.throw_away(shared.layout.segment(segment));
        }
        Ok(())
    }

    fn throw_away(&mut self, path: PathBuf) {
        self.trash.push((self.shared.clock.now_ms() + GRACE_MS, path));
    }

    /// Removes what has waited long enough.
    pub(super) fn empty_trash(&mut self, now: i64) {
        let disk = Arc::clone(&self.shared.disk);
        self.trash.retain(|(due, path)| {
            let is_due = *due <= now;
            if is_due {
                let _ = disk.remove(path);
            }
            !is_due
        });
    }

    /// Looks after everything that is due.
    pub(super) fn upkeep(&mut self) {
        let now = self.shared.clock.now_ms();
        if now < self.next_upkeep_ms && self.shared.paused().is_none() {
            return;
        }
        // Before segments: many runs slow every look-up down, many segments only searches.
        self.merge_runs();
        self.next_upkeep_ms = now + if self.shared.paused().is_some() { 0 } else { UPKEEP_MS.min(self.shared.options.seal_ms) };
        let seal_ms = self.shared.options.seal_ms;
        if self.log.as_ref().is_some_and(|it| now - it.log.opened_ms >= seal_ms) {
            self.rotate();
        }
        self.empty_trash(now);
        let result =
            self.copy_evidence().and_then(|()| self.expire(now)).and_then(|()| self.probe()).and_then(|()| self.merge_segments(now));
        match result {
            Ok(()) => {
                self.shared.resume();
                self.shared.layout.fill_reserve();
            }
            Err(error) => self.shared.pause(&error),
        }
    }

    /// Events that alerts show are copied before retention can reach them.
    fn copy_evidence(&mut self) -> Result<(), StoreError> {
        if self.keeper_is_busy || self.shared.is_closing() || self.shared.paused().is_some() {
            return Ok(());
        }
        let named = evidence::to_copy(&self.db)?;
        if !named.is_empty() {
            self.keeper_is_busy = self.jobs.try_send(Job::Find(named)).is_ok();
        }
        Ok(())
    }

    fn keep_evidence(&mut self, named: &[Named], found: &HashMap<EventId, String>) -> Result<(), StoreError> {
        let tx = self.db.transaction()?;
        evidence::copied(&tx, named, found)?;
        tx.commit()?;
        self.copy_evidence()
    }

    /// Whether the disk takes a file: asked only while the store is paused.
    fn probe(&self) -> Result<(), StoreError> {
        if self.shared.paused().is_none() {
            return Ok(());
        }
        let path = self.shared.layout.tmp().join("probe");
        let _ = self.shared.disk.remove(&path);
        let mut file = self.shared.disk.create_new(&path).map_err(StoreError::at(&path))?;
        let result = file.write_all(&vec![0; PROBE_BYTES]).and_then(|()| file.sync());
        let _ = self.shared.disk.remove(&path);
        result.map_err(StoreError::at(&path))
    }

    /// Retention: events whose hour of collection is over long enough; objects that are remembered long enough.
    fn expire(&mut self, now: i64) -> Result<(), StoreError> {
        let cutoff = now.div_euclid(HOUR_MS) - self.shared.options.retention_hours;
        let expired: Vec<Segment> = state::segments(&self.db)?.into_iter().filter(|it| it.collected < cutoff).collect();
        let tx = self.db.transaction()?;
        for segment in &expired {
            tx.execute("DELETE FROM segments WHERE seq = ?1", [segment.seq])?;
        }
        state::forget_old_objects(&tx, now)?;
        alerts::upkeep(&tx, &self.shared.options.rules.get(), self.shared.options.lateness, now)?;
        tx.commit()?;
        if !expired.is_empty() {
            self.shared.disk.reached(CrashPoint::RetentionCommitted).map_err(StoreError::at(&self.shared.layout.dir))?;
            let is_full = self.shared.paused().is_some();
            for segment in expired {
                let path = self.shared.layout.segment(&segment);
                if is_full {
                    let _ = self.shared.disk.remove(&path);
                } else {
                    self.throw_away(path);
                }
            }
        }
        Ok(())
    }

    fn merge_segments(&mut self, now: i64) -> Result<(), StoreError> {
        if self.keeper_is_busy || self.shared.is_closing() {
            return Ok(());
        }
        let this_hour = now.div_euclid(HOUR_MS);
        let mut groups: std::collections::BTreeMap<(String, i64), Vec<Segment>> = std::collections::BTreeMap::new();
        for segment in state::segments(&self.db)?.into_iter().filter(|it| it.rows < MERGE_ROWS_MAX) {
            groups.entry((segment.event_type.clone(), segment.collected)).or_default().push(segment);
        }
        let due = groups
            .into_iter()
            .find(|((_, hour), group)| group.len() >= self.shared.options.merge_segments || *hour < this_hour - 1 && group.len() > 1);
        if let Some((_, mut group)) = due {
            let mut rows = 0;
            group.retain(|it| {
                rows += it.rows;
                rows <= 2 * MERGE_ROWS_MAX
            });
            self.keeper_is_busy = self.jobs.try_send(Job::MergeSegments(group)).is_ok();
        }
        Ok(())
    }

    /// Runs become fewer; hours whose ids are not needed any more fall away.
    pub(super) fn merge_runs(&mut self) {
        if self.keeper_is_busy || self.shared.is_closing() {
            return;
        }
        let floor = self.shared.clock.now_ms().div_euclid(HOUR_MS) - IDS_HOURS;
        let Ok(segments) = state::segments(&self.db) else { return };
        let covered: Vec<_> = segments.iter().map(|it| (it.time_min.div_euclid(HOUR_MS), it.time_max.div_euclid(HOUR_MS))).collect();
        let is_dead = |run: &&Arc<Run>| {
            run.hours().is_some_and(|(min, max)| max < floor && !covered.iter().any(|(from, to)| *from <= max && *to >= min))
        };
        let dead: Vec<_> = self.ids.named_runs().filter(is_dead).cloned().collect();
        let runs = if dead.is_empty() { self.ids.to_merge() } else { Some(dead) };
        if let Some(runs) = runs {
            self.keeper_is_busy = self.jobs.try_send(Job::MergeRuns { runs, floor, covered }).is_ok();
        }
    }
}

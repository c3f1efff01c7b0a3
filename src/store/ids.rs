//! Exactly one stored event per real event: which ids are stored (DESIGN.md §2, Identity).
//!
//! Exact, and of bounded memory: ids not yet in a run file are in a map (at most what the logs hold), all others in
//! sorted runs on disk. The look-up of an id touches one hour of each run, and merging keeps the runs few.

use super::StoreError;
use super::runs::{Entry, Run};
use crate::event::EventId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// When this many runs of a size are there, they become one.
const MERGE_AT: usize = 4;
/// So many become one at once, at most: the keeper has other work as well.
const MERGED_MAX: usize = 64;
/// The size of the smallest runs; each next size is [`MERGE_AT`] times as large.
const SMALLEST_IDS: u64 = 40_000;
/// Filters over the smaller runs may take this much memory; larger runs are looked up on disk.
const FILTER_BYTES_MAX: usize = 8 << 20;

/// What is known of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Not stored.
    New,
    /// Stored, and says the same.
    Duplicate,
    /// Stored, and says something else.
    Conflict,
}

/// Ids are hashes already.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_i64(&mut self, n: i64) {
        self.write_u64(n as u64);
    }

    fn write_u128(&mut self, n: u128) {
        self.write_u64(n as u64 ^ (n >> 64) as u64);
    }
}

/// Ids in memory, with what each said first; what else an id said stands beside it.
#[derive(Default)]
pub(super) struct IdSet {
    first: HashMap<(i64, EventId), u64, BuildHasherDefault<IdHasher>>,
    others: Vec<Entry>,
}

impl IdSet {
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.others.len()
    }

    pub(super) fn look_up(&self, hour: i64, id: EventId, fingerprint: u64) -> Known {
        match self.first.get(&(hour, id)) {
            None => Known::New,
            Some(said) if *said == fingerprint => Known::Duplicate,
            Some(_) if self.others.contains(&Entry { hour, id, fingerprint }) => Known::Duplicate,
            Some(_) => Known::Conflict,
        }
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        let said = *self.first.entry((entry.hour, entry.id)).or_insert(entry.fingerprint);
        if said != entry.fingerprint {
            self.others.push(entry);
        }
    }

    /// Takes an entry out that was put in since, in the same commit.
    pub(super) fn remove(&mut self, entry: &Entry) {
        if let Some(at) = self.others.iter().position(|it| it == entry) {
            self.others.swap_remove(at);
        } else {
            self.first.remove(&(entry.hour, entry.id));
        }
    }

    fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let first = self.first.iter().map(|((hour, id), fingerprint)| Entry { hour: *hour, id: *id, fingerprint: *fingerprint });
        first.chain(self.others.iter().copied())
    }

    /// All entries as a run holds them.
    pub(super) fn sorted(&self) -> Vec<Entry> {
        let mut entries: Vec<_> = self.entries().collect();
        entries.sort_unstable();
        entries
    }
}

/// A small set of hashes per run: says for certain when an id is not in it.
struct Filter {
    bits: Vec<u64>,
}

impl Filter {
    /// What a filter over so many ids takes.
    fn bytes(ids: u64) -> usize {
        (ids as usize).div_ceil(8).max(8) * 8
    }

    /// About one byte an id, three bits each: one false hit in thirty.
    fn of(run: &Run) -> Result<Self, StoreError> {
        let mut filter = Self { bits: vec![0; Self::bytes(run.entries) / 8] };
        for entry in run.iter() {
            let (word, mask) = filter.place(entry?.id);
            filter.bits[word] |= mask;
        }
        Ok(filter)
    }

    fn place(&self, id: EventId) -> (usize, u64) {
        // The low half: the high half orders the run.
        let hash = (id.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mask = 1 << (hash & 63) | 1 << (hash >> 6 & 63) | 1 << (hash >> 12 & 63);
        (((u128::from(hash) * self.bits.len() as u128) >> 64) as usize, mask)
    }

    fn may_hold(&self, id: EventId) -> bool {
        let (word, mask) = self.place(id);
        self.bits[word] & mask == mask
    }
}

/// All stored ids.
#[derive(Default)]
pub(super) struct IdIndex {
    /// Those of the log that is being written.
    pub(super) current: IdSet,
    /// Those of logs that are being sealed, by log.
    pub(super) sealing: Vec<(u64, Arc<IdSet>)>,
    runs: Vec<(Arc<Run>, Option<Filter>)>,
    /// Runs of a commit that is being made: looked up, but neither merged nor kept if it fails.
    unnamed: Vec<u64>,
    block: Vec<u8>,
}

impl IdIndex {
    /// What is known of an id, also in `pending`, which is not committed yet.
    pub(super) fn look_up(&mut self, pending: Option<&IdSet>, entry: Entry) -> Result<Known, StoreError> {
        let Entry { hour, id, fingerprint } = entry;
        let mut known = Known::New;
        let sets = pending.into_iter().chain([&self.current]).chain(self.sealing.iter().map(|(_, set)| &**set));
        for set in sets {
            match set.look_up(hour, id, fingerprint) {
                Known::Duplicate => return Ok(Known::Duplicate),
                Known::Conflict => known = Known::Conflict,
                Known::New => {}
            }
        }
        for (run, filter) in &self.runs {
            if filter.as_ref().is_none_or(|it| it.may_hold(id)) {
                let mut is_same = false;
                run.look_up(hour, id, &mut self.block, |said| {
                    is_same |= said == fingerprint;
                    known = Known::Conflict;
                })?;
                if is_same {
                    return Ok(Known::Duplicate);
                }
            }
        }
        Ok(known)
    }

    /// Adds a run, newest last.
    pub(super) fn add_run(&mut self, run: Arc<Run>) -> Result<(), StoreError> {
        let is_small = Filter::bytes(run.entries) <= FILTER_BYTES_MAX / 3;
        let filter = if is_small { Some(Filter::of(&run)?) } else { None };
        self.runs.push((run, filter));
        // Those of the largest go first: one of them takes as much as very many small ones.
        while self.filter_bytes() > FILTER_BYTES_MAX {
            let largest = self.runs.iter_mut().filter(|(_, filter)| filter.is_some()).max_by_key(|(run, _)| run.entries);
            let Some((_, filter)) = largest else { break };
            *filter = None;
        }
        Ok(())
    }

    fn filter_bytes(&self) -> usize {
        self.runs.iter().filter_map(|(_, filter)| filter.as_ref()).map(|it| it.bits.len() * 8).sum()
    }

    /// Adds a run of a commit that is being made.
    pub(super) fn add_unnamed_run(&mut self, run: Arc<Run>) -> Result<(), StoreError> {
        let seq = run.seq;
        self.add_run(run)?;
        self.unnamed.push(seq);
        Ok(())
    }

    /// The commit is made: its runs are as good as any.
    pub(super) fn name_runs(&mut self) {
        self.unnamed.clear();
    }

    /// Takes runs out; their files are the caller's to remove.
    pub(super) fn remove_runs(&mut self, seqs: &[u64]) {
        self.runs.retain(|(run, _)| !seqs.contains(&run.seq));
        self.unnamed.retain(|it| !seqs.contains(it));
    }

    /// The runs that the state names.
    pub(super) fn named_runs(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.runs.iter().map(|(run, _)| run).filter(|it| !self.unnamed.contains(&it.seq))
    }

    /// The runs to make one of: the size of which there are most, if there are enough. By size alone one would starve another.
    pub(super) fn to_merge(&self) -> Option<Vec<Arc<Run>>> {
        let size = |run: &Run| (run.entries / SMALLEST_IDS).max(1).ilog(MERGE_AT as u64);
        let mut sizes: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        self.named_runs().for_each(|run| sizes.entry(size(run)).or_default().push(Arc::clone(run)));
        let mut most = sizes.into_values().max_by_key(Vec::len)?;
        most.truncate(MERGED_MAX);
        (most.len() >= MERGE_AT).then_some(most)
    }
}

/// The entries of several runs in order, those of hours that are not kept left out.
pub(super) fn merged<'r>(runs: &'r [Arc<Run>], keep: impl Fn(i64) -> bool + 'r) -> impl Iterator<Item = Result<Entry, StoreError>> + 'r {
    let mut rests: Vec<_> = runs.iter().map(|run| run.iter()).collect();
    // The next entry of each run, least first.
    let mut heads: BinaryHeap<Reverse<(Entry, usize)>> = BinaryHeap::with_capacity(runs.len());
    let mut to_read: Vec<usize> = (0..rests.len()).collect();
    std::iter::from_fn(move || {
        loop {
            while let Some(n) = to_read.pop() {
                match rests[n].next() {
                    Some(Ok(entry)) => heads.push(Reverse((entry, n))),
                    Some(Err(error)) => return Some(Err(error)),
                    None => {}
                }
            }
            let Reverse((entry, n)) = heads.pop()?;
            to_read.push(n);
            if keep(entry.hour) {
                return Some(Ok(entry));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::disk::RealDisk;
    use super::super::runs::write_run;
    use super::*;

    fn run(folder: &std::path::Path, seq: u64) -> Arc<Run> {
        run_of(folder, seq, 1_000)
    }

    fn run_of(folder: &std::path::Path, seq: u64, n: u64) -> Arc<Run> {
        let path = folder.join(seq.to_string());
        let entry = |n: u64| Entry { hour: 0, id: EventId(u128::from(n * 16 + seq) << 64), fingerprint: n };
        write_run(&RealDisk, &path, (0..n).map(|n| Ok(entry(n)))).unwrap();
        Arc::new(Run::open(seq, &path).unwrap())
    }

    #[test]
    fn merged_runs_are_in_order_without_hours_that_are_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let runs: Vec<_> = (0..7).map(|seq| run(folder.path(), seq)).collect();
        let entries: Vec<_> = merged(&runs, |_| true).map(Result::unwrap).collect();
        assert!(entries.len() == 7_000 && entries.is_sorted());
        assert_eq!(merged(&runs, |hour| hour > 0).count(), 0);
    }

    // Merged, they would outlive a commit that fails, and its events would be duplicates when they come again.
    #[test]
    fn runs_of_a_commit_that_is_being_made_are_looked_up_and_not_merged() {
        let folder = tempfile::tempdir().unwrap();
        let mut index = IdIndex::default();
        for seq in 0..MERGE_AT as u64 {
            index.add_unnamed_run(run(folder.path(), seq)).unwrap();
        }
        let entry = Entry { hour: 0, id: EventId(16 << 64), fingerprint: 1 };
        assert_eq!(index.look_up(None, entry).unwrap(), Known::Duplicate);
        assert!(index.to_merge().is_none());
        index.name_runs();
        assert_eq!(index.to_merge().unwrap().len(), MERGE_AT);
        index.remove_runs(&[0, 1, 2, 3]);
        assert_eq!(index.look_up(None, entry).unwrap(), Known::New);
    }
    #[test]
    fn runs_of_no_size_wait_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let mut index = IdIndex::default();
        let large: Vec<_> = (0..5).map(|seq| run_of(folder.path(), seq, SMALLEST_IDS * MERGE_AT as u64)).collect();
        let small: Vec<_> = (5..9).map(|seq| run(folder.path(), seq)).collect();
        large.into_iter().chain(small).for_each(|it| index.add_run(it).unwrap());
        assert_eq!(index.to_merge().unwrap().len(), 5);
        index.remove_runs(&[0, 1, 2, 3, 4]);
        assert_eq!(index.to_merge().unwrap().len(), 4);
    }

    #[test]
    fn filters_of_small_runs_stay_when_there_are_too_many() {
        let folder = tempfile::tempdir().unwrap();
        let mut index = IdIndex::default();
        let third = FILTER_BYTES_MAX as u64 / 3;
        index.add_run(run_of(folder.path(), 0, third + 8)).unwrap();
        assert_eq!(index.filter_bytes(), 0, "one run takes a third at most");
        for seq in 1..4 {
            index.add_run(run_of(folder.path(), seq, third - 8 * seq)).unwrap();
        }
        let before = index.filter_bytes();
        assert!(before > FILTER_BYTES_MAX * 9 / 10 && before <= FILTER_BYTES_MAX);
        index.add_run(run_of(folder.path(), 4, 100_000)).unwrap();
        let has: Vec<_> = index.runs.iter().map(|(_, filter)| filter.is_some()).collect();
        assert_eq!(has, [false, false, true, true, true]);
        for (run, filter) in &index.runs {
            let mut entries = run.iter().step_by(1_000);
            assert!(filter.as_ref().is_none_or(|it| entries.all(|entry| it.may_hold(entry.unwrap().id))));
        }
    }
}

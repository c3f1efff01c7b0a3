//! Sealing: a log becomes Parquet and a run of ids. Merging: small segments become one, small runs too. Row groups that are large enough are
//! taken over as they are.
//!
//! These write files and touch no state: the committer names the result in one transaction, then moves it.

use super::StoreError;
use super::batch::Batch;
use super::disk::Disk;
use super::frame::read_frame;
use super::ids::{IdSet, merged};
use super::layout::Layout;
use super::recover::{damaged, frames};
use super::runs::{Run, write_run};
use super::segment::{ROW_GROUP_RAW_BYTES, ROW_GROUP_ROWS, SegmentWriter};
use super::segment_read::SegmentReader;
use super::state::{Log, Segment};
use crate::event::column::ALL;
use crate::event::time::HOUR_MS;
use crate::event::{Col, EventId, EventType, Flags};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Files in `tmp/`, synced, to be named.
#[derive(Default)]
pub(super) struct Sealed {
    pub(super) segments: Vec<Segment>,
    pub(super) run: Option<(u64, u64)>,
}

/// Row groups being filled, one per event type and hour of collection.
pub(super) struct Sorter<'l> {
    layout: &'l Layout,
    disk: &'l dyn Disk,
    open: BTreeMap<(EventType, i64), (u64, SegmentWriter, Batch)>,
}

impl<'l> Sorter<'l> {
    pub(super) fn new(layout: &'l Layout, disk: &'l dyn Disk) -> Self {
        Self { layout, disk, open: BTreeMap::new() }
    }

    /// Adds events; writes a row group whenever one is full.
    pub(super) fn add(&mut self, batch: Batch) -> Result<(), StoreError> {
        let Some(first) = batch.insert_times.first() else { return Ok(()) };
        let hour = first.div_euclid(HOUR_MS);
        let is_one_hour = batch.insert_times.iter().all(|it| it.div_euclid(HOUR_MS) == hour);
        if is_one_hour {
            return self.add_hour(hour, batch);
        }
        let mut hours: Vec<i64> = batch.insert_times.iter().map(|it| it.div_euclid(HOUR_MS)).collect();
        hours.sort_unstable();
        hours.dedup();
        for hour in hours {
            let mut part = Batch::new(batch.event_type);
            part.append(&batch, |row| batch.insert_times[row].div_euclid(HOUR_MS) == hour);
            self.add_hour(hour, part)?;
        }
        Ok(())
    }

    fn open(&mut self, key: (EventType, i64)) -> Result<&mut (u64, SegmentWriter, Batch), StoreError> {
        Ok(match self.open.entry(key) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let seq = self.layout.take_seq();
                let writer = SegmentWriter::create(self.disk, &self.layout.tmp_segment(seq))?;
                entry.insert((seq, writer, Batch::new(key.0)))
            }
        })
    }

    fn add_hour(&mut self, hour: i64, batch: Batch) -> Result<(), StoreError> {
        let (_, writer, rows) = self.open((batch.event_type, hour))?;
        rows.append_all(&batch);
        batch.recycle();
        if rows.raw_bytes() >= ROW_GROUP_RAW_BYTES || rows.len() >= ROW_GROUP_ROWS { writer.write_group(rows) } else { Ok(()) }
    }

    /// Rows in the largest file that is open.
    pub(super) fn rows_max(&self) -> u64 {
        self.open.values().map(|(_, writer, _)| writer.rows).max().unwrap_or(0)
    }

    /// Writes what is left; the files are complete and synced. On failure none of them is left.
    pub(super) fn finish(self) -> Result<Vec<Segment>, StoreError> {
        let (layout, disk) = (self.layout, self.disk);
        let seqs: Vec<u64> = self.open.values().map(|(seq, ..)| *seq).collect();
        let result = self.complete();
        if result.is_err() {
            for seq in seqs {
                let _ = disk.remove(&layout.tmp_segment(seq));
            }
        }
        result
    }

    fn complete(self) -> Result<Vec<Segment>, StoreError> {
        let mut segments = Vec::new();
        for ((event_type, collected), (seq, mut writer, mut rows)) in self.open {
            writer.write_group(&mut rows)?;
            let (rows, (time_min, time_max)) = (writer.rows, writer.times);
            let bytes = writer.finish()?;
            segments.push(Segment { seq, event_type: event_type.name().to_owned(), collected, rows, bytes, time_min, time_max });
        }
        self.disk.sync_dir(&self.layout.tmp()).map_err(StoreError::at(&self.layout.tmp()))?;
        Ok(segments)
    }

    /// Removes what was written: it is not to be.
    pub(super) fn abandon(self) {
        for (seq, ..) in self.open.values() {
            let _ = self.disk.remove(&self.layout.tmp_segment(*seq));
        }
    }
}

/// Makes Parquet of a log, and a run of its ids.
pub(super) fn seal(layout: &Layout, disk: &dyn Disk, log: &Log, ids: &IdSet) -> Result<Sealed, StoreError> {
    let mut sorter = Sorter::new(layout, disk);
    let path = layout.log(log.seq);
    let result = frames(&path, log.length)
        .and_then(|mut frames| frames.try_for_each(|frame| sorter.add(read_frame(&frame?).ok_or_else(|| damaged(&path))?)));
    if let Err(error) = result {
        sorter.abandon();
        return Err(error);
    }
    let segments = sorter.finish()?;
    let seq = layout.take_seq();
    let entries = write_run(disk, &layout.tmp_run(seq), ids.sorted().into_iter().map(Ok))?;
    disk.sync_dir(&layout.tmp()).map_err(StoreError::at(&layout.tmp()))?;
    Ok(Sealed { segments, run: Some((seq, entries)) })
}

/// One run of several, without the hours that are not kept.
pub(super) fn merge_runs(
    layout: &Layout,
    disk: &dyn Disk,
    runs: &[Arc<Run>],
    keep: impl Fn(i64) -> bool,
) -> Result<(u64, u64), StoreError> {
    let seq = layout.take_seq();
    let entries = write_run(disk, &layout.tmp_run(seq), merged(runs, keep))?;
    disk.sync_dir(&layout.tmp()).map_err(StoreError::at(&layout.tmp()))?;
    Ok((seq, entries))
}

/// One segment of several of the same type and hour of collection. An id that two of them hold with different
/// fingerprints is flagged on both: ids of different hours of event time meet here first.
pub(super) fn merge_segments(layout: &Layout, disk: &dyn Disk, segments: &[Segment]) -> Result<Vec<Segment>, StoreError> {
    let conflicts = conflicting_ids(layout, segments)?;
    let mut sorter = Sorter::new(layout, disk);
    let mut copy = || -> Result<(), StoreError> {
        for segment in segments {
            let (file, path) = layout.open_segment(segment)?;
            let reader = SegmentReader::open(file, &path, &segment.event_type, true)?;
            for group in 0..reader.groups() {
                if is_to_keep(&reader, group, &conflicts)? {
                    sorter.open((reader.event_type, segment.collected))?.1.take_group(&reader, group)?;
                    continue;
                }
                let mut batch = reader.read(group, ALL, None)?;
                for (id, flags) in batch.ids.iter().zip(&mut batch.flags) {
                    if conflicts.contains(id) {
                        flags.insert(Flags::CONFLICT);
                    }
                }
                sorter.add(batch)?;
            }
        }
        Ok(())
    };
    match copy() {
        Ok(()) => sorter.finish(),
        Err(error) => {
            sorter.abandon();
            Err(error)
        }
    }
}

/// Whether a row group stays as it is: it is large enough, and nothing in it is to be flagged.
fn is_to_keep(reader: &SegmentReader, group: usize, conflicts: &HashSet<EventId>) -> Result<bool, StoreError> {
    let is_large = reader.group_rows(group) >= ROW_GROUP_ROWS / 2 || reader.group_raw_bytes(group) >= ROW_GROUP_RAW_BYTES / 2;
    if !is_large || !reader.is_of_this_version() {
        return Ok(false);
    }
    Ok(conflicts.is_empty() || !reader.read(group, &[Col::Id], None)?.ids.iter().any(|it| conflicts.contains(it)))
}

/// Ids that two rows state with different fingerprints. In memory a row takes sixteen bytes, whatever its length: first ids
/// are compared by a hash, and then the few whose hash two rows share, by themselves.
fn conflicting_ids(layout: &Layout, segments: &[Segment]) -> Result<HashSet<EventId>, StoreError> {
    let mut rows: Vec<(u64, u64)> = Vec::with_capacity(segments.iter().map(|it| it.rows as usize).sum());
    each_id(layout, segments, |id, fingerprint| rows.push((hash(id), fingerprint)))?;
    rows.sort_unstable();
    let suspects: HashSet<u64> = rows.windows(2).filter(|it| it[0].0 == it[1].0 && it[0].1 != it[1].1).map(|it| it[0].0).collect();
    drop(rows);
    let (mut said, mut conflicts) = (HashMap::new(), HashSet::new());
    if !suspects.is_empty() {
        each_id(layout, segments, |id, fingerprint| {
            if suspects.contains(&hash(id)) && *said.entry(id).or_insert(fingerprint) != fingerprint {
                conflicts.insert(id);
            }
        })?;
    }
    Ok(conflicts)
}

fn hash(id: EventId) -> u64 {
    (id.0 >> 64) as u64 ^ id.0 as u64
}

fn each_id(layout: &Layout, segments: &[Segment], mut each: impl FnMut(EventId, u64)) -> Result<(), StoreError> {
    for segment in segments {
        let (file, path) = layout.open_segment(segment)?;
        let reader = SegmentReader::open(file, &path, &segment.event_type, false)?;
        for group in 0..reader.groups() {
            let batch = reader.read(group, &[Col::Id, Col::Fingerprint], None)?;
            batch.ids.iter().zip(&batch.fingerprints).for_each(|(id, fingerprint)| each(*id, *fingerprint));
        }
    }
    Ok(())
}

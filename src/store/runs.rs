//! A run file: ids of stored events, sorted within each hour of event time, looked up by reading one block.
//!
//! Entries (id 16 bytes, fingerprint 8) of all its hours one after the other, then a table of the hours, then
//! fences: the first eight bytes of each block's first id. Table and fences are held in memory.

use super::StoreError;
use super::disk::Disk;
use crate::event::EventId;
use std::fs::File;
use std::io::BufWriter;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: u64 = 0x3153_4449_5f57_5000;
const ENTRY_BYTES: usize = 24;
/// Ids between two fences: 1.5 KiB, one read.
const BLOCK_IDS: usize = 64;

/// One stored id: the hour of its event time, the id, what it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) hour: i64,
    pub(super) id: EventId,
    pub(super) fingerprint: u64,
}

struct Section {
    hour: i64,
    first_block: usize,
    first_entry: u64,
    entries: u64,
}

/// An open run.
pub(super) struct Run {
    pub(super) seq: u64,
    pub(super) entries: u64,
    pub(super) path: PathBuf,
    file: File,
    sections: Vec<Section>,
    fences: Vec<u64>,
}

/// Writes sorted entries as a run; returns how many there were.
pub(super) fn write_run(disk: &dyn Disk, path: &Path, entries: impl Iterator<Item = Result<Entry, StoreError>>) -> Result<u64, StoreError> {
    let file = disk.create_new(path).map_err(StoreError::at(path))?;
    let mut out = BufWriter::with_capacity(256 << 10, file);
    let mut table: Vec<(i64, u64)> = Vec::new();
    let mut fences: Vec<u64> = Vec::new();
    let mut total = 0_u64;
    for entry in entries {
        let entry = entry?;
        if table.last().is_none_or(|(hour, _)| *hour != entry.hour) {
            table.push((entry.hour, 0));
        }
        let Some((_, n)) = table.last_mut() else { continue };
        if (*n as usize).is_multiple_of(BLOCK_IDS) {
            fences.push(fence(entry.id));
        }
        *n += 1;
        total += 1;
        out.write_all(&entry.id.0.to_be_bytes()).map_err(StoreError::at(path))?;
        out.write_all(&entry.fingerprint.to_le_bytes()).map_err(StoreError::at(path))?;
    }
    let mut tail = Vec::new();
    for (hour, n) in &table {
        tail.extend_from_slice(&hour.to_le_bytes());
        tail.extend_from_slice(&n.to_le_bytes());
    }
    for fence in &fences {
        tail.extend_from_slice(&fence.to_le_bytes());
    }
    let crc = u64::from(crc32fast::hash(&tail));
    for number in [table.len() as u64, fences.len() as u64, crc, MAGIC] {
        tail.extend_from_slice(&number.to_le_bytes());
    }
    out.write_all(&tail).map_err(StoreError::at(path))?;
    let mut file = out.into_inner().map_err(|it| StoreError::at(path)(it.into_error()))?;
    file.sync().map_err(StoreError::at(path))?;
    Ok(total)
}

fn fence(id: EventId) -> u64 {
    (id.0 >> 64) as u64
}

fn entry_at(bytes: &[u8]) -> Option<(EventId, u64)> {
    let id = u128::from_be_bytes(*bytes.first_chunk()?);
    let fingerprint = u64::from_le_bytes(*bytes.get(16..)?.first_chunk()?);
    Some((EventId(id), fingerprint))
}

impl Run {
    /// Opens a run and reads its table and fences.
    pub(super) fn open(seq: u64, path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(StoreError::at(path))?;
        let damaged = || StoreError::Damaged { path: path.to_owned(), what: "its table of ids does not read" };
        let length = file.metadata().map_err(StoreError::at(path))?.len();
        let mut end = [0; 32];
        let end_at = length.checked_sub(32).ok_or_else(damaged)?;
        file.read_exact_at(&mut end, end_at).map_err(StoreError::at(path))?;
        let number = |n: usize| end[n * 8..].first_chunk().map_or(0, |it| u64::from_le_bytes(*it));
        let (hours, blocks) = (number(0) as usize, number(1) as usize);
        let tail_bytes = hours.saturating_mul(16).saturating_add(blocks.saturating_mul(8));
        let tail_at = end_at.checked_sub(tail_bytes as u64).filter(|_| number(3) == MAGIC).ok_or_else(damaged)?;
        let mut tail = vec![0; tail_bytes];
        file.read_exact_at(&mut tail, tail_at).map_err(StoreError::at(path))?;
        if u64::from(crc32fast::hash(&tail)) != number(2) {
            return Err(damaged());
        }
        let (table, fences) = tail.split_at(hours * 16);
        let fences = fences.as_chunks::<8>().0.iter().map(|it| u64::from_le_bytes(*it)).collect();
        let (mut sections, mut first_block, mut first_entry) = (Vec::new(), 0, 0);
        for line in table.as_chunks::<16>().0 {
            let hour = line.first_chunk().map_or(0, |it| i64::from_le_bytes(*it));
            let entries = line.last_chunk().map_or(0, |it| u64::from_le_bytes(*it));
            sections.push(Section { hour, first_block, first_entry, entries });
            first_block += (entries as usize).div_ceil(BLOCK_IDS);
            first_entry += entries;
        }
        Ok(Self { seq, entries: first_entry, path: path.to_owned(), file, sections, fences })
    }

    /// The hours that it has ids of, first and last.
    pub(super) fn hours(&self) -> Option<(i64, i64)> {
        Some((self.sections.first()?.hour, self.sections.last()?.hour))
    }

    /// Calls `found` with the fingerprint of every entry with this id.
    pub(super) fn look_up(&self, hour: i64, id: EventId, block: &mut Vec<u8>, mut found: impl FnMut(u64)) -> Result<(), StoreError> {
        let Ok(at) = self.sections.binary_search_by_key(&hour, |it| it.hour) else { return Ok(()) };
        let section = &self.sections[at];
        let n_blocks = (section.entries as usize).div_ceil(BLOCK_IDS);
        let fences = &self.fences[section.first_block..section.first_block + n_blocks];
        let wanted = fence(id);
        // Ids whose first eight bytes are equal may lie on both sides of a fence.
        let first = fences.partition_point(|it| *it < wanted).saturating_sub(1);
        let last = fences.partition_point(|it| *it <= wanted);
        let from = first * BLOCK_IDS;
        let to = (last * BLOCK_IDS).min(section.entries as usize);
        if from >= to {
            return Ok(());
        }
        block.resize((to - from) * ENTRY_BYTES, 0);
        let offset = (section.first_entry + from as u64) * ENTRY_BYTES as u64;
        self.file.read_exact_at(block, offset).map_err(StoreError::at(&self.path))?;
        let bytes = id.0.to_be_bytes();
        for entry in block.as_chunks::<ENTRY_BYTES>().0.iter().filter(|it| it[..16] == bytes) {
            found(entry_at(entry).map_or(0, |it| it.1));
        }
        Ok(())
    }

    /// All entries in order, read a piece at a time.
    pub(super) fn iter(&self) -> impl Iterator<Item = Result<Entry, StoreError>> + '_ {
        const PIECE: usize = 4096;
        let mut buffer: Vec<u8> = Vec::new();
        let mut at = 0;
        self.sections.iter().flat_map(|it| std::iter::repeat_n(it.hour, it.entries as usize)).enumerate().map(move |(n, hour)| {
            if n >= at {
                let left = self.entries as usize - n;
                buffer.resize(left.min(PIECE) * ENTRY_BYTES, 0);
                self.file.read_exact_at(&mut buffer, (n * ENTRY_BYTES) as u64).map_err(StoreError::at(&self.path))?;
                at = n + left.min(PIECE);
            }
            let start = buffer.len() - (at - n) * ENTRY_BYTES;
            let (id, fingerprint) = entry_at(&buffer[start..]).unwrap_or_default();
            Ok(Entry { hour, id, fingerprint })
        })
    }
}

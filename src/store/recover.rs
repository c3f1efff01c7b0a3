//! Opening: whatever no transaction names is removed, whatever one names is put in its place.

use super::StoreError;
use super::disk::Disk;
use super::frame::{FRAME_HEAD_BYTES, frame_length, read_head};
use super::ids::{IdIndex, IdSet};
use super::layout::Layout;
use super::runs::{Entry, Run};
use super::state::{self, Log};
use crate::event::time::HOUR_MS;
use rusqlite::Connection;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Sets the files right, and reads the ids.
pub(super) fn recover(layout: &Layout, disk: &dyn Disk, db: &Connection) -> Result<IdIndex, StoreError> {
    let mut wanted: HashMap<PathBuf, PathBuf> = HashMap::new();
    for segment in state::segments(db)? {
        let folder = layout.segment_folder(&segment);
        disk.create_dir_all(&folder).map_err(StoreError::at(&folder))?;
        wanted.insert(layout.tmp_segment(segment.seq), layout.segment(&segment));
    }
    for seq in state::run_seqs(db)? {
        wanted.insert(layout.tmp_run(seq), layout.run(seq));
    }
    for (waiting, place) in &wanted {
        if waiting.try_exists().map_err(StoreError::at(waiting))? {
            disk.rename(waiting, place).map_err(StoreError::at(place))?;
            sync_parent(disk, place)?;
        } else if !place.try_exists().map_err(StoreError::at(place))? {
            return Err(StoreError::Damaged { path: place.clone(), what: "the state lists this file and it is not there" });
        }
    }
    let logs = state::logs(db)?;
    let mut keep: Vec<PathBuf> = wanted.into_values().collect();
    keep.extend(logs.iter().map(|log| layout.log(log.seq)));
    for folder in [layout.events(), layout.ids(), layout.logs(), layout.tmp()] {
        sweep(layout, disk, &folder, &keep)?;
    }
    let mut ids = IdIndex::default();
    for seq in state::run_seqs(db)? {
        ids.add_run(Arc::new(Run::open(seq, &layout.run(seq))?))?;
    }
    for log in &logs {
        let set = read_log_ids(layout, disk, log)?;
        ids.sealing.push((log.seq, Arc::new(set)));
    }
    Ok(ids)
}

pub(super) fn sync_parent(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    match path.parent() {
        Some(folder) => disk.sync_dir(folder).map_err(StoreError::at(folder)),
        None => Ok(()),
    }
}

/// Removes what is not to be kept; notes the numbers that are in use.
fn sweep(layout: &Layout, disk: &dyn Disk, folder: &Path, keep: &[PathBuf]) -> Result<(), StoreError> {
    for entry in fs::read_dir(folder).map_err(StoreError::at(folder))? {
        let path = entry.map_err(StoreError::at(folder))?.path();
        if path.is_dir() {
            sweep(layout, disk, &path, keep)?;
            continue;
        }
        if let Some(seq) = path.file_stem().and_then(|it| it.to_str()).and_then(|it| it.parse().ok()) {
            layout.used_seq(seq);
        }
        if !keep.contains(&path) {
            disk.remove(&path).map_err(StoreError::at(&path))?;
        }
    }
    Ok(())
}

/// Cuts the log where the state says that it ends, and reads its ids.
fn read_log_ids(layout: &Layout, disk: &dyn Disk, log: &Log) -> Result<IdSet, StoreError> {
    let path = layout.log(log.seq);
    let found = fs::metadata(&path).map_err(StoreError::at(&path))?.len();
    if found < log.length {
        return Err(StoreError::Damaged { path, what: "the log is shorter than what was committed" });
    }
    if found > log.length {
        let mut file = disk.open_append(&path).map_err(StoreError::at(&path))?;
        file.truncate(log.length).map_err(StoreError::at(&path))?;
        file.sync().map_err(StoreError::at(&path))?;
    }
    let mut set = IdSet::default();
    for frame in frames(&path, log.length)? {
        let frame = frame?;
        let head = read_head(&frame).ok_or_else(|| damaged(&path))?;
        for ((id, fingerprint), time) in head.ids.into_iter().zip(head.fingerprints).zip(head.event_times) {
            set.insert(Entry { hour: time.div_euclid(HOUR_MS), id, fingerprint });
        }
    }
    Ok(set)
}

pub(super) fn damaged(path: &Path) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), what: "a frame of the log does not read" }
}

/// The frames of a log up to its recorded length, one in memory at a time.
pub(super) fn frames(path: &Path, length: u64) -> Result<impl Iterator<Item = Result<Vec<u8>, StoreError>> + use<>, StoreError> {
    let file = File::open(path).map_err(StoreError::at(path))?;
    let mut reader = BufReader::with_capacity(256 << 10, file.take(length));
    let path = path.to_owned();
    let mut left = length;
    Ok(std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let mut read = || -> Result<Vec<u8>, StoreError> {
            let mut frame = vec![0; FRAME_HEAD_BYTES];
            reader.read_exact(&mut frame).map_err(StoreError::at(&path))?;
            let length = frame_length(&frame).ok_or_else(|| damaged(&path))?;
            frame.resize(length, 0);
            reader.read_exact(&mut frame[FRAME_HEAD_BYTES..]).map_err(StoreError::at(&path))?;
            Ok(frame)
        };
        let frame = read();
        left = match &frame {
            Ok(frame) => left.saturating_sub(frame.len() as u64),
            Err(_) => 0,
        };
        Some(frame)
    }))
}

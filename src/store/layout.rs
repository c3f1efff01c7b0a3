//! The data folder: its lock, its version, where which file is.

use super::StoreError;
use super::disk::Disk;
use super::state::{FORMAT, Segment};
use crate::event::time::format_hour;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Kept free on the disk, so that retention can work when it is full.
const RESERVE_BYTES: usize = 8 << 20;

/// Writes a file that only its owner may read.
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    File::options().create(true).write(true).truncate(true).mode(0o600).open(path)?.write_all(bytes)
}

/// Paths in a data folder, and the numbers of its files.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) dir: PathBuf,
    next_seq: AtomicU64,
}

impl Layout {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), next_seq: AtomicU64::new(1) }
    }

    pub(super) fn state(&self) -> PathBuf {
        self.dir.join("state.db")
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub(super) fn log(&self, seq: u64) -> PathBuf {
        self.logs().join(format!("{seq:010}"))
    }

    pub(super) fn ids(&self) -> PathBuf {
        self.dir.join("ids")
    }

    pub(super) fn run(&self, seq: u64) -> PathBuf {
        self.ids().join(format!("{seq:010}"))
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    pub(super) fn tmp_run(&self, seq: u64) -> PathBuf {
        self.tmp().join(format!("{seq:010}.ids"))
    }

    pub(super) fn tmp_segment(&self, seq: u64) -> PathBuf {
        self.tmp().join(format!("{seq:010}.parquet"))
    }

    pub(super) fn events(&self) -> PathBuf {
        self.dir.join("events")
    }

    pub(super) fn segment(&self, it: &Segment) -> PathBuf {
        self.segment_folder(it).join(format!("{:010}.parquet", it.seq))
    }

    pub(super) fn segment_folder(&self, it: &Segment) -> PathBuf {
        self.events().join(format!("event_type={}", it.event_type)).join(format!("collected={}", format_hour(it.collected)))
    }

    pub(super) fn reserve(&self) -> PathBuf {
        self.dir.join("reserve")
    }

    /// A number that no file has.
    pub(super) fn take_seq(&self) -> u64 {
        self.next_seq.fetch_add(1, Ordering::SeqCst)
    }

    /// Numbers up to this one are in use.
    pub(super) fn used_seq(&self, seq: u64) {
        self.next_seq.fetch_max(seq + 1, Ordering::SeqCst);
    }

    /// Makes the folders, checks the version, and takes the lock, which lives as long as the file that is returned.
    pub(super) fn open(&self, disk: &dyn Disk) -> Result<File, StoreError> {
        for folder in [self.dir.clone(), self.logs(), self.ids(), self.tmp(), self.events()] {
            disk.create_dir_all(&folder).map_err(StoreError::at(&folder))?;
        }
        let path = self.dir.join("lock");
        let lock = File::options().create(true).append(true).mode(0o600).open(&path).map_err(StoreError::at(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(StoreError::Locked { path: self.dir.clone() }),
            Err(fs::TryLockError::Error(error)) => return Err(StoreError::at(&path)(error)),
        }
        if self.check_format()?.is_none() {
            let path = self.dir.join("FORMAT");
            write_private(&path, format!("{FORMAT}\n").as_bytes()).map_err(StoreError::at(&path))?;
            disk.sync_dir(&self.dir).map_err(StoreError::at(&self.dir))?;
        }
        Ok(lock)
    }

    /// The folder's version; none where there is no store yet.
    pub(super) fn check_format(&self) -> Result<Option<u32>, StoreError> {
        let path = self.dir.join("FORMAT");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::at(&path)(error)),
        };
        match text.trim().parse::<u32>() {
            Ok(found) if found > FORMAT => Err(StoreError::Newer { path: self.dir.clone(), found }),
            Ok(found) => Ok(Some(found)),
            // Written, but not durable before a crash: nothing was stored yet.
            Err(_) if text.trim().is_empty() => Ok(None),
            Err(_) => Err(StoreError::Damaged { path, what: "it should hold one number" }),
        }
    }

    /// Opens a listed segment for reading: in its place, or where it waits to be moved there.
    pub(super) fn open_segment(&self, it: &Segment) -> Result<(File, PathBuf), StoreError> {
        let place = self.segment(it);
        let mut last = None;
        for path in [place.clone(), self.tmp_segment(it.seq), place] {
            match File::open(&path) {
                Ok(file) => return Ok((file, path)),
                Err(error) => last = Some(StoreError::at(&path)(error)),
            }
        }
        Err(last.unwrap_or(StoreError::Closed))
    }

    /// Takes the room that is kept for a full disk. Failing is no failure: then there is just no reserve.
    pub(super) fn fill_reserve(&self) {
        let path = self.reserve();
        if fs::metadata(&path).is_ok_and(|it| it.len() >= RESERVE_BYTES as u64) {
            return;
        }
        if write_private(&path, &vec![0; RESERVE_BYTES]).is_err() {
            self.release_reserve();
        }
    }

    /// Gives that room back.
    pub(super) fn release_reserve(&self) {
        let _ = fs::remove_file(self.reserve());
    }
}

//! The file layer: every write of the store goes through here, so that a test can make any of them fail or be lost.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Places between two steps at which a crash leaves something behind; tests crash at each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CrashPoint {
    /// Frames are in the log's file, not synced.
    FramesWritten,
    /// The log is synced; no transaction names the frames.
    LogSynced,
    /// The transaction is committed; nobody was told.
    StateCommitted,
    /// A log's Parquet files and id run are in `tmp/`, synced; no transaction names them.
    SealWritten,
    /// The transaction names them; they are still in `tmp/`.
    SealCommitted,
    /// They are in their places; the log's file is still there.
    SealRenamed,
    /// A large object's files are in `tmp/`, synced; no transaction names them.
    BulkWritten,
    /// The transaction names them; they are still in `tmp/`.
    BulkCommitted,
    /// A merge's result is in `tmp/`, synced; no transaction names it.
    MergeWritten,
    /// The transaction names it; both old and new files are there.
    MergeCommitted,
    /// Expired segments are off the list; their files are still there.
    RetentionCommitted,
}

impl CrashPoint {
    /// All of them, in the order of the flow.
    pub const ALL: &'static [Self] = &[
        Self::FramesWritten,
        Self::LogSynced,
        Self::StateCommitted,
        Self::SealWritten,
        Self::SealCommitted,
        Self::SealRenamed,
        Self::BulkWritten,
        Self::BulkCommitted,
        Self::MergeWritten,
        Self::MergeCommitted,
        Self::RetentionCommitted,
    ];
}

/// A file that is being written.
pub trait DiskFile: Write + Send {
    /// Returns once everything written is durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
}

/// The file operations that change something.
pub trait Disk: Send + Sync + Debug {
    /// A new file, readable by its owner alone. An existing one is an error.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// An existing file, to be written at its end.
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Moves a file. Durable once both folders are synced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder's entries durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder and those above it, for their owner alone.
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }
    /// A place where a crash would leave something. Does nothing outside tests.
    fn reached(&self, _point: CrashPoint) -> io::Result<()> {
        Ok(())
    }
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

struct RealFile(File);

impl Write for RealFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl DiskFile for RealFile {
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
}

impl Disk for RealDisk {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(OpenOptions::new().append(true).open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

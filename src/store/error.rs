//! What can go wrong in the store, and what is to be done about it.

use crate::disposition::Disposition;
use std::io;
use std::path::{Path, PathBuf};

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused a file operation.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The state database refused.
    #[error("state.db: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// zstd refused.
    #[error("compressing a frame: {0}")]
    Codec(io::Error),
    /// Parquet refused.
    #[error("{}: {source}", path.display())]
    Parquet {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: parquet::errors::ParquetError,
    },
    /// A file is not what the state says it is.
    #[error("{} is damaged: {what}; restore the data folder from a backup, or move it away to start anew", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// How it shows.
        what: &'static str,
    },
    /// Another process writes this folder.
    #[error("{} is in use by another planewatch; stop it, or give this one another data_dir", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The folder was written by a later version.
    #[error("{} has layout version {found}; this planewatch knows up to {}: install a newer one", path.display(), super::FORMAT)]
    Newer {
        /// The folder.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// There is no store in this folder.
    #[error("{} holds no planewatch data; is it the data_dir of your configuration?", path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// The store takes nothing now; it resumes by itself.
    #[error("the store is paused: {0}")]
    Paused(String),
    /// The delivery's reader gave up before its end.
    #[error("the delivery was given up: {0}")]
    Aborted(String),
    /// The store is closing.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Adds the path to a system's error.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    /// What the caller does.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Io { .. }
            | Self::Sqlite(_)
            | Self::Parquet { .. }
            | Self::Codec(_)
            | Self::Paused(_)
            | Self::Aborted(_)
            | Self::Closed => Disposition::Retry,
            Self::Damaged { .. } | Self::Locked { .. } | Self::Newer { .. } | Self::Missing { .. } => Disposition::Fatal,
        }
    }

    /// Whether the disk has no room left.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } | Self::Codec(source) => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Sqlite(error) => error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            _ => false,
        }
    }
}

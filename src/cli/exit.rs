//! Exit codes, as DESIGN.md §4 has them (sysexits).

use crate::app::AppError;
use crate::config::ConfigError;
use crate::store::StoreError;
use std::fmt::Display;
use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// Done.
    Done = 0,
    /// Done, but some input was bad or a check failed.
    Bad = 1,
    /// Wrong usage or configuration.
    Usage = 64,
    /// Our mistake.
    Bug = 70,
    /// Input or output failed.
    Io = 74,
    /// Try again: locked, unreachable.
    TryAgain = 75,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was to do.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl Display) -> Self {
        Self { exit, message: message.to_string() }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match &error {
            StoreError::Locked { .. } | StoreError::Paused(_) => Exit::TryAgain,
            StoreError::Newer { .. } | StoreError::Missing { .. } => Exit::Usage,
            _ => Exit::Io,
        };
        Self::new(exit, error)
    }
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        match error {
            AppError::Store(error) => error.into(),
            AppError::Config(_) => Self::new(Exit::Usage, error),
            AppError::Listen { .. } => Self::new(Exit::TryAgain, error),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Io, error)
    }
}

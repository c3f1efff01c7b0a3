//! Which data folder a command looks at.

use super::exit::Failure;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct DataArgs {
    /// The data folder.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The configuration file that names the data folder.
    #[arg(short, long)]
    config: Option<PathBuf>,
}

/// Lookup lists of a command that reads no configuration: `NAME=FILE`.
pub(super) fn named_lists(given: &[String]) -> Result<crate::filter::Lists, Failure> {
    let usage = |what: String| Failure::new(super::Exit::Usage, what);
    let read = |it: &String| {
        let (name, path) = it.split_once('=').ok_or_else(|| usage(format!("--list `{it}`: write NAME=FILE")))?;
        let values =
            crate::config::read_list(std::path::Path::new(path)).map_err(|error| usage(format!("--list {name}: {path}: {error}")))?;
        Ok((name.to_owned(), values))
    };
    given.iter().map(read).collect()
}

impl DataArgs {
    /// The folder.
    pub(super) fn dir(&self) -> Result<PathBuf, Failure> {
        match (&self.data_dir, &self.config) {
            (Some(dir), _) => Ok(dir.clone()),
            (None, Some(config)) => Ok(crate::config::load(config)?.data_dir),
            (None, None) => Err(Failure::new(super::Exit::Usage, "give --data-dir or --config")),
        }
    }

    /// The folders with suppressions, where a configuration names them.
    pub(super) fn suppressions(&self) -> Result<Vec<PathBuf>, Failure> {
        match &self.config {
            Some(config) => Ok(crate::config::load(config)?.suppressions.map(|it| it.directories).unwrap_or_default()),
            None => Ok(Vec::new()),
        }
    }

    /// The lookup lists, where a configuration names them.
    pub(super) fn lists(&self) -> Result<crate::filter::Lists, Failure> {
        match &self.config {
            Some(config) => crate::config::load(config)?.read_lists().map_err(|it| Failure::new(super::Exit::Usage, it)),
            None => Ok(crate::filter::Lists::default()),
        }
    }
}

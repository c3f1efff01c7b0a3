//! Source `directory`: every file of a folder and the folders in it, whatever its name.
//!
//! A file is read when it looks other than when it was last read (size, time of change, inode), which covers files
//! that are still being written: what is whole of them is stored, the rest is set aside, and replaced at the next look.

use super::{Delivery, Input, SetAside, Surroundings, next_try_ms};
use crate::metrics;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinSet;

/// Files handed over and not yet durable.
const IN_FLIGHT_FILES_MAX: usize = 256;
/// How deeply folders may nest.
const FOLDER_DEPTH_MAX: usize = 64;
/// While watching, a file that changed less than this long ago is left to settle.
const SETTLE_MS: i64 = 2_000;

/// Settings of a `directory` source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DirectoryConfig {
    /// The source's name: unique, in metrics and events.
    pub name: String,
    /// The folder.
    pub path: PathBuf,
    /// The Kubernetes cluster whose audit events are in the folder.
    #[serde(default)]
    pub cluster: Option<String>,
    /// How often the folder is looked through, seconds.
    #[serde(default = "scan_interval_secs")]
    pub scan_interval_secs: u64,
    /// Filters; records that match one are not stored, and counted as filtered.
    #[serde(default)]
    pub drop: Vec<String>,
}

fn scan_interval_secs() -> u64 {
    2
}

/// A file that was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// How long it is.
    pub bytes: u64,
    stamp: String,
    changed_ms: i64,
}

impl Found {
    /// What stands for standard input.
    pub fn of_stdin() -> Self {
        Self { path: PathBuf::from("-"), bytes: 0, stamp: String::new(), changed_ms: 0 }
    }
}

/// The files below a path (or the file that it is), in order; what cannot be read with why.
pub fn files_below(path: &Path) -> Box<dyn Iterator<Item = Result<Found, (PathBuf, io::Error)>>> {
    let mut folders = Folders::new(path.to_owned());
    if let Err(error) = fs::metadata(path) {
        return Box::new(std::iter::once(Err((path.to_owned(), error))));
    }
    let path = path.to_owned();
    Box::new(std::iter::from_fn(move || folders.next_file().transpose().map(|it| it.map_err(|error| (path.clone(), error)))))
}

/// Reads until it is told to stop, or, when draining, until everything is read once.
pub async fn run(config: DirectoryConfig, at: Surroundings) {
    let metrics = &at.metrics;
    loop {
        match pass(&config, &at).await {
            Ok(()) => {
                at.health.up(&config.name);
                metrics.set(&metrics::UP, &config.name, "", 1.0);
                if at.is_drain {
                    return;
                }
            }
            Err(error) => {
                let why = format!("{}: {error}; make the folder readable, or correct `path`", config.path.display());
                if at.health.down(&config.name, &why) {
                    tracing::error!(source = config.name, "{why}");
                }
                metrics.set(&metrics::UP, &config.name, "", 0.0);
                metrics.add(&metrics::ERRORS, &config.name, "scan", 1.0);
                if at.is_drain {
                    return;
                }
            }
        }
        if !at.wait(Duration::from_secs(config.scan_interval_secs.max(1))).await {
            return;
        }
    }
}

/// One look through the folder; everything that it delivered is durable at the end.
async fn pass(config: &DirectoryConfig, at: &Surroundings) -> io::Result<()> {
    let root = fs::canonicalize(&config.path)?;
    let other = |error: super::NotTaken| io::Error::other(error);
    for due in at.handoff.due(&config.name).await.map_err(other)? {
        let path = PathBuf::from(&due.pointer);
        if let Ok(Some(found)) = look(&path) {
            deliver(config, at, found, true).await;
        } else {
            let next = next_try_ms(at.clock.now_ms(), due.tries);
            at.handoff.postpone(due.id, next, "the file is not there".to_owned()).await.map_err(other)?;
        }
    }
    let stamps = at.handoff.file_stamps(&config.name, None).await.map_err(other)?;
    let mut running = JoinSet::new();
    let mut folders = Folders::new(root);
    while let Some(found) = folders.next_file()? {
        if at.is_stopping() {
            break;
        }
        let is_settled = at.is_drain || at.clock.now_ms() - found.changed_ms >= SETTLE_MS;
        if !is_settled || stamps.get(&path_text(&found.path)) == Some(&found.stamp) {
            continue;
        }
        while running.len() >= IN_FLIGHT_FILES_MAX {
            running.join_next().await;
        }
        let (config, at) = (config.clone(), at.clone());
        running.spawn(async move { deliver(&config, &at, found, false).await });
    }
    while running.join_next().await.is_some() {}
    Ok(())
}

async fn deliver(config: &DirectoryConfig, at: &Surroundings, found: Found, is_again: bool) {
    let delivery = Delivery { is_again, ..delivery_of(config, at, &found) };
    at.deliver(delivery).await;
}

fn delivery_of(config: &DirectoryConfig, at: &Surroundings, found: &Found) -> Delivery {
    let path = path_text(&found.path);
    let mut delivery = Delivery::new(&config.name, format!("file://{path}"));
    delivery.bytes = found.bytes;
    delivery.pointer = found.path.to_str().map(str::to_owned);
    delivery.key_account = super::cloudtrail_sqs::key_account(&path);
    delivery.files = vec![(path, found.stamp.clone())];
    delivery.settles_uri = true;
    delivery.can_wait = true;
    // Opened now, so that a file that may not be read is set aside, with its reason, and not tried at each look.
    match fs::File::open(&found.path) {
        Ok(_) => delivery.input = Input::File(found.path.clone()),
        Err(error) => {
            let reason = if error.kind() == io::ErrorKind::NotFound { "not_found" } else { "access_denied" };
            delivery.set_aside = Some(SetAside {
                reason,
                detail: format!("cannot be read: {error}"),
                bytes: found.bytes,
                excerpt: Vec::new(),
                next_try_ms: Some(next_try_ms(at.clock.now_ms(), 0)),
            });
        }
    }
    delivery
}

/// A path as text; bytes that are not UTF-8 as `\xNN`.
pub(super) fn path_text(path: &Path) -> String {
    let mut out = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String does not fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

fn look(path: &Path) -> io::Result<Option<Found>> {
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        // Gone since it was listed, or a link to nowhere.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !meta.is_file() {
        return Ok(None);
    }
    let stamp = format!("{}:{}.{:09}:{}", meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ino());
    Ok(Some(Found { path: path.to_owned(), stamp, bytes: meta.len(), changed_ms: meta.mtime() * 1000 + meta.mtime_nsec() / 1_000_000 }))
}

/// Walks folders in the order of names, one listing in memory per level. A folder is entered once, however many
/// links lead to it.
struct Folders {
    levels: Vec<std::vec::IntoIter<PathBuf>>,
    entered: HashSet<(u64, u64)>,
}

impl Folders {
    fn new(root: PathBuf) -> Self {
        Self { levels: vec![vec![root].into_iter()], entered: HashSet::new() }
    }

    fn next_file(&mut self) -> io::Result<Option<Found>> {
        loop {
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some(path) = level.next() else {
                self.levels.pop();
                continue;
            };
            let is_root = self.entered.is_empty();
            match fs::metadata(&path) {
                Ok(meta) if meta.is_dir() => {
                    if self.levels.len() <= FOLDER_DEPTH_MAX && self.entered.insert((meta.dev(), meta.ino())) {
                        match list(&path) {
                            Ok(paths) => self.levels.push(paths.into_iter()),
                            Err(error) if is_root => return Err(error),
                            Err(error) => tracing::warn!(path = %path.display(), %error, "a folder that cannot be read is left out"),
                        }
                    }
                }
                Ok(_) => {
                    if let Some(found) = look(&path)? {
                        return Ok(Some(found));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(path = %path.display(), %error, "left out"),
            }
        }
    }
}

fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|it| it.map(|it| it.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

//! A disk that loses what was not synced, and that fails when it is told to.

use planewatch::store::{CrashPoint, Disk, DiskFile, RealDisk};
use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

#[derive(Debug, Default)]
struct State {
    /// Files written here: how much of each is durable, and whether its entry in the folder is.
    files: HashMap<PathBuf, (u64, bool)>,
    /// Moves that a crash undoes.
    renames: Vec<(PathBuf, PathBuf)>,
    /// Removed files that a crash brings back.
    removed: Vec<(PathBuf, PathBuf)>,
    crash_at: Option<(CrashPoint, usize)>,
    stumble_at: Option<CrashPoint>,
    is_dead: bool,
    operations: u64,
    fail_at: Option<(u64, ErrorKind)>,
    n_limbo: usize,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct FaultDisk {
    state: Arc<Mutex<State>>,
    limbo: PathBuf,
}

impl FaultDisk {
    pub(crate) fn new(limbo: &Path) -> Self {
        fs::create_dir_all(limbo).unwrap();
        Self { state: Arc::default(), limbo: limbo.to_owned() }
    }

    /// Dies the n-th time (from 0) that this point is reached.
    pub(crate) fn crash_at(&self, point: CrashPoint, n: usize) {
        self.state.lock().unwrap().crash_at = Some((point, n));
    }

    /// Fails the next time this point is reached, once, and lives on.
    pub(crate) fn stumble_at(&self, point: CrashPoint) {
        self.state.lock().unwrap().stumble_at = Some(point);
    }

    /// The n-th operation from now fails, once.
    pub(crate) fn fail_at(&self, n: u64, kind: ErrorKind) {
        let mut state = self.state.lock().unwrap();
        state.operations = 0;
        state.fail_at = Some((n, kind));
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state.lock().unwrap().is_dead
    }

    /// Whether the operation that was to fail has been reached.
    pub(crate) fn has_failed(&self) -> bool {
        self.state.lock().unwrap().fail_at.is_none()
    }

    /// What a loss of power leaves: nothing that was not synced.
    pub(crate) fn lose_unsynced(&self) {
        let mut state = self.state.lock().unwrap();
        for (from, to) in std::mem::take(&mut state.renames).into_iter().rev() {
            let _ = fs::rename(&to, &from);
            if let Some(it) = state.files.remove(&to) {
                state.files.insert(from, it);
            }
        }
        for (path, kept) in std::mem::take(&mut state.removed) {
            if !path.exists() {
                let _ = fs::rename(kept, path);
            }
        }
        for (path, (length, is_listed)) in &state.files {
            if !is_listed {
                let _ = fs::remove_file(path);
            } else if let Ok(file) = OpenOptions::new().write(true).open(path) {
                if file.metadata().unwrap().len() > *length {
                    file.set_len(*length).unwrap();
                }
            }
        }
    }

    fn operation(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        if state.is_dead {
            return Err(io::Error::other("the process is dead"));
        }
        state.operations += 1;
        match state.fail_at {
            Some((n, kind)) if state.operations > n => {
                state.fail_at = None;
                Err(kind.into())
            }
            _ => Ok(()),
        }
    }
}

struct FaultFile {
    disk: FaultDisk,
    path: PathBuf,
    file: Box<dyn DiskFile>,
}

impl Write for FaultFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.disk.operation() {
            // A failing write may have written a part.
            let _ = self.file.write(&buf[..buf.len() / 2]);
            return Err(error);
        }
        self.file.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl DiskFile for FaultFile {
    fn sync(&mut self) -> io::Result<()> {
        self.disk.operation()?;
        self.file.sync()?;
        // The file may have been moved since it was opened; then its new name keeps what is durable.
        if let Ok(meta) = fs::metadata(&self.path) {
            self.disk.state.lock().unwrap().files.entry(self.path.clone()).or_insert((0, true)).0 = meta.len();
        }
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.disk.operation()?;
        self.file.truncate(length)
    }
}

impl FaultDisk {
    fn wrap(&self, path: &Path, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(FaultFile { disk: self.clone(), path: path.to_owned(), file })
    }
}

impl Disk for FaultDisk {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.operation()?;
        let file = RealDisk.create_new(path)?;
        self.state.lock().unwrap().files.insert(path.to_owned(), (0, false));
        Ok(self.wrap(path, file))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.operation()?;
        let file = RealDisk.open_append(path)?;
        let length = fs::metadata(path)?.len();
        self.state.lock().unwrap().files.entry(path.to_owned()).or_insert((length, true));
        Ok(self.wrap(path, file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operation()?;
        RealDisk.rename(from, to)?;
        let mut state = self.state.lock().unwrap();
        if let Some(it) = state.files.remove(from) {
            state.files.insert(to.to_owned(), it);
        }
        state.renames.push((from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.operation()?;
        let mut state = self.state.lock().unwrap();
        state.n_limbo += 1;
        let kept = self.limbo.join(state.n_limbo.to_string());
        fs::rename(path, &kept)?;
        state.files.remove(path);
        state.removed.push((path.to_owned(), kept));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.operation()?;
        let mut state = self.state.lock().unwrap();
        let is_in = |file: &Path| file.parent() == Some(path);
        for (file, it) in &mut state.files {
            it.1 |= is_in(file);
        }
        // A move is durable once its target's folder is; removals once theirs is.
        state.renames.retain(|(_, to)| !is_in(to));
        state.removed.retain(|(file, _)| !is_in(file));
        Ok(())
    }

    fn reached(&self, point: CrashPoint) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        if state.stumble_at.take_if(|it| *it == point).is_some() {
            return Err(io::Error::other("stumbled on purpose"));
        }
        if let Some((at, n)) = &mut state.crash_at {
            if *at == point {
                if *n == 0 {
                    state.is_dead = true;
                    return Err(io::Error::other("crashed on purpose"));
                }
                *n -= 1;
            }
        }
        Ok(())
    }
}

//! Which files there are: the log, and what rotation has made of it, beside it in its folder.

use super::position::Inode;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file of the log, as it was when the folder was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) path: PathBuf,
    pub(super) inode: Inode,
    /// What it looks like: another size or time of change is another look.
    pub(super) look: Look,
    /// The log itself, not a rotated file.
    pub(super) is_main: bool,
    /// By its name, gzip.
    pub(super) is_packed: bool,
}

/// What a file looks like from outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) size: u64,
    /// When it was written last, ns.
    pub(super) written_ns: i128,
}

impl Look {
    pub(super) fn of(meta: &Metadata) -> Self {
        Self { size: meta.len(), written_ns: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()) }
    }

    pub(super) fn written_ms(self) -> i64 {
        (self.written_ns / 1_000_000) as i64
    }
}

pub(super) fn inode_of(meta: &Metadata) -> Inode {
    Inode { device: meta.dev(), number: meta.ino() }
}

/// So often a folder is listed again that was changed meanwhile.
const RELISTS_MAX: usize = 5;

/// The log and its rotated files: these in the order in which they were written, the log last.
pub(super) fn list(log: &Path) -> io::Result<Vec<Listed>> {
    for _ in 0..RELISTS_MAX {
        if let (found, false) = list_once(log)? {
            return Ok(found);
        }
    }
    Ok(list_once(log)?.0)
}

/// Also whether a file was renamed or removed while it was listed, and so may be missing.
fn list_once(log: &Path) -> io::Result<(Vec<Listed>, bool)> {
    // A link's target is what is rotated, in the target's folder.
    let log = match fs::canonicalize(log) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = log.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
            fs::canonicalize(folder)?.join(log.file_name().unwrap_or_default())
        }
        Err(error) => return Err(error),
    };
    let (Some(folder), Some(name)) = (log.parent(), log.file_name().and_then(|it| it.to_str())) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path has no folder, or a name that is not UTF-8"));
    };
    let mut found = Vec::new();
    let mut is_torn = false;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Some(kind) = entry.file_name().to_str().and_then(|it| kind_of(name, it)) else { continue };
        let meta = match fs::metadata(entry.path()) {
            Ok(meta) if meta.is_file() => meta,
            Ok(_) => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                is_torn = true;
                continue;
            }
            Err(error) => return Err(error),
        };
        found.push(Listed {
            path: entry.path(),
            inode: inode_of(&meta),
            look: Look::of(&meta),
            is_main: kind == Kind::Log,
            is_packed: kind == Kind::Packed,
        });
    }
    // A file that is renamed while the folder is listed may be listed twice; a link is the file that it leads to.
    found.sort_by_key(|it: &Listed| (it.inode, !it.is_main));
    found.dedup_by_key(|it| it.inode);
    found.sort_by(|a, b| (a.is_main, a.look.written_ns, &a.path).cmp(&(b.is_main, b.look.written_ns, &b.path)));
    Ok((found, is_torn))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Log,
    Rotated,
    Packed,
}

/// Whether a file belongs to the log `audit.log`: `audit-2026-11-24T10-00-00.000.log` (the API server's own rotation),
/// `audit.log.1`, `audit.log-20261124`, `audit-20261124.log` (logrotate's), each with or without `.gz`.
fn kind_of(log: &str, name: &str) -> Option<Kind> {
    if name == log {
        return Some(Kind::Log);
    }
    let (plain, kind) = name.strip_suffix(".gz").map_or((name, Kind::Rotated), |it| (it, Kind::Packed));
    let (stem, extension) = match log.rfind('.') {
        Some(at) if at > 0 => log.split_at(at),
        _ => (log, ""),
    };
    let behind = plain.strip_prefix(log);
    let between = plain.strip_prefix(stem).and_then(|it| it.strip_suffix(extension));
    [behind, between].into_iter().flatten().any(is_of_rotation).then_some(kind)
}

/// `.1`, `-20261124`, `-2026-11-24T10-00-00.000`.
fn is_of_rotation(part: &str) -> bool {
    let Some(rest) = part.strip_prefix(['.', '-']) else { return false };
    rest.starts_with(|c: char| c.is_ascii_digit())
        && rest.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | '.' | ':' | '_' | 'T' | 'Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_files_are_told_from_their_neighbours() {
        for name in ["audit-2026-11-24T10-00-00.000.log", "audit.log.1", "audit.log-20261124", "audit-20261124.log"] {
            assert_eq!(kind_of("audit.log", name), Some(Kind::Rotated), "{name}");
            assert_eq!(kind_of("audit.log", &format!("{name}.gz")), Some(Kind::Packed), "{name}");
        }
        assert_eq!(kind_of("audit.log", "audit.log"), Some(Kind::Log));
        assert_eq!(kind_of("audit", "audit.1"), Some(Kind::Rotated));
        for name in ["audit-policy.log", "audit.log.bak", "audit.log.gz", "audit2.log", "other.log.1", "audit.log.1.zst", "audit"] {
            assert_eq!(kind_of("audit.log", name), None, "{name}");
        }
    }

    #[test]
    fn the_log_comes_last() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["audit.log", "audit.log.2", "audit.log.1", "else"];
        for name in names {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let age = |name: &str, secs| {
            let file = fs::File::options().write(true).open(folder.path().join(name)).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(secs)).unwrap();
        };
        age("audit.log", 1);
        age("audit.log.2", 2);
        age("audit.log.1", 3);
        let found: Vec<_> = list(&folder.path().join("audit.log"))
            .unwrap()
            .iter()
            .map(|it| it.path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(found, ["audit.log.2", "audit.log.1", "audit.log"]);
    }
}

//! The audit log of an API server: its lines, and a writer that rotates as real ones do.

use super::gz;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A line of the log, without its end.
pub(crate) fn audit_event(id: &str) -> Value {
    json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": id, "stage": "ResponseComplete",
        "requestURI": "/api/v1/namespaces/default/pods?limit=500", "verb": "list",
        "user": {"username": "alice", "groups": ["system:authenticated"]}, "sourceIPs": ["192.0.2.7"], "userAgent": "kubectl/v1.36",
        "objectRef": {"resource": "pods", "namespace": "default", "apiVersion": "v1"}, "responseStatus": {"code": 200},
        "requestReceivedTimestamp": "2026-11-24T10:00:00.000000Z", "stageTimestamp": "2026-11-24T10:00:00.100000Z",
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rotation {
    /// As the API server itself does.
    Rename,
    /// As logrotate does where it is told so.
    CopyTruncate,
    /// The same under a writer that goes on where it was, which leaves a hole.
    CopyTruncateWithHoles,
}

/// Writes lines with ids that count up, and rotates.
pub(crate) struct LogWriter {
    pub(crate) path: PathBuf,
    file: File,
    at: u64,
    rotation: Rotation,
    pub(crate) written: Vec<String>,
    n_rotations: usize,
    name: &'static str,
}

impl LogWriter {
    pub(crate) fn new(path: &Path, rotation: Rotation, name: &'static str) -> Self {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        Self { path: path.to_owned(), file: open(path, rotation), at: 0, rotation, written: Vec::new(), n_rotations: 0, name }
    }

    pub(crate) fn write(&mut self, n: usize) {
        for _ in 0..n {
            let id = format!("{}-{:06}", self.name, self.written.len());
            let line = audit_event(&id).to_string() + "\n";
            self.put(line.as_bytes());
            self.written.push(id);
        }
    }

    /// Bytes as they are.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        if self.rotation == Rotation::CopyTruncateWithHoles {
            std::os::unix::fs::FileExt::write_all_at(&self.file, bytes, self.at).unwrap();
        } else {
            self.file.write_all(bytes).unwrap();
        }
        self.at += bytes.len() as u64;
    }

    /// Rotates; returns where the rotated file is.
    pub(crate) fn rotate(&mut self) -> PathBuf {
        self.n_rotations += 1;
        let folder = self.path.parent().unwrap();
        if self.rotation == Rotation::Rename {
            let rotated = folder.join(format!("audit-2026-11-24T10-00-00.{:03}.log", self.n_rotations));
            fs::rename(&self.path, &rotated).unwrap();
            self.file = open(&self.path, self.rotation);
            return rotated;
        }
        let rotated = folder.join(format!("audit.log.{}", self.n_rotations));
        fs::copy(&self.path, &rotated).unwrap();
        self.file.set_len(0).unwrap();
        rotated
    }
}

fn open(path: &Path, rotation: Rotation) -> File {
    let is_append = rotation != Rotation::CopyTruncateWithHoles;
    File::options().create(true).write(true).append(is_append).open(path).unwrap()
}

/// Packs a rotated file beside itself, and then removes it, as the API server does.
pub(crate) fn pack(rotated: &Path) -> PathBuf {
    let packed = PathBuf::from(format!("{}.gz", rotated.display()));
    let bytes = gz(&fs::read(rotated).unwrap());
    let mut file = File::create(&packed).unwrap();
    // In two pieces, as it is not there at once.
    file.write_all(&bytes[..bytes.len() / 2]).unwrap();
    std::thread::yield_now();
    file.write_all(&bytes[bytes.len() / 2..]).unwrap();
    fs::remove_file(rotated).unwrap();
    packed
}

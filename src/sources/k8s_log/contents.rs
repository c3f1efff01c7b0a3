//! What was taken of each content, whatever file it is in now.
//!
//! A content may be in several files at once: a copy before its original is cut, a gzip file before the plain one goes.
//! It is read from one of them, its home.

use super::lines::read_up_to;
use super::position::{Inode, Position};
use std::collections::HashMap;
use std::fs::File;
use std::io;

/// A beginning shorter than this tells little: such a content is known by its inode alone. An audit event's id ends before.
const HEAD_BYTES_MIN: u32 = 128;
/// A content that is in no file is forgotten after so many looks: a rename may hide it from one.
const MISSED_LOOKS_MAX: u32 = 50;
/// More positions than this are not kept: the oldest that are in no file go first.
pub(super) const POSITIONS_MAX: usize = 4_096;

/// One content.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) position: Position,
    /// The file that it is read from.
    pub(super) home: Option<Inode>,
    /// How long it was when it was last seen whole.
    pub(super) seen: u64,
    missed: u32,
}

/// All contents, by their keys in the state.
#[derive(Debug, Default)]
pub(super) struct Contents(pub(super) HashMap<String, Content>);

/// A file whose content is looked for.
#[derive(Debug)]
pub(super) struct Candidate<'c> {
    pub(super) inode: Inode,
    pub(super) is_main: bool,
    /// Its first bytes; of a gzip file, inflated ones.
    pub(super) head: &'c [u8],
    /// The file and its size, where it is plain.
    pub(super) plain: Option<(&'c File, u64)>,
}

impl Contents {
    /// Those that the state has.
    pub(super) fn new(stamps: HashMap<String, String>) -> Self {
        let contents = stamps.into_iter().filter_map(|(key, stamp)| {
            let position = Position::parse(&stamp)?;
            Some((key, Content { seen: position.offset, position, ..Content::default() }))
        });
        Self(contents.collect())
    }

    /// The content that a file has, if it was met before.
    pub(super) fn find(&self, it: &Candidate<'_>) -> io::Result<Option<String>> {
        let mut best = None;
        for (key, Content { position, .. }) in &self.0 {
            let is_same = position.inode == it.inode;
            if position.head.bytes == 0 || !is_same && position.head.bytes < HEAD_BYTES_MIN || !position.head.begins(it.head) {
                continue;
            }
            if let Some((file, size)) = it.plain {
                if size < position.offset {
                    // Shorter than what was taken: a copy that was made before its end was there. But the file itself
                    // was cut, and so was whatever goes by the log's own name.
                    if is_same || it.is_main {
                        continue;
                    }
                } else {
                    let tail = position.tail.bytes;
                    let before = read_up_to(file, position.offset.saturating_sub(u64::from(tail)), tail as usize)?;
                    if !position.tail.ends(&before) {
                        continue;
                    }
                }
            }
            let rank = (is_same, position.head.bytes, position.offset);
            if best.as_ref().is_none_or(|(other, _)| rank > *other) {
                best = Some((rank, key));
            }
        }
        Ok(best.map(|(_, key)| key.clone()))
    }

    /// The content of a gzip file that was read to its end.
    pub(super) fn find_packed(&self, inode: Inode, size: u64) -> Option<String> {
        let found = self.0.iter().find(|(_, it)| it.position.inode == inode && it.position.packed == Some(size));
        found.map(|(key, _)| key.clone())
    }

    /// A content that was never met.
    pub(super) fn add(&mut self, position: Position) -> String {
        let key = format!("{:016x}", fastrand::u64(..));
        self.0.insert(key.clone(), Content { position, ..Content::default() });
        key
    }

    /// After a look that missed nothing: those that no file has any more, and that are forgotten, each with the bytes that
    /// were not read.
    pub(super) fn forget(&mut self, is_there: impl Fn(&str) -> bool) -> Vec<(String, u64)> {
        let mut gone: Vec<(String, i64)> = Vec::new();
        let mut missing: Vec<(String, i64)> = Vec::new();
        for (key, it) in &mut self.0 {
            if is_there(key) {
                it.missed = 0;
                continue;
            }
            it.missed += 1;
            let entry = (key.clone(), it.position.written_ms);
            if it.missed > MISSED_LOOKS_MAX { gone.push(entry) } else { missing.push(entry) }
        }
        let over = (self.0.len() - gone.len()).saturating_sub(POSITIONS_MAX).min(missing.len());
        missing.sort_by_key(|(_, written_ms)| *written_ms);
        gone.extend(missing.drain(..over));
        let forgotten = gone.into_iter().filter_map(|(key, _)| self.0.remove(&key).map(|it| (key, it)));
        // What the state does not know of needs no forgetting there; all the same it does no harm.
        forgotten.map(|(key, it)| (key, it.seen.saturating_sub(it.position.offset))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::k8s_log::position::Mark;

    fn position(inode: u64, content: &[u8], offset: usize) -> Position {
        Position {
            inode: Inode { device: 1, number: inode },
            offset: offset as u64,
            head: Mark::of(&content[..offset.min(512)]),
            tail: Mark::of(&content[offset.saturating_sub(256)..offset]),
            ..Position::default()
        }
    }

    fn find(contents: &Contents, inode: u64, is_main: bool, content: &[u8]) -> Option<u64> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, content).unwrap();
        let file = File::open(path).unwrap();
        let head = &content[..content.len().min(512)];
        let plain = Some((&file, content.len() as u64));
        let key = contents.find(&Candidate { inode: Inode { device: 1, number: inode }, is_main, head, plain }).unwrap();
        key.map(|key| contents.0[&key].position.inode.number)
    }

    #[test]
    fn a_content_is_known_by_what_it_says() {
        let content: Vec<u8> = (0..2_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut contents = Contents::default();
        contents.add(position(7, &content, 5_000));
        // Renamed, copied, copied too early; under the log's own name or its own inode, shorter means cut.
        assert_eq!(find(&contents, 7, false, &content), Some(7));
        assert_eq!(find(&contents, 8, true, &content), Some(7));
        assert_eq!(find(&contents, 8, false, &content[..4_000]), Some(7));
        assert_eq!(find(&contents, 8, true, &content[..4_000]), None);
        assert_eq!(find(&contents, 7, false, &content[..4_000]), None);
        // The inode alone says nothing, nor does the beginning alone.
        let mut other = content.clone();
        other[4_999] ^= 1;
        assert_eq!(find(&contents, 7, false, &other), None);
        other[0] ^= 1;
        assert_eq!(find(&contents, 7, false, &other), None);
    }

    #[test]
    fn a_short_beginning_is_known_in_its_own_file_alone() {
        for (length, elsewhere) in [(127, None), (128, Some(7))] {
            let content = vec![b'x'; length];
            let mut contents = Contents::default();
            contents.add(position(7, &content, length));
            assert_eq!(find(&contents, 7, false, &content), Some(7));
            assert_eq!(find(&contents, 8, false, &content), elsewhere, "{length}");
        }
    }

    #[test]
    fn what_no_file_has_is_forgotten_after_some_looks_and_the_oldest_of_too_many() {
        let mut contents = Contents::default();
        let there = contents.add(Position::default());
        contents.add(Position::default());
        for _ in 0..MISSED_LOOKS_MAX {
            assert!(contents.forget(|key| key == there).is_empty());
        }
        assert_eq!(contents.forget(|key| key == there).len(), 1);
        assert_eq!(contents.0.len(), 1);
        for n in 0..POSITIONS_MAX {
            contents.add(Position { written_ms: n as i64, ..Position::default() });
        }
        let oldest = contents.0.iter().find(|(key, it)| it.position.written_ms == 0 && **key != there).map(|(key, _)| key.clone());
        let forgotten: Vec<_> = contents.forget(|key| key == there).into_iter().map(|(key, _)| key).collect();
        assert_eq!(forgotten, [oldest.unwrap()]);
        assert_eq!(contents.0.len(), POSITIONS_MAX);
    }
}

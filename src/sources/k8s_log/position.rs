//! How far the content of a log file was taken, and how that content is known again under another name or inode.
//!
//! A content is known by its first bytes and by those before the offset. Both are kept as hashes, and are short: they
//! cover an event's ids and times, not the objects in it.

use std::str::FromStr;
use xxhash_rust::xxh3::xxh3_64;

/// First bytes that tell one file from another: an audit event's id is among them.
pub(super) const HEAD_BYTES: usize = 512;
/// Bytes before the offset that tell whether the file is still what it was.
pub(super) const TAIL_BYTES: usize = 256;

/// Some bytes, to be known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) bytes: u32,
    hash: u64,
}

impl Mark {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u32, hash: xxh3_64(bytes) }
    }

    /// Whether these bytes begin with them.
    pub(super) fn begins(self, bytes: &[u8]) -> bool {
        bytes.get(..self.bytes as usize).is_some_and(|it| Self::of(it) == self)
    }

    /// Whether these bytes end with them.
    pub(super) fn ends(self, bytes: &[u8]) -> bool {
        bytes.len().checked_sub(self.bytes as usize).is_some_and(|from| Self::of(&bytes[from..]) == self)
    }
}

/// The beginning of a content, gathered from its first bytes: behind the hole that it may start with, since holes are alike.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Where it starts.
    pub(super) at: u64,
    /// At most [`HEAD_BYTES`].
    pub(super) bytes: Vec<u8>,
}

impl Head {
    /// Takes the next bytes, which stand at this offset.
    pub(super) fn extend(&mut self, at: u64, mut bytes: &[u8]) {
        if self.bytes.is_empty() {
            let hole = bytes.iter().take_while(|byte| **byte == 0).count();
            self.at = at + hole as u64;
            bytes = &bytes[hole..];
        }
        self.bytes.extend_from_slice(&bytes[..(HEAD_BYTES - self.bytes.len()).min(bytes.len())]);
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= HEAD_BYTES
    }

    /// As much of it as stands before an offset.
    pub(super) fn before(&self, offset: u64) -> &[u8] {
        &self.bytes[..self.bytes.len().min(offset.saturating_sub(self.at) as usize)]
    }
}

/// A file on its device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Inode {
    pub(super) device: u64,
    pub(super) number: u64,
}

/// How far a content was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Where it was read last.
    pub(super) inode: Inode,
    /// Bytes taken; of a gzip file, inflated ones.
    pub(super) offset: u64,
    /// Lines taken.
    pub(super) index: u64,
    /// Its beginning, at most [`HEAD_BYTES`], and no further than the offset.
    pub(super) head: Mark,
    /// What is before the offset, at most [`TAIL_BYTES`].
    pub(super) tail: Mark,
    /// When this was written down, ms.
    pub(super) written_ms: i64,
    /// The size of the gzip file that was read to its end, compressed.
    pub(super) packed: Option<u64>,
}

impl Position {
    /// How it stands in the state.
    pub(super) fn stamp(&self) -> String {
        let Self { inode, offset, index, head, tail, written_ms, packed } = self;
        let packed = packed.map_or_else(|| "-".to_owned(), |it| it.to_string());
        format!(
            "{}:{} {offset} {index} {}:{:016x} {}:{:016x} {written_ms} {packed}",
            inode.device, inode.number, head.bytes, head.hash, tail.bytes, tail.hash
        )
    }

    /// Reads it from the state. None: written by another version.
    pub(super) fn parse(stamp: &str) -> Option<Self> {
        let mut words = stamp.split(' ');
        let inode = pair(words.next()?, 10)?;
        let position = Self {
            inode: Inode { device: inode.0, number: inode.1 },
            offset: words.next()?.parse().ok()?,
            index: words.next()?.parse().ok()?,
            head: mark(words.next()?)?,
            tail: mark(words.next()?)?,
            written_ms: words.next()?.parse().ok()?,
            packed: match words.next()? {
                "-" => None,
                size => Some(size.parse().ok()?),
            },
        };
        words.next().is_none().then_some(position)
    }
}

/// Of no bytes.
impl Default for Mark {
    fn default() -> Self {
        Self::of(&[])
    }
}

fn pair<T: FromStr>(word: &str, radix: u32) -> Option<(T, u64)> {
    let (first, second) = word.split_once(':')?;
    Some((first.parse().ok()?, u64::from_str_radix(second, radix).ok()?))
}

fn mark(word: &str) -> Option<Mark> {
    let (bytes, hash) = pair(word, 16)?;
    Some(Mark { bytes, hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written() {
        let position = Position {
            inode: Inode { device: 66_306, number: u64::MAX },
            offset: 1 << 40,
            index: 12,
            head: Mark::of(b"head"),
            tail: Mark::of(b""),
            written_ms: -1,
            packed: Some(9),
        };
        assert_eq!(Position::parse(&position.stamp()), Some(position.clone()));
        let open = Position { packed: None, ..position };
        assert_eq!(Position::parse(&open.stamp()), Some(open.clone()));
        for other in ["", "1:2", &open.stamp()[6..], &format!("{} 1", open.stamp())] {
            assert_eq!(Position::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_head_begins_behind_the_hole_and_ends_at_its_limit() {
        let mut head = Head::default();
        head.extend(0, &[0; 100]);
        head.extend(100, b"\0\0ab");
        head.extend(104, &[b'c'; HEAD_BYTES - 3]);
        assert!(!head.is_full());
        head.extend(104 + HEAD_BYTES as u64 - 3, b"de");
        assert!(head.is_full());
        assert_eq!((head.at, head.bytes.len(), head.bytes.last()), (102, HEAD_BYTES, Some(&b'd')));
        assert_eq!((head.before(90), head.before(104)), (&b""[..], &b"ab"[..]));
    }

    #[test]
    fn marks_know_beginnings_and_ends() {
        let mark = Mark::of(b"abc");
        assert!(mark.begins(b"abcd") && mark.ends(b"dabc") && mark.ends(b"abc"));
        assert!(Mark::default().begins(b"a") && Mark::default().ends(b""));
        assert!(!mark.begins(b"ab") && !mark.begins(b"abd") && !mark.ends(b"bc") && !mark.ends(b"abcd"));
    }
}

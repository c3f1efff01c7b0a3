//! The scanner: validates one JSON value and writes down its nodes, in one pass.
//!
//! Strict as RFC 8259, except that invalid UTF-8 is the caller's to find (one check per record is
//! cheaper than one per string). Strings are not decoded here; a node says whether it has escapes.

use super::fast::{Fast, is_repeat};
use super::keys::{KeySet, Seen, key_hash};
use super::tape::{Kind, Node, Tape};
use super::text::{special_from, unescape};

/// How deeply objects and arrays may nest. What reads our output (`jq`, serde) stops near here too.
pub const DEPTH_MAX: usize = 128;
/// From this many keys in one object on, repeats are found by a hash set instead of by looking along.
pub(super) const KEYS_LINEAR_MAX: usize = 64;

/// Why a value could not be scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanError {
    /// The bytes end inside the value.
    Incomplete,
    /// Not JSON, at this offset from the start of the buffer.
    Bad {
        /// Offset of the first byte that cannot be.
        at: u32,
        /// What was expected there.
        expected: Expected,
    },
    /// Nested more than [`DEPTH_MAX`] deep.
    TooDeep,
}

/// What the scanner expected where it stopped. Small, as errors pass through the inner loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Expected {
    /// The start of any value.
    Value,
    /// Between members.
    CommaOrBrace,
    /// Between elements.
    CommaOrBracket,
    /// A member's key.
    Key,
    /// Behind a key.
    Colon,
    /// Between members, where the last was found.
    Comma,
    /// One of the three words.
    Literal,
    /// In a number.
    Digit,
    /// In a string.
    NoControl,
    /// Behind a backslash.
    Escape,
    /// Behind `\u`.
    HexDigits,
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Value => "a value",
            Self::CommaOrBrace => "`,` or `}`",
            Self::CommaOrBracket => "`,` or `]`",
            Self::Key => "a key in quotes",
            Self::Colon => "`:`",
            Self::Comma => "`,`",
            Self::Literal => "true, false or null",
            Self::Digit => "a digit",
            Self::NoControl => "no control character in a string",
            Self::Escape => "an escape",
            Self::HexDigits => "four hex digits",
        })
    }
}

struct Open {
    node: usize,
    keys: usize,
    is_object: bool,
    seen: Seen,
}

/// Scans values; keeps its working memory from one to the next.
pub struct Scanner {
    watch: KeySet,
    fast: Fast,
    open: Vec<Open>,
}

impl std::fmt::Debug for Scanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scanner").finish_non_exhaustive()
    }
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new(KeySet::new([]))
    }
}

impl Scanner {
    /// A scanner that also notes the nodes whose keys are (perhaps) in `watch`.
    pub fn new(watch: KeySet) -> Self {
        Self { watch, fast: Fast::default(), open: Vec::new() }
    }

    /// Scans the value that starts at or after `buf[at]`; its nodes' offsets count from the start of `buf`.
    /// Returns where the value ends.
    pub fn scan(&mut self, buf: &[u8], at: usize, tape: &mut Tape) -> Result<usize, ScanError> {
        match self.fast.scan(&self.watch, buf, at, tape) {
            Some(end) => Ok(end),
            None => self.scan_carefully(buf, at, tape),
        }
    }

    /// As [`Scanner::scan`], byte by byte: any value, and why it is none. What the fast way must agree with.
    pub fn scan_carefully(&mut self, buf: &[u8], at: usize, tape: &mut Tape) -> Result<usize, ScanError> {
        tape.clear();
        self.open.clear();
        let mut i = skip_space(buf, at);
        let mut key = Key::default();
        loop {
            let started = tape.nodes.len();
            i = self.value(buf, i, &key, tape)?;
            key = Key::default();
            let just_opened = tape.nodes[started].next == 0;
            if just_opened && self.first_in_container(buf, &mut i, &mut key, tape)? {
                continue;
            }
            match self.after_value(buf, &mut i, &mut key, tape)? {
                After::Next => {}
                After::Done => return Ok(i),
            }
        }
    }

    /// One value's start: a whole scalar, or the opening of a container.
    #[inline]
    fn value(&mut self, buf: &[u8], i: usize, key: &Key, tape: &mut Tape) -> Result<usize, ScanError> {
        let (kind, end) = match byte(buf, i)? {
            b'"' => {
                let (end, escaped) = string_end(buf, i + 1)?;
                (if escaped { Kind::EscapedString } else { Kind::String }, end + 1)
            }
            open @ (b'{' | b'[') => {
                if self.open.len() >= DEPTH_MAX {
                    return Err(ScanError::TooDeep);
                }
                let is_object = open == b'{';
                self.open.push(Open { node: tape.nodes.len(), keys: 0, is_object, seen: Seen::default() });
                (if is_object { Kind::Object } else { Kind::Array }, i + 1)
            }
            b't' => (Kind::True, literal(buf, i, b"true")?),
            b'f' => (Kind::False, literal(buf, i, b"false")?),
            b'n' => (Kind::Null, literal(buf, i, b"null")?),
            b'-' | b'0'..=b'9' => (Kind::Number, number_end(buf, i)?),
            _ => return Err(bad(i, Expected::Value)),
        };
        let index = tape.nodes.len() as u32;
        let is_open = matches!(kind, Kind::Object | Kind::Array);
        tape.nodes.push(Node {
            key_start: key.start,
            key_end: key.end,
            start: i as u32,
            end: end as u32,
            next: if is_open { 0 } else { index + 1 },
            key_hash: key.hash,
            kind,
            key_escaped: key.escaped,
        });
        tape.has_escapes |= key.escaped || kind == Kind::EscapedString;
        if key.watched {
            tape.watched.push(index);
        }
        Ok(end)
    }

    /// Just behind `{` or `[`: true when a value follows, false when the container closes at once.
    fn first_in_container(&mut self, buf: &[u8], i: &mut usize, key: &mut Key, tape: &mut Tape) -> Result<bool, ScanError> {
        let Some(open) = self.open.last() else { return Ok(false) };
        let is_object = open.is_object;
        *i = space(buf, *i, tape);
        match (byte(buf, *i)?, is_object) {
            (b'}', true) | (b']', false) => {
                self.close(i, tape);
                Ok(false)
            }
            (_, true) => {
                *key = self.key(buf, i, tape)?;
                Ok(true)
            }
            (_, false) => Ok(true),
        }
    }

    /// Behind a value: a comma and the next, or the ends of as many containers as close here.
    #[inline]
    fn after_value(&mut self, buf: &[u8], i: &mut usize, key: &mut Key, tape: &mut Tape) -> Result<After, ScanError> {
        loop {
            let Some(open) = self.open.last() else { return Ok(After::Done) };
            let is_object = open.is_object;
            *i = space(buf, *i, tape);
            match (byte(buf, *i)?, is_object) {
                (b',', _) => {
                    *i = space(buf, *i + 1, tape);
                    if is_object {
                        *key = self.key(buf, i, tape)?;
                    }
                    return Ok(After::Next);
                }
                (b'}', true) | (b']', false) => self.close(i, tape),
                (_, true) => return Err(bad(*i, Expected::CommaOrBrace)),
                (_, false) => return Err(bad(*i, Expected::CommaOrBracket)),
            }
        }
    }

    fn close(&mut self, i: &mut usize, tape: &mut Tape) {
        *i += 1;
        if let Some(open) = self.open.pop() {
            let next = tape.nodes.len() as u32;
            let node = &mut tape.nodes[open.node];
            node.next = next;
            node.end = *i as u32;
        }
    }

    /// `"key" :` and the space behind it; leaves `i` at the value.
    #[inline]
    fn key(&mut self, buf: &[u8], i: &mut usize, tape: &mut Tape) -> Result<Key, ScanError> {
        if byte(buf, *i)? != b'"' {
            return Err(bad(*i, Expected::Key));
        }
        let start = *i + 1;
        let (end, escaped) = string_end(buf, start)?;
        let mut after = end + 1;
        if byte(buf, after)? != b':' {
            after = space(buf, after, tape);
            if byte(buf, after)? != b':' {
                return Err(bad(after, Expected::Colon));
            }
        }
        *i = space(buf, after + 1, tape);
        let hash =
            if escaped { key_hash(unescape(&String::from_utf8_lossy(&buf[start..end])).as_bytes()) } else { key_hash(&buf[start..end]) };
        self.note_repeat(buf, hash, (start, end), tape);
        let watched = self.watch.may_hold(hash);
        Ok(Key { start: start as u32, end: end as u32, hash, escaped, watched })
    }

    /// Says on the tape when the key was in this object before. The hash ignores case; keys do not.
    fn note_repeat(&mut self, buf: &[u8], hash: u32, span: (usize, usize), tape: &mut Tape) {
        let Some(open) = self.open.last_mut() else { return };
        open.keys += 1;
        let may_repeat = open.seen.put(hash);
        if open.keys > KEYS_LINEAR_MAX {
            // Every such object counts as one that may repeat: readers then look for the last.
            tape.many_keys = true;
        } else if may_repeat && !tape.repeated_keys {
            tape.repeated_keys = is_repeat(buf, hash, span, open.node, tape);
        }
    }
}

fn bad(at: usize, expected: Expected) -> ScanError {
    ScanError::Bad { at: at as u32, expected }
}

enum After {
    Next,
    Done,
}

#[derive(Default)]
struct Key {
    start: u32,
    end: u32,
    hash: u32,
    escaped: bool,
    watched: bool,
}

#[inline]
fn byte(buf: &[u8], i: usize) -> Result<u8, ScanError> {
    buf.get(i).copied().ok_or(ScanError::Incomplete)
}

pub(super) fn skip_space(buf: &[u8], mut i: usize) -> usize {
    while matches!(buf.get(i), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        i += 1;
    }
    i
}

#[inline]
pub(super) fn space(buf: &[u8], i: usize, tape: &mut Tape) -> usize {
    if !matches!(buf.get(i), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        return i;
    }
    tape.has_space = true;
    skip_space(buf, i)
}

fn literal(buf: &[u8], i: usize, word: &'static [u8]) -> Result<usize, ScanError> {
    let rest = &buf[i..];
    if rest.starts_with(word) {
        Ok(i + word.len())
    } else if word.starts_with(rest) {
        Err(ScanError::Incomplete)
    } else {
        Err(bad(i, Expected::Literal))
    }
}

fn digits(buf: &[u8], mut i: usize) -> Result<usize, ScanError> {
    if !byte(buf, i)?.is_ascii_digit() {
        return Err(bad(i, Expected::Digit));
    }
    while buf.get(i).is_some_and(u8::is_ascii_digit) {
        i += 1;
    }
    Ok(i)
}

pub(super) fn number_end(buf: &[u8], mut i: usize) -> Result<usize, ScanError> {
    if buf[i] == b'-' {
        i += 1;
    }
    i = if byte(buf, i)? == b'0' { i + 1 } else { digits(buf, i)? };
    if buf.get(i) == Some(&b'.') {
        i = digits(buf, i + 1)?;
    }
    if matches!(buf.get(i), Some(b'e' | b'E')) {
        i += 1;
        if matches!(buf.get(i), Some(b'+' | b'-')) {
            i += 1;
        }
        i = digits(buf, i)?;
    }
    Ok(i)
}

/// From behind the opening quote to the closing one: its offset, and whether escapes came before it.
fn string_end(buf: &[u8], mut i: usize) -> Result<(usize, bool), ScanError> {
    let mut escaped = false;
    loop {
        let Some(at) = special_from(buf, i) else { return Err(ScanError::Incomplete) };
        match buf[at] {
            b'"' => return Ok((at, escaped)),
            b'\\' => (escaped, i) = (true, escape_end(buf, at + 1)?),
            _ => return Err(bad(at, Expected::NoControl)),
        }
    }
}

pub(super) fn escape_end(buf: &[u8], i: usize) -> Result<usize, ScanError> {
    match byte(buf, i)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(i + 1),
        b'u' => {
            for at in i + 1..i + 5 {
                if !byte(buf, at)?.is_ascii_hexdigit() {
                    return Err(bad(at, Expected::HexDigits));
                }
            }
            Ok(i + 5)
        }
        _ => Err(bad(i, Expected::Escape)),
    }
}

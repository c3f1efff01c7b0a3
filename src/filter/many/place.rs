//! What is at a place of an event, as far as tests of that place can tell: texts with the same hash are one to all of them.

use super::super::ast::Segment;
use super::super::compile::{Check, Node, Target};
use super::super::eval::Scratch;
use super::super::matcher::Matcher;
use crate::event::column::{self, Kind};
use crate::event::{Col, EventType, Row, Val};
use crate::json::{self, Tape, key_hash};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// An array or object of more bytes is asked about anew each time: hashing it costs more than it saves.
const SPELLED_BYTES_MAX: usize = 256;

/// Where tests look.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// A column of one text, set by normalizers.
    Text(Col),
    /// A column of another kind.
    Column(Col),
    /// A member of the native record.
    Raw(Vec<Segment>),
    /// A member of the native record that a column repeats.
    Repeated(Col, Vec<Segment>),
    /// Two that are compared with each other.
    Pair(Box<[Place; 2]>),
    /// Several of them.
    Elsewhere,
}

/// What is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Missing,
    /// An ASCII text that no test waits for; its [`key_hash`], which ignores the case of letters.
    Other(u32),
    Value {
        /// Of an ASCII text: [`key_hash`].
        text: Option<u32>,
        /// Of all of it.
        whole: u64,
    },
    /// Nothing is known without asking.
    Unknown,
}

/// For which texts tests wait, by six bits of their hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Waits(u64);

impl Waits {
    /// Any value may make a test hold.
    pub(super) const ALL: Self = Self(u64::MAX);

    pub(super) fn add(&mut self, text: u32) {
        self.0 |= 1 << (text >> 26);
    }

    fn has(self, text: u32) -> bool {
        self.0 & 1 << (text >> 26) != 0
    }
}

impl Place {
    pub(super) fn of(node: &Node) -> Self {
        let Node::Test { targets, check } = node else { return Self::Elsewhere };
        match (targets.as_slice(), check) {
            ([one], Check::Fields { others, .. }) => match others.as_slice() {
                [other] => Self::Pair(Box::new([one, other].map(Self::at))),
                _ => Self::Elsewhere,
            },
            ([one], _) => Self::at(one),
            _ => Self::Elsewhere,
        }
    }

    fn at(target: &Target) -> Self {
        match target {
            Target::Column(col) => {
                let is_set_by_normalizers =
                    (Col::CloudProvider..=Col::AvailabilityZone).contains(col) || (Col::User..=Col::RoleType).contains(col);
                if is_set_by_normalizers && col.info().kind == Kind::Text { Self::Text(*col) } else { Self::Column(*col) }
            }
            Target::Raw(path) => {
                let col = if let [Segment::Name(name)] = path.as_slice() { column::repeating(name) } else { None };
                col.map_or_else(|| Self::Raw(path.clone()), |col| Self::Repeated(col, path.clone()))
            }
        }
    }

    /// How dear it is to look there, about, in ns.
    pub(super) fn cost(&self) -> u32 {
        match self {
            Self::Text(_) | Self::Repeated(..) => 12,
            // These are the record itself: all of it is looked through each time.
            Self::Column(Col::Raw | Col::RawText) => 1_000,
            Self::Raw(path) if path.is_empty() => 1_000,
            Self::Column(_) => 25,
            Self::Raw(path) => 15 + 8 * path.len() as u32,
            Self::Pair(both) => both.iter().map(Self::cost).sum(),
            Self::Elsewhere => 150,
        }
    }

    /// `seed` is of this set alone: who writes events cannot make two values that are one to it.
    #[inline]
    pub(super) fn look<R: Row>(&self, row: &R, scratch: &mut Scratch, waits: Waits, seed: u64) -> Seen {
        match self {
            // Of a host event `ip` is more than the column.
            Self::Text(Col::Ip) if row.event_type() == EventType::Host => Seen::Unknown,
            Self::Text(col) => row.text(*col).map_or(Seen::Missing, |it| seen(it, waits, seed)),
            Self::Repeated(col, path) => match row.text(*col).filter(|_| row.repeats_members()) {
                Some(text) => seen(text, waits, seed),
                None => raw(path, row, scratch, waits, seed),
            },
            Self::Column(col) => column(*col, row, waits, seed),
            Self::Raw(path) => raw(path, row, scratch, waits, seed),
            Self::Pair(both) => pair(both, row, scratch, seed),
            Self::Elsewhere => Seen::Unknown,
        }
    }
}

#[inline]
fn seen(text: &str, waits: Waits, seed: u64) -> Seen {
    let bytes = text.as_bytes();
    // Letters beyond ASCII have other hashes in another case.
    let text = text.is_ascii().then(|| key_hash(bytes));
    match text {
        Some(text) if !waits.has(text) => Seen::Other(text),
        _ => Seen::Value { text, whole: xxh3_64_with_seed(bytes, seed) },
    }
}

fn pair<R: Row>(both: &[Place; 2], row: &R, scratch: &mut Scratch, seed: u64) -> Seen {
    let mut whole = [0; 2];
    for ((place, whole), seed) in both.iter().zip(&mut whole).zip([seed, seed.rotate_left(1)]) {
        match place.look(row, scratch, Waits::ALL, seed) {
            // It compares to nothing.
            Seen::Missing => return Seen::Missing,
            Seen::Value { whole: it, .. } => *whole = it,
            Seen::Other(_) | Seen::Unknown => return Seen::Unknown,
        }
    }
    Seen::Value { text: None, whole: xxh3_64_with_seed(&whole[0].to_le_bytes(), whole[1]) }
}

fn column<R: Row>(col: Col, row: &R, waits: Waits, seed: u64) -> Seen {
    if matches!(col, Col::Raw | Col::RawText) {
        return Seen::Unknown;
    }
    if col.info().kind == Kind::List {
        let (mut whole, mut is_there) = (seed, false);
        row.list(col, &mut |text| {
            if !text.is_empty() {
                is_there = true;
                whole = xxh3_64_with_seed(text.as_bytes(), whole);
            }
        });
        return if is_there { Seen::Value { text: None, whole } } else { Seen::Missing };
    }
    match row.val(col) {
        Val::Null => Seen::Missing,
        Val::Text(text) => seen(&text, waits, seed),
        Val::Int(n) => Seen::Value { text: None, whole: xxh3_64_with_seed(&n.to_le_bytes(), seed) },
        Val::Bool(is_so) => Seen::Value { text: None, whole: xxh3_64_with_seed(&[u8::from(is_so)], seed) },
    }
}

fn raw<R: Row>(path: &[Segment], row: &R, scratch: &mut Scratch, waits: Waits, seed: u64) -> Seen {
    let Val::Text(raw) = row.val(Col::Raw) else { return Seen::Unknown };
    let Some(tape) = row.tape().filter(|it| it.nodes.first().is_some_and(|it| it.kind == json::Kind::Object)) else {
        return Seen::Unknown;
    };
    let mut at = 0;
    for (depth, segment) in path.iter().enumerate() {
        let found = match (segment, tape.nodes[at].kind) {
            (Segment::Name(name), json::Kind::Object) if depth == 0 => scratch.root.member(tape, name, &raw),
            (Segment::Name(name), json::Kind::Object) => tape.member(at, name, &raw),
            // What is in it decides, and how much of the path is left to go in there.
            (_, json::Kind::Array) => return spelled(tape, at, &raw, (path.len() - depth, seed)),
            _ => None,
        };
        let Some(next) = found else { return Seen::Missing };
        at = next;
    }
    match tape.nodes[at].kind {
        json::Kind::Null => Seen::Missing,
        json::Kind::Object | json::Kind::Array => spelled(tape, at, &raw, (0, seed)),
        json::Kind::String | json::Kind::EscapedString => tape.string(at, &raw).map_or(Seen::Unknown, |it| seen(&it, waits, seed)),
        _ => seen(tape.spelled(at, &raw), waits, seed),
    }
}

/// An array or object as a whole, with so many steps of the path left. It is no text: the same bytes in quotes are another
/// value; and the same array says something else where more of the path leads into it.
fn spelled(tape: &Tape, at: usize, raw: &str, (left, seed): (usize, u64)) -> Seen {
    let spelled = tape.spelled(at, raw);
    if spelled.len() > SPELLED_BYTES_MAX {
        return Seen::Unknown;
    }
    Seen::Value { text: None, whole: xxh3_64_with_seed(spelled.as_bytes(), !seed.wrapping_add(left as u64)) }
}

/// The hashes of the texts that a test waits for, where only a text with one of them can make it hold. None: other values
/// can, too.
pub(super) fn texts(node: &Node) -> Option<Box<[u32]>> {
    let hash = |it: &Matcher| match it {
        Matcher::Equal(text) | Matcher::EqualNocase(text) => Some(key_hash(text.as_bytes())),
        _ => None,
    };
    match node {
        Node::Test { check: Check::Any { matchers, .. }, .. } => matchers.iter().map(hash).collect(),
        // It holds for no value at all.
        Node::Test { check: Check::Null, .. } => Some(Box::default()),
        _ => None,
    }
}

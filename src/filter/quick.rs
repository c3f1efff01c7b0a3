//! What most tests of many rules ask (is a value one of these texts, is it missing), answered without touching the test
//! itself: by a hash of the value, which is found once per event for all tests of its place. What is not certain so is asked
//! in full.

use super::ast::Segment;
use super::compile::{Check, Node, Target};
use super::eval::Scratch;
use super::matcher::Matcher;
use crate::event::column::Kind;
use crate::event::{Col, EventType, Row};
use crate::json::{self, key_hash};
use std::collections::HashMap;

/// A test as far as hashes decide it.
#[derive(Debug)]
pub(super) enum Quick {
    /// They do not.
    No,
    /// The value at a place is one of these texts, by their hashes without regard to ASCII case.
    Texts { place: u32, hashes: Box<[u32]>, or_null: bool, ignores_case: bool },
    /// There is no value at a place.
    Missing { place: u32 },
    /// The text at a place alone decides it, and deciding is dear: answers are kept by the text.
    Kept { place: u32 },
}

/// Places that tests ask for, each once.
#[derive(Debug, Default)]
pub(super) struct Places {
    targets: Vec<Target>,
    numbers: HashMap<String, u32>,
    /// Of this process alone: who writes events cannot make two texts that are one to it.
    seed: u64,
}

/// What is at a place of the event at hand.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    event: u64,
    /// Of the text without regard to ASCII case, from its ends.
    hash: u32,
    what: What,
    /// Of all of the text.
    whole: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum What {
    Missing,
    /// One value with this hash; whether it is ASCII.
    One {
        is_ascii: bool,
    },
    /// Several, or an object: not for hashes to decide.
    #[default]
    Other,
}

impl Places {
    pub(super) fn new() -> Self {
        Self { seed: fastrand::u64(..), ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.targets.len()
    }

    /// What hashes can decide of a test.
    pub(super) fn quick(&mut self, node: &Node) -> Quick {
        let Node::Test { targets, check } = node else { return Quick::No };
        let [target] = targets.as_slice() else { return Quick::No };
        if !is_quick(target) {
            return Quick::No;
        }
        match check {
            Check::Null => Quick::Missing { place: self.number(target) },
            Check::Any { matchers, nocase: false, or_null } => {
                let hash = |it: &Matcher| match it {
                    Matcher::Equal(text) | Matcher::EqualNocase(text) => Some(key_hash(text.as_bytes())),
                    _ => None,
                };
                let Some(hashes) = matchers.iter().map(hash).collect::<Option<_>>() else {
                    return if *or_null { Quick::No } else { Quick::Kept { place: self.number(target) } };
                };
                let ignores_case = matchers.iter().any(|it| matches!(it, Matcher::EqualNocase(_)));
                Quick::Texts { place: self.number(target), hashes, or_null: *or_null, ignores_case }
            }
            _ => Quick::No,
        }
    }

    fn number(&mut self, target: &Target) -> u32 {
        let next = self.targets.len() as u32;
        let number = *self.numbers.entry(format!("{target:?}")).or_insert(next);
        if number == next {
            self.targets.push(target.clone());
        }
        number
    }

    fn look<R: Row>(&self, place: u32, row: &R, scratch: &mut Scratch, (seen, event): (&mut [Seen], u64)) -> Seen {
        let slot = &mut seen[place as usize];
        if slot.event != event {
            let (what, hash, whole) = value(&self.targets[place as usize], row, scratch, self.seed);
            *slot = Seen { event, hash, what, whole };
        }
        *slot
    }

    /// What hashes say to a test.
    pub(super) fn answer<R: Row>(&self, quick: &Quick, row: &R, scratch: &mut Scratch, seen: (&mut [Seen], u64)) -> Answer {
        let said = match quick {
            Quick::No => None,
            Quick::Kept { place } => {
                let it = self.look(*place, row, scratch, seen);
                return match it.what {
                    What::Missing => Answer::Is(false),
                    What::One { .. } => Answer::By(it.whole),
                    What::Other => Answer::Ask,
                };
            }
            Quick::Missing { place } => match self.look(*place, row, scratch, seen).what {
                What::Missing => Some(true),
                What::One { .. } => Some(false),
                What::Other => None,
            },
            Quick::Texts { place, hashes, or_null, ignores_case } => {
                let it = self.look(*place, row, scratch, seen);
                match it.what {
                    What::Missing => Some(*or_null),
                    // Letters beyond ASCII have other hashes in another case; and of equal hashes the texts decide.
                    What::One { is_ascii } if (is_ascii || !ignores_case) && !hashes.contains(&it.hash) => Some(false),
                    _ => None,
                }
            }
        };
        said.map_or(Answer::Ask, Answer::Is)
    }
}

/// What hashes say to a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// This.
    Is(bool),
    /// The same as for any text with this hash.
    By(u64),
    /// It is to be asked in full.
    Ask,
}

/// Places with one text at most, mostly.
fn is_quick(target: &Target) -> bool {
    match target {
        Target::Column(col) => {
            let is_set_by_normalizers =
                (Col::CloudProvider..=Col::AvailabilityZone).contains(col) || (Col::User..=Col::RoleType).contains(col);
            is_set_by_normalizers && col.info().kind == Kind::Text
        }
        Target::Raw(path) => !path.is_empty() && path.iter().all(|it| matches!(it, Segment::Name(_))),
    }
}

fn value<R: Row>(target: &Target, row: &R, scratch: &mut Scratch, seed: u64) -> (What, u32, u64) {
    const OTHER: (What, u32, u64) = (What::Other, 0, 0);
    const MISSING: (What, u32, u64) = (What::Missing, 0, 0);
    let one = |text: &str| {
        let bytes = text.as_bytes();
        (What::One { is_ascii: text.is_ascii() }, key_hash(bytes), xxhash_rust::xxh3::xxh3_64_with_seed(bytes, seed))
    };
    let path = match target {
        // Of a host event `ip` is more than the column.
        Target::Column(Col::Ip) if row.event_type() == EventType::Host => return OTHER,
        Target::Column(col) => return row.text(*col).map_or(MISSING, one),
        Target::Raw(path) => path,
    };
    let crate::event::Val::Text(raw) = row.val(Col::Raw) else { return OTHER };
    let Some(tape) = row.tape().filter(|it| it.nodes.first().is_some_and(|it| it.kind == json::Kind::Object)) else {
        return OTHER;
    };
    let mut at = 0;
    for (depth, segment) in path.iter().enumerate() {
        let Segment::Name(name) = segment else { return OTHER };
        let found = match tape.nodes[at].kind {
            json::Kind::Object if depth == 0 => scratch.root.member(tape, name, &raw),
            json::Kind::Object => tape.member(at, name, &raw),
            json::Kind::Array => return OTHER,
            _ => None,
        };
        let Some(next) = found else { return MISSING };
        at = next;
    }
    match tape.nodes[at].kind {
        json::Kind::Null => MISSING,
        json::Kind::Object | json::Kind::Array => OTHER,
        json::Kind::String | json::Kind::EscapedString => tape.string(at, &raw).map_or(OTHER, |it| one(&it)),
        _ => one(tape.spelled(at, &raw)),
    }
}

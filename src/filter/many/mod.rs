//! Many filters over one event, decided together: what is found at one place of the event decides all tests of that place in
//! all filters at once, and what is then left of the filters says where to look next. Which step follows which is learnt
//! from the events and kept ([`Learnt`]), so that an event costs as much as the places that must be looked at, however many
//! filters there are.

mod expr;
mod learnt;
mod place;

use super::Filter;
use super::compile::{Check, Node};
use super::eval::{Scratch, holds};
use crate::event::Row;
use expr::{Exprs, Id, NO, YES};
use learnt::LEARNT_MAX;
pub(super) use learnt::Learnt;
use place::Place;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Filters that are asked together, by groups: for each kind of event others.
#[derive(Debug, Default)]
pub struct Many {
    /// Tells what is learnt of one set from what is learnt of another.
    set: u64,
    seed: u64,
    learnt_max: usize,
    exprs: Exprs,
    tests: Vec<Test>,
    places: Vec<PlaceTests>,
    groups: Vec<Group>,
}

/// Filters by the number that each has, and what they are.
#[derive(Debug)]
struct Group {
    undecided: Arc<[(u32, Id)]>,
    /// Those that hold whatever is asked.
    always: Vec<u32>,
}

#[derive(Debug)]
struct Test {
    node: Node,
    place: u32,
    /// Only a text with one of these hashes makes it hold, of values; none: others can.
    texts: Option<Box<[u32]>>,
    /// Looking for nothing decides little.
    is_for_nothing: bool,
}

/// A place, and which tests a text there can make hold, by its hash.
#[derive(Debug)]
struct PlaceTests {
    place: Place,
    by_text: HashMap<u32, Vec<u32>>,
}

static SETS: AtomicU64 = AtomicU64::new(1);

impl Many {
    /// These filters, in groups by their numbers.
    pub fn new<'f>(filters: impl IntoIterator<Item = &'f Filter>, groups: &[Vec<usize>]) -> Self {
        let mut builder = Builder::default();
        let filters: Vec<Id> = filters.into_iter().map(|it| builder.expr(&it.root)).collect();
        let group = |members: &Vec<usize>| {
            let members = members.iter().map(|n| (*n as u32, filters[*n]));
            Group {
                undecided: members.clone().filter(|(_, it)| !matches!(*it, NO | YES)).collect(),
                always: members.filter(|(_, it)| *it == YES).map(|(n, _)| n).collect(),
            }
        };
        Self {
            set: SETS.fetch_add(1, Ordering::Relaxed),
            seed: fastrand::u64(..),
            learnt_max: LEARNT_MAX,
            groups: groups.iter().map(group).collect(),
            exprs: builder.exprs,
            tests: builder.tests,
            places: builder.places,
        }
    }

    /// Calls `each` with the number of every filter of a group that matches the event, which `scratch` knows to be the next.
    pub fn ask<R: Row>(&self, group: usize, row: &R, scratch: &mut Scratch, each: &mut dyn FnMut(u32)) {
        let Some(Group { always, .. }) = self.groups.get(group) else { return };
        for member in always {
            each(*member);
        }
        let mut learnt = scratch.learnt.take().unwrap_or_default();
        learnt.ask(self, group, row, scratch, each);
        scratch.learnt = Some(learnt);
    }

    fn holds<R: Row>(&self, test: u32, row: &R, scratch: &mut Scratch) -> bool {
        holds(&self.tests[test as usize].node, row, scratch)
    }
}

/// Gives tests and places their numbers.
#[derive(Debug, Default)]
struct Builder {
    exprs: Exprs,
    tests: Vec<Test>,
    places: Vec<PlaceTests>,
    test_numbers: HashMap<String, u32>,
    place_numbers: HashMap<String, u32>,
}

impl Builder {
    fn expr(&mut self, node: &Node) -> Id {
        match node {
            Node::Not(part) => {
                let part = self.expr(part);
                self.exprs.not(part)
            }
            Node::And(parts) => {
                let parts = parts.iter().map(|it| self.expr(it)).collect();
                self.exprs.and(parts)
            }
            Node::Or(parts) => {
                let parts = parts.iter().map(|it| self.expr(it)).collect();
                self.exprs.or(parts)
            }
            Node::Test { targets, .. } if targets.len() > 1 => match by_field(node) {
                Some(node) => self.expr(&node),
                None => self.test(node),
            },
            Node::Test { .. } => self.test(node),
        }
    }

    fn test(&mut self, node: &Node) -> Id {
        let next = self.tests.len() as u32;
        // How a test is written down tells everything about it.
        let number = *self.test_numbers.entry(format!("{node:?}")).or_insert(next);
        if number == next {
            let place = self.place(node);
            let texts = place::texts(node);
            for text in texts.iter().flatten() {
                let tests = self.places[place as usize].by_text.entry(*text).or_default();
                if tests.last() != Some(&number) {
                    tests.push(number);
                }
            }
            let is_for_nothing = matches!(node, Node::Test { check: Check::Null | Check::Any { or_null: true, .. }, .. });
            self.tests.push(Test { node: node.clone(), place, texts, is_for_nothing });
        }
        self.exprs.test(number, self.tests[number as usize].place)
    }

    fn place(&mut self, node: &Node) -> u32 {
        let place = Place::of(node);
        let next = self.places.len() as u32;
        // What no value decides is a place by itself.
        let name = if matches!(place, Place::Elsewhere) { format!("{node:?}") } else { format!("{place:?}") };
        let number = *self.place_numbers.entry(name).or_insert(next);
        if number == next {
            self.places.push(PlaceTests { place, by_text: HashMap::new() });
        }
        number
    }
}

/// A test of several fields as tests of one each. None: what it compares is not one value.
fn by_field(node: &Node) -> Option<Node> {
    let Node::Test { targets, check } = node else { return None };
    let each = |check: Check| targets.iter().map(|it| Node::Test { targets: vec![it.clone()], check: check.clone() }).collect::<Vec<_>>();
    match check {
        Check::Fields { .. } => None,
        Check::Null => Some(Node::And(each(Check::Null))),
        Check::Any { matchers, nocase, or_null } => {
            let mut any = each(Check::Any { matchers: matchers.clone(), nocase: *nocase, or_null: false });
            if *or_null {
                any.push(Node::And(each(Check::Null)));
            }
            Some(Node::Or(any))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Lists;
    use super::*;
    use crate::event::{Col, Context, Event, EventType, Val};
    use crate::json::{Scanner, Tape};
    use learnt::EVENTS_BETWEEN;
    use std::borrow::Cow;

    const SOURCES: [&str; 11] = [
        r#"user = "ada" and error matches "^Acc" and ip != null"#,
        r#"error matches "^Acc" and not user = "bob""#,
        r#"(user = "ada" or user = "bob") and not (error = null or error matches "^Acc")"#,
        r#"user in ("ada", "eve") and (ip = "10.0.0.0/8" or error != null)"#,
        r#"ip = "10.0.0.0/8""#,
        r#"error matches nocase "^acc""#,
        r#"user = nocase "ADA" or user = field(error)"#,
        r#"user = null or not user in ("ada", "bob", null)"#,
        r#"requestParameters.a.b = "x" and eventName != null"#,
        r#"requestParameters.a like "x" or eventName = field(requestParameters.a)"#,
        r#"eventName in ("x", "5") and requestParameters.a[0] = "x""#,
    ];
    const RECORDS: [&str; 5] = [
        "{}",
        r#"{"eventName":"x","requestParameters":{"a":["x"]}}"#,
        r#"{"eventName":"x","requestParameters":{"a":{"b":["x"]}}}"#,
        r#"{"eventName":5,"requestParameters":{"a":{"b":"x"}}}"#,
        r#"{"eventName":["x","y"],"requestParameters":{"a":"x"}}"#,
    ];

    /// What filters say together, and each by itself, of events that differ in who, what and where.
    fn compare(many: &Many, filters: &[Filter], scratch: &mut Scratch) {
        let (context, mut scanner, mut tape) = (Context::default(), Scanner::default(), Tape::default());
        let mut n = 0;
        for user in ["ada", "bob", "eve", "ADA", "", "Throttled"] {
            for error in ["AccessDenied", "accented", "Throttled", ""] {
                for ip in ["10.1.2.3", "192.0.2.1", ""] {
                    let raw = RECORDS[n % RECORDS.len()];
                    n += 1;
                    scanner.scan(raw.as_bytes(), 0, &mut tape).unwrap();
                    let mut event = Event::new(EventType::CloudTrail, &context, 0, Cow::Borrowed(raw));
                    event.tape = Some(&tape);
                    for (col, text) in [(Col::User, user), (Col::Error, error), (Col::Ip, ip)] {
                        if !text.is_empty() {
                            event.set(col, Val::of(text));
                        }
                    }
                    scratch.next_event();
                    let mut found = Vec::new();
                    many.ask(0, &event, scratch, &mut |n| found.push(n));
                    found.sort_unstable();
                    let holds = |n: &u32| filters[*n as usize].matches(&event, &mut Scratch::default());
                    let expected: Vec<_> = (0..filters.len() as u32).filter(holds).collect();
                    assert_eq!(found, expected, "{user} {error} {ip} {raw}");
                }
            }
        }
    }

    fn many(filters: &[Filter], learnt_max: usize) -> Many {
        Many { learnt_max, ..Many::new(filters, &[(0..filters.len()).collect()]) }
    }

    #[test]
    fn filters_together_answer_as_each_does_by_itself() {
        let filters = SOURCES.map(|it| Filter::new(it, &Lists::default()).unwrap());
        let mut scratch = Scratch::default();
        // What was learnt of one set is not taken for what another says.
        for skipped in [0, 1] {
            let many = many(&filters[skipped..], LEARNT_MAX);
            compare(&many, &filters[skipped..], &mut scratch);
            compare(&many, &filters[skipped..], &mut scratch);
        }
    }

    #[test]
    fn what_always_or_never_holds_needs_no_place() {
        let nothing = Filter { root: Node::Or(Vec::new()) };
        let all = Filter { root: Node::Not(Box::new(nothing.root.clone())) };
        let one = Filter::new(SOURCES[4], &Lists::default()).unwrap();
        for filters in [vec![nothing.clone(), all.clone()], vec![all, one, nothing]] {
            compare(&many(&filters, LEARNT_MAX), &filters, &mut Scratch::default());
        }
    }

    #[test]
    fn what_is_learnt_is_bounded_and_begins_anew() {
        let filters = SOURCES.map(|it| Filter::new(it, &Lists::default()).unwrap());
        let mut scratch = Scratch::default();
        let enough = many(&filters, LEARNT_MAX);
        compare(&enough, &filters, &mut scratch);
        let size = scratch.learnt.as_ref().unwrap().size(&enough);
        // Room for the last step and no more; one number less.
        for (room, is_full) in [(size, false), (1, true)] {
            let tight = many(&filters, room);
            compare(&tight, &filters, &mut scratch);
            let learnt = scratch.learnt.as_ref().unwrap();
            assert_eq!((learnt.state().0, learnt.size(&tight) < size), (is_full, is_full));
            if is_full {
                compare(&tight, &filters, &mut scratch);
                let asked = scratch.learnt.as_ref().unwrap().state().1;
                let context = Context::default();
                let event = Event::new(EventType::CloudTrail, &context, 0, Cow::Borrowed("{}"));
                for _ in asked..=EVENTS_BETWEEN {
                    scratch.next_event();
                    tight.ask(0, &event, &mut scratch, &mut |_| {});
                }
                let learnt = scratch.learnt.as_ref().unwrap();
                assert!(learnt.state().1 < asked, "{} events, then {}", asked, learnt.state().1);
                compare(&tight, &filters, &mut scratch);
            }
        }
    }
}

//! Asking a filter about an event.

use super::ast::{Op, Segment};
use super::compile::{Check, Filter, Node, Target};
use super::matcher::{any_holds, ordered};
use super::root::Root;
use super::value::{Found, Ordinal};
use crate::event::column::Kind;
use crate::event::{Col, EventType, Row, Val};
use crate::json::{self, Scanner, Tape};
use std::borrow::Cow;
use std::sync::LazyLock;

/// Working memory of a search: where the native record's members are, found once per event and only if asked.
#[derive(Debug, Default)]
pub struct Scratch {
    scanner: Scanner,
    tape: Tape,
    is_scanned: bool,
    pub(super) root: Root,
    /// What filters that are asked together have learnt.
    pub(super) learnt: Option<Box<super::many::Learnt>>,
}

impl Filter {
    /// Whether the event matches.
    pub fn matches(&self, row: &impl Row, scratch: &mut Scratch) -> bool {
        scratch.next_event();
        self.matches_again(row, scratch)
    }

    /// As [`Filter::matches`], for the event that `scratch` was last used for.
    pub fn matches_again(&self, row: &impl Row, scratch: &mut Scratch) -> bool {
        holds(&self.root, row, scratch)
    }
}

impl Scratch {
    /// What comes next is another event.
    pub fn next_event(&mut self) {
        self.is_scanned = false;
        self.root.forget();
    }
}

/// All values of one target, as text.
pub(super) fn values_of<R: Row>(target: &Target, row: &R, scratch: &mut Scratch) -> Vec<String> {
    let mut found = Vec::new();
    any_value(std::slice::from_ref(target), row, scratch, &mut |value| {
        found.push(value.text().to_owned());
        false
    });
    found
}

pub(super) fn holds<R: Row>(node: &Node, row: &R, scratch: &mut Scratch) -> bool {
    match node {
        Node::Or(parts) => parts.iter().any(|it| holds(it, row, scratch)),
        Node::And(parts) => parts.iter().all(|it| holds(it, row, scratch)),
        Node::Not(part) => !holds(part, row, scratch),
        Node::Test { targets, check } => match check {
            Check::Null => !any_value(targets, row, scratch, &mut |_| true),
            Check::Any { matchers, nocase, or_null } => {
                let mut is_there = false;
                any_value(targets, row, scratch, &mut |value| {
                    is_there = true;
                    any_holds(matchers, value, *nocase)
                }) || *or_null && !is_there
            }
            Check::Fields { others, op, nocase } => {
                // An object equals nothing and contains nothing.
                let is_object = |value: &Found<'_>| matches!(value, Found::Object(_));
                let mut left = Vec::new();
                any_value(targets, row, scratch, &mut |value| {
                    if !is_object(value) {
                        left.push(value.text().to_owned());
                    }
                    false
                });
                any_value(others, row, scratch, &mut |value| !is_object(value) && left.iter().any(|it| compare(it, *op, value, *nocase)))
            }
        },
    }
}

/// Two values of one event.
fn compare(left: &str, op: Op, right: &Found<'_>, nocase: bool) -> bool {
    let right = right.text();
    let (left, right) = if nocase {
        (Cow::Owned(left.to_lowercase()), Cow::Owned(right.to_lowercase()))
    } else {
        (Cow::Borrowed(left), Cow::Borrowed(right))
    };
    match op {
        Op::Lt | Op::Le | Op::Gt | Op::Ge => match (Ordinal::of(&left), Ordinal::of(&right)) {
            (Some(left), Some(right)) => ordered(op, left, right),
            _ => false,
        },
        Op::Like => left.contains(&*right),
        Op::StartsWith => left.starts_with(&*right),
        Op::EndsWith => left.ends_with(&*right),
        // A pattern out of an event would be the attacker's: it is compared as text.
        Op::Matches => left.contains(&*right),
        Op::Eq | Op::Ne | Op::In | Op::NotIn => left == right,
    }
}

/// Calls `test` with the values of the targets until it says yes.
fn any_value<R: Row>(targets: &[Target], row: &R, scratch: &mut Scratch, test: &mut dyn FnMut(&Found<'_>) -> bool) -> bool {
    targets.iter().any(|target| match target {
        Target::Column(col) => {
            column_value(*col, row, test) || *col == Col::Ip && row.event_type() == EventType::Host && host_addresses(row, scratch, test)
        }
        Target::Raw(path) => raw_value(path, row, scratch, test),
    })
}

/// The addresses of a host event: `ip` means any of them.
fn host_addresses<R: Row>(row: &R, scratch: &mut Scratch, test: &mut dyn FnMut(&Found<'_>) -> bool) -> bool {
    HOST_ADDRESSES.iter().any(|path| raw_value(path, row, scratch, test))
}

static HOST_ADDRESSES: LazyLock<Vec<Vec<Segment>>> = LazyLock::new(|| {
    let path = |names: &&[&str]| names.iter().map(|it| Segment::Name((*it).to_owned())).collect();
    crate::event::HOST_ADDRESS_PATHS.iter().map(path).collect()
});

fn column_value<R: Row>(col: Col, row: &R, test: &mut dyn FnMut(&Found<'_>) -> bool) -> bool {
    if col.info().kind == Kind::List {
        let mut found = false;
        row.list(col, &mut |text| found |= !text.is_empty() && test(&Found::Text(Cow::Borrowed(text))));
        return found;
    }
    match row.val(col) {
        Val::Null => false,
        Val::Text(text) => test(&Found::Text(text)),
        Val::Int(n) => test(&Found::Text(Cow::Owned(n.to_string()))),
        Val::Bool(b) => test(&Found::Text(Cow::Borrowed(if b { "true" } else { "false" }))),
    }
}

fn raw_value<R: Row>(path: &[Segment], row: &R, scratch: &mut Scratch, test: &mut dyn FnMut(&Found<'_>) -> bool) -> bool {
    let Val::Text(raw) = row.val(Col::Raw) else { return false };
    let Scratch { scanner, tape, is_scanned, root, .. } = scratch;
    let tape = if let Some(tape) = row.tape() {
        tape
    } else {
        // What is stored was scanned before; should it not scan, it has no members.
        if !*is_scanned && scanner.scan(raw.as_bytes(), 0, tape).is_err() {
            return false;
        }
        *is_scanned = true;
        tape
    };
    match path.first() {
        Some(Segment::Name(name)) if tape.nodes[0].kind == json::Kind::Object => {
            root.member(tape, name, &raw).is_some_and(|child| walk(tape, &raw, child, &path[1..], test))
        }
        _ => walk(tape, &raw, 0, path, test),
    }
}

/// Follows the path from a node; an array on the way means any of its elements.
fn walk(tape: &Tape, text: &str, at: usize, path: &[Segment], test: &mut dyn FnMut(&Found<'_>) -> bool) -> bool {
    let node = &tape.nodes[at];
    match (path.first(), node.kind) {
        (Some(Segment::Index(n)), json::Kind::Array) => {
            tape.children(at).nth(*n).is_some_and(|child| walk(tape, text, child, &path[1..], test))
        }
        (_, json::Kind::Array) => tape.children(at).any(|child| walk(tape, text, child, path, test)),
        (Some(Segment::Name(name)), json::Kind::Object) => {
            tape.member(at, name, text).is_some_and(|child| walk(tape, text, child, &path[1..], test))
        }
        (Some(_), _) | (None, json::Kind::Null) => false,
        // As it reads, not as it is spelled: no escape hides what is in it, nor is there what an escape is spelled with.
        (None, json::Kind::Object) => test(&Found::Object(&json::unescape(tape.spelled(at, text)))),
        (None, json::Kind::String | json::Kind::EscapedString) => tape.string(at, text).is_some_and(|it| test(&Found::Text(it))),
        (None, _) => test(&Found::Text(Cow::Borrowed(tape.spelled(at, text)))),
    }
}

//! Why a filter matches an event or does not: every test with its answer and what it found.

use super::ast::{Path, Value};
use super::compile::{Check, Filter, Node, Target};
use super::eval::{Scratch, holds, values_of};
use super::matcher::Matcher;
use crate::event::Row;

/// How many alternatives of one test are shown.
const ALTERNATIVES_SHOWN: usize = 8;

fn quoted(text: &str) -> String {
    Value::Text(text.to_owned()).to_string()
}

/// A part of a filter, and what an event says to it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Explained {
    /// How deep it is inside the others.
    pub depth: usize,
    /// Whether the event matches it.
    pub holds: bool,
    /// The test, or `and`, `or`, `not`.
    pub what: String,
    /// What the event has where the test looks.
    pub values: Vec<String>,
}

impl Filter {
    /// Every part of the filter, each before what is inside it. All are asked, also those that decide nothing any more.
    pub fn explain(&self, row: &impl Row, scratch: &mut Scratch) -> Vec<Explained> {
        scratch.next_event();
        let mut found = Vec::new();
        explain(&self.root, 0, row, scratch, &mut found);
        found
    }
}

fn explain<R: Row>(node: &Node, depth: usize, row: &R, scratch: &mut Scratch, found: &mut Vec<Explained>) {
    let holds = holds(node, row, scratch);
    let (what, parts, values) = match node {
        Node::Or(parts) => ("or".to_owned(), parts.as_slice(), Vec::new()),
        Node::And(parts) => ("and".to_owned(), parts.as_slice(), Vec::new()),
        Node::Not(part) => ("not".to_owned(), std::slice::from_ref(&**part), Vec::new()),
        Node::Test { targets, check } => {
            let others = if let Check::Fields { others, .. } = check { others.as_slice() } else { &[] };
            let values = targets.iter().chain(others).flat_map(|it| values_of(it, row, scratch)).collect();
            (test(targets, check), [].as_slice(), values)
        }
    };
    // One part is what it is a part of.
    if let ([one], true) = (parts, matches!(node, Node::Or(_) | Node::And(_))) {
        return explain(one, depth, row, scratch, found);
    }
    found.push(Explained { depth, holds, what, values });
    for part in parts {
        explain(part, depth + 1, row, scratch, found);
    }
}

fn test(targets: &[Target], check: &Check) -> String {
    let names: Vec<_> = targets.iter().map(name).collect();
    let names = names.join(" or ");
    match check {
        Check::Null => format!("{names} = null"),
        Check::Fields { others, op, nocase } => {
            let others: Vec<_> = others.iter().map(name).collect();
            format!("{names} {op}{} field({})", if *nocase { " nocase" } else { "" }, others.join(" or "))
        }
        Check::Any { matchers, nocase, or_null } => {
            let mut said: Vec<_> = matchers.iter().take(ALTERNATIVES_SHOWN).map(|it| matcher(it, *nocase)).collect();
            if let Some(more @ 1..) = matchers.len().checked_sub(ALTERNATIVES_SHOWN) {
                said.push(format!("{more} more"));
            }
            said.extend(or_null.then(|| "= null".to_owned()));
            format!("{names} {}", said.join(" or "))
        }
    }
}

fn name(target: &Target) -> String {
    match target {
        Target::Column(col) => col.info().path.to_owned(),
        Target::Raw(path) if path.is_empty() => "the record".to_owned(),
        Target::Raw(path) => Path(path.clone()).to_string(),
    }
}

fn matcher(matcher: &Matcher, nocase: bool) -> String {
    let with = |op: &str, text: &str| format!("{op}{} {}", if nocase { " nocase" } else { "" }, quoted(text));
    match matcher {
        Matcher::Equal(text) | Matcher::Inside(text, _) => with("=", text),
        Matcher::EqualNocase(text) => format!("= nocase {}", quoted(text)),
        Matcher::Order(op, than) => format!("{op} {than}"),
        Matcher::Contains(text) => with("like", &String::from_utf8_lossy(text.needle())),
        Matcher::StartsWith(text) => with("starts_with", text),
        Matcher::EndsWith(text) => with("ends_with", text),
        Matcher::Regex(regex) => with("matches", regex.as_str()),
        Matcher::Scalar(inner) => self::matcher(inner, nocase),
    }
}

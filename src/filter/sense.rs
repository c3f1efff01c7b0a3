//! Tests that can never be true, and fields that nothing has: said when a filter is written, not found out when it is needed.

use super::ast::{Op, Path, Segment, Test, Value};
use super::compile::{Target, aliases};
use super::error::{FilterError, nearest};
use super::value::Ordinal;
use crate::event::column::{COLUMNS, Kind};
use crate::event::{Col, EventType};
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

/// A name with so many letters may be a slip of another that differs in one.
const LONG_NAME_CHARS: usize = 6;
/// Of one that is shorter only a letter too many or too few, or two in the wrong order, where the longer has so many.
const SHORT_NAME_CHARS: usize = 5;

static FIELDS: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    let common = COLUMNS.iter().flat_map(|it| [it.path.split('.').next().unwrap_or(""), it.name]);
    names(include_str!("fields.txt")).chain(common).chain(aliases()).collect()
});

/// Verbs of Kubernetes: their `action` is in lower case, and may be spelled as a call of AWS otherwise is.
const VERBS: &[&str] = &[
    "approve",
    "attest",
    "bind",
    "connect",
    "create",
    "delete",
    "deletecollection",
    "escalate",
    "get",
    "impersonate",
    "list",
    "patch",
    "proxy",
    "sign",
    "update",
    "use",
    "watch",
];

/// Calls of AWS by their names in lower case.
static CALLS: LazyLock<HashMap<String, HashSet<&str>>> = LazyLock::new(|| {
    let mut calls: HashMap<String, HashSet<&str>> = HashMap::new();
    for name in names(include_str!("calls.txt")) {
        calls.entry(name.to_lowercase()).or_default().insert(name);
    }
    calls
});

fn names(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace)
}

/// Columns whose values are words of a short list.
const WORDS: &[(Col, &[&str])] = &[
    (Col::Outcome, &["success", "failure", "denied"]),
    (Col::Activity, &["create", "read", "update", "delete", "login", "assume", "execute", "grant", "other"]),
    (Col::TargetKind, &["secret", "identity", "policy", "key", "network", "compute", "storage", "database", "logging", "cluster", "other"]),
    (Col::MatchState, &["UNMATCHED", "MATCHED", "SUPPRESSED"]),
    (
        Col::UserType,
        &[
            "Root",
            "IAMUser",
            "AssumedRole",
            "Role",
            "FederatedUser",
            "Directory",
            "AWSAccount",
            "AWSService",
            "IdentityCenterUser",
            "WebIdentityUser",
            "SAMLUser",
            "Unknown",
            "ServiceAccount",
            "Node",
            "Anonymous",
            "User",
        ],
    ),
];

/// Refuses what cannot be meant.
pub(super) fn check(source: &str, test: &Test, targets: &[Target]) -> Result<(), FilterError> {
    let error = |message: String, suggestion: Option<String>| Err(FilterError::new(source, test.at, message).suggest(suggestion));
    check_path(source, test.at, &test.path)?;
    if let Value::Field(other) = &test.value {
        check_path(source, test.at, other)?;
    }
    let [target] = targets else { return Ok(()) };
    for value in values(&test.value) {
        if let Some((message, suggestion)) = never(test, target, value) {
            return error(message, suggestion);
        }
    }
    Ok(())
}

/// Refuses a field that is nearly one that there is.
pub(super) fn check_path(source: &str, at: usize, path: &Path) -> Result<(), FilterError> {
    match slip(path) {
        None => Ok(()),
        Some((name, meant)) => {
            let error = FilterError::new(source, at, format!("no event has a field `{name}`"));
            Err(error.suggest(Some(format!("did you mean `{meant}`?"))))
        }
    }
}

/// The field's first name, where it is nearly one that there is, and that one.
fn slip(path: &Path) -> Option<(&str, &'static str)> {
    let Some(Segment::Name(name)) = path.0.first() else { return None };
    if FIELDS.contains(name.as_str()) {
        return None;
    }
    let mut near = FIELDS.iter().copied().filter(|it| it.eq_ignore_ascii_case(name)).collect::<Vec<_>>();
    if near.is_empty() {
        near = FIELDS.iter().copied().filter(|it| is_near(name, it)).collect();
    }
    near.sort_unstable();
    Some((name, near.into_iter().next()?))
}

/// Whether one is the other with one slip of the hand.
fn is_near(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if long.len() - short.len() > 1 {
        return false;
    }
    let is_one_off = super::error::distance(a, b) == 1;
    if short.len() >= LONG_NAME_CHARS && is_one_off {
        return true;
    }
    if long.len() < SHORT_NAME_CHARS || short.len() + 1 < SHORT_NAME_CHARS {
        return false;
    }
    // One and several are two fields, and so are a first and a second.
    let is_other = long.strip_suffix('s') == Some(short) || long.bytes().any(|it| !it.is_ascii_alphabetic());
    is_one_off && short.len() < long.len() && !is_other || is_swapped(a, b)
}

/// Whether two letters that stand side by side changed places.
fn is_swapped(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .position(|(x, y)| x != y)
            .is_some_and(|at| a.get(at + 1).is_some() && a[at] == b[at + 1] && a[at + 1] == b[at] && a[at + 2..] == b[at + 2..])
}

/// The texts and numbers of a value.
fn values(value: &Value) -> Vec<&Value> {
    match value {
        Value::Set(values) => values.iter().collect(),
        value => vec![value],
    }
}

/// Why this comparison is never true, and what to write instead.
fn never(test: &Test, target: &Target, value: &Value) -> Option<(String, Option<String>)> {
    let text = match value {
        Value::Text(text) | Value::Number(text) => text.as_str(),
        _ => return None,
    };
    let is_equality = matches!(test.op, Op::Eq | Op::Ne | Op::In | Op::NotIn);
    let is_order = matches!(test.op, Op::Lt | Op::Le | Op::Gt | Op::Ge);
    if let Target::Column(col) = target {
        let info = col.info();
        let words = WORDS.iter().find(|(it, _)| it == col).map(|(_, words)| *words);
        let is_word = words.is_some() || matches!(col, Col::EventType | Col::Action | Col::Service) || info.kind == Kind::Bool;
        if is_order && is_word {
            return Some((format!("`{}` is never a number, so nothing is smaller or larger", info.path), Some(compare_words())));
        }
        if is_equality && !test.nocase {
            return never_equal(*col, text, words);
        }
    }
    let is_call = matches!(target, Target::Raw(path) if matches!(path.as_slice(), [Segment::Name(name)] if name == "eventName"));
    if is_call && is_order {
        return Some(("`eventName` is never a number, so nothing is smaller or larger".to_owned(), Some(compare_words())));
    }
    if is_call && is_equality && !test.nocase { wrong_case_of_call(text) } else { None }
}

fn compare_words() -> String {
    "compare with =, in, like, starts_with".to_owned()
}

fn never_equal(col: Col, text: &str, words: Option<&[&str]>) -> Option<(String, Option<String>)> {
    let info = col.info();
    let write = |it: &str| Some(format!("write \"{it}\""));
    match info.kind {
        Kind::Bool if !matches!(text, "true" | "false") => {
            Some((format!("`{}` is true or false", info.path), Some("write true or false".to_owned())))
        }
        Kind::Int if text.parse::<i64>().is_err() => {
            Some((format!("`{}` is a number, never `{text}`", info.path), Some("write a number".to_owned())))
        }
        Kind::Time if Ordinal::of(text).is_none() => {
            Some((format!("`{}` is a time in ms, never `{text}`", info.path), Some("compare with < or > and a time".to_owned())))
        }
        _ if col == Col::EventType => {
            let names = EventType::ALL.iter().map(|it| it.name());
            let name = names.into_iter().find(|name| name.eq_ignore_ascii_case(text) && *name != text)?;
            Some((format!("no event type is `{text}`"), write(name)))
        }
        _ if col == Col::Action => wrong_case_of_call(text),
        _ => {
            let words = words.filter(|it| !it.contains(&text))?;
            let near = nearest(text, words.iter().copied())?;
            Some((format!("`{}` is never `{text}`", info.path), write(near)))
        }
    }
}

fn wrong_case_of_call(text: &str) -> Option<(String, Option<String>)> {
    let names = CALLS.get(&text.to_lowercase()).filter(|it| !it.contains(text))?;
    let name = names.iter().min().filter(|_| !VERBS.contains(&text))?;
    Some((format!("no call is named `{text}`"), Some(format!("write \"{name}\""))))
}

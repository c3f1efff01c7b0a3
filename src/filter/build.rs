//! Filters made by other languages than ours: Sigma rules become the same tests over the same events.

use super::ast::{Op, Segment};
use super::compile::{Check, Filter, Node, REGEX_BYTES_MAX, Target};
use super::matcher::{Matcher, Network};
use super::value::Ordinal;
use crate::event::Col;
use regex::RegexBuilder;

/// A part of a filter.
#[derive(Debug, Clone)]
pub struct Part(Node);

/// What a value is compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Pattern {
    /// A text in which [`Piece`]s may stand for any text; the case of letters counts or not.
    Text {
        /// Its pieces.
        pieces: Vec<Piece>,
        /// Whether case counts.
        cased: bool,
    },
    /// A regular expression, unanchored; flags are written into it.
    Regex(String),
    /// A network with its prefix length.
    Network(String),
    /// `<`, `<=`, `>`, `>=` than a number.
    Order(Op, String),
}

/// A piece of a text pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// This text.
    Text(String),
    /// Any text, also none.
    Any,
    /// Any one character.
    One,
    /// A dash, or what programs for Windows take for the dash of an option.
    Dash,
}

impl Pattern {
    /// Other languages compare what is a text or number by itself; an object is equal to nothing and contains nothing.
    fn matcher(&self) -> Result<Matcher, String> {
        let matcher = self.any_matcher()?;
        let is_for_objects = matches!(matcher, Matcher::Regex(_));
        Ok(if is_for_objects { Matcher::Scalar(Box::new(matcher)) } else { matcher })
    }

    fn any_matcher(&self) -> Result<Matcher, String> {
        match self {
            Self::Text { pieces, cased } => text_matcher(pieces, *cased),
            Self::Regex(source) => regex(source).map(Matcher::Regex),
            Self::Network(text) => {
                let network = Network::parse(text).ok_or_else(|| format!("`{text}` is not a network with a prefix length"))?;
                Ok(Matcher::Inside(text.clone(), network))
            }
            Self::Order(op, text) => {
                let than = Ordinal::of(text).ok_or_else(|| format!("`{text}` is not a number"))?;
                Ok(Matcher::Order(*op, than))
            }
        }
    }
}

fn text_matcher(pieces: &[Piece], cased: bool) -> Result<Matcher, String> {
    match (pieces, cased) {
        ([], _) => Ok(Matcher::Equal(String::new())),
        ([Piece::Text(text)], true) => Ok(Matcher::Equal(text.clone())),
        ([Piece::Text(text)], false) => Ok(Matcher::EqualNocase(text.to_lowercase())),
        ([Piece::Any], _) => regex("").map(Matcher::Regex),
        _ => {
            let mut source = String::from(if cased { "(?s)" } else { "(?is)" });
            if pieces.first() != Some(&Piece::Any) {
                source.push('^');
            }
            for (n, piece) in pieces.iter().enumerate() {
                match piece {
                    Piece::Text(text) => source.push_str(&regex::escape(text)),
                    // At an end it is the missing anchor.
                    Piece::Any if n == 0 || n + 1 == pieces.len() => {}
                    Piece::Any => source.push_str(".*"),
                    Piece::One => source.push('.'),
                    Piece::Dash => source.push_str(r"[-/\u{2013}\u{2014}\u{2015}]"),
                }
            }
            if pieces.last() != Some(&Piece::Any) {
                source.push('$');
            }
            regex(&source).map(Matcher::Regex)
        }
    }
}

fn regex(source: &str) -> Result<regex::Regex, String> {
    RegexBuilder::new(source)
        .size_limit(REGEX_BYTES_MAX)
        .build()
        .map_err(|error| format!("`{source}` is not a regular expression: {error}"))
}

fn raw(path: &str) -> Vec<Target> {
    vec![Target::Raw(path.split('.').map(|it| Segment::Name(it.to_owned())).collect())]
}

impl Part {
    /// All of them.
    pub fn all(parts: Vec<Self>) -> Self {
        Self(Node::And(parts.into_iter().map(|it| it.0).collect()))
    }

    /// At least one of them.
    pub fn any(parts: Vec<Self>) -> Self {
        Self(Node::Or(parts.into_iter().map(|it| it.0).collect()))
    }

    /// Not this one.
    #[must_use]
    pub fn negated(self) -> Self {
        Self(Node::Not(Box::new(self.0)))
    }

    /// A value at this path of the native record is like one of the patterns.
    pub fn value(path: &str, patterns: &[Pattern]) -> Result<Self, String> {
        let matchers = patterns.iter().map(Pattern::matcher).collect::<Result<_, _>>()?;
        Ok(Self(Node::Test { targets: raw(path), check: Check::Any { matchers, nocase: false, or_null: false } }))
    }

    /// The native record is somewhere like one of the patterns: as it reads, so that no escape hides what is in it.
    pub fn anywhere(patterns: &[Pattern]) -> Result<Self, String> {
        let matchers = patterns.iter().map(Pattern::any_matcher).collect::<Result<_, _>>()?;
        let targets = vec![Target::Raw(Vec::new()), Target::Column(Col::RawText)];
        Ok(Self(Node::Test { targets, check: Check::Any { matchers, nocase: false, or_null: false } }))
    }

    /// There is no value at this path.
    pub fn null(path: &str) -> Self {
        Self(Node::Test { targets: raw(path), check: Check::Null })
    }

    /// Two values of the record, compared without regard to case unless `cased`.
    pub fn fields(path: &str, op: Op, other: &str, cased: bool) -> Self {
        Self(Node::Test { targets: raw(path), check: Check::Fields { others: raw(other), op, nocase: !cased } })
    }

    /// The filter.
    pub fn into_filter(self) -> Filter {
        Filter { root: self.0 }
    }
}

/// A field of the event, to read instead of to test.
#[derive(Debug, Clone)]
pub struct Field {
    /// As it was written.
    pub path: String,
    targets: Vec<Target>,
}

impl Field {
    /// The field at this path, found as a filter finds it.
    pub fn new(path: &str) -> Result<Self, super::FilterError> {
        let expr = super::parse(&format!("{path} = null"))?;
        let super::Expr::Test(test) = expr else { return Err(super::FilterError::new(path, 0, "this is not a field")) };
        super::sense::check_path(path, 0, &test.path)?;
        Ok(Self { path: path.to_owned(), targets: super::compile::targets(&test.path) })
    }

    /// Where it is.
    pub(super) fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Its values as text: of an alias those of the first field that has any.
    pub fn values(&self, row: &impl crate::event::Row, scratch: &mut super::Scratch) -> Vec<String> {
        scratch.next_event();
        self.targets.iter().map(|target| super::eval::values_of(target, row, scratch)).find(|it| !it.is_empty()).unwrap_or_default()
    }
}

//! Values of an event, as a comparison sees them.

use crate::event::time::parse_ms;
use std::borrow::Cow;

/// A value that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found<'v> {
    /// A text, or a number or boolean as it is spelled.
    Text(Cow<'v, str>),
    /// An object, as it reads: there, but equal to nothing.
    Object(&'v str),
}

impl Found<'_> {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Object(text) => text,
        }
    }
}

/// What `<` and its kin compare: numbers, and times as milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Ordinal {
    Whole(i128),
    Real(f64),
}

impl std::fmt::Display for Ordinal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(whole) => write!(f, "{whole}"),
            Self::Real(real) => write!(f, "{real}"),
        }
    }
}

impl Ordinal {
    pub(super) fn of(text: &str) -> Option<Self> {
        if let Ok(whole) = text.parse() {
            return Some(Self::Whole(whole));
        }
        match text.parse::<f64>() {
            Ok(real) if real.is_finite() => Some(Self::Real(real)),
            _ => parse_ms(text).map(|ms| Self::Whole(i128::from(ms))),
        }
    }

    pub(super) fn compare(self, other: Self) -> Option<std::cmp::Ordering> {
        let real = |it| match it {
            Self::Whole(whole) => whole as f64,
            Self::Real(real) => real,
        };
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => Some(a.cmp(&b)),
            (a, b) => real(a).partial_cmp(&real(b)),
        }
    }
}

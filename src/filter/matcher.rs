//! One compiled comparison of one value.

use super::ast::Op;
use super::value::{Found, Ordinal};
use regex::Regex;
use std::net::IpAddr;

/// A network: an address and how many of its bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    bits: u128,
    length: u32,
    is_v4: bool,
}

impl Network {
    /// Reads `10.0.0.0/8`; bits behind the prefix may be set.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let (is_v4, bits) = address_bits(address.parse().ok()?);
        let width: u32 = if is_v4 { 32 } else { 128 };
        let length: u32 = length.parse().ok().filter(|length| *length <= width)?;
        Some(Self { bits, length: length + (128 - width), is_v4 })
    }

    pub(super) fn holds(self, address: IpAddr) -> bool {
        let (is_v4, bits) = address_bits(address);
        is_v4 == self.is_v4 && (self.length == 0 || (bits ^ self.bits) >> (128 - self.length) == 0)
    }
}

/// An address as bits; an IPv4 address in the low 32. One that is mapped into IPv6 is what it maps.
fn address_bits(address: IpAddr) -> (bool, u128) {
    match address.to_canonical() {
        IpAddr::V4(it) => (true, u128::from(u32::from(it))),
        IpAddr::V6(it) => (false, u128::from(it)),
    }
}

/// What a value is compared with, ready.
#[derive(Debug, Clone)]
pub(super) enum Matcher {
    /// Equal text.
    Equal(String),
    /// Equal but for the case of letters; ours is in lower case.
    EqualNocase(String),
    /// Inside a network; anything but an address compares text.
    Inside(String, Network),
    /// `<`, `<=`, `>`, `>=`.
    Order(Op, Ordinal),
    Contains(Box<memchr::memmem::Finder<'static>>),
    StartsWith(String),
    EndsWith(String),
    Regex(Regex),
    /// This one, and the value is no object.
    Scalar(Box<Matcher>),
}

/// Whether one of them holds for the value. Without regard to case it is folded once, for all of them.
pub(super) fn any_holds(matchers: &[Matcher], value: &Found<'_>, nocase: bool) -> bool {
    if nocase {
        let lower = Found::Text(value.text().to_lowercase().into());
        let is_object = matches!(value, Found::Object(_));
        return matchers.iter().any(|it| !(is_object && it.is_equality()) && it.holds(&lower));
    }
    if let Found::Text(text) = value {
        let is_folding = |it: &Matcher| matches!(it, Matcher::EqualNocase(_));
        if !text.is_ascii() && matchers.len() > 1 && matchers.iter().all(is_folding) {
            let lower = text.to_lowercase();
            return matchers.iter().any(|it| matches!(it, Matcher::EqualNocase(text) if *text == lower));
        }
    }
    matchers.iter().any(|it| it.holds(value))
}

impl Matcher {
    fn holds(&self, value: &Found<'_>) -> bool {
        match (self, value) {
            (Self::Equal(text), Found::Text(value)) => text == value,
            (Self::EqualNocase(text), Found::Text(value)) => {
                value.eq_ignore_ascii_case(text) || !value.is_ascii() && value.to_lowercase() == *text
            }
            (Self::Inside(text, network), Found::Text(value)) => match value.parse() {
                Ok(address) => network.holds(address),
                Err(_) => text == value,
            },
            (Self::Order(op, than), Found::Text(value)) => Ordinal::of(value).is_some_and(|it| ordered(*op, it, *than)),
            (Self::Contains(text), value) => text.find(value.text().as_bytes()).is_some(),
            (Self::StartsWith(text), value) => value.text().starts_with(text.as_str()),
            (Self::EndsWith(text), value) => value.text().ends_with(text.as_str()),
            (Self::Regex(regex), value) => regex.is_match(value.text()),
            (Self::Scalar(matcher), value) => !matches!(value, Found::Object(_)) && matcher.holds(value),
            (Self::Equal(_) | Self::EqualNocase(_) | Self::Inside(..) | Self::Order(..), Found::Object(_)) => false,
        }
    }

    fn is_equality(&self) -> bool {
        matches!(self, Self::Equal(_) | Self::EqualNocase(_) | Self::Inside(..) | Self::Order(..))
    }
}

/// Whether `a op b` holds.
pub(super) fn ordered(op: Op, a: Ordinal, b: Ordinal) -> bool {
    a.compare(b).is_some_and(|it| match op {
        Op::Lt => it.is_lt(),
        Op::Le => it.is_le(),
        Op::Gt => it.is_gt(),
        Op::Ge => it.is_ge(),
        _ => it.is_eq(),
    })
}

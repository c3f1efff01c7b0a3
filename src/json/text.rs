//! JSON string contents: decoding escapes, and writing text as a JSON string.

use std::borrow::Cow;
use wide::u8x16;

/// Decodes the escapes of a JSON string's inside. Lone surrogates stay as they were spelled: Rust text cannot hold them.
pub fn unescape(inside: &str) -> Cow<'_, str> {
    let Some(first) = memchr::memchr(b'\\', inside.as_bytes()) else {
        return Cow::Borrowed(inside);
    };
    let mut out = String::with_capacity(inside.len());
    out.push_str(&inside[..first]);
    let mut rest = &inside[first..];
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let used = push_decoded(rest, &mut out);
        rest = &rest[used..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Decodes the one escape that `rest` starts with; returns how many bytes it took.
fn push_decoded(rest: &str, out: &mut String) -> usize {
    let plain = match rest.as_bytes().get(1) {
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'u') => return push_unicode(rest, out),
        Some(c @ (b'"' | b'\\' | b'/')) => char::from(*c),
        _ => {
            out.push('\\');
            return 1;
        }
    };
    out.push(plain);
    2
}

fn push_unicode(rest: &str, out: &mut String) -> usize {
    let unit = |at: usize| rest.get(at + 2..at + 6).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let Some(high) = unit(0) else {
        out.push('\\');
        return 1;
    };
    if let Some(c) = char::from_u32(high) {
        out.push(c);
        return 6;
    }
    if (0xd800..0xdc00).contains(&high) && rest[6..].starts_with("\\u") {
        if let Some(low) = unit(6).filter(|low| (0xdc00..0xe000).contains(low)) {
            out.extend(char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)));
            return 12;
        }
    }
    out.push_str(&rest[..6]);
    6
}

/// Writes `"text"`.
pub fn push_quoted(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    push_escaped(text, out);
    out.push(b'"');
}

/// Bytes that are looked at together.
pub(super) const LANES: usize = 16;

/// A bit for each of sixteen bytes that a string cannot hold as it is: quote, backslash, controls.
#[inline]
pub(super) fn special_bits(bytes: &[u8; LANES]) -> u32 {
    let lanes = u8x16::new(*bytes);
    let is_quote = lanes.simd_eq(u8x16::splat(b'"'));
    let is_slash = lanes.simd_eq(u8x16::splat(b'\\'));
    let is_control = lanes.min(u8x16::splat(0x1f)).simd_eq(lanes);
    (is_quote | is_slash | is_control).to_bitmask()
}

/// The first byte from `at` on that a string cannot hold as it is.
#[inline]
pub(super) fn special_from(bytes: &[u8], mut at: usize) -> Option<usize> {
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<LANES>) {
        let found = special_bits(chunk);
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize);
        }
        at += LANES;
    }
    special_in_rest(bytes, at)
}

/// As [`special_from`], where fewer than sixteen bytes are left: once more over the last sixteen of all, if so many are there.
#[inline]
fn special_in_rest(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes.get(at..)?;
    if rest.is_empty() {
        return None;
    }
    if let Some(last) = bytes.last_chunk::<LANES>() {
        let found = special_bits(last) >> (LANES - rest.len());
        return (found != 0).then(|| at + found.trailing_zeros() as usize);
    }
    rest.iter().position(|b| *b < 0x20 || *b == b'"' || *b == b'\\').map(|n| at + n)
}

/// Writes text as the inside of a JSON string. A lone surrogate that [`unescape`] left as `\ud8xx` comes out as it went in.
pub fn push_escaped(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    while let Some(at) = special_from(rest, 0) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' if is_lone_surrogate(&rest[at..]) => out.push(b'\\'),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(control >> 4)]);
                out.push(HEX[usize::from(control & 15)]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

fn is_lone_surrogate(rest: &[u8]) -> bool {
    rest.len() >= 6
        && matches!(&rest[..3], b"\\ud" | b"\\uD")
        && matches!(rest[3], b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F')
        && rest[4..6].iter().all(u8::is_ascii_hexdigit)
}

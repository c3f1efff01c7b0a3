//! The fast way through an object: what [`super::Scanner`] does, for objects that are as they should be. It says nothing
//! of what is wrong: whoever asks it goes the careful way then. A test and a fuzz target hold the two together.

use super::keys::{KeySet, Seen, key_hash, key_hash_in};
use super::scan::{DEPTH_MAX, KEYS_LINEAR_MAX, escape_end, number_end, skip_space, space};
use super::tape::{Kind, Node, Tape};
use super::text::{LANES, special_bits, special_from, unescape};

/// A container that is not closed yet.
#[derive(Debug, Clone, Copy, Default)]
struct Open {
    node: u32,
    keys: u32,
    closing: u8,
    seen: Seen,
}

#[derive(Clone, Copy, Default)]
struct Key {
    start: u32,
    end: u32,
    hash: u32,
    escaped: bool,
    watched: bool,
}

/// Working memory of the fast way.
#[derive(Debug, Default)]
pub(super) struct Fast {
    open: Vec<Open>,
}

impl Fast {
    /// Scans the object that starts at or after `buf[at]`; returns where it ends. None: it is none, or not whole, or not
    /// as it should be; the tape is then worth nothing.
    pub(super) fn scan(&mut self, watch: &KeySet, buf: &[u8], at: usize, tape: &mut Tape) -> Option<usize> {
        tape.clear();
        self.open.clear();
        let mut i = skip_space(buf, at);
        if buf.get(i) != Some(&b'{') {
            return None;
        }
        let (mut key, mut inside) = (Key::default(), Open::default());
        loop {
            let index = tape.nodes.len() as u32;
            let first = *buf.get(i)?;
            let (kind, end) = match first {
                b'"' => {
                    let (end, escaped) = string_end(buf, i + 1)?;
                    (if escaped { Kind::EscapedString } else { Kind::String }, end + 1)
                }
                b'{' | b'[' if self.open.len() < DEPTH_MAX => (if first == b'{' { Kind::Object } else { Kind::Array }, i + 1),
                b't' if buf[i..].starts_with(b"true") => (Kind::True, i + 4),
                b'f' if buf[i..].starts_with(b"false") => (Kind::False, i + 5),
                b'n' if buf[i..].starts_with(b"null") => (Kind::Null, i + 4),
                b'-' | b'0'..=b'9' => (Kind::Number, number_end(buf, i).ok()?),
                _ => return None,
            };
            let is_open = matches!(kind, Kind::Object | Kind::Array);
            tape.nodes.push(Node {
                key_start: key.start,
                key_end: key.end,
                start: i as u32,
                end: end as u32,
                next: if is_open { 0 } else { index + 1 },
                key_hash: key.hash,
                kind,
                key_escaped: key.escaped,
            });
            tape.has_escapes |= key.escaped || kind == Kind::EscapedString;
            if key.watched {
                tape.watched.push(index);
            }
            i = space(buf, end, tape);
            if is_open {
                self.open.push(inside);
                // `{` and `}` are two apart in ASCII, `[` and `]` too.
                inside = Open { node: index, closing: first + 2, ..Open::default() };
                if *buf.get(i)? != inside.closing {
                    key = if kind == Kind::Object { Self::key(watch, buf, &mut i, tape, &mut inside)? } else { Key::default() };
                    continue;
                }
            }
            loop {
                let byte = *buf.get(i)?;
                if byte == b',' {
                    i = space(buf, i + 1, tape);
                    key = if inside.closing == b'}' { Self::key(watch, buf, &mut i, tape, &mut inside)? } else { Key::default() };
                    break;
                }
                if byte != inside.closing {
                    return None;
                }
                i += 1;
                let next = tape.nodes.len() as u32;
                let node = tape.nodes.get_mut(inside.node as usize)?;
                (node.next, node.end) = (next, i as u32);
                inside = self.open.pop()?;
                if self.open.is_empty() {
                    return Some(i);
                }
                i = space(buf, i, tape);
            }
        }
    }

    /// `"key" :` and the space behind it; leaves `i` at the value.
    #[inline]
    fn key(watch: &KeySet, buf: &[u8], i: &mut usize, tape: &mut Tape, inside: &mut Open) -> Option<Key> {
        if *buf.get(*i)? != b'"' {
            return None;
        }
        let start = *i + 1;
        let (end, escaped) = string_end(buf, start)?;
        let colon = space(buf, end + 1, tape);
        if *buf.get(colon)? != b':' {
            return None;
        }
        *i = space(buf, colon + 1, tape);
        let hash = if escaped { decoded_hash(&buf[start..end]) } else { key_hash_in(buf, start, end) };
        inside.keys += 1;
        let key = Key { start: start as u32, end: end as u32, hash, escaped, watched: watch.may_hold(hash) };
        if inside.seen.put(hash) || inside.keys as usize > KEYS_LINEAR_MAX {
            note_repeat(buf, key, *inside, tape);
        }
        Some(key)
    }
}

/// From behind the opening quote to the closing one: its offset, and whether escapes came before it.
#[inline(always)]
#[expect(clippy::inline_always, reason = "most strings end within the first sixteen bytes; measured: a tenth of the scan")]
fn string_end(buf: &[u8], i: usize) -> Option<(usize, bool)> {
    let mut from = i;
    if let Some(chunk) = buf.get(i..).and_then(<[u8]>::first_chunk::<LANES>) {
        let found = special_bits(chunk);
        if found == 0 {
            from = i + LANES;
        } else {
            let at = i + found.trailing_zeros() as usize;
            if buf[at] == b'"' {
                return Some((at, false));
            }
        }
    }
    let found = long_string_end(buf, from);
    (found != NO_STRING).then_some(((found & !ESCAPED) as usize, found & ESCAPED != 0))
}

/// Set in what [`long_string_end`] returns when the string has escapes.
const ESCAPED: u64 = 1 << 63;
/// What it returns when there is no such string. One number instead of an `Option`: it stays in a register.
const NO_STRING: u64 = u64::MAX;

fn long_string_end(buf: &[u8], mut i: usize) -> u64 {
    let mut escaped = 0;
    loop {
        let Some(at) = special_from(buf, i) else { return NO_STRING };
        match buf[at] {
            b'"' => return at as u64 | escaped,
            b'\\' => match escape_end(buf, at + 1) {
                Ok(end) => (escaped, i) = (ESCAPED, end),
                Err(_) => return NO_STRING,
            },
            _ => return NO_STRING,
        }
    }
}

#[cold]
fn decoded_hash(key: &[u8]) -> u32 {
    key_hash(unescape(&String::from_utf8_lossy(key)).as_bytes())
}

/// Says on the tape when the key was in this object before. The hash ignores case; keys do not.
#[cold]
fn note_repeat(buf: &[u8], key: Key, inside: Open, tape: &mut Tape) {
    if inside.keys as usize > KEYS_LINEAR_MAX {
        tape.many_keys = true;
    } else if !tape.repeated_keys {
        tape.repeated_keys = is_repeat(buf, key.hash, (key.start as usize, key.end as usize), inside.node as usize, tape);
    }
}

/// Whether a child of `parent` has this key, compared decoded.
pub(super) fn is_repeat(buf: &[u8], hash: u32, span: (usize, usize), parent: usize, tape: &Tape) -> bool {
    let decoded = |start: usize, end: usize| unescape(&String::from_utf8_lossy(&buf[start..end])).into_owned();
    tape.children(parent).any(|at| {
        let node = &tape.nodes[at];
        node.key_hash == hash && decoded(node.key_start as usize, node.key_end as usize) == decoded(span.0, span.1)
    })
}

#[cfg(test)]
mod tests {
    use super::super::Scanner;
    use super::*;
    use proptest::prelude::*;

    /// JSON values as text, some with white space, escapes, repeated and many keys.
    fn value() -> impl Strategy<Value = String> {
        let string = prop_oneof![
            "[a-zA-Z0-9:/.{}\\[\\], -]{0,90}".prop_map(|it| format!("\"{it}\"")),
            Just(r#""a\"b\\""#.to_owned()),
            Just(r#""\u0041\ud800\n\\\\""#.to_owned()),
            Just(r#""\\""#.to_owned()),
        ];
        let leaf = prop_oneof![
            4 => string,
            1 => prop::sample::select(vec!["null", "true", "false", "0", "-1.5e+3", "18446744073709551616"]).prop_map(str::to_owned),
        ];
        let key =
            prop_oneof!["[a-zA-Z]{0,20}", Just("eventName".to_owned()), Just("EventName".to_owned()), Just(r"event\u004eame".to_owned()),];
        let space = prop::sample::select(vec!["", "", "", " ", "\n\t"]);
        leaf.prop_recursive(5, 90, 12, move |inside| {
            let member = (key.clone(), space.clone(), inside.clone());
            prop_oneof![
                prop::collection::vec((space.clone(), inside), 0..9).prop_map(|all| format!(
                    "[{}]",
                    all.iter().map(|(space, it)| format!("{space}{it}{space}")).collect::<Vec<_>>().join(",")
                )),
                prop::collection::vec(member, 0..9).prop_map(|all| {
                    let members: Vec<_> = all.iter().map(|(key, space, it)| format!("{space}\"{key}\"{space}:{space}{it}")).collect();
                    format!("{{{}}}", members.join(","))
                }),
            ]
        })
    }

    fn both_agree(text: &[u8], at: usize) -> bool {
        let watch = KeySet::new(["eventName", "password"]);
        let (mut fast, mut careful) = (Tape::default(), Tape::default());
        let found = Fast::default().scan(&watch, text, at, &mut fast);
        let expected = Scanner::new(watch).scan_carefully(text, at, &mut careful);
        if let Some(end) = found {
            assert_eq!(Ok(end), expected, "{}", String::from_utf8_lossy(text));
            assert_eq!(fast, careful, "{}", String::from_utf8_lossy(text));
        }
        found.is_some()
    }

    proptest! {
        #[test]
        fn what_it_takes_it_reads_as_the_careful_way_does(value in value(), before in 0..70_usize, at in 0..400_usize, byte in any::<u8>()) {
            let text = format!("{}{{\"k\":{value}}}, \"after", " ".repeat(before));
            prop_assert!(both_agree(text.as_bytes(), 0), "whole objects are taken: {text}");
            prop_assert!(both_agree(text.as_bytes(), before));
            let mut damaged = text.into_bytes();
            if let Some(slot) = damaged.get_mut(at) {
                *slot = byte;
            }
            both_agree(&damaged, 0);
            damaged.truncate(at);
            both_agree(&damaged, 0);
        }
    }

    #[test]
    fn nesting_and_keys_are_taken_up_to_their_limits_alike() {
        for depth in [DEPTH_MAX - 1, DEPTH_MAX] {
            let text = format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
            assert_eq!(both_agree(text.as_bytes(), 0), depth < DEPTH_MAX);
        }
        for keys in [KEYS_LINEAR_MAX, KEYS_LINEAR_MAX + 1] {
            let members: Vec<_> = (0..keys).map(|n| format!("\"k{n}\":{n}")).collect();
            assert!(both_agree(format!("{{{}}}", members.join(",")).as_bytes(), 0));
        }
    }
}

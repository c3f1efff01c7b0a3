//! Objects that hold records: behind which bracket they are, found without the whole object where it is long or broken.

use super::subscription::Header;
use super::window::Window;
use crate::json::{Expected, Kind, ScanError, Scanner, Tape};
use std::io;

/// The kind of a list of audit events, as JSON spells it.
const EVENT_LIST: &str = "\"EventList\"";

/// Where the records of an object are.
pub(super) struct Inside {
    /// Behind the opening bracket of their array.
    pub(super) at: usize,
    /// They are log events, of which this is known.
    pub(super) header: Option<Header>,
}

impl Inside {
    pub(super) fn at(at: usize) -> Self {
        Self { at, header: None }
    }

    /// They are log events, and what says whose they are may come behind them.
    pub(super) fn is_headless(&self) -> bool {
        self.header.as_ref().is_some_and(Header::has_no_group)
    }
}

/// `{"Records":[`, as every `CloudTrail` object starts.
pub(super) fn quick(rest: &[u8]) -> Option<usize> {
    let mut at = 0;
    for token in [&b"{"[..], b"\"Records\"", b":", b"["] {
        at += rest[at..].iter().take_while(|b| b.is_ascii_whitespace()).count();
        if !rest[at..].starts_with(token) {
            return None;
        }
        at += token.len();
    }
    Some(at)
}

/// Behind the bracket of an `EventList`'s items.
pub(super) fn event_list(tape: &Tape, text: &str) -> Option<usize> {
    let is_list = tape.member(0, "kind", text).is_some_and(|at| tape.spelled(at, text) == EVENT_LIST);
    let items = tape.member(0, "items", text).filter(|at| is_list && tape.nodes[*at].kind == Kind::Array)?;
    Some(tape.nodes[items].start as usize + 1)
}

/// Member by member to `"Records": [` and its like, for objects too long to scan whole or broken further on.
pub(super) fn walk(window: &mut Window<'_>, scanner: &mut Scanner) -> io::Result<Option<Inside>> {
    let mut walk = Walk { scanner, tape: Tape::default(), is_list: false, header: Header::default() };
    let mut at = 1;
    loop {
        match walk.member(window.rest(), at) {
            Ok(Member::Records(inside)) => return Ok(Some(inside)),
            Ok(Member::Other { next }) => at = next,
            Err(ScanError::Incomplete) if !window.is_full() && window.fill()? => {}
            Err(_) => return Ok(None),
        }
    }
}

struct Walk<'s> {
    scanner: &'s mut Scanner,
    tape: Tape,
    is_list: bool,
    header: Header,
}

enum Member {
    Records(Inside),
    Other { next: usize },
}

impl Walk<'_> {
    fn member(&mut self, rest: &[u8], at: usize) -> Result<Member, ScanError> {
        let key_end = self.scanner.scan(rest, at, &mut self.tape)?;
        let key = self.tape.nodes.first().map_or(&[][..], |node| &rest[node.start as usize..node.end as usize]);
        let colon = next_token(rest, key_end)?;
        if rest[colon] != b':' {
            return Err(ScanError::Bad { at: colon as u32, expected: Expected::Colon });
        }
        let value = next_token(rest, colon + 1)?;
        if rest[value] == b'[' {
            match key {
                b"\"Records\"" => return Ok(Member::Records(Inside::at(value + 1))),
                b"\"items\"" if self.is_list => return Ok(Member::Records(Inside::at(value + 1))),
                b"\"logEvents\"" => {
                    let header = Some(std::mem::take(&mut self.header));
                    return Ok(Member::Records(Inside { at: value + 1, header }));
                }
                _ => {}
            }
        }
        // Servers write the kind of a list before its items.
        self.is_list |= key == b"\"kind\"" && rest[value..].starts_with(EVENT_LIST.as_bytes());
        let end = self.scanner.scan(rest, value, &mut self.tape)?;
        if rest[value] == b'"' {
            let inside = std::str::from_utf8(&rest[value + 1..end - 1]).unwrap_or_default();
            let name = key.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\"")).unwrap_or_default();
            self.header.note(name, inside);
        }
        let comma = next_token(rest, end)?;
        if rest[comma] != b',' {
            return Err(ScanError::Bad { at: comma as u32, expected: Expected::Comma });
        }
        Ok(Member::Other { next: comma + 1 })
    }
}

fn next_token(rest: &[u8], at: usize) -> Result<usize, ScanError> {
    let space = rest[at..].iter().take_while(|b| b.is_ascii_whitespace()).count();
    if at + space < rest.len() { Ok(at + space) } else { Err(ScanError::Incomplete) }
}

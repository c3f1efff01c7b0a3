//! Where pieces go: into the store, or to another planewatch. Either way the position goes into the store with them.

use super::config::K8sLogConfig;
use super::forward::{Forwarder, Sent};
use super::lines::is_damage;
use crate::json::{Kind, ScanError, Scanner, Tape};
use crate::sources::{Delivery, EXCERPT_BYTES, Input, LINE_BYTES_MAX, Refused, SetAside, Surroundings, lines};
use bytes::Bytes;
use std::io;

/// What was read, in terms of lines.
#[derive(Debug, Default)]
pub(super) struct Piece {
    lines: Bytes,
    first_index: u64,
    refused: Vec<Refused>,
    bytes: u64,
}

impl Piece {
    pub(super) fn of_lines(lines: Bytes, first_index: u64) -> Self {
        Self { bytes: lines.len() as u64, lines, first_index, refused: Vec::new() }
    }

    pub(super) fn of_long_line(bytes: u64, excerpt: Vec<u8>, index: u64) -> Self {
        let what = SetAside::long_line(bytes, excerpt);
        Self { refused: vec![Refused { index, what }], bytes, ..Self::default() }
    }

    /// A gzip file that does not read on from here.
    pub(super) fn of_damage(error: &io::Error, bytes: u64, index: u64) -> Self {
        debug_assert!(is_damage(error));
        let reason = if error.kind() == io::ErrorKind::UnexpectedEof { "cut_gzip" } else { "bad_gzip" };
        let what = SetAside { reason, detail: error.to_string(), bytes, excerpt: Vec::new(), next_try_ms: None };
        Self { refused: vec![Refused { index, what }], ..Self::default() }
    }
}

/// Takes pieces.
pub(super) struct Outlet {
    at: Surroundings,
    forwarder: Option<Forwarder>,
    check: Check,
}

/// Tells events from what is none.
#[derive(Default)]
struct Check {
    scanner: Scanner,
    tape: Tape,
}

impl Outlet {
    pub(super) fn new(config: &K8sLogConfig, at: &Surroundings) -> Self {
        let forwarder = config.forward.clone().map(|it| Forwarder::new(it, config.name.clone(), at.clone()));
        Self { at: at.clone(), forwarder, check: Check::default() }
    }

    /// Makes a piece durable, and with it what the delivery says of its file. None: the source is to stop; nothing is
    /// written down, and what was sent may be sent again.
    pub(super) async fn hand_over(&mut self, mut delivery: Delivery, piece: Piece) -> Option<()> {
        delivery.bytes = piece.bytes;
        delivery.refused = piece.refused;
        delivery.first_index = piece.first_index;
        if self.forwarder.is_some() {
            self.forward(&mut delivery, &piece.lines).await?;
        } else if !piece.lines.is_empty() {
            delivery.input = Input::Lines(piece.lines);
        }
        self.at.deliver(delivery).await.map(drop)
    }

    /// Sends the events on; what is none is refused, with its position.
    async fn forward(&mut self, delivery: &mut Delivery, bytes: &[u8]) -> Option<()> {
        let mut events = Vec::new();
        for (index, line) in (delivery.first_index..).zip(lines(bytes)) {
            match self.check.is_event(line) {
                Ok(()) => events.push((index, line)),
                Err((reason, detail)) => delivery.refused.push(refused(index, line, reason, detail)),
            }
        }
        let forwarder = self.forwarder.as_mut()?;
        let mut rest = &events[..];
        while !rest.is_empty() {
            let lines: Vec<&[u8]> = rest.iter().map(|(_, line)| *line).collect();
            match forwarder.send(&lines).await? {
                Sent::Taken(n) => {
                    delivery.forwarded += n as u64;
                    rest = &rest[n..];
                }
                Sent::TooLarge => {
                    let (index, line) = rest[0];
                    let detail =
                        format!("the receiver refused an event of {} bytes as too large (413); allow it larger bodies", line.len());
                    delivery.refused.push(refused(index, line, "too_large_to_forward", detail));
                    rest = &rest[1..];
                }
            }
        }
        Some(())
    }
}

impl Check {
    /// Whether a line is one JSON object: whatever is in it is the receiver's to judge.
    fn is_event(&mut self, line: &[u8]) -> Result<(), (&'static str, String)> {
        if line.len() > LINE_BYTES_MAX {
            return Err(("record_too_large", format!("a line of {} bytes, at most {LINE_BYTES_MAX}", line.len())));
        }
        if line.first() != Some(&b'{') {
            return Err(("not_json", "a line that is no JSON object".to_owned()));
        }
        match self.scanner.scan(line, 0, &mut self.tape) {
            Ok(end) if end < line.len() => Err(("bad_record", format!("more follows the object at byte {end}"))),
            Ok(_) if self.tape.nodes.first().is_none_or(|it| it.kind != Kind::Object) => {
                Err(("not_json", "a line that is no JSON object".to_owned()))
            }
            Ok(_) if std::str::from_utf8(line).is_err() => Err(("invalid_utf8", "bytes that are not UTF-8".to_owned())),
            Ok(_) => Ok(()),
            Err(ScanError::Incomplete) => Err(("cut", "the JSON ends in the middle".to_owned())),
            Err(ScanError::TooDeep) => Err(("too_deep", "nests too deeply".to_owned())),
            Err(ScanError::Bad { at, expected }) => Err(("bad_record", format!("expected {expected} at byte {at} of the record"))),
        }
    }
}

fn refused(index: u64, line: &[u8], reason: &'static str, detail: String) -> Refused {
    let excerpt = line[..line.len().min(EXCERPT_BYTES)].to_vec();
    Refused { index, what: SetAside { reason, detail, bytes: line.len() as u64, excerpt, next_try_ms: None } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_a_line_is_sent_on_and_nothing_else() {
        let mut check = Check::default();
        let mut reason = |line: &[u8]| check.is_event(line).err().map_or("", |it| it.0);
        assert_eq!(reason(br#"{"auditID": "a"}"#), "");
        for (line, expected) in [
            (&b"text"[..], "not_json"),
            (b"[{}]", "not_json"),
            (b"{\"a\": \"\xff\"}", "invalid_utf8"),
            (b"{\"a\": 1", "cut"),
            (b"{\"a\": x}", "bad_record"),
            (b"{} {}", "bad_record"),
        ] {
            assert_eq!(reason(line), expected, "{}", String::from_utf8_lossy(line));
        }
        assert_eq!(reason(&[b"{\"a\":".repeat(500), b"1".to_vec(), b"}".repeat(500)].concat()), "too_deep");
        let long = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8)).into_bytes();
        assert_eq!(reason(&long(LINE_BYTES_MAX)), "");
        assert_eq!(reason(&long(LINE_BYTES_MAX + 1)), "record_too_large");
    }
}

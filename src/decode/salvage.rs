//! Audit events that were cut before they came here: `CloudWatch` Logs and Azure cut long ones, `[Truncated...]`. The
//! beginning of one tells who did what, if not what came of it.

use super::AUDIT_API;
use crate::json::{Closed, Kind, Scanner, Tape, close};

/// Members of which the beginning of an audit event has one beside its auditID.
const AUDIT_KEYS: &[&str] = &["stage", "requestURI", "verb", "user", "objectRef"];
/// The longest mark that says that something was cut.
const MARK_BYTES_MAX: usize = 32;

/// What is to be known of a record that was cut. Its text is what was left of it, with an end of ours.
#[derive(Debug, Clone, Copy)]
pub struct Cut<'b> {
    /// The record as it came. Not yet masked.
    pub received: &'b str,
    /// How many bytes at the end of the record's text are ours: what ends in them had no end.
    pub added: usize,
    /// The last string of the record's text is the beginning of a longer one.
    pub is_partial: bool,
}

/// The beginning of an audit event, made whole.
#[derive(Debug, Default)]
pub struct Salvaged {
    /// JSON, an object.
    pub text: String,
    /// Its nodes.
    pub tape: Tape,
    received: String,
    added: usize,
    is_partial: bool,
}

impl Salvaged {
    /// Takes what came of a record whose end is missing. False: it is not the beginning of an audit event, or what is wrong
    /// with it is something else.
    pub fn take(&mut self, received: &[u8], scanner: &mut Scanner) -> bool {
        let received = received.trim_ascii();
        let kept = without_mark(received);
        let kept = match std::str::from_utf8(kept) {
            Ok(text) => text,
            // Cut inside a character.
            Err(error) if error.error_len().is_none() => std::str::from_utf8(&kept[..error.valid_up_to()]).unwrap_or_default(),
            Err(_) => return false,
        };
        let Closed { text, added, is_partial } = close(kept);
        let is_whole = scanner.scan(text.as_bytes(), 0, &mut self.tape).is_ok_and(|end| end == text.len());
        if !is_whole || !tells_enough(&self.tape, &text, is_partial) {
            return false;
        }
        self.received.clear();
        self.received.push_str(&String::from_utf8_lossy(received));
        (self.text, self.added, self.is_partial) = (text, added, is_partial);
        true
    }

    /// Takes a text of which nothing can be said but that it was to be an audit event.
    pub fn take_unread(&mut self, received: &str, scanner: &mut Scanner) {
        received.clone_into(&mut self.received);
        "{}".clone_into(&mut self.text);
        (self.added, self.is_partial) = (0, false);
        let scanned = scanner.scan(self.text.as_bytes(), 0, &mut self.tape);
        debug_assert_eq!(scanned, Ok(2));
    }

    /// What is to be known of it.
    pub fn cut(&self) -> Cut<'_> {
        Cut { received: &self.received, added: self.added, is_partial: self.is_partial }
    }
}

/// Without `[Truncated...]` at its end, and the dots before it.
fn without_mark(bytes: &[u8]) -> &[u8] {
    let mark = memchr::memrchr(b'[', bytes).filter(|at| bytes.len() - at <= MARK_BYTES_MAX && bytes.ends_with(b"]"));
    let Some(at) = mark.filter(|at| bytes[at + 1..].to_ascii_lowercase().starts_with(b"truncated")) else { return bytes };
    let mut kept = bytes[..at].trim_ascii_end();
    while let [rest @ .., b'.'] = kept {
        kept = rest;
    }
    kept
}

/// Whether this much of an audit event is worth keeping as one: which it is, and something of who or what.
fn tells_enough(tape: &Tape, text: &str, is_partial: bool) -> bool {
    let is_whole = |at: &usize| !is_partial || *at + 1 < tape.nodes.len();
    let member = |name: &&str| tape.member(0, name, text).filter(is_whole);
    // Another API's object may have these names too; one that says so is not ours.
    let is_other = tape.member(0, "apiVersion", text).filter(is_whole).is_some_and(|at| !tape.spelled(at, text).starts_with(AUDIT_API));
    let has_id = member(&"auditID").is_some_and(|at| tape.string(at, text).is_some_and(|id| !id.is_empty()));
    tape.nodes.first().is_some_and(|it| it.kind == Kind::Object) && has_id && !is_other && AUDIT_KEYS.iter().any(|it| member(it).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(received: &[u8]) -> Option<String> {
        let mut salvaged = Salvaged::default();
        salvaged.take(received, &mut Scanner::default()).then_some(salvaged.text)
    }

    #[test]
    fn marks_are_left_out_and_what_is_broken_is_not_cut() {
        let start = r#"{"auditID":"a","verb":"get""#;
        for (rest, expected) in [
            ("", Some("")),
            (",", Some("")),
            (r#","stage":"Resp"#, Some(r#","stage":"Resp""#)),
            (r#","stage":"Resp[Truncated...]"#, Some(r#","stage":"Resp""#)),
            ("...[Truncated...]\n", Some("")),
            (" [truncated]", Some("")),
            ("}[Truncated...]", Some("")),
            ("[Truncated...]more", None),
            (r#" "stage""#, None),
            (r#","a":oops,"b":1"#, None),
        ] {
            let expected = expected.map(|it| format!("{start}{it}}}"));
            assert_eq!(taken(format!("{start}{rest}").as_bytes()), expected, "{rest}");
        }
        assert_eq!(taken(b"{\"auditID\":\"a\",\"verb\":\"caf\xc3"), None, "no more than its id is whole");
        assert_eq!(
            taken(b"{\"auditID\":\"a\",\"verb\":\"get\",\"x\":\"caf\xc3").as_deref(),
            Some(r#"{"auditID":"a","verb":"get","x":"caf"}"#)
        );
        assert_eq!(taken(b"{\"auditID\":\"a\",\"verb\":\"get\",\"x\":\"caf\xc3\",\"y"), None);
    }

    #[test]
    fn other_beginnings_are_not_taken() {
        for received in [
            "",
            "[",
            "null",
            r#"{"auditID":"a"#,
            r#"{"auditID":"a""#,
            r#"{"auditID":"","verb":"get","#,
            r#"{"auditID":7,"verb":"get","#,
            r#"{"verb":"get","stage":"ResponseComplete","#,
            r#"{"apiVersion":"example.com/v1","auditID":"a","verb":"get","#,
            r#"{"kind":"EventList","items":[{"auditID":"a","verb":"get","#,
            r#"{"eventName":"GetObject","eventID":"a","#,
            "[Truncated...] key value map stored\"}}",
        ] {
            assert_eq!(taken(received.as_bytes()), None, "{received}");
        }
    }
}

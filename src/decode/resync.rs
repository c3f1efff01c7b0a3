//! Finding the way again behind bytes that are not JSON.

use crate::json::{Scanner, Tape, value_end_lexical};

/// How many places that look like the start of a record are tried.
const CANDIDATES_MAX: usize = 64;

/// Members of which a record of ours has at least one: a `CloudTrail` record, an audit event of Kubernetes.
const RECORD_KEYS: &[&str] = &[
    "eventVersion",
    "eventSource",
    "eventName",
    "eventID",
    "eventId",
    "eventTime",
    "eventType",
    "eventCategory",
    "userIdentity",
    "awsRegion",
    "insightDetails",
    "auditID",
    "objectRef",
    "requestURI",
];

/// How the `apiVersion` of an audit event starts, as JSON spells it.
pub const AUDIT_API: &str = "\"audit.k8s.io/";

/// The text that holds the record, where one is wrapped in a record of a log service: `properties.log` of AKS.
pub fn wrapped_log(tape: &Tape, text: &str) -> Option<usize> {
    // Their records start with other members than ours: the first decides.
    let first = tape.children(0).next().map(|at| tape.key(at, text))?;
    if RECORD_KEYS.contains(&&*first) || first == "kind" {
        return None;
    }
    tape.path(0, &["properties", "log"], text).filter(|_| tape.member(0, "category", text).is_some())
}

/// The object that a line of a Kubernetes watch holds: `{"type":"ADDED","object":{"kind":…,"metadata":{…}}}`.
pub fn watched_object(tape: &Tape, text: &str) -> Option<usize> {
    let first = tape.children(0).next()?;
    // Their lines have two members: the first decides.
    if !matches!(tape.key(first, text).as_ref(), "type" | "object") {
        return None;
    }
    let said = tape.member(0, "type", text)?;
    let object = tape.member(0, "object", text)?;
    let is_watch = matches!(tape.spelled(said, text), "\"ADDED\"" | "\"MODIFIED\"" | "\"DELETED\"");
    (is_watch && tape.member(object, "kind", text).is_some() && tape.member(object, "metadata", text).is_some()).then_some(object)
}

/// The member of a host event that names its sensor.
pub const SENSOR_KEY: &str = "event_type";

/// Whether this is an event of a host sensor: it names the sensor, when it was, and who says so. What is named as our own
/// events are is none: a host cannot speak for AWS or Kubernetes.
pub fn is_host_event(tape: &Tape, text: &str) -> bool {
    let sensor = tape.member(0, SENSOR_KEY, text).and_then(|at| tape.string(at, text));
    let has = |names: [&str; 2]| names.iter().any(|name| tape.member(0, name, text).is_some());
    let is_sensor = sensor.is_some_and(|it| !it.is_empty() && !it.starts_with("kubernetes") && it != "cloudtrail");
    is_sensor && has(["event_time", "timestamp"]) && has(["_id", "agent_id"])
}

/// Whether this object is one of the records that we know, by its members.
pub(super) fn is_record(tape: &Tape, text: &str) -> bool {
    wrapped_log(tape, text).is_some()
        || watched_object(tape, text).is_some()
        || tape.children(0).any(|at| {
            let key = tape.key(at, text);
            RECORD_KEYS.contains(&&*key)
                || key == SENSOR_KEY && is_host_event(tape, text)
                || key == "apiVersion" && tape.spelled(at, text).starts_with(AUDIT_API)
        })
}

/// Where a bad element of an array ends, when what follows it shows that it does.
pub(super) fn element_end(rest: &[u8]) -> Option<usize> {
    let end = if matches!(rest.first(), Some(b'{' | b'[')) { value_end_lexical(rest, 0)? } else { memchr::memchr2(b',', b']', rest)? };
    let next = rest[end..].iter().find(|b| !b.is_ascii_whitespace())?;
    matches!(next, b',' | b']').then_some(end)
}

/// Where the next record starts behind a bad one whose quotes or brackets do not pair: at the first `},{` (or
/// line) from which a record scans.
pub(super) fn next_record(scanner: &mut Scanner, rest: &[u8]) -> Option<usize> {
    let mut tape = Tape::default();
    let mut candidates = memchr::memchr2_iter(b',', b'\n', rest)
        .filter(|at| *at == 0 || rest[*at] == b'\n' || rest[..*at].trim_ascii_end().ends_with(b"}"))
        .filter_map(|at| {
            let start = at + 1 + rest[at + 1..].iter().take_while(|b| b.is_ascii_whitespace()).count();
            (rest.get(start) == Some(&b'{')).then_some(start)
        })
        .take(CANDIDATES_MAX);
    candidates.find(|start| {
        let record = &rest[*start..];
        match scanner.scan(record, 0, &mut tape) {
            Ok(end) => std::str::from_utf8(&record[..end]).is_ok_and(|text| is_record(&tape, text)),
            Err(_) => false,
        }
    })
}

/// Brackets and quotes, followed over any number of windows: finds the end of a value too long to hold.
#[derive(Debug, Default)]
pub(super) struct Skipper {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Skipper {
    /// A skipper that starts inside `depth` brackets.
    pub(super) fn inside(depth: usize) -> Self {
        Self { depth, ..Self::default() }
    }

    /// Takes the next bytes; where the value ends in them, the offset behind it.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            if self.escaped {
                self.escaped = false;
            } else if self.in_string {
                match byte {
                    b'"' => self.in_string = false,
                    b'\\' => self.escaped = true,
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => {
                        self.depth = self.depth.saturating_sub(1);
                        if self.depth == 0 {
                            return Some(at + 1);
                        }
                    }
                    _ => {}
                }
            }
        }
        None
    }
}

/// The end of the line, where the next one starts an object.
pub(super) fn line_before_object(rest: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', rest).map(|at| at + 1).filter(|line| rest[*line..].first() == Some(&b'{'))
}

/// Where a bad object at the top ends: at its own bracket when a line or an object follows, else at the line's end.
pub(super) fn top_end(rest: &[u8]) -> Option<usize> {
    let line = memchr::memchr(b'\n', rest).map(|at| at + 1);
    let own = value_end_lexical(rest, 0).filter(|end| rest[*end..].iter().find(|b| !b.is_ascii_whitespace()).is_none_or(|b| *b == b'{'));
    match (own, line) {
        // A line that starts the next object ends this one, whatever its brackets say.
        (own, Some(line)) if rest[line..].first() == Some(&b'{') => Some(own.map_or(line, |own| own.min(line))),
        (Some(own), _) => Some(own),
        _ => None,
    }
}

//! 4 · From records to events: every field of EVENT.md, secrets masked, nothing guessed.
//!
//! A record is scanned once, by `decode`; the event borrows from its bytes. Only a record that has to be rewritten
//! (white space, a secret) is copied, and scanned a second time.

mod cloudtrail;
mod common;
mod cut;
mod host;
mod kubernetes;
mod look;
mod mask;
mod mask_kubernetes;
mod principal;
mod resources;
mod tables;
mod watched;

pub use mask::{mask_lexically, watched_keys};

use crate::decode::{Around, Record, Salvaged};
use crate::event::{Context, Event, Flags, time};
use crate::json::{Scanner, Tape, compact};
use look::Text as Look;
use std::collections::HashMap;
use std::ops::Range;

/// How many different calls are remembered with what the tables say of them.
const CALLS_MAX: usize = 4096;

/// Turns records into events; keeps what it looked up.
#[derive(Debug)]
pub struct Normalizer {
    inside: Inside,
    rewriter: Rewriter,
    calls: Known<tables::Call>,
    requests: Known<tables::Request>,
}

impl Default for Normalizer {
    fn default() -> Self {
        Self { inside: Inside::new(), rewriter: Rewriter::default(), calls: Known::default(), requests: Known::default() }
    }
}

impl Normalizer {
    /// The event of a record.
    pub fn event<'s>(&'s mut self, record: &'s Record<'s>, context: &'s Context) -> Event<'s> {
        let mut flags = Flags::default();
        let Self { inside, rewriter, calls, requests } = self;
        if let Some(change) = inside.take_watched(record) {
            let (text, tape) = rewriter.rewrite(&inside.text, &inside.tape, mask_kubernetes::of_watched, &mut flags);
            return watched::event(requests, Look { tape, text }, &change, context, record.index, flags);
        }
        let (index, around) = (record.index, record.around);
        let (text, tape, around) = match inside.unwrap(record) {
            Wrapped::Not => (record.text, record.tape, around),
            Wrapped::Whole => (inside.text.as_str(), &inside.tape, around),
            Wrapped::Cut { time_ms } => {
                let it = &inside.salvaged;
                (it.text.as_str(), &it.tape, Around { time_ms, cut: Some(it.cut()), ..around })
            }
        };
        if let Some(cut) = &around.cut {
            let raw_text = Some(cut::masked(rewriter, text, tape, cut, &mut flags));
            let look = Look { tape: &rewriter.tape, text: &rewriter.text };
            return kubernetes::audit(requests, &look, context, kubernetes::Given { index, flags, around, raw_text });
        }
        let kind = kind_of(tape, text);
        let is_audit = kind == Kind::Audit;
        let more = if is_audit { mask_kubernetes::of_audit } else { |_: &Tape, _: &str| mask::Spans::new() };
        let (text, tape) = rewriter.rewrite(text, tape, more, &mut flags);
        let look = Look { tape, text };
        if is_audit {
            let given = kubernetes::Given { index, flags, around, raw_text: None };
            return kubernetes::audit(requests, &look, context, given);
        }
        if kind == Kind::Host {
            return host::event(look, context, record.index, flags);
        }
        cloudtrail::event(calls, look, context, record.index, flags)
    }
}

/// A record that is a text inside another: AKS delivers audit events as `{"category":…,"properties":{"log":"…"}}`.
#[derive(Debug)]
struct Inside {
    scanner: Scanner,
    text: String,
    tape: Tape,
    salvaged: Salvaged,
}

enum Wrapped {
    Not,
    Whole,
    /// It has its beginning alone, and was taken up at this time.
    Cut {
        time_ms: Option<i64>,
    },
}

impl Inside {
    fn new() -> Self {
        Self { scanner: Scanner::new(watched_keys()), text: String::new(), tape: Tape::default(), salvaged: Salvaged::default() }
    }

    /// Takes the object out of a line of a watch, without its managedFields, which are longer than it and say nothing
    /// that it does not.
    fn take_watched(&mut self, record: &Record<'_>) -> Option<watched::Change> {
        let at = crate::decode::watched_object(record.tape, record.text)?;
        let object = record.tape.spelled(at, record.text);
        let said = record.tape.member(0, "type", record.text).map(|at| record.tape.spelled(at, record.text))?;
        self.take(object)?;
        let change = watched::Change::new(said, &self.tape, &self.text);
        if let Some(span) = watched::managed_fields(&self.tape, &self.text) {
            self.text.replace_range(span, "");
            self.scan()?;
        }
        Some(change)
    }

    fn take(&mut self, text: &str) -> Option<()> {
        self.text.clear();
        self.text.push_str(text);
        self.scan()
    }

    fn scan(&mut self) -> Option<()> {
        let length = self.text.trim_end().len();
        self.scanner.scan(self.text.as_bytes(), 0, &mut self.tape).ok().filter(|end| *end == length).map(drop)
    }

    /// Takes the inner record out. Azure cuts it at 16 KiB.
    fn unwrap(&mut self, record: &Record<'_>) -> Wrapped {
        let said = |at| record.tape.string(at, record.text);
        let Some(at) = crate::decode::wrapped_log(record.tape, record.text) else { return Wrapped::Not };
        let Some(log) = said(at) else { return Wrapped::Not };
        if self.take(&log).is_some() {
            return Wrapped::Whole;
        }
        let member = |name| record.tape.member(0, name, record.text).and_then(said);
        if !self.salvaged.take(log.as_bytes(), &mut self.scanner) {
            // `guard` and others are no audit logs; what is around them says where they came from.
            if !member("category").is_some_and(|it| it.starts_with("kube-audit")) {
                return Wrapped::Not;
            }
            self.salvaged.take_unread(&log, &mut self.scanner);
        }
        Wrapped::Cut { time_ms: member("time").and_then(|it| time::parse_ms(&it)) }
    }
}

/// Makes the text that is stored, where it is not so already.
#[derive(Debug, Default)]
struct Rewriter {
    scanner: Scanner,
    text: String,
    tape: Tape,
}

impl Rewriter {
    /// Without white space, secrets masked (`more` finds those that are not in the list): the record as it came, or our
    /// own copy.
    fn rewrite<'s>(
        &'s mut self,
        text: &'s str,
        tape: &'s Tape,
        more: fn(&Tape, &str) -> mask::Spans,
        flags: &mut Flags,
    ) -> (&'s str, &'s Tape) {
        if tape.has_repeated_keys(text) {
            flags.insert(Flags::DUPLICATE_KEY);
        }
        let mut is_rewritten = false;
        if tape.has_space {
            self.text = compact(text);
            is_rewritten = self.rescan();
        }
        if is_rewritten {
            // Scanned again without watching: the watched nodes have the same numbers.
            self.tape.watched.clone_from(&tape.watched);
        }
        let (said, nodes) = if is_rewritten { (self.text.as_str(), &self.tape) } else { (text, tape) };
        let secrets = mask::secrets(nodes, said, more(nodes, said));
        if !secrets.is_empty() {
            flags.insert(Flags::MASKED);
            self.text = replaced(said, &secrets);
            is_rewritten = self.rescan();
        }
        if is_rewritten { (&self.text, &self.tape) } else { (text, tape) }
    }

    fn rescan(&mut self) -> bool {
        // What scanned before scans again: white space and scalars are all that changed.
        self.scanner.scan(self.text.as_bytes(), 0, &mut self.tape).is_ok()
    }
}

/// Members by which an audit event is told from a `CloudTrail` record. The first that is there decides.
const AUDIT_KEYS: &[&str] = &["auditID", "verb", "objectRef", "requestURI", "stage", "stageTimestamp"];
const CLOUDTRAIL_KEYS: &[&str] =
    &["eventVersion", "eventSource", "eventName", "eventID", "eventId", "eventTime", "userIdentity", "awsRegion"];

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    CloudTrail,
    Audit,
    Host,
}

fn kind_of(tape: &Tape, text: &str) -> Kind {
    for at in tape.children(0) {
        let key = tape.key(at, text);
        if CLOUDTRAIL_KEYS.contains(&&*key) {
            return Kind::CloudTrail;
        }
        // CloudTrail has an apiVersion too: the called service's.
        if AUDIT_KEYS.contains(&&*key) || key == "apiVersion" && tape.spelled(at, text).starts_with(crate::decode::AUDIT_API) {
            return Kind::Audit;
        }
        if key == crate::decode::SENSOR_KEY && crate::decode::is_host_event(tape, text) {
            return Kind::Host;
        }
    }
    Kind::CloudTrail
}

fn replaced(text: &str, spans: &[(Range<usize>, &str)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (span, replacement) in spans {
        out.push_str(&text[from..span.start]);
        out.push_str(replacement);
        from = span.end;
    }
    out.push_str(&text[from..]);
    out
}

/// What the tables say of calls, by two names: looked up once for each pair.
#[derive(Debug)]
struct Known<V>(HashMap<u64, V>);

impl<V> Default for Known<V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<V: Copy> Known<V> {
    fn get(&mut self, one: &str, other: &str, look_up: impl FnOnce(&str, &str) -> V) -> V {
        let hash = xxhash_rust::xxh3::xxh3_64(one.as_bytes());
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(other.as_bytes(), hash);
        if self.0.len() >= CALLS_MAX {
            self.0.clear();
        }
        *self.0.entry(hash).or_insert_with(|| look_up(one, other))
    }
}

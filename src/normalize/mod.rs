//! 4 · From records to events: every field of EVENT.md, secrets masked, nothing guessed.
//!
//! A record is scanned once, by `decode`; the event borrows from its bytes. Only a record that has to be rewritten
//! (white space, a secret) is copied, and scanned a second time.

mod cloudtrail;
mod kubernetes;
mod look;
mod mask;
mod mask_kubernetes;
mod principal;
mod resources;
mod tables;

pub use mask::{mask_lexically, watched_keys};

use crate::decode::Record;
use crate::event::{Context, Event, Flags};
use crate::json::{Scanner, Tape, compact};
use std::collections::HashMap;
use std::ops::Range;

/// How many different calls are remembered with what the tables say of them.
const CALLS_MAX: usize = 4096;

/// Turns records into events; keeps what it looked up.
#[derive(Debug, Default)]
pub struct Normalizer {
    scanner: Scanner,
    rewritten: String,
    tape: Tape,
    calls: HashMap<u64, tables::Call>,
}

impl Normalizer {
    /// The event of a record.
    pub fn event<'s>(&'s mut self, record: &'s Record<'s>, context: &'s Context) -> Event<'s> {
        let mut flags = Flags::default();
        let is_audit = is_audit(record.tape, record.text);
        let is_rewritten = self.rewrite(record, is_audit, &mut flags);
        let Self { rewritten, tape, calls, .. } = self;
        let (text, tape) = if is_rewritten { (rewritten.as_str(), &*tape) } else { (record.text, record.tape) };
        if is_audit {
            return kubernetes::audit(text, tape, context, record.index, flags);
        }
        cloudtrail::event(calls, text, tape, context, record.index, flags)
    }

    /// Without white space, secrets masked: into our own buffer, where the record is not so already.
    fn rewrite(&mut self, record: &Record<'_>, is_audit: bool, flags: &mut Flags) -> bool {
        if record.tape.has_repeated_keys(record.text) {
            flags.insert(Flags::DUPLICATE_KEY);
        }
        let mut is_rewritten = false;
        if record.tape.has_space {
            self.rewritten = compact(record.text);
            is_rewritten = self.rescan();
        }
        if is_rewritten {
            // Scanned again without watching: the watched nodes have the same numbers.
            self.tape.watched.clone_from(&record.tape.watched);
        }
        let (tape, text) = if is_rewritten { (&self.tape, self.rewritten.as_str()) } else { (record.tape, record.text) };
        let more = if is_audit { mask_kubernetes::secrets(tape, text) } else { Vec::new() };
        let secrets = mask::secrets(tape, text, more);
        if !secrets.is_empty() {
            flags.insert(Flags::MASKED);
            self.rewritten = replaced(if is_rewritten { &self.rewritten } else { record.text }, &secrets);
            is_rewritten = self.rescan();
        }
        is_rewritten
    }

    fn rescan(&mut self) -> bool {
        // What scanned before scans again: white space and scalars are all that changed.
        self.scanner.scan(self.rewritten.as_bytes(), 0, &mut self.tape).is_ok()
    }
}

/// Members by which an audit event is told from a `CloudTrail` record. The first that is there decides.
const AUDIT_KEYS: &[&str] = &["auditID", "verb", "objectRef", "requestURI", "stage", "stageTimestamp", "apiVersion"];
const CLOUDTRAIL_KEYS: &[&str] = &["eventVersion", "eventSource", "eventName", "eventID", "eventId", "eventTime", "userIdentity", "awsRegion"];

fn is_audit(tape: &Tape, text: &str) -> bool {
    for at in tape.children(0) {
        let key = tape.key(at, text);
        if CLOUDTRAIL_KEYS.contains(&&*key) {
            return false;
        }
        if AUDIT_KEYS.contains(&&*key) {
            return true;
        }
    }
    false
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

fn call<'c>(calls: &'c mut HashMap<u64, tables::Call>, service: &str, action: &str) -> &'c tables::Call {
    let mut hash = xxhash_rust::xxh3::xxh3_64(service.as_bytes());
    hash = xxhash_rust::xxh3::xxh3_64_with_seed(action.as_bytes(), hash);
    if calls.len() >= CALLS_MAX {
        calls.clear();
    }
    calls.entry(hash).or_insert_with(|| tables::call(service, action))
}

//! 4 · From records to events: every field of EVENT.md, secrets masked, nothing guessed.
//!
//! A record is scanned once, by `decode`; the event borrows from its bytes. Only a record that has to be rewritten
//! (white space, a secret) is copied, and scanned a second time.

mod cloudtrail;
mod mask;
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
        if self.rewrite(record, &mut flags) {
            let Self { rewritten, tape, calls, .. } = self;
            return cloudtrail::event(calls, rewritten, tape, context, record.index, flags);
        }
        cloudtrail::event(&mut self.calls, record.text, record.tape, context, record.index, flags)
    }

    /// Without white space, secrets masked: into our own buffer, where the record is not so already.
    fn rewrite(&mut self, record: &Record<'_>, flags: &mut Flags) -> bool {
        if record.tape.has_repeated_keys(record.text) {
            flags.insert(Flags::DUPLICATE_KEY);
        }
        let mut is_rewritten = false;
        if record.tape.has_space {
            self.rewritten = compact(record.text);
            is_rewritten = self.rescan();
        }
        let secrets = if is_rewritten {
            // Scanned again without watching: the watched nodes have the same numbers.
            self.tape.watched.clone_from(&record.tape.watched);
            mask::secrets(&self.tape, &self.rewritten)
        } else {
            mask::secrets(record.tape, record.text)
        };
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

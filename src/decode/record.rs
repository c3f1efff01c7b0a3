//! What comes out of an input.

use super::Reject;
use super::salvage::Cut;
use crate::json::Tape;

/// One record: valid JSON, an object.
#[derive(Debug)]
pub struct Record<'b> {
    /// Position among the input's records, from 0.
    pub index: u64,
    /// Its text as it came; what was left of it, where it was cut.
    pub text: &'b str,
    /// Its nodes; offsets count from the start of `text`.
    pub tape: &'b Tape,
    /// What is known of it from elsewhere.
    pub around: Around<'b>,
}

/// What is known of a record beside what it says itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Around<'b> {
    /// The Kubernetes cluster whose log it was in.
    pub cluster: Option<&'b str>,
    /// The account whose log it was in.
    pub account: Option<&'b str>,
    /// When the log took it, ms.
    pub time_ms: Option<i64>,
    /// Its end is missing.
    pub cut: Option<Cut<'b>>,
}

/// What comes out of an input.
#[derive(Debug)]
pub enum Item<'b> {
    /// A record.
    Record(Record<'b>),
    /// Bytes that are not one.
    Reject(Reject),
    /// What is no log, with the reason: nothing to store.
    Skipped(&'static str),
}

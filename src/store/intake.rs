//! What the pipeline hands to the store, and what it hears back.

use super::batch::Batch;

/// Bytes set aside: what the quarantine keeps of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// Where they came from.
    pub uri: String,
    /// The record's position there; none when the whole was set aside.
    pub index: Option<u64>,
    /// Why, by its name.
    pub reason: &'static str,
    /// Why, for a person.
    pub detail: String,
    /// How many bytes.
    pub bytes: u64,
    /// Their beginning, masked.
    pub excerpt: String,
    /// What to fetch again, as the source spells it.
    pub object: Option<String>,
    /// When to fetch it again by itself, ms; none: when a person asks.
    pub next_try_ms: Option<i64>,
    /// How often it was tried.
    pub tries: u32,
}

/// One delivery, decoded: all of it is stored, in one commit, or nothing.
#[derive(Debug, Default)]
pub struct Intake {
    /// The source's name.
    pub source: String,
    /// The object's name in the ledger: an object that is there already is not taken again.
    pub object: Option<String>,
    /// Take it although the ledger has it: a replay.
    pub is_again: bool,
    /// Its source holds nothing open for it: it may be committed with many others, within seconds.
    pub can_wait: bool,
    /// Its share of what may wait in memory, given back when its events are written.
    pub room: Option<tokio::sync::OwnedSemaphorePermit>,
    /// What the source remembers with it, by key: what files looked like, how far one was taken, versions of objects.
    pub files: Vec<(String, String)>,
    /// Keys of what is gone: what is known of them is forgotten.
    pub forgets: Vec<String>,
    /// The events.
    pub batches: Vec<Batch>,
    /// What could not become events.
    pub rejects: Vec<Parked>,
    /// Further rejects, counted and not listed: the object has thousands.
    pub rejects_unlisted: u64,
    /// Records that a drop filter took.
    pub filtered: u64,
    /// Records that were sent on instead of being taken: outside the sum.
    pub forwarded: u64,
    /// Bytes as they came.
    pub bytes: u64,
    /// Outside the sum: what was skipped, with the reason.
    pub skipped: Vec<(&'static str, u64)>,
    /// Quarantine entries that this delivery settles.
    pub settles: Vec<i64>,
    /// Quarantine entries of this uri are settled: the whole object is read anew.
    pub settles_uri: Option<String>,
}

/// The sum of a delivery: `received = stored + duplicate + quarantined + filtered`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Records that came.
    pub received: u64,
    /// Records that are stored.
    pub stored: u64,
    /// Records whose event was stored before.
    pub duplicate: u64,
    /// Records set aside.
    pub quarantined: u64,
    /// Records that a filter dropped.
    pub filtered: u64,
    /// Of the stored, those that contradict another.
    pub conflict: u64,
    /// Of the stored, those whose account is not their key's.
    pub account_mismatch: u64,
    /// Of the stored, those older than the ids that are kept.
    pub late: u64,
}

impl Counts {
    /// Adds another sum.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.stored += other.stored;
        self.duplicate += other.duplicate;
        self.quarantined += other.quarantined;
        self.filtered += other.filtered;
        self.conflict += other.conflict;
        self.account_mismatch += other.account_mismatch;
        self.late += other.late;
    }

    /// Each part with the name of its counter.
    pub fn named(&self) -> [(&'static str, u64); 8] {
        [
            ("received", self.received),
            ("stored", self.stored),
            ("duplicate", self.duplicate),
            ("quarantined", self.quarantined),
            ("filtered", self.filtered),
            ("conflict", self.conflict),
            ("account_mismatch", self.account_mismatch),
            ("late", self.late),
        ]
    }
}

/// What became of a delivery. Either way it may be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is durable.
    Stored(Counts),
    /// The object had been read before.
    AlreadyRead,
}

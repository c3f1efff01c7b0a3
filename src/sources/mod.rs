//! 2 · Where bytes come from. A source knows how its bytes are handed over and released; what is in them it does not
//! know. One [`Delivery`] goes in through a [`Handoff`], one [`Outcome`] comes back, and only then is it released.

pub mod cloudtrail_sqs;
pub mod directory;
mod health;
pub mod http;
pub mod ingest;
pub mod k8s_log;
pub mod k8s_watch;
pub mod k8s_webhook;
mod own;
mod retry;

pub use health::Health;
pub use retry::next_try_ms;

use crate::clock::Clock;
use crate::metrics::{self, Metrics};
use std::collections::HashMap;
use std::future::Future;
use std::ops::Range;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Objects up to this size are held in memory; larger ones are read from a file.
pub const MEMORY_BYTES_MAX: u64 = 4 << 20;
/// The longest line of a followed file, bytes: the longest record that is decoded.
pub const LINE_BYTES_MAX: usize = 16 << 20;
/// How much of what a source sets aside is kept to look at, bytes.
const EXCERPT_BYTES: usize = 1_024;

/// The pause before what was not taken is handed over once more.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Bytes at hand.
#[derive(Debug, Clone)]
pub enum Input {
    /// In memory.
    Memory(bytes::Bytes),
    /// In a file that does not change.
    File(PathBuf),
    /// Lines, each by itself: what is wrong with one does not reach the next. See [`lines`].
    Lines(bytes::Bytes),
    /// Nothing: the delivery is only its rejects.
    None,
}

/// Bytes that were set aside before anyone looked into them.
#[derive(Debug, Clone)]
pub struct SetAside {
    /// Why, by its name.
    pub reason: &'static str,
    /// Why, for a person.
    pub detail: String,
    /// How many bytes.
    pub bytes: u64,
    /// Their beginning, as it came.
    pub excerpt: Vec<u8>,
    /// When to fetch them again, ms.
    pub next_try_ms: Option<i64>,
}

impl SetAside {
    /// A line that is longer than any record may be.
    fn long_line(bytes: u64, excerpt: Vec<u8>) -> Self {
        let detail = format!("a line of {bytes} bytes, at most {LINE_BYTES_MAX}");
        Self { reason: "record_too_large", detail, bytes, excerpt, next_try_ms: None }
    }
}

/// A record that the source itself refuses.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Its position in the file.
    pub index: u64,
    /// Why, and what it was.
    pub what: SetAside,
}

/// The lines of a followed file that count: those that are not blank. Bytes 0, which are in no JSON, separate lines too:
/// they are the hole that a writer leaves whose file was cut under it, or that a crash of the machine left.
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| matches!(byte, b'\n' | 0)).map(<[u8]>::trim_ascii).filter(|line| !line.is_empty())
}

/// One handed-over payload.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each answers a question of its own")]
pub struct Delivery {
    /// The source's name.
    pub source: String,
    /// Where the bytes came from.
    pub uri: String,
    /// The bytes.
    pub input: Input,
    /// Their number, as they came.
    pub bytes: u64,
    /// The name in the ledger: it is taken once.
    pub object: Option<String>,
    /// Take it although the ledger has it.
    pub is_again: bool,
    /// What the source needs to fetch it again.
    pub pointer: Option<String>,
    /// The source holds nothing open while it waits for the outcome, which may then take seconds: never with `object`.
    pub can_wait: bool,
    /// What the source remembers with it, by key: a file's path and what it looked like; a followed file and how far it
    /// was taken; a watched object and its version.
    pub files: Vec<(String, String)>,
    /// Keys of what is gone: what `files` said of them is forgotten.
    pub forgets: Vec<String>,
    /// The position of the first of [`Input::Lines`] in its file.
    pub first_index: u64,
    /// Records that are refused without being decoded, beside those of the input.
    pub refused: Vec<Refused>,
    /// Records that were sent on to another planewatch instead: outside the sum.
    pub forwarded: u64,
    /// Set aside without being read.
    pub set_aside: Option<SetAside>,
    /// Quarantine entries that this settles.
    pub settles: Vec<i64>,
    /// All quarantine entries of this uri are settled.
    pub settles_uri: bool,
    /// Bad bytes are accepted as bad. Else the source wants to fetch once more and see.
    pub is_final: bool,
    /// What planewatch says of itself: not what the source was given, and not bound to what it may bring.
    pub is_own: bool,
    /// The account that the key names.
    pub key_account: Option<String>,
    /// Messages and objects that were skipped, by reason.
    pub skipped: Vec<(&'static str, u64)>,
}

impl Delivery {
    /// A delivery with nothing in it yet.
    pub fn new(source: &str, uri: String) -> Self {
        Self {
            source: source.to_owned(),
            uri,
            input: Input::None,
            bytes: 0,
            object: None,
            is_again: false,
            pointer: None,
            can_wait: false,
            files: Vec::new(),
            forgets: Vec::new(),
            first_index: 0,
            refused: Vec::new(),
            forwarded: 0,
            set_aside: None,
            settles: Vec::new(),
            settles_uri: false,
            is_final: true,
            is_own: false,
            key_account: None,
            skipped: Vec::new(),
        }
    }
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Durable: release it.
    Done,
    /// Something in it is bad and it was not final: nothing is stored. Fetch it again, and then say that it is final.
    Suspect(String),
}

/// A delivery that was not taken, for a reason that passes. Keep it and come again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct NotTaken(pub String);

/// An entry of the quarantine that is due to be fetched again.
#[derive(Debug, Clone)]
pub struct Due {
    /// Its number.
    pub id: i64,
    /// The pointer that the source gave.
    pub pointer: String,
    /// How often it was tried.
    pub tries: u32,
}

/// A future that can be kept anywhere.
pub type BoxFuture<'f, T> = Pin<Box<dyn Future<Output = T> + Send + 'f>>;

/// What a source may ask of the rest.
pub trait Handoff: Send + Sync {
    /// Takes a delivery. `Ok` means that it is durable, or suspect; nothing is stored of one that failed.
    fn deliver(&self, delivery: Delivery) -> BoxFuture<'_, Result<Outcome, NotTaken>>;
    /// Whether an object was read, or waits in quarantine.
    fn has_read<'f>(&'f self, object: &'f str) -> BoxFuture<'f, Result<bool, NotTaken>>;
    /// What a source remembers by key ([`Delivery::files`]), all of it or a range of keys.
    fn file_stamps<'f>(&'f self, source: &'f str, keys: Option<Range<&'f str>>)
    -> BoxFuture<'f, Result<HashMap<String, String>, NotTaken>>;
    /// Entries to fetch again now.
    fn due<'f>(&'f self, source: &'f str) -> BoxFuture<'f, Result<Vec<Due>, NotTaken>>;
    /// An entry was fetched in vain.
    fn postpone(&self, id: i64, next_try_ms: i64, why: String) -> BoxFuture<'_, Result<(), NotTaken>>;
    /// Why nothing is taken now, if so.
    fn paused(&self) -> Option<String>;
    /// Where files may be kept for a moment.
    fn spool(&self) -> PathBuf;
    /// Reads through gzip, where it is gzip. A stream that ends in the middle is an `UnexpectedEof`, a damaged one `InvalidData`.
    fn inflate(&self, input: Box<dyn std::io::Read + Send>) -> std::io::Result<Box<dyn std::io::BufRead + Send>>;
}

/// What every source works with.
#[derive(Clone)]
pub struct Surroundings {
    /// Takes what the source brings.
    pub handoff: Arc<dyn Handoff>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Whether it works.
    pub health: Arc<Health>,
    /// The time.
    pub clock: Clock,
    /// Becomes true when the source is to stop receiving.
    pub stop: tokio::sync::watch::Receiver<bool>,
    /// End when there is nothing more to read.
    pub is_drain: bool,
}

impl Surroundings {
    /// Whether to stop receiving.
    pub fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits, at most until the source is to stop. True: go on.
    pub async fn wait(&self, duration: Duration) -> bool {
        let mut stop = self.stop.clone();
        tokio::select! {
            _ = stop.wait_for(|it| *it) => false,
            () = tokio::time::sleep(duration) => true,
        }
    }
}

impl Surroundings {
    /// Hands over until it is taken. None: the source is to stop, and it is not taken.
    pub async fn deliver(&self, mut delivery: Delivery) -> Option<Outcome> {
        let metrics = &self.metrics;
        metrics.add(&metrics::IN_FLIGHT, &delivery.source, "", 1.0);
        let outcome = loop {
            match self.handoff.deliver(delivery.clone()).await {
                Ok(outcome) => break Some(outcome),
                Err(error) => {
                    metrics.add(&metrics::ERRORS, &delivery.source, "deliver", 1.0);
                    tracing::warn!(source = delivery.source, uri = delivery.uri, %error, "not taken; tried again");
                    // By itself from now on: if it is what fails, it must not take its neighbours with it again.
                    delivery.can_wait = false;
                    if !self.wait(RETRY_PAUSE).await {
                        break None;
                    }
                }
            }
        };
        metrics.add(&metrics::IN_FLIGHT, &delivery.source, "", -1.0);
        outcome
    }
}

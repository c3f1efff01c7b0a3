//! An open store: what its threads share, and what the rest of the program may ask of it.

use super::commit::Committer;
use super::disk::{Disk, RealDisk};
use super::intake::{Intake, Verdict};
use super::keeper;
use super::layout::Layout;
use super::{StoreError, alerts, bulk, quarantine, recover, state};
use crate::clock::Clock;
use crate::rules::{Current, RuleSet, Trouble};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// Deliveries that wait for the committer.
const QUEUE_MAX: usize = 256;
/// How much work may wait for the keeper, and how much of it for being named.
const JOBS_MAX: usize = 64;

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The data folder.
    pub dir: PathBuf,
    /// Where files are written.
    pub disk: Arc<dyn Disk>,
    /// The time.
    pub clock: Clock,
    /// How long events are kept from their collection, hours.
    pub retention_hours: i64,
    /// A log is sealed at so many events.
    pub seal_events: u64,
    /// A log is sealed at this age, ms.
    pub seal_ms: i64,
    /// From so many bytes of records a second on, deliveries that can wait do not go through the log.
    pub rush_bytes: u64,
    /// So many segments of one hour of collection become one.
    pub merge_segments: usize,
    /// The rules whose matches become alerts.
    pub rules: Arc<Current<RuleSet>>,
    /// How long rules wait for what comes late.
    pub lateness: Lateness,
    /// How often the committer looks after age, retention and trash, when nothing comes.
    pub tick: Duration,
}

/// How long rules with a state wait for what comes late (FILTER.md, Time).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lateness {
    /// So late an event may come and be sure to count, ms.
    pub max_ms: i64,
    /// So long what is seen for the first time waits for earlier events, ms.
    pub first_seen_ms: i64,
}

impl Default for Lateness {
    fn default() -> Self {
        Self { max_ms: 6 * 3_600_000, first_seen_ms: 20 * 60_000 }
    }
}

impl StoreOptions {
    /// The defaults, in this folder.
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            disk: Arc::new(RealDisk),
            clock: Clock::system(),
            retention_hours: 72,
            seal_events: 30_000,
            seal_ms: 15 * 60_000,
            rush_bytes: 4 << 20,
            merge_segments: 32,
            rules: Arc::default(),
            lateness: Lateness::default(),
            tick: Duration::from_millis(500),
        }
    }
}

/// What the store's threads share.
pub(super) struct Shared {
    pub(super) layout: Layout,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: Clock,
    pub(super) options: StoreOptions,
    paused: Mutex<Option<String>>,
    is_paused: AtomicBool,
    is_closing: AtomicBool,
    pub(super) totals: Mutex<Vec<(String, String, u64)>>,
}

impl Shared {
    /// Takes nothing more until a probe says that the disk works again.
    pub(super) fn pause(&self, error: &StoreError) {
        let text = error.to_string();
        if !self.is_paused.swap(true, Ordering::SeqCst) {
            tracing::error!(error = %text, "the store is paused; it resumes by itself when the disk works again");
        }
        *self.paused.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        if error.is_full() {
            self.layout.release_reserve();
        }
    }

    pub(super) fn resume(&self) {
        if self.is_paused.swap(false, Ordering::SeqCst) {
            tracing::info!("the store takes deliveries again");
        }
        *self.paused.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn paused(&self) -> Option<String> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::SeqCst)
    }
}

pub(super) type Reply = oneshot::Sender<Result<Verdict, Arc<StoreError>>>;

/// What the committer hears.
pub(super) enum Message {
    /// A delivery, whole.
    Intake(Box<Intake>, Reply),
    /// A delivery that comes in pieces; the last one names it and says how it ends.
    Bulk {
        /// The pieces.
        pieces: Receiver<bulk::Piece>,
        /// Who waits.
        reply: Reply,
        /// Whether others may join it.
        can_wait: bool,
    },
    /// The keeper has finished something: it lies in a channel of its own, so that it is heard amid a long delivery too.
    Wake,
    /// Seal what is in the log; answer when it is sealed.
    Seal(oneshot::Sender<()>),
    /// A question to the state.
    Ask(Box<dyn FnOnce(&Connection) + Send>),
    /// End.
    Close,
}

/// A store that is open for writing.
#[derive(Clone)]
pub struct Store {
    pub(super) shared: Arc<Shared>,
    sender: SyncSender<Message>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.shared.layout.dir).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the folder for writing, alone, and sets right what a crash left.
    pub fn open(options: StoreOptions) -> Result<Self, StoreError> {
        let layout = Layout::new(&options.dir);
        let lock = layout.open(&*options.disk)?;
        let db = state::open_writer(&layout.state())?;
        let ids = recover::recover(&layout, &*options.disk, &db)?;
        let shared = Arc::new(Shared {
            layout,
            disk: Arc::clone(&options.disk),
            clock: options.clock.clone(),
            options,
            paused: Mutex::new(None),
            is_paused: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            totals: Mutex::new(state::counters(&db)?),
        });
        shared.layout.fill_reserve();
        let (sender, receiver) = sync_channel(QUEUE_MAX);
        let (jobs, job_queue) = sync_channel(JOBS_MAX);
        let (keeper_done, done) = sync_channel(JOBS_MAX);
        let mut committer = Committer::new(Arc::clone(&shared), db, ids, (jobs, done), lock)?;
        let keeper_shared = Arc::clone(&shared);
        let keeper_out = sender.clone();
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(StoreError::at(&shared.layout.dir))
        };
        let threads = vec![
            spawn("keeper", Box::new(move || keeper::run(&keeper_shared, &job_queue, &keeper_done, &keeper_out)))?,
            spawn("committer", Box::new(move || committer.run(&receiver)))?,
        ];
        Ok(Self { shared, sender, threads: Arc::new(Mutex::new(threads)) })
    }

    /// Stores a delivery; returns when it is durable.
    pub async fn commit(&self, intake: Intake) -> Result<Verdict, Arc<StoreError>> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Intake(Box::new(intake), reply)).await?;
        answer.await.unwrap_or_else(|_| Err(Arc::new(StoreError::Closed)))
    }

    /// Starts a delivery that comes in pieces; other deliveries wait for its end, so its bytes must be at hand.
    /// `can_wait`: others may join it before its answer comes; then it must not name an object of the ledger. Blocks.
    pub fn begin(&self, can_wait: bool) -> Result<bulk::Bulk, Arc<StoreError>> {
        let (sender, pieces) = sync_channel(1);
        let (reply, answer) = oneshot::channel();
        self.sender.send(Message::Bulk { pieces, reply, can_wait }).map_err(|_| StoreError::Closed)?;
        Ok(bulk::Bulk::new(sender, answer))
    }

    async fn send(&self, message: Message) -> Result<(), StoreError> {
        let sender = self.sender.clone();
        match self.sender.try_send(message) {
            Ok(()) => Ok(()),
            Err(std::sync::mpsc::TrySendError::Disconnected(_)) => Err(StoreError::Closed),
            Err(std::sync::mpsc::TrySendError::Full(message)) => {
                let sent = tokio::task::spawn_blocking(move || sender.send(message)).await;
                if matches!(sent, Ok(Ok(()))) { Ok(()) } else { Err(StoreError::Closed) }
            }
        }
    }

    /// Asks the state something, between two commits.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Ask(Box::new(move |db| drop(reply.send(question(db)))))).await?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Whether the ledger has this object.
    pub async fn has_read(&self, object: &str) -> Result<bool, StoreError> {
        let object = object.to_owned();
        self.ask(move |db| Ok(state::in_ledger(db, &object)? || quarantine::is_parked(db, &object)?)).await
    }

    /// What a source remembers of each file (what it looked like when it was read), or of those in a range of keys.
    pub async fn file_stamps(
        &self,
        source: &str,
        keys: Option<std::ops::Range<&str>>,
    ) -> Result<std::collections::HashMap<String, String>, StoreError> {
        let source = source.to_owned();
        let (from, to) = keys.map_or((None, None), |it| (Some(it.start.to_owned()), Some(it.end.to_owned())));
        self.ask(move |db| {
            let range = "path >= IFNULL(?2, '') AND (?3 IS NULL OR path < ?3)";
            let mut query = db.prepare_cached(&format!("SELECT path, stamp FROM files WHERE source = ?1 AND {range}"))?;
            let rows = query.query_map((source, from, to), |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The source's id, made at its first start and the same ever after.
    pub async fn agent_id(&self, source: &str) -> Result<String, StoreError> {
        let key = format!("agent_id/{source}");
        let fresh = crate::event::EventId::of(&["agent", source, &fastrand::u128(..).to_string()]).to_string();
        self.ask(move |db| match state::meta(db, &key)? {
            Some(id) => Ok(id),
            None => state::set_meta(db, &key, &fresh).map(|()| fresh),
        })
        .await
    }

    /// Raises or extends the alert of a trouble of our own; `what` stands behind its title.
    pub async fn raise(&self, trouble: Trouble, aggregates: Vec<String>, what: String, now: i64) -> Result<(), StoreError> {
        self.ask(move |db| {
            let tx = db.unchecked_transaction()?;
            alerts::raise(&tx, trouble, &aggregates, &what, (1, now))?;
            Ok(tx.commit()?)
        })
        .await
    }

    /// Why the store takes nothing now, if so.
    pub fn paused(&self) -> Option<String> {
        self.shared.paused()
    }

    /// Where files may be spooled; emptied at each start.
    pub fn tmp(&self) -> PathBuf {
        self.shared.layout.tmp()
    }

    /// Totals since the beginning: source, name, value.
    pub fn totals(&self) -> Vec<(String, String, u64)> {
        self.shared.totals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Turns everything in the log into Parquet.
    pub async fn seal(&self) {
        let (reply, answer) = oneshot::channel();
        if self.send(Message::Seal(reply)).await.is_ok() {
            let _ = answer.await;
        }
    }

    /// Ends the threads. What was not committed is not.
    pub fn close(&self) {
        self.shared.is_closing.store(true, Ordering::SeqCst);
        let _ = self.sender.send(Message::Close);
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        // The committer drops the keeper's queue, which ends it; so the order does not matter.
        for thread in threads {
            let _ = thread.join();
        }
    }
}

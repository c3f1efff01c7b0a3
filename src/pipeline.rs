//! 7 · The flow, in one place: a delivery in, a verdict out. Decode, normalize, drop, commit; then, and only then,
//! the source hears that it may release what it holds.

use crate::clock::{Clock, Stopwatch};
use crate::decode::{Around, Buffers, EXCERPT_BYTES_MAX, Item, RECORD_BYTES_MAX, ReadError, Reason, Record, Records, Reject, inflated};
use crate::event::{Context, Event, EventType, Label};
use crate::filter::{Filter, Scratch};
use crate::metrics::{self, Metrics};
use crate::normalize::{Normalizer, mask_lexically, watched_keys};
use crate::rules::{Current, Found, Hider, Hit, RuleSet};
use crate::sources::{self, BoxFuture, Delivery, Due, Handoff, Input, LINE_BYTES_MAX, MEMORY_BYTES_MAX, NotTaken, Outcome, SetAside};
use crate::store::{Answer, Batch, Bulk, Intake, Parked, Store, StoreError};
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, oneshot};

/// Native records of one batch, about. A delivery with more goes to the store in pieces.
const BATCH_RAW_BYTES: usize = 1 << 20;
/// Events of one batch, at most.
const BATCH_EVENTS: usize = 4_096;
/// Decoded bytes that may wait for their commit, KiB.
const WAITING_KIB: u32 = 3 << 10;
/// How much a compressed delivery is taken to hold, as a multiple.
const INFLATION: u64 = 12;
/// Rejects of one delivery that are listed one by one; further ones are counted in one entry.
const REJECTS_LISTED_MAX: usize = 1_000;
// Sources refuse longer lines themselves, as they do not hold them.
const _: () = assert!(LINE_BYTES_MAX == RECORD_BYTES_MAX);

/// What the pipeline does to a source's records.
#[derive(Debug, Default)]
pub struct SourceSettings {
    /// Its stable id.
    pub agent_id: String,
    /// The Kubernetes cluster that its audit events are of.
    pub cluster: String,
    /// The events that it may bring; others are set aside. Empty: all.
    pub takes: &'static [EventType],
}

/// What is dropped, by the source's name.
pub type Drops = HashMap<String, Vec<Filter>>;

/// Everything that the pipeline is told.
#[derive(Debug, Default)]
pub struct Settings {
    /// From configuration.
    pub organization_id: String,
    /// What is known of accounts.
    pub accounts: Arc<HashMap<String, Label>>,
    /// The rules that every event is shown to.
    pub rules: Arc<Current<RuleSet>>,
    /// Records of a source that match one of its filters are dropped.
    pub drops: Arc<Current<Drops>>,
    /// By the source's name.
    pub sources: HashMap<String, SourceSettings>,
}

/// Decodes and commits deliveries, as many at once as there are cores.
#[derive(Debug, Clone)]
pub struct Pipeline {
    inner: Arc<Inner>,
    /// To the decoders: threads of their own, as few as there are cores, so that what they hold stays little.
    jobs: SyncSender<Job>,
    decoding: Arc<Semaphore>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    settings: Settings,
    clock: Clock,
    metrics: Arc<Metrics>,
    waiting: Arc<Semaphore>,
}

/// A delivery for a decoder.
struct Job {
    delivery: Delivery,
    reply: oneshot::Sender<Result<Decoded, ReadError>>,
}

/// Working memory of one decoder.
#[derive(Debug)]
struct Worker {
    buffers: Buffers,
    normalizer: Normalizer,
    scratch: Scratch,
    found: Vec<Found>,
}

impl Worker {
    fn new() -> Self {
        Self { buffers: Buffers::new(watched_keys()), normalizer: Normalizer::default(), scratch: Scratch::default(), found: Vec::new() }
    }
}

/// What decoding made of a delivery.
enum Decoded {
    /// It fits one commit with others.
    Small(Box<Intake>),
    /// It went to the store in pieces.
    Large(Result<Answer, Arc<StoreError>>),
    /// Something in it is bad, and it was not final.
    Suspect(String),
}

impl Pipeline {
    /// A pipeline into this store.
    pub fn new(store: Store, settings: Settings, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let inner = Arc::new(Inner { store, settings, clock, metrics, waiting: Arc::new(Semaphore::new(WAITING_KIB as usize)) });
        let (jobs, queue) = sync_channel::<Job>(cores);
        let queue = Arc::new(Mutex::new(queue));
        for n in 0..cores {
            let (inner, queue) = (Arc::clone(&inner), Arc::clone(&queue));
            let work = move || decode_all(&inner, &queue);
            if let Err(error) = std::thread::Builder::new().name(format!("decoder-{n}")).spawn(work) {
                tracing::error!(%error, "a decoder did not start");
            }
        }
        Self { inner, jobs, decoding: Arc::new(Semaphore::new(cores)) }
    }

    async fn take(&self, delivery: Delivery) -> Result<Outcome, NotTaken> {
        let not_taken = |error: &dyn std::error::Error| NotTaken(error.to_string());
        if let Some(why) = self.inner.store.paused() {
            return Err(not_taken(&StoreError::Paused(why)));
        }
        let share = (delivery.bytes.saturating_mul(INFLATION) >> 10).clamp(64, BATCH_RAW_BYTES as u64 >> 10) as u32;
        let room = Arc::clone(&self.inner.waiting).acquire_many_owned(share).await.map_err(|it| not_taken(&it))?;
        let source = delivery.source.clone();
        // As many permits as the queue has places: sending never waits.
        let decoding = self.decoding.acquire().await.map_err(|it| not_taken(&it))?;
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job { delivery, reply }).map_err(|_| not_taken(&StoreError::Closed))?;
        let decoded = answer.await.map_err(|_| NotTaken("a decoder failed; this is a bug".to_owned()))?;
        drop(decoding);
        match decoded.map_err(|it| not_taken(&it))? {
            Decoded::Suspect(why) => Ok(Outcome::Suspect(why)),
            Decoded::Large(answer) => {
                // Its last piece is with the store.
                drop(room);
                let answer = answer.map_err(|it| not_taken(&*it))?;
                answer.wait().await.map(|_| Outcome::Done).map_err(|it| not_taken(&*it))
            }
            Decoded::Small(mut intake) => {
                intake.room = Some(room);
                let watch = Stopwatch::start();
                let result = self.inner.store.commit(*intake).await;
                self.inner.metrics.observe(&metrics::COMMIT, &source, watch.elapsed());
                result.map(|_| Outcome::Done).map_err(|it| not_taken(&*it))
            }
        }
    }
}

fn decode_all(inner: &Inner, queue: &Mutex<Receiver<Job>>) {
    let mut worker = Worker::new();
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { delivery, reply }) = job else { return };
        let _ = reply.send(Run::new(inner, delivery).go(&mut worker));
    }
}

/// One delivery on its way through.
struct Run<'p> {
    inner: &'p Inner,
    delivery: Delivery,
    context: Context,
    /// Those that were in use when it came, for all of it.
    rules: Arc<RuleSet>,
    drops: Arc<Drops>,
    takes: &'static [EventType],
    intake: Intake,
    /// One per type of event, as they came up.
    batches: Vec<Batch>,
    bulk: Option<Bulk>,
    failed: Option<Arc<StoreError>>,
}

impl<'p> Run<'p> {
    fn new(inner: &'p Inner, mut delivery: Delivery) -> Self {
        let settings = inner.settings.sources.get(&delivery.source);
        let context = Context {
            organization_id: inner.settings.organization_id.clone(),
            agent_id: settings.map(|it| it.agent_id.clone()).unwrap_or_default(),
            source: delivery.source.clone(),
            uri: delivery.uri.clone(),
            cluster: settings.map(|it| it.cluster.clone()).unwrap_or_default(),
            key_account: delivery.key_account.take(),
            accounts: Arc::clone(&inner.settings.accounts),
            now_ms: inner.clock.now_ms(),
            shared_json: String::new(),
        };
        let intake = Intake {
            source: delivery.source.clone(),
            object: delivery.object.take(),
            is_again: delivery.is_again,
            can_wait: delivery.can_wait,
            files: std::mem::take(&mut delivery.files),
            forgets: std::mem::take(&mut delivery.forgets),
            forwarded: delivery.forwarded,
            bytes: delivery.bytes,
            skipped: std::mem::take(&mut delivery.skipped),
            settles: std::mem::take(&mut delivery.settles),
            settles_uri: delivery.settles_uri.then(|| delivery.uri.clone()),
            ..Intake::default()
        };
        let takes = settings.map_or(&[][..], |it| it.takes);
        let (rules, drops) = (inner.settings.rules.get(), inner.settings.drops.get());
        Self { inner, delivery, context, rules, drops, takes, intake, batches: Vec::new(), bulk: None, failed: None }
    }

    fn go(mut self, worker: &mut Worker) -> Result<Decoded, ReadError> {
        if let Some(set_aside) = self.delivery.set_aside.take() {
            self.park(None, set_aside);
            // An object that is only pointed to was not read: the ledger does not have it yet.
            if self.delivery.pointer.is_some() {
                self.intake.object = None;
            }
            return Ok(Decoded::Small(Box::new(self.intake)));
        }
        for refused in std::mem::take(&mut self.delivery.refused) {
            self.park(Some(refused.index), refused.what);
        }
        let uri = self.delivery.uri.clone();
        let failed = |source| ReadError { uri, source };
        let buffers = std::mem::take(&mut worker.buffers);
        let input = self.delivery.input.clone();
        let whole;
        let mut records = match &input {
            Input::Memory(bytes) => Records::of_bytes(bytes, buffers),
            Input::File(path) if self.delivery.bytes <= MEMORY_BYTES_MAX => {
                // Read whole only now that there is room for it: a small object inflates twice as fast in one piece.
                whole = std::fs::read(path).map_err(failed.clone())?;
                Records::of_bytes(&whole, buffers)
            }
            Input::File(path) => File::open(path).and_then(|file| Records::of_reader(file, buffers)),
            Input::Lines(bytes) => return self.read_lines(bytes, buffers, worker),
            Input::None => return Ok(Decoded::Small(Box::new(self.intake))),
        }
        .map_err(failed.clone())?;
        let context = std::mem::take(&mut self.context);
        let outcome = self.read(&mut records, &context, None, worker);
        worker.buffers = records.into_buffers();
        match outcome {
            Ok(None) => Ok(self.finish()),
            Ok(Some(why)) => Ok(Decoded::Suspect(why)),
            Err(error) => Err(failed(error)),
        }
    }

    /// Lines of a followed file: what is in a line has the line's position.
    fn read_lines(mut self, bytes: &[u8], mut buffers: Buffers, worker: &mut Worker) -> Result<Decoded, ReadError> {
        let context = std::mem::take(&mut self.context);
        let has_end = bytes.last().is_some_and(|it| matches!(it, b'\n' | 0));
        let mut lines = (self.delivery.first_index..).zip(sources::lines(bytes)).peekable();
        while let Some((index, line)) = lines.next() {
            let mut records = Records::of_line(line, has_end || lines.peek().is_some(), buffers);
            let outcome = self.read(&mut records, &context, Some(index), worker);
            buffers = records.into_buffers();
            match outcome {
                Ok(None) => {}
                Ok(Some(why)) => return Ok(Decoded::Suspect(why)),
                Err(source) => return Err(ReadError { uri: context.uri, source }),
            }
            if self.failed.is_some() {
                break;
            }
        }
        worker.buffers = buffers;
        Ok(self.finish())
    }

    /// Reads all records; stops with the reason at the first bad one where the delivery is not final. `at`: the position
    /// of all of them, where they have one.
    fn read(
        &mut self,
        records: &mut Records<'_>,
        context: &Context,
        at: Option<u64>,
        worker: &mut Worker,
    ) -> std::io::Result<Option<String>> {
        while let Some(item) = records.next()? {
            match item {
                Item::Record(record) => {
                    let mut record = Record { index: at.unwrap_or(record.index), ..record };
                    if !self.takes.is_empty() {
                        // Who posts for one cluster does not say which one it is.
                        record.around = Around { cluster: None, account: None, ..record.around };
                    }
                    let mut event = worker.normalizer.event(&record, context);
                    if !self.delivery.is_own && !self.takes.is_empty() && !self.takes.contains(&event.event_type) {
                        self.refuse(&record, event.event_type);
                        continue;
                    }
                    let drop = self.drops.get(&self.delivery.source);
                    if drop.is_some_and(|all| all.iter().any(|it| it.matches(&event, &mut worker.scratch))) {
                        self.intake.filtered += 1;
                        continue;
                    }
                    let hits = hits(&self.rules, &mut event, &mut worker.scratch, &mut worker.found);
                    if !self.push(&event, hits, &worker.found) {
                        return Ok(None);
                    }
                }
                Item::Reject(reject) if self.delivery.is_final => {
                    self.reject(Reject { index: at.unwrap_or(reject.index), ..reject });
                }
                Item::Reject(reject) => return Ok(Some(format!("{}: {}", reject.reason, reject.detail))),
                Item::Skipped(why) => self.skip(why),
            }
        }
        Ok(None)
    }

    /// Counts what is no log.
    fn skip(&mut self, why: &'static str) {
        match self.intake.skipped.iter_mut().find(|(reason, _)| *reason == why) {
            Some((_, n)) => *n += 1,
            None => self.intake.skipped.push((why, 1)),
        }
    }

    /// Sets aside a record that this source may not bring.
    fn refuse(&mut self, record: &Record<'_>, event_type: EventType) {
        let excerpt = record.text.as_bytes()[..record.text.len().min(EXCERPT_BYTES_MAX)].to_vec();
        let detail = format!("a {} record, which this source may not bring", event_type.name());
        self.reject(Reject { index: record.index, reason: Reason::NotARecord, detail, bytes: record.text.len() as u64, excerpt });
    }

    /// Adds an event to the batch of its type, and sends a full one off. False: the store has given up.
    fn push(&mut self, event: &Event<'_>, hits: Vec<Hit>, found: &[Found]) -> bool {
        let at = self.batches.iter().position(|it| it.event_type == event.event_type).unwrap_or_else(|| {
            self.batches.push(Batch::recycled(event.event_type));
            self.batches.len() - 1
        });
        let batch = &mut self.batches[at];
        batch.push(event);
        if batch.rules.is_none() {
            batch.rules = Some(Arc::clone(&self.rules));
        }
        for hit in hits {
            batch.hit(hit);
        }
        for it in found {
            if let Some(Hider::Suppression(n)) = it.hidden_by {
                batch.hide(n);
            }
        }
        if batch.raw_bytes() < BATCH_RAW_BYTES && batch.len() < BATCH_EVENTS {
            return true;
        }
        let fresh = Batch::recycled(batch.event_type);
        let full = std::mem::replace(batch, fresh);
        self.send_piece(full)
    }

    /// More than one batch: it goes to the store in pieces. False: the store has given up.
    fn send_piece(&mut self, batch: Batch) -> bool {
        if self.bulk.is_none() {
            match self.inner.store.begin(self.intake.can_wait) {
                Ok(bulk) => self.bulk = Some(bulk),
                Err(error) => self.failed = Some(error),
            }
        }
        self.bulk.as_ref().is_some_and(|bulk| bulk.add(batch))
    }

    fn reject(&mut self, reject: Reject) {
        let Reject { index, reason, detail, bytes, excerpt } = reject;
        self.park(Some(index), SetAside { reason: reason.name(), detail, bytes, excerpt, next_try_ms: None });
    }

    fn park(&mut self, index: Option<u64>, what: SetAside) {
        if self.intake.rejects.len() >= REJECTS_LISTED_MAX {
            self.intake.rejects_unlisted += 1;
            return;
        }
        self.intake.rejects.push(Parked {
            uri: self.delivery.uri.clone(),
            index,
            reason: what.reason,
            detail: what.detail,
            bytes: what.bytes,
            excerpt: excerpt(&what.excerpt),
            object: self.delivery.pointer.clone(),
            next_try_ms: what.next_try_ms,
            tries: 0,
        });
    }

    fn finish(mut self) -> Decoded {
        if let Some(error) = self.failed.take() {
            return Decoded::Large(Err(error));
        }
        let rest = self.batches.into_iter().filter(|it| !it.is_empty());
        if let Some(bulk) = self.bulk.take() {
            rest.for_each(|batch| {
                bulk.add(batch);
            });
            Decoded::Large(Ok(bulk.finish(self.intake)))
        } else {
            self.intake.batches.extend(rest);
            Decoded::Small(Box::new(self.intake))
        }
    }
}

/// Asks the rules; the event is told which of them match, and which of those are hidden.
fn hits(rules: &RuleSet, event: &mut Event<'_>, scratch: &mut Scratch, found: &mut Vec<Found>) -> Vec<Hit> {
    rules.matches(event, scratch, found);
    if found.is_empty() {
        return Vec::new();
    }
    event.rule_matches = found.iter().map(|it| rules.rules[it.rule].id.clone()).collect();
    event.suppressed = found.iter().filter(|it| it.hidden_by.is_some()).count();
    found.iter().filter(|it| it.hidden_by.is_none()).map(|it| Hit::new(rules, it.rule, event, None, scratch)).collect()
}

/// The beginning of bytes, masked: as much as the quarantine keeps.
fn excerpt(bytes: &[u8]) -> String {
    let mut text = mask_lexically(bytes);
    let mut end = text.len().min(EXCERPT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

fn not_taken(error: &StoreError) -> NotTaken {
    NotTaken(error.to_string())
}

impl Handoff for Pipeline {
    fn deliver(&self, delivery: Delivery) -> BoxFuture<'_, Result<Outcome, NotTaken>> {
        Box::pin(self.take(delivery))
    }

    fn has_read<'f>(&'f self, object: &'f str) -> BoxFuture<'f, Result<bool, NotTaken>> {
        Box::pin(async move { self.inner.store.has_read(object).await.map_err(|it| not_taken(&it)) })
    }

    fn file_stamps<'f>(
        &'f self,
        source: &'f str,
        keys: Option<Range<&'f str>>,
    ) -> BoxFuture<'f, Result<HashMap<String, String>, NotTaken>> {
        Box::pin(async move { self.inner.store.file_stamps(source, keys).await.map_err(|it| not_taken(&it)) })
    }

    fn due<'f>(&'f self, source: &'f str) -> BoxFuture<'f, Result<Vec<Due>, NotTaken>> {
        Box::pin(async move {
            let due = self.inner.store.due(source, self.inner.clock.now_ms()).await.map_err(|it| not_taken(&it))?;
            Ok(due.into_iter().filter_map(|it| Some(Due { id: it.id, pointer: it.object?, tries: it.tries })).collect())
        })
    }

    fn postpone(&self, id: i64, next_try_ms: i64, why: String) -> BoxFuture<'_, Result<(), NotTaken>> {
        Box::pin(async move { self.inner.store.postpone(id, Some(next_try_ms), why).await.map_err(|it| not_taken(&it)) })
    }

    fn paused(&self) -> Option<String> {
        self.inner.store.paused()
    }

    fn spool(&self) -> PathBuf {
        self.inner.store.tmp()
    }

    fn inflate(&self, input: Box<dyn std::io::Read + Send>) -> std::io::Result<Box<dyn std::io::BufRead + Send>> {
        inflated(input)
    }
}

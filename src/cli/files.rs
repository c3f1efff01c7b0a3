//! The events of files, for `replay` and `hunt`: files in order, decoded on all cores but one.

use super::args::Output;
use super::exit::{Exit, Failure};
use super::term;
use crate::decode::{Buffers, Item, Records, Reject};
use crate::event::{Context, Event};
use crate::normalize::{Normalizer, mask_lexically, watched_keys};
use crate::sources::MEMORY_BYTES_MAX;
use crate::sources::directory::{Found, files_below};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Output handed on at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks of one file that may wait for their turn.
const CHUNKS_MAX: usize = 32;
/// An inflated file up to this size is held whole: there is no store beside it that needs the memory.
const WHOLE_BYTES_MAX: usize = 20 << 20;
/// Tasks taken up ahead of the one being written.
const AHEAD: usize = 3;
/// Small files are read several at a time, up to about this many bytes: handing each over by itself costs more than it does.
const TASK_BYTES: u64 = 256 << 10;
/// And up to this many files.
const TASK_FILES_MAX: usize = 64;

/// A decoder's chunks that were written, for their room: fresh memory would be paged in for each, and another decoder's is in
/// another core's cache.
#[derive(Default)]
struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    fn take(&self) -> Vec<u8> {
        let pooled = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        pooled.unwrap_or_else(|| Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 8))
    }

    fn give_back(&self, mut chunk: Vec<u8>) {
        chunk.clear();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(chunk);
    }
}

enum Message<'p> {
    /// What is to be written, and where the room goes then.
    Chunk(Vec<u8>, &'p Pool),
    Reject(PathBuf, Reject),
    Failed(PathBuf, io::Error),
    Records(u64),
}

/// A file, and its path from the root, links above it resolved.
type Placed = (Found, PathBuf);

/// Files that one decoder reads one after the other.
struct Task<'p> {
    files: Vec<Placed>,
    out: SyncSender<Message<'p>>,
}

/// What a command makes of each event. Every decoder has one of its own.
pub(super) trait Visitor {
    /// Takes an event; what it writes comes out in the order of the files.
    fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>);
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Sum {
    pub(super) records: u64,
    pub(super) rejected: u64,
    pub(super) failed: u64,
}

impl Sum {
    /// The exit code, and a line for the person when something was bad.
    pub(super) fn exit(&self) -> Exit {
        if self.rejected + self.failed == 0 {
            return Exit::Done;
        }
        term::say(&format!("{} records; {} bad records, {} unreadable files", self.records, self.rejected, self.failed));
        Exit::Bad
    }
}

/// Files to read, and how.
pub(super) struct Reading<'r> {
    /// Files and folders; `-` is standard input.
    pub(super) paths: &'r [PathBuf],
    /// What all events have in common.
    pub(super) base: &'r Context,
    /// How bad records are reported.
    pub(super) output: Output,
}

/// Reads all files; `make` makes a visitor for each decoder.
pub(super) fn read<V: Visitor>(reading: &Reading<'_>, out: &mut dyn Write, make: impl Fn() -> V + Sync) -> Result<Sum, Failure> {
    // Room for all that is taken ahead: handing out must never wait, since the one who hands out also takes in.
    // One core is for who writes, and for the program that reads it: with all of them decoding, two decoders that share
    // the units of one core take a quarter more CPU time for a quarter less of the clock's.
    let decoders = std::thread::available_parallelism().map_or(1, usize::from).saturating_sub(1).max(1);
    let pools: Vec<_> = (0..decoders).map(|_| Pool::default()).collect();
    let (tasks, queue) = sync_channel::<Task<'_>>(AHEAD);
    let queue = Arc::new(Mutex::new(queue));
    std::thread::scope(|scope| {
        for pool in &pools {
            let (queue, make) = (Arc::clone(&queue), &make);
            scope.spawn(move || work(&queue, make(), reading.base, pool));
        }
        drop(queue);
        feed(reading, tasks, out)
    })
}

/// Hands files out, and writes what comes back, in the order of the files.
#[expect(clippy::needless_pass_by_value, reason = "dropping the sender is what ends the decoders")]
fn feed(args: &Reading<'_>, tasks: SyncSender<Task<'_>>, out: &mut dyn Write) -> Result<Sum, Failure> {
    let progress = progress();
    let mut sum = Sum::default();
    let mut ahead: VecDeque<(u64, Receiver<Message<'_>>)> = VecDeque::new();
    let mut files = args.paths.iter().flat_map(|path| placed(path));
    loop {
        while ahead.len() < AHEAD {
            let (files, bytes) = some_files(&mut files, &mut sum, args.output);
            if files.is_empty() {
                break;
            }
            let (sender, receiver) = sync_channel(CHUNKS_MAX);
            ahead.push_back((bytes, receiver));
            if tasks.send(Task { files, out: sender }).is_err() {
                return Err(Failure::new(Exit::Bug, "the decoders ended early"));
            }
        }
        let Some((bytes, messages)) = ahead.pop_front() else { break };
        for message in messages {
            match message {
                Message::Chunk(chunk, pool) => {
                    if let Err(error) = out.write_all(&chunk) {
                        return if error.kind() == ErrorKind::BrokenPipe { Ok(sum) } else { Err(error.into()) };
                    }
                    pool.give_back(chunk);
                }
                Message::Reject(path, reject) => {
                    sum.rejected += 1;
                    report(&path, &reject, args.output);
                }
                Message::Failed(path, error) => {
                    sum.failed += 1;
                    report_failed(&path, &error, args.output);
                }
                Message::Records(n) => sum.records += n,
            }
        }
        progress.inc(bytes);
        progress.set_message(format!("{} events", sum.records));
    }
    progress.finish_and_clear();
    out.flush().or_else(|error| if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })?;
    Ok(sum)
}

/// The next files, as many as make a task, and their bytes; what cannot be listed is reported. None at the end.
fn some_files(files: &mut impl Iterator<Item = Result<Placed, (PathBuf, io::Error)>>, sum: &mut Sum, output: Output) -> (Vec<Placed>, u64) {
    let (mut some, mut bytes) = (Vec::new(), 0);
    while bytes < TASK_BYTES && some.len() < TASK_FILES_MAX {
        match files.next() {
            None => break,
            Some(Err((path, error))) => {
                sum.failed += 1;
                report_failed(&path, &error, output);
            }
            Some(Ok(file)) => {
                bytes += file.0.bytes;
                some.push(file);
            }
        }
    }
    (some, bytes)
}

/// The files below a path, each with where it really is: asked once for the path, not for each file.
fn placed(path: &Path) -> impl Iterator<Item = Result<Placed, (PathBuf, io::Error)>> {
    let root = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let path = path.to_owned();
    files_of(&path).map(move |found| {
        let found = found?;
        let place = match found.path.strip_prefix(&path) {
            Ok(below) if below.as_os_str().is_empty() => root.clone(),
            Ok(below) => root.join(below),
            Err(_) => found.path.clone(),
        };
        Ok((found, place))
    })
}

fn files_of(path: &Path) -> Box<dyn Iterator<Item = Result<Found, (PathBuf, io::Error)>>> {
    if path.as_os_str() == "-" {
        return Box::new(std::iter::once(Ok(Found::of_stdin())));
    }
    files_below(path)
}

fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bytes} ({bytes_per_sec})  {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::no_length().with_style(style)
}

fn report(path: &Path, reject: &Reject, output: Output) {
    let place = path.display();
    term::say(&match output {
        Output::Text => format!("{}: record {}: {}: {}", term::plain(&place.to_string()), reject.index, reject.reason, reject.detail),
        Output::Json => serde_json::json!({
            "origin": {"uri": format!("file://{place}"), "index": reject.index},
            "reason": reject.reason.name(), "detail": reject.detail, "bytes": reject.bytes, "excerpt": mask_lexically(&reject.excerpt),
        })
        .to_string(),
    });
}

fn report_failed(path: &Path, error: &io::Error, output: Output) {
    let place = path.display().to_string();
    term::say(&match output {
        Output::Text => format!("{}: {error}", term::plain(&place)),
        Output::Json => {
            serde_json::json!({"origin": {"uri": format!("file://{place}")}, "reason": "unreadable", "detail": error.to_string()})
                .to_string()
        }
    });
}

fn work<'p, V: Visitor>(queue: &Mutex<Receiver<Task<'p>>>, mut visitor: V, base: &Context, pool: &'p Pool) {
    let mut normalizer = Normalizer::default();
    let mut buffers = Buffers::new(watched_keys()).with_whole_bytes_max(WHOLE_BYTES_MAX);
    let mut compressed = Vec::new();
    let mut chunk = pool.take();
    loop {
        let task = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(task) = task else { return };
        for (found, place) in &task.files {
            let context = Context { uri: format!("file://{}", place.display()), ..base.clone() };
            let context = Context { key_account: crate::sources::cloudtrail_sqs::key_account(&context.uri), ..context }.render();
            let (normalizer, visitor, out) = (&mut normalizer, &mut visitor, &task.out);
            let mut decoder = Decoder { normalizer, context: &context, visitor, found, out, pool, records: 0 };
            let result = open(found, &mut compressed, std::mem::take(&mut buffers)).and_then(|mut records| {
                let result = decoder.go(&mut records, &mut chunk);
                buffers = records.into_buffers();
                result
            });
            let records = decoder.records;
            let _ = task.out.send(Message::Records(records));
            if let Err(error) = result {
                let _ = task.out.send(Message::Failed(found.path.clone(), error));
            }
        }
        let last = std::mem::replace(&mut chunk, pool.take());
        let _ = task.out.send(Message::Chunk(last, pool));
    }
}

/// Small files whole, so that they can be inflated whole; large ones and standard input as a stream.
fn open<'b>(found: &Found, compressed: &'b mut Vec<u8>, buffers: Buffers) -> io::Result<Records<'b>> {
    if found.path.as_os_str() == "-" {
        return Records::of_reader(io::stdin(), buffers);
    }
    let mut file = File::open(&found.path)?;
    if found.bytes > MEMORY_BYTES_MAX {
        return Records::of_reader(file, buffers);
    }
    compressed.clear();
    io::Read::read_to_end(&mut file, compressed)?;
    Records::of_bytes(compressed, buffers)
}

struct Decoder<'d, 'p, V> {
    normalizer: &'d mut Normalizer,
    context: &'d Context,
    visitor: &'d mut V,
    found: &'d Found,
    out: &'d SyncSender<Message<'p>>,
    pool: &'p Pool,
    records: u64,
}

impl<V: Visitor> Decoder<'_, '_, V> {
    fn go(&mut self, records: &mut Records<'_>, chunk: &mut Vec<u8>) -> io::Result<()> {
        let gone = || io::Error::from(ErrorKind::BrokenPipe);
        while let Some(item) = records.next()? {
            match item {
                Item::Record(record) => {
                    self.records += 1;
                    let event = self.normalizer.event(&record, self.context);
                    self.visitor.event(&event, chunk);
                    if chunk.len() >= CHUNK_BYTES {
                        let full = std::mem::replace(chunk, self.pool.take());
                        self.out.send(Message::Chunk(full, self.pool)).map_err(|_| gone())?;
                    }
                }
                Item::Reject(reject) => {
                    self.out.send(Message::Reject(self.found.path.clone(), reject)).map_err(|_| gone())?;
                }
                Item::Skipped(_) => {}
            }
        }
        Ok(())
    }
}

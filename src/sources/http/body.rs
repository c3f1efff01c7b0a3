//! Takes a body in: a short one into memory, a longer one into a file, so that memory does not depend on it. Its room is
//! taken before its bytes, and both are given back when it is dropped.

use super::budget::{Budget, Room};
use super::refusal::Refusal;
use crate::sources::Input;
use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Incoming};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};

/// A body whose length is not told takes room in files in pieces of so many bytes.
const FILE_STEP_BYTES: u64 = 4 << 20;
/// Bytes that are gathered before they are written to a file.
const WRITE_BYTES: usize = 256 << 10;
/// How long bytes behind a refusal are read and thrown away, so that the client gets to read the answer.
pub(super) const LINGER: Duration = Duration::from_secs(5);
/// How many of them.
const LINGER_BYTES_MAX: u64 = 64 << 20;

/// What a body may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds<'b> {
    /// Room for all bodies.
    pub(super) budget: &'b Budget,
    /// Where its file may be.
    pub(super) spool: &'b Path,
    /// How long it may be.
    pub(super) bytes_max: u64,
    /// How long it may take.
    pub(super) timeout: Duration,
}

/// A body that came whole.
#[derive(Debug)]
pub(super) struct Taken {
    /// Its bytes.
    pub(super) input: Input,
    /// How many.
    pub(super) bytes: u64,
    _spooled: Option<Spooled>,
    _room: Room,
}

/// A file that is removed when it is dropped.
#[derive(Debug)]
struct Spooled(PathBuf);

impl Drop for Spooled {
    fn drop(&mut self) {
        // What a crash leaves is removed at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Reads a body to its end.
pub(super) async fn take(body: &mut Incoming, bounds: Bounds<'_>) -> Result<Taken, Refusal> {
    let length = body.size_hint().exact();
    if length.is_some_and(|it| it > bounds.bytes_max) {
        return Err(Refusal::TooLarge(bounds.bytes_max));
    }
    let in_memory_max = bounds.budget.in_memory_max();
    if let Some(length) = length.filter(|it| *it > in_memory_max) {
        let room = bounds.budget.memory(in_memory_max.min(WRITE_BYTES as u64)).await?;
        let files = bounds.budget.files(length).await?;
        return InFile::new(body, bounds, (room, files, length)).await?.fill(Vec::with_capacity(WRITE_BYTES)).await;
    }
    let most = length.unwrap_or(in_memory_max);
    let room = bounds.budget.memory(most).await?;
    let deadline = Instant::now() + bounds.timeout;
    let mut bytes = Vec::with_capacity(most as usize);
    while let Some(data) = next(body, deadline).await? {
        let n = (bytes.len() + data.len()) as u64;
        if n > bounds.bytes_max {
            return Err(Refusal::TooLarge(bounds.bytes_max));
        }
        if n > most {
            // Its length was not told, and it is a long one.
            let step = FILE_STEP_BYTES.min(bounds.bytes_max);
            let files = bounds.budget.files(step).await?;
            let mut file = InFile::new(body, bounds, (room, files, step)).await?;
            file.deadline = deadline;
            file.write(&bytes).await?;
            file.write(&data).await?;
            bytes.clear();
            return file.fill(bytes).await;
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Taken { bytes: bytes.len() as u64, input: Input::Memory(bytes.into()), _spooled: None, _room: room })
}

/// A body on its way into a file.
struct InFile<'b> {
    body: &'b mut Incoming,
    bounds: Bounds<'b>,
    deadline: Instant,
    file: tokio::fs::File,
    spooled: Spooled,
    room: Room,
    /// Bytes that there is room for.
    has_room: u64,
    /// Bytes that came.
    bytes: u64,
}

impl<'b> InFile<'b> {
    /// `room`: in memory, in files, and how much the latter is.
    async fn new(body: &'b mut Incoming, bounds: Bounds<'b>, room: (Room, Room, u64)) -> Result<Self, Refusal> {
        let (mut both, files, has_room) = room;
        both.join(files);
        let path = bounds.spool.join(format!("body-{:032x}", fastrand::u128(..)));
        let mut options = tokio::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path).await.map_err(|it| failed(&it))?;
        let deadline = Instant::now() + bounds.timeout;
        Ok(Self { body, bounds, deadline, file, spooled: Spooled(path), room: both, has_room, bytes: 0 })
    }

    /// Writes bytes that came, if there may be so many.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.bytes += bytes.len() as u64;
        if self.bytes > self.bounds.bytes_max {
            return Err(Refusal::TooLarge(self.bounds.bytes_max));
        }
        while self.bytes > self.has_room {
            let step = FILE_STEP_BYTES.min(self.bounds.bytes_max - self.has_room);
            self.room.join(self.bounds.budget.files(step).await?);
            self.has_room += step;
        }
        self.file.write_all(bytes).await.map_err(|it| failed(&it))
    }

    /// Reads the rest. `gathered` is an empty buffer.
    async fn fill(mut self, mut gathered: Vec<u8>) -> Result<Taken, Refusal> {
        while let Some(data) = next(self.body, self.deadline).await? {
            if !gathered.is_empty() && gathered.len() + data.len() > WRITE_BYTES {
                self.write(&gathered).await?;
                gathered.clear();
            }
            gathered.extend_from_slice(&data);
        }
        self.write(&gathered).await?;
        self.file.flush().await.map_err(|it| failed(&it))?;
        Ok(Taken { input: Input::File(self.spooled.0.clone()), bytes: self.bytes, _spooled: Some(self.spooled), _room: self.room })
    }
}

fn failed(error: &std::io::Error) -> Refusal {
    Refusal::Spool(error.to_string())
}

/// The next bytes; none at the end.
async fn next(body: &mut Incoming, deadline: Instant) -> Result<Option<Bytes>, Refusal> {
    loop {
        match timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(Refusal::SlowBody),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err(Refusal::Cut(error.to_string())),
            // Trailers say nothing that we ask for.
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Reads what comes behind a refusal, and throws it away: a client that is still sending would not read the answer.
pub(super) async fn linger(mut body: Incoming) {
    let deadline = Instant::now() + LINGER;
    let mut bytes = 0;
    while let Ok(Some(data)) = next(&mut body, deadline).await {
        bytes += data.len() as u64;
        if bytes > LINGER_BYTES_MAX {
            break;
        }
    }
}

//! The window on the input: grows up to one record, moves on, never holds more.

use super::Reason;
use super::gunzip::Damage;
use std::io::{self, BufRead};

/// The longest record that is read. `CloudTrail` stops at 256 KiB, API servers at a few MiB.
pub const RECORD_BYTES_MAX: usize = 16 << 20;
/// The most white space between two tokens: what a bomb of blanks meets.
pub const BETWEEN_TOKENS_BYTES_MAX: usize = 16 << 20;
/// A buffer with more room than this is given back: one huge record had made it huge.
const KEPT_BYTES_MAX: usize = 20 << 20;
/// How much is read at a time, at least.
const CHUNK_BYTES: usize = 256 << 10;

/// Bytes that were read and not yet used.
pub(super) struct Window<'r> {
    /// What is behind `end` is left over from earlier inputs: it was paid for.
    buf: Vec<u8>,
    pos: usize,
    end: usize,
    source: Option<Box<dyn BufRead + Send + 'r>>,
    /// How the input ended before its time.
    pub(super) damage: Option<(Reason, String)>,
}

impl<'r> Window<'r> {
    /// All of the input is here: the first `end` bytes.
    pub(super) fn whole(buf: Vec<u8>, end: usize) -> Self {
        Self { buf, pos: 0, end, source: None, damage: None }
    }

    /// The input is to be read.
    pub(super) fn stream(source: Box<dyn BufRead + Send + 'r>, mut buf: Vec<u8>) -> Self {
        buf.clear();
        Self { buf, pos: 0, end: 0, source: Some(source), damage: None }
    }

    /// The buffer back, unless one huge record had made it huge.
    pub(super) fn into_buf(self) -> Vec<u8> {
        if self.buf.capacity() <= KEPT_BYTES_MAX { self.buf } else { Vec::new() }
    }

    /// The bytes from the current position on.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buf[self.pos..self.end]
    }

    pub(super) fn advance(&mut self, n: usize) {
        self.pos += n;
    }

    /// Whether the input has nothing beyond what is here.
    pub(super) fn is_all(&self) -> bool {
        self.source.is_none()
    }

    /// Whether a record that does not end in here is too long.
    pub(super) fn is_full(&self) -> bool {
        self.rest().len() > RECORD_BYTES_MAX
    }

    /// Reads more, twice what is here so that scanning again stays cheap. False at the end of the input.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        let Some(source) = &mut self.source else { return Ok(false) };
        self.buf.truncate(self.end);
        self.buf.drain(..self.pos);
        self.pos = 0;
        let want = self.buf.len().clamp(CHUNK_BYTES, RECORD_BYTES_MAX);
        let mut got = 0;
        while got < want {
            let chunk = match source.fill_buf() {
                Ok([]) => {
                    self.source = None;
                    break;
                }
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let Some(damage) = error.get_ref().and_then(|it| it.downcast_ref::<Damage>()) else { return Err(error) };
                    self.damage = Some((damage.reason, damage.detail.clone()));
                    self.source = None;
                    break;
                }
            };
            let n = chunk.len().min(want - got);
            self.buf.extend_from_slice(&chunk[..n]);
            source.consume(n);
            got += n;
        }
        self.end = self.buf.len();
        Ok(got > 0)
    }

    /// Moves to the next byte that is not white space, or to the end. False when there was too much of it.
    pub(super) fn skip_space(&mut self) -> io::Result<bool> {
        let mut skipped = 0;
        loop {
            let n = self.rest().iter().take_while(|b| b.is_ascii_whitespace()).count();
            skipped += n;
            self.pos += n;
            if skipped > BETWEEN_TOKENS_BYTES_MAX {
                return Ok(false);
            }
            if self.pos < self.end || !self.fill()? {
                return Ok(true);
            }
        }
    }

    /// The byte at the current position; reads on where there is none.
    pub(super) fn byte(&mut self) -> io::Result<Option<u8>> {
        if self.rest().is_empty() {
            self.fill()?;
        }
        Ok(self.rest().first().copied())
    }
}

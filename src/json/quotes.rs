//! Where strings begin and end: all quotes of a stretch of bytes at once, sixteen bytes a step, ahead of the scan.
//!
//! Looking for each string's end by itself costs a wrongly guessed branch a string; here the lengths do not matter.

use super::scan::escape_end;
use super::text::LANES;
use wide::u8x16;

/// Bytes that are looked through at a time, a bit each.
const BLOCK: usize = 64;
/// Blocks that are looked through together: little is wasted behind a record's end.
const BLOCKS: usize = 4;

/// The quotes that delimit strings, from some offset on, as far as they were asked for.
#[derive(Debug, Default)]
pub(super) struct Quotes {
    at: Vec<u32>,
    next: usize,
    /// Backslashes that start an escape.
    escapes: Vec<u32>,
    next_escape: usize,
    /// How far the buffer was looked through.
    indexed: usize,
    /// The byte there is escaped by the one before.
    is_escaped: bool,
}

impl Quotes {
    /// Starts over at this offset, which is outside strings.
    pub(super) fn start(&mut self, at: usize) {
        self.at.clear();
        self.escapes.clear();
        (self.next, self.next_escape, self.indexed, self.is_escaped) = (0, 0, at, false);
    }

    /// The string whose opening quote is at `i`: its closing quote, and whether it has escapes. None: there is no
    /// such string, or the bytes end in it.
    #[inline]
    pub(super) fn string(&mut self, buf: &[u8], i: usize) -> Option<(usize, bool)> {
        while self.at.len() < self.next + 2 {
            self.more(buf)?;
        }
        if self.at[self.next] as usize != i {
            return None;
        }
        let end = self.at[self.next + 1];
        self.next += 2;
        let mut escaped = false;
        while self.escapes.get(self.next_escape).is_some_and(|it| *it < end) {
            self.next_escape += 1;
            escaped = true;
        }
        Some((end as usize, escaped))
    }

    /// Looks on. None: at the end of the bytes, or something is not as it must be in strings.
    fn more(&mut self, buf: &[u8]) -> Option<()> {
        self.at.drain(..self.next);
        self.escapes.drain(..self.next_escape);
        (self.next, self.next_escape) = (0, 0);
        if self.indexed >= buf.len() {
            return None;
        }
        for _ in 0..BLOCKS {
            let Some(rest) = buf.get(self.indexed..) else { break };
            if let Some(block) = rest.first_chunk::<BLOCK>() {
                self.block(buf, block)?;
            } else {
                // Filled up with what means nothing.
                let mut block = [b' '; BLOCK];
                block[..rest.len()].copy_from_slice(rest);
                self.block(buf, &block)?;
            }
            self.indexed += BLOCK;
        }
        Some(())
    }

    #[inline]
    fn block(&mut self, buf: &[u8], block: &[u8; BLOCK]) -> Option<()> {
        let (mut quotes, mut slashes, mut controls) = (0_u64, 0_u64, 0_u64);
        for (n, chunk) in block.as_chunks::<LANES>().0.iter().enumerate() {
            let lanes = u8x16::new(*chunk);
            let bits = |it: u8x16| u64::from(it.to_bitmask()) << (n * LANES);
            quotes |= bits(lanes.simd_eq(u8x16::splat(b'"')));
            slashes |= bits(lanes.simd_eq(u8x16::splat(b'\\')));
            controls |= bits(lanes.min(u8x16::splat(0x1f)).simd_eq(lanes));
        }
        let base = self.indexed as u32;
        if slashes != 0 || self.is_escaped {
            quotes &= !self.escaped(buf, slashes)?;
        }
        let is_in_string = self.at.len() & 1;
        while controls != 0 {
            let before = quotes & ((1 << controls.trailing_zeros()) - 1);
            if (is_in_string + before.count_ones() as usize) & 1 == 1 {
                return None;
            }
            controls &= controls - 1;
        }
        while quotes != 0 {
            self.at.push(base + quotes.trailing_zeros());
            quotes &= quotes - 1;
        }
        Some(())
    }

    /// A bit for each byte of the block that a backslash escapes. None: such an escape does not exist.
    #[cold]
    fn escaped(&mut self, buf: &[u8], mut slashes: u64) -> Option<u64> {
        let mut escaped = 0;
        if self.is_escaped {
            escaped = 1;
            slashes &= !1;
        }
        self.is_escaped = false;
        while slashes != 0 {
            let n = slashes.trailing_zeros();
            let at = self.indexed + n as usize;
            escape_end(buf, at + 1).ok()?;
            self.escapes.push(at as u32);
            if n as usize == BLOCK - 1 {
                self.is_escaped = true;
                slashes = 0;
            } else {
                escaped |= 1 << (n + 1);
                slashes &= !(3 << n);
            }
        }
        Some(escaped)
    }
}

//! Whole lines of a file that may still grow, in pieces that fit one delivery.
//!
//! The trap is a file that is cut and written anew under its reader (copytruncate), and is longer than before by the time
//! it is read next. So what was read counts only if, afterwards, the file still begins as it did and still has the same
//! bytes right before the place where reading stopped. Memory: one piece, or one line of [`LINE_BYTES_MAX`].

use super::position::{Head, Mark, Position, TAIL_BYTES};
use crate::sources::{EXCERPT_BYTES, LINE_BYTES_MAX, lines};
use bytes::Bytes;
use std::fs::File;
use std::io::{self, BufRead};
use std::os::unix::fs::FileExt;

/// Bytes of one delivery, about: less than a batch of the pipeline, so that it shares a commit with others.
pub(super) const PIECE_BYTES: usize = 1_000_000;
/// Lines of one delivery, at most; and events of one request.
pub(super) const PIECE_LINES_MAX: usize = 400;
/// How much is read at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Where the bytes come from.
pub(super) enum From {
    /// A file, at any offset.
    Plain(File),
    /// What a gzip file holds, from its beginning on.
    Inflated(Box<dyn BufRead + Send>),
}

/// What is next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Whole lines. `is_full`: there may be more at once.
    Lines { bytes: Bytes, lines: u64, is_full: bool },
    /// A line longer than [`LINE_BYTES_MAX`], which nobody has held.
    TooLong { bytes: u64, excerpt: Vec<u8> },
    /// No whole line yet.
    Nothing,
    /// The file is not what it was: what was read of it and not given is void.
    Changed,
}

/// Whether a file has the content that a position is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// It has, and more may follow.
    There,
    /// It has less than was taken.
    Short,
    /// Its content is another.
    Other,
}

/// Reads a file from an offset on.
pub(super) struct LineReader {
    from: From,
    /// How the gzip stream ended before its time.
    pub(super) damage: Option<io::Error>,
    /// Everything before it was given.
    offset: u64,
    /// What was read behind the offset. Of a line that is too long, its beginning alone.
    buf: Vec<u8>,
    /// There is no line end in `buf` before this.
    searched: usize,
    /// Bytes of a line that is too long, so far; 0: it is not.
    too_long: u64,
    /// Where reading goes on.
    at: u64,
    head: Head,
    /// Bytes right before `offset`, and right before `at`.
    tail: Vec<u8>,
    recent: Vec<u8>,
}

impl std::fmt::Debug for LineReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineReader").field("offset", &self.offset).field("at", &self.at).finish_non_exhaustive()
    }
}

impl LineReader {
    /// At the beginning.
    pub(super) fn new(from: From) -> Self {
        let (buf, tail, recent) = (Vec::new(), Vec::new(), Vec::new());
        Self { from, damage: None, offset: 0, buf, searched: 0, too_long: 0, at: 0, head: Head::default(), tail, recent }
    }

    /// At the end of a gzip file of which nothing is left to read.
    pub(super) fn ended(damage: Option<io::Error>) -> Self {
        Self { damage, ..Self::new(From::Inflated(Box::new(io::empty()))) }
    }

    /// Moves to a position, from the beginning. Unless it is there, the reader is of no use any more.
    pub(super) fn go_to(&mut self, position: &Position) -> io::Result<Found> {
        match &mut self.from {
            From::Plain(file) => {
                if file.metadata()?.len() < position.offset {
                    return Ok(Found::Short);
                }
                self.head = head_of(file, position.offset)?;
                let from = position.offset.saturating_sub(u64::from(position.tail.bytes));
                self.tail = read_up_to(file, from, position.tail.bytes as usize)?;
            }
            From::Inflated(reader) => {
                let mut left = position.offset;
                while left > 0 {
                    let chunk = match reader.fill_buf() {
                        Ok([]) => return Ok(Found::Short),
                        Ok(chunk) => chunk,
                        Err(error) if is_damage(&error) => {
                            self.damage = Some(error);
                            return Ok(Found::Short);
                        }
                        Err(error) => return Err(error),
                    };
                    let n = chunk.len().min(left as usize);
                    self.head.extend(position.offset - left, &chunk[..n]);
                    keep_last(&mut self.tail, &chunk[..n]);
                    reader.consume(n);
                    left -= n as u64;
                }
            }
        }
        (self.offset, self.at) = (position.offset, position.offset);
        self.recent.clone_from(&self.tail);
        let is_it = position.head.begins(&self.head.bytes) && position.tail.ends(&self.tail);
        Ok(if is_it { Found::There } else { Found::Other })
    }

    /// What is next. It counts as given: whoever cannot make it durable drops the reader. `is_last`: nothing will follow
    /// what is there, so that its rest is a line too.
    pub(super) fn next(&mut self, is_last: bool) -> io::Result<Step> {
        let mut is_end = false;
        let mut is_whole = false;
        while !is_end && !is_whole {
            is_whole = match self.line_end() {
                Some(_) => self.too_long > 0 || self.buf.len() >= PIECE_BYTES,
                None => false,
            };
            if !is_whole {
                is_end = !self.read()?;
            }
        }
        if !self.is_same()? {
            return Ok(Step::Changed);
        }
        Ok(if self.too_long > 0 { self.too_long_step(is_whole || is_last) } else { self.step(is_last && is_end) })
    }

    /// Up to where it was given, what it begins with, and what is before that place.
    pub(super) fn place(&self) -> (u64, Mark, Mark) {
        (self.offset, Mark::of(self.head.before(self.offset)), Mark::of(&self.tail))
    }

    /// Whether the file still is what was read of it.
    pub(super) fn is_same(&self) -> io::Result<bool> {
        let From::Plain(file) = &self.from else { return Ok(true) };
        let from = self.at - self.recent.len() as u64;
        let head = &self.head;
        Ok(read_up_to(file, head.at, head.bytes.len())? == head.bytes && read_up_to(file, from, self.recent.len())? == self.recent)
    }

    /// The end of the first line in the buffer; of one that is too long, whether it was reached.
    fn line_end(&mut self) -> Option<usize> {
        let found = memchr::memchr(b'\n', &self.buf[self.searched..]).map(|at| self.searched + at);
        self.searched = found.unwrap_or(self.buf.len());
        found
    }

    /// Reads on. False at the end of what is there.
    fn read(&mut self) -> io::Result<bool> {
        let mut chunk = match &mut self.from {
            From::Plain(file) => read_up_to(file, self.at, CHUNK_BYTES)?,
            From::Inflated(reader) => match reader.fill_buf() {
                Ok(there) => there[..there.len().min(CHUNK_BYTES)].to_vec(),
                Err(error) if is_damage(&error) => {
                    self.damage = Some(error);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            },
        };
        if self.too_long > 0 {
            // Not beyond the line: what is behind it is read next.
            chunk.truncate(memchr::memchr(b'\n', &chunk).map_or(chunk.len(), |at| at + 1));
        }
        if let From::Inflated(reader) = &mut self.from {
            reader.consume(chunk.len());
        }
        self.head.extend(self.at, &chunk);
        self.at += chunk.len() as u64;
        keep_last(&mut self.recent, &chunk);
        if self.too_long > 0 {
            self.too_long += chunk.len() as u64;
            if chunk.ends_with(b"\n") {
                self.buf.push(b'\n');
            }
        } else {
            self.buf.extend_from_slice(&chunk);
            if self.line_end().is_none() {
                self.let_go();
            }
        }
        Ok(!chunk.is_empty())
    }

    /// A hole where a line should begin is passed over; a line past the limit is not held.
    fn let_go(&mut self) {
        if self.buf.len() >= CHUNK_BYTES && self.buf.iter().all(|byte| *byte == 0) {
            self.offset += self.buf.len() as u64;
            keep_last(&mut self.tail, &self.buf);
            self.buf.clear();
            self.searched = 0;
        } else if self.buf.len() > LINE_BYTES_MAX {
            self.too_long = self.buf.len() as u64;
            self.buf.truncate(EXCERPT_BYTES);
            self.buf.shrink_to(PIECE_BYTES);
            self.searched = self.buf.len();
        }
    }

    fn too_long_step(&mut self, is_whole: bool) -> Step {
        if !is_whole {
            return Step::Nothing;
        }
        let mut excerpt = std::mem::take(&mut self.buf);
        excerpt.truncate(EXCERPT_BYTES);
        let bytes = std::mem::take(&mut self.too_long);
        self.offset += bytes;
        self.searched = 0;
        self.tail.clone_from(&self.recent);
        Step::TooLong { bytes, excerpt }
    }

    fn step(&mut self, is_last: bool) -> Step {
        let (mut end, mut n) = (0, 0);
        for at in memchr::memchr_iter(b'\n', &self.buf) {
            if n == PIECE_LINES_MAX || end > 0 && at >= PIECE_BYTES {
                break;
            }
            (end, n) = (at + 1, n + 1);
        }
        // A rest without line end is the last line, if it has room here.
        if is_last && n < PIECE_LINES_MAX && memchr::memchr(b'\n', &self.buf[end..]).is_none() {
            end = self.buf.len();
        }
        if end == 0 {
            return Step::Nothing;
        }
        let rest = self.buf.split_off(end);
        let bytes = Bytes::from(std::mem::replace(&mut self.buf, rest));
        self.offset += end as u64;
        keep_last(&mut self.tail, &bytes);
        self.searched = 0;
        let is_full = n == PIECE_LINES_MAX || bytes.len() + self.buf.len() >= PIECE_BYTES;
        Step::Lines { lines: lines(&bytes).count() as u64, bytes, is_full }
    }
}

/// Whether it is the bytes that are wrong, not the disk.
pub(super) fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData)
}

/// The beginning of a file, no further than an offset.
pub(super) fn head_of(file: &File, end: u64) -> io::Result<Head> {
    let mut head = Head::default();
    let mut at = 0;
    while !head.is_full() && at < end {
        let chunk = read_up_to(file, at, CHUNK_BYTES.min((end - at) as usize))?;
        if chunk.is_empty() {
            break;
        }
        head.extend(at, &chunk);
        at += chunk.len() as u64;
    }
    Ok(head)
}

/// Adds bytes and keeps the last [`TAIL_BYTES`].
fn keep_last(tail: &mut Vec<u8>, bytes: &[u8]) {
    tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
    tail.drain(..tail.len().saturating_sub(TAIL_BYTES));
}

/// Bytes at an offset: fewer at the end of the file.
pub(super) fn read_up_to(file: &File, at: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut n = 0;
    while n < length {
        match file.read_at(&mut bytes[n..], at + n as u64) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(n);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    struct Log {
        _folder: tempfile::TempDir,
        path: std::path::PathBuf,
    }

    impl Log {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("audit.log");
            std::fs::write(&path, "").unwrap();
            Self { _folder: folder, path }
        }

        fn add(&self, bytes: impl AsRef<[u8]>) {
            File::options().append(true).open(&self.path).unwrap().write_all(bytes.as_ref()).unwrap();
        }

        fn reader(&self) -> LineReader {
            LineReader::new(From::Plain(File::open(&self.path).unwrap()))
        }
    }

    fn text(step: Step) -> String {
        match step {
            Step::Lines { bytes, .. } => String::from_utf8(bytes.to_vec()).unwrap(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn half_a_line_waits_for_its_end_unless_nothing_follows() {
        let log = Log::new();
        let mut reader = log.reader();
        assert_eq!(reader.next(false).unwrap(), Step::Nothing);
        log.add("one\ntw");
        assert_eq!(text(reader.next(false).unwrap()), "one\n");
        assert_eq!(reader.place().0, 4);
        assert_eq!(reader.next(false).unwrap(), Step::Nothing);
        log.add("o\n");
        assert_eq!(text(reader.next(false).unwrap()), "two\n");
        log.add("rest");
        assert_eq!(reader.next(false).unwrap(), Step::Nothing);
        assert_eq!(text(reader.next(true).unwrap()), "rest");
        assert_eq!(reader.next(true).unwrap(), Step::Nothing);
    }

    #[test]
    fn pieces_have_so_many_lines_and_bytes_and_no_more() {
        let log = Log::new();
        log.add("x\n".repeat(PIECE_LINES_MAX + 1));
        let mut reader = log.reader();
        let Step::Lines { lines, is_full: true, .. } = reader.next(true).unwrap() else { panic!("not full") };
        assert_eq!(lines, PIECE_LINES_MAX as u64);
        assert_eq!(text(reader.next(true).unwrap()), "x\n");
        let line = format!("{}\n", "y".repeat(PIECE_BYTES / 2 - 1));
        log.add(line.repeat(3));
        for expected in [2, 1] {
            let Step::Lines { lines, .. } = reader.next(false).unwrap() else { panic!("no lines") };
            assert_eq!(lines, expected);
        }
        assert_eq!(reader.next(false).unwrap(), Step::Nothing);
    }

    #[test]
    fn a_line_past_the_limit_is_not_held_and_its_neighbours_come() {
        for (length, is_too_long) in [(LINE_BYTES_MAX, false), (LINE_BYTES_MAX + 2 * CHUNK_BYTES, true)] {
            let log = Log::new();
            log.add(b"before\n");
            log.add(vec![b'x'; length]);
            let mut reader = log.reader();
            assert_eq!(text(reader.next(false).unwrap()), "before\n");
            assert_eq!(reader.next(false).unwrap(), Step::Nothing);
            assert_eq!(reader.buf.len() <= EXCERPT_BYTES, is_too_long);
            log.add(b"\nafter\n");
            match reader.next(false).unwrap() {
                Step::TooLong { bytes, excerpt } => {
                    assert!(is_too_long);
                    assert_eq!((bytes, excerpt.len()), (length as u64 + 1, EXCERPT_BYTES));
                }
                Step::Lines { bytes, .. } => assert_eq!((is_too_long, bytes.len()), (false, length + 1)),
                other => panic!("{other:?}"),
            }
            assert_eq!(text(reader.next(false).unwrap()), "after\n");
            assert_eq!(reader.next(false).unwrap(), Step::Nothing);
            assert_eq!(reader.place().0, length as u64 + 14);
        }
    }

    #[test]
    fn a_file_that_was_written_anew_is_never_taken_for_what_it_was() {
        let log = Log::new();
        log.add("first generation\nmore of it\nhal");
        let mut reader = log.reader();
        assert_eq!(text(reader.next(false).unwrap()), "first generation\nmore of it\n");
        assert_eq!(reader.next(false).unwrap(), Step::Nothing);
        // Longer than before; then with the same beginning.
        std::fs::write(&log.path, "second generation, and it is longer\nthan the first\n").unwrap();
        assert_eq!(reader.next(false).unwrap(), Step::Changed);
        std::fs::write(&log.path, "first generation\nmore of it\nfull line\n").unwrap();
        assert_eq!(reader.next(false).unwrap(), Step::Changed);
    }

    #[test]
    fn holes_are_no_lines() {
        let log = Log::new();
        let file = File::options().write(true).open(&log.path).unwrap();
        let hole = LINE_BYTES_MAX as u64 + 5;
        file.write_all_at(b"behind the hole\n", hole).unwrap();
        let mut reader = log.reader();
        let Step::Lines { lines: 1, bytes, .. } = reader.next(false).unwrap() else { panic!("another step") };
        assert_eq!(lines(&bytes).next(), Some(&b"behind the hole"[..]));
        assert_eq!(lines(b"cut\0\0\0whole\n \n\n").collect::<Vec<_>>(), [&b"cut"[..], b"whole"]);
    }

    #[test]
    fn reading_goes_on_where_it_stopped_plain_or_inflated() {
        let log = Log::new();
        let content = (0..500).map(|n| "z".repeat(n % 7 + 1)).collect::<Vec<_>>().join("\n") + "\n";
        log.add(&content);
        let mut reader = log.reader();
        let first = text(reader.next(false).unwrap());
        let (offset, head, tail) = reader.place();
        let position = Position { offset, head, tail, ..Position::default() };
        let inflated = || LineReader::new(From::Inflated(Box::new(io::Cursor::new(content.clone().into_bytes()))));
        for mut reader in [log.reader(), inflated()] {
            assert_eq!(reader.go_to(&position).unwrap(), Found::There);
            assert_eq!(first.clone() + &text(reader.next(false).unwrap()), content);
        }
        let other = Position { offset: offset - 1, ..position.clone() };
        assert_eq!(log.reader().go_to(&other).unwrap(), Found::Other);
        assert_eq!(inflated().go_to(&other).unwrap(), Found::Other);
        for mut reader in [log.reader(), inflated()] {
            assert_eq!(reader.go_to(&Position { offset: 1 << 40, ..position.clone() }).unwrap(), Found::Short);
        }
    }
}

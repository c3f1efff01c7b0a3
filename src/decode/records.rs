//! The records of one input, one at a time, in whatever form they are there: a `Records` object with its keys in
//! any order, an array, one record, records back to back, lines.

use super::gunzip::{self, is_gzip};
use super::resync::{Skipper, element_end, is_record, next_record, top_end};
use super::window::{RECORD_BYTES_MAX, Window};
use super::{EXCERPT_BYTES_MAX, Reason, Reject};
use crate::json::{Expected, KeySet, Kind, ScanError, Scanner, Tape};
use std::io::{self, Read};

/// How far the beginning of the input is looked through for a first `{` or `[` before it counts as not JSON.
const PREAMBLE_BYTES_MAX: usize = 64 << 10;

/// One record: valid JSON, an object.
#[derive(Debug)]
pub struct Record<'b> {
    /// Position among the input's records, from 0.
    pub index: u64,
    /// Its text as it came.
    pub text: &'b str,
    /// Its nodes; offsets count from the start of `text`.
    pub tape: &'b Tape,
}

/// What comes out of an input.
#[derive(Debug)]
pub enum Item<'b> {
    /// A record.
    Record(Record<'b>),
    /// Bytes that are not one.
    Reject(Reject),
    /// A digest file: no log, nothing to store.
    Digest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between values of the input itself.
    Top,
    /// In an array of records. `depth` brackets outside it are open, which is 1 inside a `Records` object.
    Array {
        is_first: bool,
        depth: usize,
    },
    Done,
}

/// What a look at the window found, as offsets from its position.
enum Found {
    Record { end: usize },
    Reject { reason: Reason, detail: String, len: usize, skip: usize },
    Digest { end: usize },
}

/// Reads the records of one input.
pub struct Records<'r> {
    window: Window<'r>,
    whole_bytes_max: usize,
    scanner: Scanner,
    tape: Tape,
    state: State,
    index: u64,
    taken: usize,
}

impl std::fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("state", &self.state).field("index", &self.index).finish_non_exhaustive()
    }
}

/// Working memory that goes from one input to the next.
#[derive(Debug, Default)]
pub struct Buffers {
    whole_bytes_max: usize,
    scanner: Scanner,
    tape: Tape,
    window: Vec<u8>,
}

impl Buffers {
    /// Buffers whose scanner looks out for these keys.
    pub fn new(watch: KeySet) -> Self {
        Self { whole_bytes_max: gunzip::WHOLE_BYTES_MAX, scanner: Scanner::new(watch), ..Self::default() }
    }

    /// Another limit than [`gunzip::WHOLE_BYTES_MAX`] for what is inflated in one piece.
    #[must_use]
    pub fn with_whole_bytes_max(self, whole_bytes_max: usize) -> Self {
        Self { whole_bytes_max, ..self }
    }
}

impl<'r> Records<'r> {
    /// The records of an object that is in memory, gzip or not.
    pub fn of_bytes(bytes: &'r [u8], mut buffers: Buffers) -> io::Result<Self> {
        if is_gzip(bytes) {
            if let Some(end) = gunzip::whole(bytes, buffers.whole_bytes_max, &mut buffers.window) {
                let whole = std::mem::take(&mut buffers.window);
                return Ok(Self::new(Window::whole(whole, end), buffers));
            }
        }
        Self::of_reader(bytes, buffers)
    }

    /// What is in one line of many. Never gzip: the line is what was between two line ends, whatever it starts with.
    pub fn of_line(line: &'r [u8], mut buffers: Buffers) -> Self {
        let mut window = std::mem::take(&mut buffers.window);
        window.clear();
        window.extend_from_slice(line);
        Self::new(Window::whole(window, line.len()), buffers)
    }

    /// The records of a stream, gzip or not.
    pub fn of_reader(input: impl Read + Send + 'r, mut buffers: Buffers) -> io::Result<Self> {
        let window = Window::stream(gunzip::stream(input)?, std::mem::take(&mut buffers.window));
        Ok(Self::new(window, buffers))
    }

    fn new(window: Window<'r>, buffers: Buffers) -> Self {
        Self {
            window,
            whole_bytes_max: buffers.whole_bytes_max,
            scanner: buffers.scanner,
            tape: buffers.tape,
            state: State::Top,
            index: 0,
            taken: 0,
        }
    }

    /// The working memory back.
    pub fn into_buffers(self) -> Buffers {
        Buffers { whole_bytes_max: self.whole_bytes_max, scanner: self.scanner, tape: self.tape, window: self.window.into_buf() }
    }

    /// The next record or reject; none at the end. An error is the reader's, not the bytes'.
    #[expect(clippy::should_implement_trait, reason = "what it lends lives until the next call; an Iterator cannot say that")]
    pub fn next(&mut self) -> io::Result<Option<Item<'_>>> {
        self.window.advance(std::mem::take(&mut self.taken));
        let Some(found) = self.find()? else { return Ok(None) };
        let index = self.index;
        match found {
            Found::Record { end } => {
                self.index += 1;
                self.taken = end;
                // The scan does not look at UTF-8; this does, once a record.
                match simdutf8::basic::from_utf8(&self.window.rest()[..end]) {
                    Ok(text) => Ok(Some(Item::Record(Record { index, text, tape: &self.tape }))),
                    Err(_) => Ok(Some(Item::Reject(self.reject(Reason::InvalidUtf8, "bytes that are not UTF-8".to_owned(), end)))),
                }
            }
            Found::Reject { reason, detail, len, skip } => {
                let reject = self.reject(reason, detail, len);
                self.index += 1;
                self.taken = skip;
                Ok(Some(Item::Reject(Reject { index, ..reject })))
            }
            Found::Digest { end } => {
                self.taken = end;
                Ok(Some(Item::Digest))
            }
        }
    }

    fn reject(&self, reason: Reason, detail: String, len: usize) -> Reject {
        let rest = self.window.rest();
        let excerpt = rest[..len.min(rest.len()).min(EXCERPT_BYTES_MAX)].to_vec();
        Reject { index: self.index.saturating_sub(1), reason, detail, bytes: len as u64, excerpt }
    }

    fn find(&mut self) -> io::Result<Option<Found>> {
        loop {
            if self.state == State::Done {
                return Ok(self.ending());
            }
            if !self.window.skip_space()? {
                self.state = State::Done;
                return Ok(Some(reject(Reason::TooMuchSpace, "white space without end", 0, 0)));
            }
            let byte = self.window.byte()?;
            match (self.state, byte) {
                (State::Top, None) => self.state = State::Done,
                (State::Top, Some(b'[')) => {
                    self.window.advance(1);
                    self.state = State::Array { is_first: true, depth: 0 };
                }
                (State::Top, Some(b'{')) => {
                    if let Some(found) = self.top_object()? {
                        return Ok(Some(found));
                    }
                }
                (State::Top, Some(_)) => return self.top_garbage().map(Some),
                (State::Array { .. }, None) => return Ok(Some(self.cut(0))),
                (State::Array { depth, .. }, Some(b']')) => {
                    self.window.advance(1);
                    self.close(depth)?;
                }
                (State::Array { is_first: false, depth }, Some(b',')) => {
                    self.window.advance(1);
                    self.state = State::Array { is_first: true, depth };
                }
                (State::Array { is_first: true, depth }, Some(_)) => return self.element(depth).map(Some),
                (State::Array { depth, .. }, Some(_)) => return self.bad(depth, "`,` or `]`", 0).map(Some),
                (State::Done, _) => {}
            }
        }
    }

    /// After everything: what was wrong with the stream itself, once.
    fn ending(&mut self) -> Option<Found> {
        let (reason, detail) = self.window.damage.take()?;
        Some(reject(reason, detail, 0, 0))
    }

    /// The input ends inside a record or an array; the damage that made it end says more than the JSON does.
    fn cut(&mut self, len: usize) -> Found {
        self.state = State::Done;
        let (reason, detail) = self.window.damage.take().unwrap_or((Reason::Cut, "the JSON ends in the middle".to_owned()));
        reject(reason, detail, len, len)
    }

    /// Scans at the current position, reading on until the value is whole or too long.
    fn scan(&mut self) -> io::Result<Result<usize, ScanError>> {
        loop {
            match self.scanner.scan(self.window.rest(), 0, &mut self.tape) {
                Err(ScanError::Incomplete) if !self.window.is_full() && self.window.fill()? => {}
                Ok(end) if end > RECORD_BYTES_MAX => return Ok(Err(ScanError::Incomplete)),
                result => return Ok(result),
            }
        }
    }

    /// An object of the input itself: what holds the records, or one of them. None: its array was entered.
    fn top_object(&mut self) -> io::Result<Option<Found>> {
        if self.window.rest().len() < PREAMBLE_BYTES_MAX && !self.window.is_all() {
            self.window.fill()?;
        }
        let quick = quick_container(self.window.rest());
        if let Some(inside) = quick {
            self.enter(inside);
            return Ok(None);
        }
        let end = match self.scanner.scan(self.window.rest(), 0, &mut self.tape) {
            Ok(end) if end <= RECORD_BYTES_MAX => end,
            _ => {
                if let Some(inside) = self.walk_to_records()? {
                    self.enter(inside);
                    return Ok(None);
                }
                match self.scan()? {
                    Ok(end) => end,
                    Err(error) => return self.unscanned(error, None).map(Some),
                }
            }
        };
        let Ok(text) = simdutf8::basic::from_utf8(&self.window.rest()[..end]) else {
            // Bytes that are not text: in one record of many, or in the only one.
            if let Some(inside) = self.walk_to_records()? {
                self.enter(inside);
                return Ok(None);
            }
            return Ok(Some(reject(Reason::InvalidUtf8, "bytes that are not UTF-8", end, end)));
        };
        if let Some(at) = self.tape.member(0, "Records", text) {
            let node = self.tape.nodes[at];
            if node.kind == Kind::Array {
                self.enter(node.start as usize + 1);
                return Ok(None);
            }
            return Ok(Some(reject(Reason::RecordsNotArray, "`Records` is not an array", end, end)));
        }
        if let Some(inside) = event_list(&self.tape, text) {
            self.enter(inside);
            return Ok(None);
        }
        if self.tape.member(0, "digestS3Object", text).is_some() {
            return Ok(Some(Found::Digest { end }));
        }
        if is_record(&self.tape, text) {
            return Ok(Some(Found::Record { end }));
        }
        Ok(Some(reject(
            Reason::NotARecord,
            "an object with none of the members of a CloudTrail record, an audit event or a watched object",
            end,
            end,
        )))
    }

    fn enter(&mut self, inside: usize) {
        self.window.advance(inside);
        self.state = State::Array { is_first: true, depth: 1 };
    }

    /// Member by member to `"Records": [`, for objects too long to scan whole or broken further on.
    fn walk_to_records(&mut self) -> io::Result<Option<usize>> {
        let mut tape = Tape::default();
        let mut at = 1;
        let mut is_list = false;
        loop {
            let step = self.member_end(at, &mut tape, &mut is_list);
            match step {
                Ok(Member::Records { inside }) => return Ok(Some(inside)),
                Ok(Member::Other { next }) => at = next,
                Err(ScanError::Incomplete) if !self.window.is_full() && self.window.fill()? => {}
                Err(_) => return Ok(None),
            }
        }
    }

    fn member_end(&mut self, at: usize, tape: &mut Tape, is_list: &mut bool) -> Result<Member, ScanError> {
        let rest = self.window.rest();
        let key_end = self.scanner.scan(rest, at, tape)?;
        let key = tape.nodes.first().map(|node| &rest[node.start as usize..node.end as usize]);
        let colon = next_token(rest, key_end)?;
        if rest[colon] != b':' {
            return Err(ScanError::Bad { at: colon as u32, expected: Expected::Colon });
        }
        let value = next_token(rest, colon + 1)?;
        let holds_records = key == Some(b"\"Records\"") || *is_list && key == Some(b"\"items\"");
        if holds_records && rest[value] == b'[' {
            return Ok(Member::Records { inside: value + 1 });
        }
        // Servers write the kind of a list before its items.
        *is_list |= key == Some(b"\"kind\"") && rest[value..].starts_with(EVENT_LIST.as_bytes());
        let end = self.scanner.scan(rest, value, tape)?;
        let comma = next_token(rest, end)?;
        if rest[comma] != b',' {
            return Err(ScanError::Bad { at: comma as u32, expected: Expected::Comma });
        }
        Ok(Member::Other { next: comma + 1 })
    }

    /// One element of an array of records.
    fn element(&mut self, depth: usize) -> io::Result<Found> {
        self.state = State::Array { is_first: false, depth };
        match self.scan()? {
            Ok(end) if self.tape.nodes[0].kind == Kind::Object => Ok(Found::Record { end }),
            Ok(end) => Ok(reject(Reason::NotAnObject, "a record that is not an object", end, end)),
            Err(error) => self.unscanned(error, Some(depth)),
        }
    }

    /// What did not scan, in an array of records (then `depth` is given) or at the top.
    fn unscanned(&mut self, error: ScanError, depth: Option<usize>) -> io::Result<Found> {
        match error {
            ScanError::Incomplete if self.window.is_full() => self.too_large(depth),
            ScanError::Incomplete => {
                let len = self.window.rest().len();
                Ok(self.cut(len))
            }
            ScanError::TooDeep => self.resync(Reason::TooDeep, "nests too deeply".to_owned(), depth),
            ScanError::Bad { at, expected } => {
                self.resync(Reason::BadRecord, format!("expected {expected} at byte {at} of the record"), depth)
            }
        }
    }

    fn bad(&mut self, depth: usize, expected: &str, at: usize) -> io::Result<Found> {
        self.resync(Reason::BadRecord, format!("expected {expected} at byte {at} of the record"), Some(depth))
    }

    /// Skips a bad record and goes on with its neighbour.
    fn resync(&mut self, reason: Reason, detail: String, depth: Option<usize>) -> io::Result<Found> {
        loop {
            let rest = self.window.rest();
            let lexical = match depth {
                Some(_) => element_end(rest),
                None => top_end(rest),
            };
            if let Some(end) = lexical {
                if let Some(depth) = depth {
                    self.state = State::Array { is_first: false, depth };
                }
                return Ok(reject(reason, detail, end, end));
            }
            if let Some(start) = next_record(&mut self.scanner, rest) {
                if let Some(depth) = depth {
                    self.state = State::Array { is_first: true, depth };
                }
                return Ok(reject(reason, detail, start, start));
            }
            if self.window.is_full() || !self.window.fill()? {
                let len = self.window.rest().len();
                self.state = State::Done;
                return Ok(reject(reason, detail, len, len));
            }
        }
    }

    /// A record past the limit: followed by its brackets to its end, over as many windows as it takes.
    fn too_large(&mut self, depth: Option<usize>) -> io::Result<Found> {
        let mut skipper = Skipper::default();
        let head = self.window.rest()[..EXCERPT_BYTES_MAX].to_vec();
        let mut len = 0;
        loop {
            let rest = self.window.rest();
            let end = skipper.feed(rest);
            let step = end.unwrap_or(rest.len());
            len += step;
            self.window.advance(step);
            if end.is_some() || !self.window.fill()? {
                break;
            }
        }
        if let Some(depth) = depth {
            self.state = State::Array { is_first: false, depth };
        }
        let detail = format!("{len} bytes, at most {RECORD_BYTES_MAX}; begins {}", String::from_utf8_lossy(&head[..head.len().min(80)]));
        Ok(Found::Reject { reason: Reason::RecordTooLarge, detail, len, skip: 0 })
    }

    /// Bytes at the top that start no object or array: a bad line before good ones, or no JSON at all.
    fn top_garbage(&mut self) -> io::Result<Found> {
        if self.window.rest().len() < PREAMBLE_BYTES_MAX && !self.window.is_all() {
            self.window.fill()?;
        }
        let rest = self.window.rest();
        let near = &rest[..rest.len().min(PREAMBLE_BYTES_MAX)];
        let line = memchr::memchr_iter(b'\n', near)
            .map(|at| at + 1)
            .find(|start| near[*start..].iter().find(|b| !b.is_ascii_whitespace()).is_some_and(|b| matches!(b, b'{' | b'[')));
        if let Some(len) = line {
            return Ok(reject(Reason::BadRecord, "a line that is not JSON", len, len));
        }
        self.state = State::Done;
        let len = rest.len();
        let reason = if self.index == 0 { Reason::NotJson } else { Reason::BadRecord };
        if let Some((reason, detail)) = self.window.damage.take() {
            return Ok(reject(reason, detail, len, len));
        }
        Ok(reject(reason, "neither `{` nor `[` where a value should start", len, len))
    }

    /// Behind the array: the rest of the object that holds it.
    fn close(&mut self, depth: usize) -> io::Result<()> {
        self.state = State::Top;
        if depth == 0 {
            return Ok(());
        }
        let mut skipper = Skipper::inside(depth);
        loop {
            let rest = self.window.rest();
            let end = skipper.feed(rest);
            let step = end.unwrap_or(rest.len());
            self.window.advance(step);
            if end.is_some() {
                return Ok(());
            }
            if !self.window.fill()? {
                // All records were there; a missing last bracket is a cut all the same.
                let damage = self.window.damage.take();
                self.window.damage = Some(damage.unwrap_or((Reason::Cut, "the JSON ends before its last bracket".to_owned())));
                self.state = State::Done;
                return Ok(());
            }
        }
    }
}

/// The kind of a list of audit events, as JSON spells it.
const EVENT_LIST: &str = "\"EventList\"";

/// Behind the bracket of an `EventList`'s items.
fn event_list(tape: &Tape, text: &str) -> Option<usize> {
    let is_list = tape.member(0, "kind", text).is_some_and(|at| tape.spelled(at, text) == EVENT_LIST);
    let items = tape.member(0, "items", text).filter(|at| is_list && tape.nodes[*at].kind == Kind::Array)?;
    Some(tape.nodes[items].start as usize + 1)
}

enum Member {
    Records { inside: usize },
    Other { next: usize },
}

fn reject(reason: Reason, detail: impl Into<String>, len: usize, skip: usize) -> Found {
    Found::Reject { reason, detail: detail.into(), len, skip }
}

fn next_token(rest: &[u8], at: usize) -> Result<usize, ScanError> {
    let space = rest[at..].iter().take_while(|b| b.is_ascii_whitespace()).count();
    if at + space < rest.len() { Ok(at + space) } else { Err(ScanError::Incomplete) }
}

/// `{"Records":[`, as every `CloudTrail` object starts.
fn quick_container(rest: &[u8]) -> Option<usize> {
    let mut at = 0;
    for token in [&b"{"[..], b"\"Records\"", b":", b"["] {
        at += rest[at..].iter().take_while(|b| b.is_ascii_whitespace()).count();
        if !rest[at..].starts_with(token) {
            return None;
        }
        at += token.len();
    }
    Some(at)
}

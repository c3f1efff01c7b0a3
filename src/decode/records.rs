//! The records of one input, one at a time, in whatever form they are there: a `Records` object with its keys in
//! any order, log events of a subscription, an array, one record, records back to back, lines.

use super::container::{self, Inside};
use super::gunzip::{self, is_gzip};
use super::record::{Around, Item, Record};
use super::resync::{Skipper, element_end, is_record, line_before_object, next_record, top_end};
use super::salvage::Salvaged;
use super::subscription::{self, Messages, Payload, Taken};
use super::window::{RECORD_BYTES_MAX, Window};
use super::{EXCERPT_BYTES_MAX, Reason, Reject};
use crate::json::{KeySet, Kind, ScanError, Scanner, Tape};
use std::io::{self, Read};

/// How far the beginning of the input is looked through for a first `{` or `[` before it counts as not JSON.
const PREAMBLE_BYTES_MAX: usize = 64 << 10;

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
    Record {
        end: usize,
    },
    /// A record that is not here as it is: the message of a log event, or what was salvaged.
    Inner {
        end: usize,
        is_cut: bool,
    },
    Reject {
        reason: Reason,
        detail: String,
        len: usize,
        skip: usize,
    },
    Skipped {
        end: usize,
        why: &'static str,
    },
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
    /// All of the input is one line with its end.
    is_line: bool,
    /// The array's elements are log events.
    messages: Option<Box<Messages>>,
    salvaged: Salvaged,
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
    /// `is_ended`: its end was there, so that no more of it will come.
    pub fn of_line(line: &'r [u8], is_ended: bool, mut buffers: Buffers) -> Self {
        let mut window = std::mem::take(&mut buffers.window);
        window.clear();
        window.extend_from_slice(line);
        Self { is_line: is_ended, ..Self::new(Window::whole(window, line.len()), buffers) }
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
            is_line: false,
            messages: None,
            salvaged: Salvaged::default(),
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
                    Ok(text) => Ok(Some(Item::Record(Record { index, text, tape: &self.tape, around: Around::default() }))),
                    Err(_) => Ok(Some(Item::Reject(self.reject(Reason::InvalidUtf8, "bytes that are not UTF-8".to_owned(), end)))),
                }
            }
            Found::Reject { reason, detail, len, skip } => {
                let reject = self.reject(reason, detail, len);
                self.index += 1;
                self.taken = skip;
                Ok(Some(Item::Reject(Reject { index, ..reject })))
            }
            Found::Inner { end, is_cut } => {
                self.index += 1;
                self.taken = end;
                Ok(Some(Item::Record(self.inner(index, is_cut))))
            }
            Found::Skipped { end, why } => {
                // A log event has its place among the others; a whole object that is skipped has none.
                self.index += u64::from(self.messages.is_some());
                self.taken = end;
                Ok(Some(Item::Skipped(why)))
            }
        }
    }

    fn inner(&self, index: u64, is_cut: bool) -> Record<'_> {
        let around = self.messages.as_deref().map(Messages::around).unwrap_or_default();
        if let (Some(messages), false) = (&self.messages, is_cut) {
            return Record { index, text: &messages.text, tape: &messages.tape, around };
        }
        let around = Around { cut: Some(self.salvaged.cut()), ..around };
        Record { index, text: &self.salvaged.text, tape: &self.salvaged.tape, around }
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
        if let Some(at) = container::quick(self.window.rest()) {
            return Ok(self.enter(Inside::at(at)));
        }
        let end = match self.scanner.scan(self.window.rest(), 0, &mut self.tape) {
            Ok(end) if end <= RECORD_BYTES_MAX => end,
            _ => match container::walk(&mut self.window, &mut self.scanner)? {
                Some(inside) if !inside.is_headless() => return Ok(self.enter(inside)),
                // All of it may say more: whose the log events are, if that comes behind them.
                inside => match (self.scan()?, inside) {
                    (Ok(end), _) => end,
                    (Err(_), Some(inside)) => return Ok(self.enter(inside)),
                    (Err(error), None) => return self.unscanned(error, None).map(Some),
                },
            },
        };
        let Ok(text) = simdutf8::basic::from_utf8(&self.window.rest()[..end]) else {
            // Bytes that are not text: in one record of many, or in the only one.
            return Ok(match container::walk(&mut self.window, &mut self.scanner)? {
                Some(inside) => self.enter(inside),
                None => Some(reject(Reason::InvalidUtf8, "bytes that are not UTF-8", end, end)),
            });
        };
        if let Some(at) = self.tape.member(0, "Records", text) {
            let node = self.tape.nodes[at];
            if node.kind == Kind::Array {
                return Ok(self.enter(Inside::at(node.start as usize + 1)));
            }
            return Ok(Some(reject(Reason::RecordsNotArray, "`Records` is not an array", end, end)));
        }
        if let Some(at) = container::event_list(&self.tape, text) {
            return Ok(self.enter(Inside::at(at)));
        }
        if self.tape.member(0, "digestS3Object", text).is_some() {
            return Ok(Some(Found::Skipped { end, why: "digest" }));
        }
        if is_record(&self.tape, text) {
            return Ok(Some(Found::Record { end }));
        }
        match subscription::payload(&self.tape, text) {
            Some(Payload::Control) => Ok(Some(Found::Skipped { end, why: subscription::CONTROL_MESSAGE })),
            Some(Payload::Events(inside)) => Ok(self.enter(inside)),
            None => {
                let detail = "an object with none of the members of a CloudTrail record, an audit event, a watched object or a host event";
                Ok(Some(reject(Reason::NotARecord, detail, end, end)))
            }
        }
    }

    /// Nothing is found at the bracket itself.
    fn enter(&mut self, inside: Inside) -> Option<Found> {
        self.window.advance(inside.at);
        self.state = State::Array { is_first: true, depth: 1 };
        self.messages = inside.header.map(|it| Box::new(Messages::new(it)));
        None
    }

    /// One element of an array of records.
    fn element(&mut self, depth: usize) -> io::Result<Found> {
        self.state = State::Array { is_first: false, depth };
        match self.scan()? {
            Ok(end) if self.tape.nodes[0].kind == Kind::Object => Ok(self.object(end)),
            Ok(end) => Ok(reject(Reason::NotAnObject, "a record that is not an object", end, end)),
            Err(error) => self.unscanned(error, Some(depth)),
        }
    }

    /// An object in an array: a record, or a log event that holds one.
    fn object(&mut self, end: usize) -> Found {
        let Some(messages) = &mut self.messages else { return Found::Record { end } };
        let Ok(event) = simdutf8::basic::from_utf8(&self.window.rest()[..end]) else {
            return reject(Reason::InvalidUtf8, "bytes that are not UTF-8", end, end);
        };
        match messages.take(event, &self.tape, &mut self.scanner, &mut self.salvaged) {
            Taken::Record { is_cut } => Found::Inner { end, is_cut },
            Taken::Skipped(why) => Found::Skipped { end, why },
            Taken::Bad(reason, detail) => reject(reason, detail, end, end),
        }
    }

    /// What did not scan, in an array of records (then `depth` is given) or at the top.
    fn unscanned(&mut self, error: ScanError, depth: Option<usize>) -> io::Result<Found> {
        match error {
            ScanError::Incomplete if self.window.is_full() => self.too_large(depth),
            ScanError::Incomplete => {
                let rest = self.window.rest();
                let (len, line) = (rest.len(), line_before_object(rest).filter(|_| depth.is_none()));
                let salvaged = if depth.is_none() { self.salvage(len, None) } else { None };
                Ok(match (salvaged, line) {
                    (Some(found), _) => found,
                    // A line that lacks its end would take the next one in as its value.
                    (None, Some(line)) => reject(Reason::Cut, "the JSON ends in the middle, with its line", line, line),
                    (None, None) => self.cut(len),
                })
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
                return Ok(self.salvage(end, depth).unwrap_or_else(|| reject(reason, detail, end, end)));
            }
            if let Some(start) = next_record(&mut self.scanner, rest) {
                if let Some(depth) = depth {
                    self.state = State::Array { is_first: true, depth };
                }
                return Ok(self.salvage(start, depth).unwrap_or_else(|| reject(reason, detail, start, start)));
            }
            if self.window.is_full() || !self.window.fill()? {
                let len = self.window.rest().len();
                if let Some(found) = self.salvage(len, None).filter(|_| depth.is_none()) {
                    return Ok(found);
                }
                self.state = State::Done;
                return Ok(reject(reason, detail, len, len));
            }
        }
    }

    /// A bad stretch of this length, where it is the beginning of an audit event and no more of that will come: an element
    /// with others behind it, or a line with its end. What merely stops where the input does may be whole another time.
    fn salvage(&mut self, len: usize, depth: Option<usize>) -> Option<Found> {
        let stretch = &self.window.rest()[..len];
        let (kept, end) = match (depth, memchr::memchr(b'\n', stretch)) {
            (Some(_), _) => (len, len),
            (None, Some(at)) => (at, at + 1),
            (None, None) if self.is_line => (len, len),
            (None, None) => return None,
        };
        self.salvaged.take(&self.window.rest()[..kept], &mut self.scanner).then_some(Found::Inner { end, is_cut: true })
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
        self.messages = None;
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

fn reject(reason: Reason, detail: impl Into<String>, len: usize, skip: usize) -> Found {
    Found::Reject { reason, detail: detail.into(), len, skip }
}

//! Search: newest first, over logs and segments, emitting while it finds.
//!
//! A heap holds what may come next: a segment or row group under its latest possible time, a found event under its
//! own. What comes off is opened, evaluated, or handed out; so nothing is read before it can matter.

use super::StoreError;
use super::batch::{Batch, BatchRow};
use super::frame::{read_frame, read_head};
use super::layout::Layout;
use super::recover::{damaged, frames};
use super::segment_read::SegmentReader;
use super::state::{self, Segment};
use crate::event::column::ALL;
use crate::event::{Col, EventId, EventType, Flags, Row};
use crate::filter::{Filter, Required, Scratch};
use memchr::memmem::Finder;
use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

/// Rows fetched at a time for handing out, while few places have hits; and while many have.
const FETCH_ROWS: (usize, usize) = (128, 8);
/// With so many places that have hits, each fetches fewer rows at a time.
const MANY_PLACES: usize = 64;
/// Row groups evaluated at once.
const THREADS: usize = 2;
/// Up to so many ids are asked for one by one in the filters of a place.
const FEW_IDS: usize = 64;
/// How many handed-out ids are remembered to find a pair that contradicts itself.
const SEEN_MAX: usize = 1_000_000;

/// What to look for.
#[derive(Debug, Clone, Default)]
pub struct SearchOptions {
    /// The data folder.
    pub dir: PathBuf,
    /// Which events; all where there is none.
    pub filter: Option<Filter>,
    /// From this event time on, ms.
    pub since_ms: Option<i64>,
    /// Up to this event time, ms.
    pub until_ms: Option<i64>,
    /// At most so many.
    pub limit: Option<usize>,
    /// Only these.
    pub ids: Option<Arc<HashSet<EventId>>>,
}

/// A found event.
#[derive(Debug)]
pub struct Hit<'h> {
    row: BatchRow<'h>,
}

impl<'h> Hit<'h> {
    /// The event.
    pub fn row(&self) -> &BatchRow<'h> {
        &self.row
    }
}

/// Calls `each` with every event that matches, newest first, until it says no more. Returns how many.
pub fn search(options: SearchOptions, mut each: impl FnMut(&Hit<'_>) -> bool) -> Result<usize, StoreError> {
    let layout = Layout::new(&options.dir);
    if layout.check_format()?.is_none() {
        return Err(StoreError::Missing { path: options.dir });
    }
    let limit = options.limit.unwrap_or(usize::MAX);
    let mut search = Search::start(&layout, options)?;
    let mut n = 0;
    while n < limit {
        let Some(mut place) = search.next(limit - n)? else { break };
        let Some((batch, at)) = place.take() else { continue };
        let is_last = !each(&Hit { row: batch.row(at) });
        n += 1;
        if is_last {
            break;
        }
        search.push_place(place);
    }
    Ok(n)
}

/// Calls `each` with every event that matches, in no order, with one place in memory at a time.
pub(super) fn search_unordered(options: SearchOptions, mut each: impl FnMut(&Hit<'_>)) -> Result<(), StoreError> {
    let layout = Layout::new(&options.dir);
    let mut search = Search::start(&layout, options)?;
    while let Some(Timed { entry, .. }) = search.heap.pop() {
        let (origin, rows) = match entry {
            Entry::Segment(segment) => {
                search.open(&segment)?;
                continue;
            }
            Entry::Group(reader, group) => {
                let rows = search.question.hits(&reader, group)?;
                (Origin::Group(reader, group), rows)
            }
            Entry::Place(place) => (place.origin, place.rows),
        };
        for rows in rows.chunks(FETCH_ROWS.0) {
            let mut place = Place { origin: origin.clone(), rows: rows.to_vec(), fetched: None, at: 0 };
            search.fetch(&mut place, usize::MAX)?;
            while let Some((batch, at)) = place.take() {
                each(&Hit { row: batch.row(at) });
            }
        }
    }
    Ok(())
}

/// Where rows are fetched from.
#[derive(Clone)]
enum Origin {
    Group(Arc<SegmentReader>, usize),
    Frame(Arc<PathBuf>, u64, usize),
}

/// A place with hits: rows in order, some of them fetched.
struct Place {
    origin: Origin,
    /// Row and event time, newest last.
    rows: Vec<(u32, i64)>,
    fetched: Option<Batch>,
    at: usize,
}

impl Place {
    fn take(&mut self) -> Option<(&Batch, usize)> {
        self.rows.pop()?;
        self.at += 1;
        Some((self.fetched.as_ref()?, self.at - 1))
    }
}

enum Entry {
    Segment(Segment),
    Group(Arc<SegmentReader>, usize),
    Place(Place),
}

struct Timed {
    time: i64,
    entry: Entry,
}

impl Timed {
    /// What is still to be opened goes before an event of the same time.
    fn rank(&self) -> u8 {
        u8::from(!matches!(self.entry, Entry::Place(_)))
    }
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Timed {}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timed {
    fn cmp(&self, other: &Self) -> Ordering {
        self.time.cmp(&other.time).then(self.rank().cmp(&other.rank()))
    }
}

/// The filter, taken apart for columns.
struct Question {
    cheap: Option<Filter>,
    raw: Option<Filter>,
    required: Vec<Required>,
    /// What the native record must hold, where that is known.
    needles: Option<Vec<Finder<'static>>>,
    ids: Option<Arc<HashSet<EventId>>>,
    since: i64,
    until: i64,
}

struct Search<'l> {
    layout: &'l Layout,
    question: Question,
    heap: BinaryHeap<Timed>,
    n_places: usize,
    seen: HashMap<EventId, u64>,
}

impl<'l> Search<'l> {
    fn start(layout: &'l Layout, options: SearchOptions) -> Result<Self, StoreError> {
        let required = options.filter.as_ref().map(Filter::required).unwrap_or_default();
        let (cheap, raw) = options.filter.map_or((None, None), Filter::split);
        let needles = raw.as_ref().and_then(Filter::raw_needles);
        let (since, until) = (options.since_ms.unwrap_or(i64::MIN), options.until_ms.unwrap_or(i64::MAX));
        let question = Question { cheap, raw, required, needles, ids: options.ids, since, until };
        let mut db = state::open_reader(&layout.state())?;
        let tx = db.transaction()?;
        let (logs, segments) = (state::logs(&tx)?, state::segments(&tx)?);
        drop(tx);
        let mut search = Self { layout, question, heap: BinaryHeap::new(), n_places: 0, seen: HashMap::new() };
        for segment in segments {
            if segment.time_max >= since && segment.time_min <= until {
                search.heap.push(Timed { time: segment.time_max, entry: Entry::Segment(segment) });
            }
        }
        for log in logs {
            let path = Arc::new(layout.log(log.seq));
            let mut offset = 0;
            for frame in frames(&path, log.length)? {
                let frame = frame?;
                search.look_at_frame(&path, offset, &frame)?;
                offset += frame.len() as u64;
            }
        }
        Ok(search)
    }

    fn look_at_frame(&mut self, path: &Arc<PathBuf>, offset: u64, frame: &[u8]) -> Result<(), StoreError> {
        let head = read_head(frame).ok_or_else(|| damaged(path))?;
        if !head.event_times.iter().any(|time| self.question.in_time(*time)) {
            return Ok(());
        }
        let batch = read_frame(frame).ok_or_else(|| damaged(path))?;
        let mut scratch = Scratch::default();
        let rows = (0..batch.len() as u32)
            .filter(|row| self.question.holds(&batch, *row as usize, &mut scratch))
            .map(|row| (row, batch.event_times[row as usize]))
            .collect();
        self.push_hits(Origin::Frame(Arc::clone(path), offset, frame.len()), rows);
        Ok(())
    }

    fn push_hits(&mut self, origin: Origin, mut rows: Vec<(u32, i64)>) {
        rows.sort_by_key(|(row, time)| (*time, std::cmp::Reverse(*row)));
        if !rows.is_empty() {
            self.n_places += 1;
            self.push_place(Place { origin, rows, fetched: None, at: 0 });
        }
    }

    fn push_place(&mut self, place: Place) {
        match place.rows.last() {
            Some((_, time)) => self.heap.push(Timed { time: *time, entry: Entry::Place(place) }),
            None => self.n_places -= 1,
        }
    }

    /// The place whose next row is the newest of all that is left.
    fn next(&mut self, wanted: usize) -> Result<Option<Place>, StoreError> {
        loop {
            let Some(Timed { entry, .. }) = self.heap.pop() else { return Ok(None) };
            match entry {
                Entry::Segment(segment) => self.open(&segment)?,
                Entry::Group(reader, group) => {
                    let mut groups = vec![(reader, group)];
                    while groups.len() < THREADS && matches!(self.heap.peek(), Some(Timed { entry: Entry::Group(..), .. })) {
                        if let Some(Timed { entry: Entry::Group(reader, group), .. }) = self.heap.pop() {
                            groups.push((reader, group));
                        }
                    }
                    self.look_at_groups(groups)?;
                }
                Entry::Place(mut place) => {
                    let is_empty = place.fetched.as_ref().is_none_or(|it| place.at >= it.len());
                    if is_empty {
                        self.fetch(&mut place, wanted)?;
                    }
                    return Ok(Some(place));
                }
            }
        }
    }

    fn open(&mut self, segment: &Segment) -> Result<(), StoreError> {
        let (file, path) = self.layout.open_segment(segment)?;
        let reader = Arc::new(SegmentReader::open(file, &path, &segment.event_type, true)?);
        for group in 0..reader.groups() {
            let (min, max) = reader.group_times(group);
            if max >= self.question.since && min <= self.question.until {
                self.heap.push(Timed { time: max, entry: Entry::Group(Arc::clone(&reader), group) });
            }
        }
        Ok(())
    }

    fn look_at_groups(&mut self, groups: Vec<(Arc<SegmentReader>, usize)>) -> Result<(), StoreError> {
        let question = &self.question;
        let found: Vec<_> = match groups.as_slice() {
            [(reader, group)] => vec![question.hits(reader, *group)],
            _ => std::thread::scope(|scope| {
                let threads: Vec<_> = groups.iter().map(|(reader, group)| scope.spawn(|| question.hits(reader, *group))).collect();
                threads.into_iter().map(|it| it.join().unwrap_or(Err(StoreError::Closed))).collect()
            }),
        };
        for ((reader, group), rows) in groups.into_iter().zip(found) {
            self.push_hits(Origin::Group(reader, group), rows?);
        }
        Ok(())
    }

    /// Reads the next rows of a place whole.
    fn fetch(&mut self, place: &mut Place, wanted: usize) -> Result<(), StoreError> {
        let n = if self.n_places > MANY_PLACES { FETCH_ROWS.1 } else { FETCH_ROWS.0 };
        let mut rows: Vec<u32> = place.rows.iter().rev().take(n.min(wanted)).map(|(row, _)| *row).collect();
        let wanted_order = rows.clone();
        rows.sort_unstable();
        let batch = match &place.origin {
            Origin::Group(reader, group) => reader.read(*group, ALL, Some(&rows))?,
            Origin::Frame(path, offset, length) => {
                let frame = read_frame_at(path, *offset, *length)?;
                let mut batch = Batch::new(frame.event_type);
                batch.append(&frame, |row| rows.binary_search(&(row as u32)).is_ok());
                batch
            }
        };
        // Rows were read in the file's order and are handed out in the order of their times.
        let mut ordered = Batch::new(batch.event_type);
        for row in wanted_order {
            if let Ok(at) = rows.binary_search(&row) {
                ordered.append_rows(&batch, at..at + 1);
            }
        }
        self.flag_conflicts(&mut ordered);
        place.fetched = Some(ordered);
        place.at = 0;
        Ok(())
    }

    /// Ids of different hours are not compared when they are stored; here such a pair meets.
    fn flag_conflicts(&mut self, batch: &mut Batch) {
        for at in 0..batch.len() {
            let said = match self.seen.get(&batch.ids[at]) {
                Some(said) => *said,
                None if self.seen.len() < SEEN_MAX => *self.seen.entry(batch.ids[at]).or_insert(batch.fingerprints[at]),
                None => continue,
            };
            if said != batch.fingerprints[at] {
                batch.flags[at].insert(Flags::CONFLICT);
            }
        }
    }
}

fn read_frame_at(path: &std::path::Path, offset: u64, length: usize) -> Result<Batch, StoreError> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::open(path).map_err(StoreError::at(path))?;
    let mut frame = vec![0; length];
    file.read_exact_at(&mut frame, offset).map_err(StoreError::at(path))?;
    read_frame(&frame).ok_or_else(|| damaged(path))
}

impl Question {
    fn in_time(&self, time: i64) -> bool {
        (self.since..=self.until).contains(&time)
    }

    fn is_wanted(&self, batch: &Batch, row: usize) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(&batch.ids[row]))
    }

    fn holds(&self, batch: &Batch, row: usize, scratch: &mut Scratch) -> bool {
        self.in_time(batch.event_times[row])
            && self.is_wanted(batch, row)
            && [&self.cheap, &self.raw].into_iter().flatten().all(|filter| filter.matches(&batch.row(row), scratch))
    }

    /// The rows of a row group that match, with their times.
    fn hits(&self, reader: &SegmentReader, group: usize) -> Result<Vec<(u32, i64)>, StoreError> {
        let is_host = reader.event_type == EventType::Host;
        for alternatives in &self.required {
            let mut may_hold = false;
            for (col, value) in alternatives {
                // `ip` of a host event is in more places than the column.
                may_hold = may_hold || is_host && *col == Col::Ip || reader.may_hold(group, *col, value)?;
            }
            if !may_hold {
                return Ok(Vec::new());
            }
        }
        // Few ids: most places say at once that they have none of them.
        if let Some(ids) = self.ids.as_ref().filter(|ids| ids.len() <= FEW_IDS) {
            let mut may_hold = false;
            for id in ids.iter() {
                may_hold = may_hold || reader.may_hold(group, Col::Id, &id.to_string())?;
            }
            if !may_hold {
                return Ok(Vec::new());
            }
        }
        let mut scratch = Scratch::default();
        let mut cols = self.cheap.as_ref().map(Filter::columns).unwrap_or_default();
        cols.extend((is_host && cols.contains(&Col::Ip) && !cols.contains(&Col::Raw)).then_some(Col::Raw));
        cols.extend((!cols.contains(&Col::EventTime)).then_some(Col::EventTime));
        cols.extend((self.ids.is_some() && !cols.contains(&Col::Id)).then_some(Col::Id));
        let batch = reader.read(group, &cols, None)?;
        let rows: Vec<u32> = (0..batch.len() as u32)
            .filter(|row| {
                self.in_time(batch.event_times[*row as usize])
                    && self.is_wanted(&batch, *row as usize)
                    && self.cheap.as_ref().is_none_or(|it| it.matches(&batch.row(*row as usize), &mut scratch))
            })
            .collect();
        let timed = |row: u32| (row, batch.event_times[row as usize]);
        let Some(raw) = self.raw.as_ref().filter(|_| !rows.is_empty()) else { return Ok(rows.into_iter().map(timed).collect()) };
        let is_all = rows.len() == batch.len();
        if let Some(needles) = self.needles.as_ref().filter(|_| is_all) {
            if !reader.raw_may_hold(group, needles)? {
                return Ok(Vec::new());
            }
        }
        let columns = reader.read(group, &raw.columns(), if is_all { None } else { Some(&rows) })?;
        let hits = rows.iter().enumerate().filter(|(at, _)| raw.matches(&columns.row(*at), &mut scratch));
        Ok(hits.map(|(_, row)| timed(*row)).collect())
    }
}

impl Hit<'_> {
    /// The event's identity.
    pub fn id(&self) -> EventId {
        self.row.id()
    }
}

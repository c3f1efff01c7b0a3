//! Events by column: what a log frame, a Parquet row group and a search look at all hold.

use crate::event::column::{ALL, Kind};
use crate::event::{Col, Event, EventId, EventType, Flags, Row, Val};
use crate::rules::{Hit, RuleSet};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Batches kept for their room: growing afresh each time costs a tenth of the CPU and twice the memory.
const POOLED_MAX: usize = 4;
/// A batch with more native records than this is not kept.
const POOLED_RAW_BYTES_MAX: usize = 2 << 20;
static POOL: Mutex<Vec<Batch>> = Mutex::new(Vec::new());

/// Texts of one column. Rows behind the last that has a value are absent.
#[derive(Debug, Default, Clone)]
pub(super) struct TextCol {
    pub(super) data: String,
    pub(super) ends: Vec<u32>,
    pub(super) present: Vec<bool>,
}

impl TextCol {
    fn pad(&mut self, rows: usize) {
        if self.ends.len() < rows {
            self.ends.resize(rows, self.data.len() as u32);
            self.present.resize(rows, false);
        }
    }

    fn push(&mut self, row: usize, text: &str) {
        self.pad(row);
        self.data.push_str(text);
        self.ends.push(self.data.len() as u32);
        self.present.push(true);
    }

    /// Adds some rows of another column behind `rows` rows.
    fn append(&mut self, rows: usize, other: &Self, range: Range<usize>) {
        let range = range.start..range.end.min(other.ends.len());
        if range.is_empty() {
            return;
        }
        self.pad(rows);
        let start = other.span(range.start).start;
        let end = other.ends[range.end - 1] as usize;
        let base = self.data.len() as u32;
        self.data.push_str(other.data.get(start..end).unwrap_or(""));
        self.ends.extend(other.ends[range.clone()].iter().map(|end| end - start as u32 + base));
        self.present.extend_from_slice(&other.present[range]);
    }

    fn clear(&mut self) {
        self.data.clear();
        self.ends.clear();
        self.present.clear();
    }

    fn at(&self, row: usize) -> Option<&str> {
        self.present.get(row).filter(|it| **it)?;
        self.data.get(self.span(row))
    }

    pub(super) fn span(&self, row: usize) -> Range<usize> {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        start as usize..self.ends[row] as usize
    }
}

/// Numbers, times and booleans (0, 1) of one column.
#[derive(Debug, Default, Clone)]
pub(super) struct IntCol {
    pub(super) values: Vec<i64>,
    pub(super) present: Vec<bool>,
}

impl IntCol {
    fn push(&mut self, row: usize, value: i64) {
        self.values.resize(row, 0);
        self.present.resize(row, false);
        self.values.push(value);
        self.present.push(true);
    }

    fn append(&mut self, rows: usize, other: &Self, range: Range<usize>) {
        let range = range.start..range.end.min(other.values.len());
        if range.is_empty() {
            return;
        }
        self.values.resize(rows, 0);
        self.present.resize(rows, false);
        self.values.extend_from_slice(&other.values[range.clone()]);
        self.present.extend_from_slice(&other.present[range]);
    }

    pub(super) fn at(&self, row: usize) -> Option<i64> {
        self.present.get(row).filter(|it| **it)?;
        self.values.get(row).copied()
    }
}

/// Lists of texts of one column; `row_ends` counts items.
#[derive(Debug, Default, Clone)]
pub(super) struct ListCol {
    pub(super) items: TextCol,
    pub(super) row_ends: Vec<u32>,
}

impl ListCol {
    fn append(&mut self, rows: usize, other: &Self, range: Range<usize>) {
        let range = range.start..range.end.min(other.row_ends.len());
        if range.is_empty() {
            return;
        }
        let items = other.span(range.start).start..other.row_ends[range.end - 1] as usize;
        let base = self.items.ends.len() as u32;
        self.row_ends.resize(rows, base);
        self.row_ends.extend(other.row_ends[range].iter().map(|end| end - items.start as u32 + base));
        self.items.append(base as usize, &other.items, items);
    }

    fn push_item(&mut self, row: usize, text: &str) {
        let items = self.items.ends.len() as u32;
        if self.row_ends.len() <= row {
            self.row_ends.resize(row, items);
            self.row_ends.push(items);
        }
        self.items.push(items as usize, text);
        self.row_ends[row] += 1;
    }

    pub(super) fn span(&self, row: usize) -> Range<usize> {
        let start = if row == 0 { 0 } else { self.row_ends.get(row - 1).copied().unwrap_or(0) };
        let end = self.row_ends.get(row).copied().unwrap_or(start);
        start as usize..end as usize
    }
}

/// One column of a batch.
#[derive(Debug, Clone)]
pub(super) enum Column {
    /// Kept in a field of the batch, or not at all.
    None,
    /// Texts.
    Text(TextCol),
    /// Numbers, times, booleans.
    Int(IntCol),
    /// Lists.
    List(ListCol),
}

/// Columns that are fields of their own.
pub(super) fn is_field(col: Col) -> bool {
    matches!(col, Col::Id | Col::Fingerprint | Col::EventTime | Col::InsertTime | Col::FlagNames)
}

/// Events of one type, by column.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The type of all of them.
    pub event_type: EventType,
    /// Their identities.
    pub ids: Vec<EventId>,
    /// What they say, hashed.
    pub fingerprints: Vec<u64>,
    /// When they happened, ms.
    pub event_times: Vec<i64>,
    /// When they were committed, ms.
    pub insert_times: Vec<i64>,
    /// What is unusual about them.
    pub flags: Vec<Flags>,
    /// The set of rules that the events were shown to.
    pub rules: Option<Arc<RuleSet>>,
    /// What rules matched, by row; not written with the events.
    pub hits: Vec<(u32, Arc<Hit>)>,
    /// The suppressions that hid a match, by row.
    pub hidden: Vec<(u32, usize)>,
    pub(super) columns: Vec<Column>,
}

impl Batch {
    /// No events yet.
    pub fn new(event_type: EventType) -> Self {
        let columns = ALL.iter().map(|col| empty_column(*col)).collect();
        Self {
            event_type,
            ids: Vec::new(),
            fingerprints: Vec::new(),
            event_times: Vec::new(),
            insert_times: Vec::new(),
            flags: Vec::new(),
            rules: None,
            hits: Vec::new(),
            hidden: Vec::new(),
            columns,
        }
    }

    /// No events yet, with the room of a batch that is done with, if there is one.
    pub fn recycled(event_type: EventType) -> Self {
        let done = POOL.lock().unwrap_or_else(PoisonError::into_inner).pop();
        done.map_or_else(|| Self::new(event_type), |batch| Self { event_type, ..batch })
    }

    /// Done with: its room is for the next.
    pub(super) fn recycle(mut self) {
        if self.raw_bytes() > POOLED_RAW_BYTES_MAX {
            return;
        }
        self.clear();
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < POOLED_MAX {
            pool.push(self);
        }
    }

    /// No events any more; the room stays.
    pub(super) fn clear(&mut self) {
        self.ids.clear();
        self.fingerprints.clear();
        self.event_times.clear();
        self.insert_times.clear();
        self.flags.clear();
        self.rules = None;
        self.hits.clear();
        self.hidden.clear();
        for column in &mut self.columns {
            match column {
                Column::None => {}
                Column::Text(text) => text.clear(),
                Column::Int(int) => {
                    int.values.clear();
                    int.present.clear();
                }
                Column::List(list) => {
                    list.row_ends.clear();
                    list.items.clear();
                }
            }
        }
    }

    /// Notes what a rule found in the last event.
    pub fn hit(&mut self, hit: Hit) {
        if let Some(row) = self.len().checked_sub(1) {
            self.hits.push((row as u32, Arc::new(hit)));
        }
    }

    /// Notes that a suppression hid a match of the last event.
    pub fn hide(&mut self, suppression: usize) {
        if let Some(row) = self.len().checked_sub(1) {
            self.hidden.push((row as u32, suppression));
        }
    }

    /// Whether the events of both were shown to the same set of rules.
    pub(super) fn has_rules_of(&self, other: &Self) -> bool {
        match (&self.rules, &other.rules) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        }
    }

    /// How many events.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Bytes of native records, which is most of what a batch takes.
    pub fn raw_bytes(&self) -> usize {
        let bytes = |col: Col| match &self.columns[col as usize] {
            Column::Text(text) => text.data.len(),
            _ => 0,
        };
        bytes(Col::Raw) + bytes(Col::RawText)
    }

    /// Adds an event.
    pub fn push(&mut self, event: &Event<'_>) {
        let row = self.len();
        self.ids.push(event.id);
        self.fingerprints.push(event.fingerprint);
        self.event_times.push(event.event_time);
        self.insert_times.push(0);
        self.flags.push(event.flags);
        for (col, val) in event.set_columns() {
            self.set(row, col, val);
        }
        for resource in &event.resources {
            self.push_item(row, Col::ResourcesType, &resource.kind);
            self.push_item(row, Col::ResourcesName, &resource.name);
            self.push_item(row, Col::ResourcesArn, &resource.arn);
            self.push_item(row, Col::ResourcesAccountId, &resource.account_id);
        }
        event.groups.iter().for_each(|it| self.push_item(row, Col::UserGroups, it));
        event.verbs.iter().for_each(|it| self.push_item(row, Col::Verbs, it));
        let context = event.context;
        if !context.organization_id.is_empty() {
            self.set_text(row, Col::OrganizationId, &context.organization_id);
        }
        if let Some(sensor) = event.sensor_name() {
            self.set_text(row, Col::EventType, sensor);
        }
        self.set_text(row, Col::AgentId, event.agent_id());
        self.set_text(row, Col::OriginSource, &context.source);
        self.set_text(row, Col::OriginUri, &context.uri);
        self.set(row, Col::OriginIndex, &Val::Int(event.index as i64));
        self.set_text(row, Col::MatchState, event.match_state());
        self.set(row, Col::NumMatched, &Val::Int(event.rule_matches.len() as i64));
        event.rule_matches.iter().for_each(|it| self.push_item(row, Col::RuleMatches, it));
        self.set(row, Col::NumSuppressed, &Val::Int(event.suppressed as i64));
        match &event.raw_text {
            Some(text) => self.set_text(row, Col::RawText, text),
            None => self.set_text(row, Col::Raw, &event.raw),
        }
        self.set(row, Col::FieldsVersion, &Val::Int(crate::event::FIELDS_VERSION));
        if let Some(label) = event.label {
            if let Some(name) = &label.name {
                self.set_text(row, Col::AccountName, name);
            }
            label.labels.iter().for_each(|it| self.push_item(row, Col::Labels, it));
        }
    }

    fn set_text(&mut self, row: usize, col: Col, text: &str) {
        if let Column::Text(column) = &mut self.columns[col as usize] {
            column.push(row, text);
        }
    }

    pub(super) fn push_item(&mut self, row: usize, col: Col, text: &str) {
        if let Column::List(column) = &mut self.columns[col as usize] {
            column.push_item(row, text);
        }
    }

    fn set(&mut self, row: usize, col: Col, val: &Val<'_>) {
        match (&mut self.columns[col as usize], val) {
            (Column::Text(column), Val::Text(text)) => column.push(row, text),
            (Column::Int(column), Val::Int(n)) => column.push(row, *n),
            (Column::Int(column), Val::Bool(b)) => column.push(row, i64::from(*b)),
            _ => {}
        }
    }

    /// Adds all rows of another batch.
    pub fn append_all(&mut self, other: &Self) {
        self.append_rows(other, 0..other.len());
    }

    /// Adds the rows of another batch that `keep` says, in order.
    pub fn append(&mut self, other: &Self, keep: impl Fn(usize) -> bool) {
        let mut from = 0;
        while from < other.len() {
            let to = (from..other.len()).find(|row| !keep(*row)).unwrap_or(other.len());
            self.append_rows(other, from..to);
            from = to + 1;
        }
    }

    /// Adds rows that stand together in another batch: column by column, which is much faster than row by row.
    pub(super) fn append_rows(&mut self, other: &Self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        let rows = self.len();
        if self.rules.is_none() {
            self.rules.clone_from(&other.rules);
        }
        self.ids.extend_from_slice(&other.ids[range.clone()]);
        self.fingerprints.extend_from_slice(&other.fingerprints[range.clone()]);
        self.event_times.extend_from_slice(&other.event_times[range.clone()]);
        self.insert_times.extend_from_slice(&other.insert_times[range.clone()]);
        self.flags.extend_from_slice(&other.flags[range.clone()]);
        let moved = |row: u32| range.contains(&(row as usize)).then(|| row - range.start as u32 + rows as u32);
        self.hits.extend(other.hits.iter().filter_map(|(row, hit)| Some((moved(*row)?, Arc::clone(hit)))));
        self.hidden.extend(other.hidden.iter().filter_map(|(row, by)| Some((moved(*row)?, *by))));
        for (to, from) in self.columns.iter_mut().zip(&other.columns) {
            match (to, from) {
                (Column::Text(to), Column::Text(from)) => to.append(rows, from, range.clone()),
                (Column::Int(to), Column::Int(from)) => to.append(rows, from, range.clone()),
                (Column::List(to), Column::List(from)) => to.append(rows, from, range.clone()),
                _ => {}
            }
        }
    }

    /// A look at one row.
    pub fn row(&self, at: usize) -> BatchRow<'_> {
        BatchRow { batch: self, at }
    }

    /// The rows' order by event time, newest first.
    pub fn newest_first(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        order.sort_by_key(|row| std::cmp::Reverse(self.event_times[*row as usize]));
        order
    }
}

pub(super) fn empty_column(col: Col) -> Column {
    match col.info().kind {
        _ if is_field(col) => Column::None,
        Kind::Text => Column::Text(TextCol::default()),
        Kind::Int | Kind::Time | Kind::Bool => Column::Int(IntCol::default()),
        Kind::List => Column::List(ListCol::default()),
    }
}

/// One event of a batch.
#[derive(Debug, Clone, Copy)]
pub struct BatchRow<'b> {
    batch: &'b Batch,
    at: usize,
}

impl Row for BatchRow<'_> {
    fn id(&self) -> EventId {
        self.batch.ids[self.at]
    }

    fn fingerprint(&self) -> u64 {
        self.batch.fingerprints[self.at]
    }

    fn val(&self, col: Col) -> Val<'_> {
        match col {
            Col::Id => Val::Text(Cow::Owned(self.id().to_string())),
            Col::Fingerprint => Val::Text(Cow::Owned(format!("{:016x}", self.fingerprint()))),
            Col::EventTime => Val::Int(self.batch.event_times[self.at]),
            Col::InsertTime => Val::Int(self.batch.insert_times[self.at]),
            // Only host events say it one by one.
            Col::EventType => Val::of(self.text(col).unwrap_or_else(|| self.batch.event_type.name())),
            col => match &self.batch.columns[col as usize] {
                Column::Text(column) => column.at(self.at).map_or(Val::Null, Val::of),
                Column::Int(column) => match column.at(self.at) {
                    None => Val::Null,
                    Some(n) if col.info().kind == Kind::Bool => Val::Bool(n != 0),
                    Some(n) => Val::Int(n),
                },
                _ => Val::Null,
            },
        }
    }

    fn text(&self, col: Col) -> Option<&str> {
        match &self.batch.columns[col as usize] {
            Column::Text(column) => column.at(self.at),
            _ => None,
        }
    }

    fn event_type(&self) -> EventType {
        self.batch.event_type
    }

    fn list(&self, col: Col, each: &mut dyn FnMut(&str)) {
        if col == Col::FlagNames {
            return self.batch.flags[self.at].names().for_each(each);
        }
        if let Column::List(column) = &self.batch.columns[col as usize] {
            column.span(self.at).for_each(|item| each(column.items.at(item).unwrap_or("")));
        }
    }

    fn resources(&self, each: &mut dyn FnMut([&str; 4])) {
        let part = |col: Col, n: usize| match &self.batch.columns[col as usize] {
            Column::List(column) => column.span(self.at).nth(n).and_then(|item| column.items.at(item)).unwrap_or(""),
            _ => "",
        };
        let Column::List(kinds) = &self.batch.columns[Col::ResourcesType as usize] else { return };
        for n in 0..kinds.span(self.at).len() {
            each([Col::ResourcesType, Col::ResourcesName, Col::ResourcesArn, Col::ResourcesAccountId].map(|col| part(col, n)));
        }
    }
}

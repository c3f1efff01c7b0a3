//! Segments: events as Parquet, written a row group at a time.
//!
//! Column writers are fed directly; nothing of Arrow. Each row group is sorted newest first, and carries the range
//! of its event times and Bloom filters over the columns that people look values up in.

use super::StoreError;
use super::batch::{Batch, Column, IntCol, ListCol, TextCol};
use super::disk::{Disk, DiskFile};
use super::segment_read::SegmentReader;
use crate::event::column::{ALL, Kind};
use crate::event::{Col, EventType, Flags};
use bytes::Bytes;
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, TypePtr};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

/// Native records in one row group, about.
pub(super) const ROW_GROUP_RAW_BYTES: usize = 4 << 20;
/// Rows in one row group, at most.
pub(super) const ROW_GROUP_ROWS: usize = 8192;
/// Distinct values of one column that a row group's filter has room for; the writer cuts it down to those that came.
const BLOOM_VALUES: u64 = ROW_GROUP_ROWS as u64;
/// How often such a filter says wrongly that a value may be there.
const BLOOM_ERRORS: f64 = 0.01;
/// A page of native records: small, so that fetching one event reads little.
const RAW_PAGE_BYTES: usize = 128 << 10;

/// The Parquet schema, from the table of columns.
pub(super) static SCHEMA: LazyLock<Option<TypePtr>> = LazyLock::new(|| {
    let mut text = "message event {".to_owned();
    for col in ALL {
        let name = col.info().name;
        // Writing to a String does not fail.
        let _ = match col.info().kind {
            Kind::Text => write!(text, "optional binary {name} (STRING);"),
            Kind::Time => write!(text, "optional int64 {name} (TIMESTAMP(MILLIS, true));"),
            Kind::Int => write!(text, "optional int64 {name};"),
            Kind::Bool => write!(text, "optional boolean {name};"),
            Kind::List => write!(text, "optional group {name} (LIST) {{ repeated group list {{ required binary element (STRING); }} }}"),
        };
    }
    text.push('}');
    parse_message_type(&text).ok().map(Arc::new)
});

static PROPERTIES: LazyLock<Option<WriterPropertiesPtr>> = LazyLock::new(|| {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).ok()?))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_created_by(concat!("planewatch ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_write_batch_size(64)
        .set_column_statistics_enabled(ColumnPath::from("event_time"), EnabledStatistics::Chunk);
    for col in ALL {
        let path = ColumnPath::from(col.info().name);
        if matches!(col, Col::Id | Col::Fingerprint | Col::Raw | Col::RawText | Col::EventTime | Col::OriginIndex) {
            properties = properties.set_column_dictionary_enabled(path.clone(), false);
        }
        if matches!(col, Col::Raw | Col::RawText) {
            properties = properties.set_column_data_page_size_limit(path.clone(), RAW_PAGE_BYTES);
        }
        if col.info().bloom {
            // Said of each column: what is said of all does not reach one that has any setting of its own, and a filter for a
            // million values takes a mebibyte.
            properties = properties.set_column_bloom_filter_max_ndv(path.clone(), BLOOM_VALUES);
            properties = properties.set_column_bloom_filter_fpp(path, BLOOM_ERRORS);
        }
    }
    Some(Arc::new(properties.build()))
});

/// The disk file under a Parquet writer.
struct Out {
    file: Box<dyn DiskFile>,
    written: u64,
}

impl Write for Out {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.file.write(buf)?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A segment that is being written.
pub(super) struct SegmentWriter {
    writer: SerializedFileWriter<Out>,
    path: PathBuf,
    /// Rows so far.
    pub(super) rows: u64,
    /// Earliest and latest event time so far.
    pub(super) times: (i64, i64),
}

impl SegmentWriter {
    pub(super) fn create(disk: &dyn Disk, path: &Path) -> Result<Self, StoreError> {
        let (Some(schema), Some(properties)) = (&*SCHEMA, &*PROPERTIES) else {
            return Err(StoreError::Damaged { path: path.to_owned(), what: "the Parquet schema does not parse; this is a bug" });
        };
        let file = disk.create_new(path).map_err(StoreError::at(path))?;
        let writer =
            SerializedFileWriter::new(Out { file, written: 0 }, Arc::clone(schema), Arc::clone(properties)).map_err(parquet_error(path))?;
        Ok(Self { writer, path: path.to_owned(), rows: 0, times: (i64::MAX, i64::MIN) })
    }

    /// Writes one row group, sorted newest first. The batch is empty then, and keeps its room.
    pub(super) fn write_group(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        let order = batch.newest_first();
        self.rows += batch.len() as u64;
        self.times.0 = self.times.0.min(batch.event_times[order[order.len() - 1] as usize]);
        self.times.1 = self.times.1.max(batch.event_times[order[0] as usize]);
        write_columns(&mut self.writer, batch, &order).map_err(parquet_error(&self.path))?;
        batch.clear();
        Ok(())
    }

    /// Takes a row group of another segment over as it is: nothing of it is taken apart.
    pub(super) fn take_group(&mut self, from: &SegmentReader, group: usize) -> Result<(), StoreError> {
        let (min, max) = from.group_times(group);
        let mut out = self.writer.next_row_group().map_err(parquet_error(&self.path))?;
        for at in 0..ALL.len() {
            let (file, column) = from.encoded(group, at)?;
            out.append_column(file, column).map_err(parquet_error(&self.path))?;
        }
        out.close().map_err(parquet_error(&self.path))?;
        self.rows += from.group_rows(group) as u64;
        self.times = (self.times.0.min(min), self.times.1.max(max));
        Ok(())
    }

    /// Writes the footer and syncs; returns the file's length.
    pub(super) fn finish(self) -> Result<u64, StoreError> {
        let mut out = self.writer.into_inner().map_err(parquet_error(&self.path))?;
        out.file.sync().map_err(StoreError::at(&self.path))?;
        Ok(out.written)
    }
}

/// The system's own error out of Parquet's, so that a full disk is seen as one.
pub(super) fn parquet_error(path: &Path) -> impl FnOnce(ParquetError) -> StoreError + '_ {
    move |error| match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => StoreError::at(path)(*error),
            Err(other) => StoreError::Parquet { path: path.to_owned(), source: ParquetError::External(other) },
        },
        source => StoreError::Parquet { path: path.to_owned(), source },
    }
}

fn write_columns(writer: &mut SerializedFileWriter<Out>, batch: &mut Batch, order: &[u32]) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    let mut levels = Levels::default();
    for col in ALL {
        let Some(mut out) = group.next_column()? else { break };
        match (col, &mut batch.columns[*col as usize]) {
            (Col::Id, _) => put_texts(&mut out, order.iter().map(|row| batch.ids[*row as usize].to_text()))?,
            (Col::Fingerprint, _) => put_texts(&mut out, order.iter().map(|row| format!("{:016x}", batch.fingerprints[*row as usize])))?,
            (Col::EventType, Column::Text(names)) if batch.event_type == EventType::Host => {
                put_text(&mut out, order, &mut levels, names)?;
            }
            (Col::EventType, _) => put_texts(&mut out, order.iter().map(|_| batch.event_type.name()))?,
            (Col::EventTime, _) => put_ints(&mut out, order, &mut levels, |row| Some(batch.event_times[row]))?,
            (Col::InsertTime, _) => put_ints(&mut out, order, &mut levels, |row| Some(batch.insert_times[row]))?,
            (Col::FlagNames, _) => put_list(&mut out, order, &mut levels, &mut flag_lists(&batch.flags))?,
            (_, Column::Text(text)) => put_text(&mut out, order, &mut levels, text)?,
            (_, Column::Int(int)) => put_int(&mut out, order, &mut levels, int)?,
            (_, Column::List(list)) => put_list(&mut out, order, &mut levels, list)?,
            (_, Column::None) => {}
        }
        out.close()?;
    }
    group.close()?;
    Ok(())
}

/// Working memory for levels and values, shared by the columns of a group.
#[derive(Default)]
struct Levels {
    def: Vec<i16>,
    rep: Vec<i16>,
    bytes: Vec<ByteArray>,
    ints: Vec<i64>,
    bools: Vec<bool>,
}

/// Texts that every row has.
fn put_texts<T: AsRef<[u8]>>(out: &mut SerializedColumnWriter<'_>, texts: impl Iterator<Item = T>) -> Result<(), ParquetError> {
    let mut data = Vec::new();
    let mut ends = Vec::new();
    for text in texts {
        data.extend_from_slice(text.as_ref());
        ends.push(data.len());
    }
    let data = Bytes::from(data);
    let mut from = 0;
    let values: Vec<_> = ends.iter().map(|end| ByteArray::from(data.slice(std::mem::replace(&mut from, *end)..*end))).collect();
    put_bytes(out, &values, &vec![1; values.len()], None)
}

fn put_bytes(out: &mut SerializedColumnWriter<'_>, values: &[ByteArray], def: &[i16], rep: Option<&[i16]>) -> Result<(), ParquetError> {
    if let ColumnWriter::ByteArrayColumnWriter(writer) = out.untyped() {
        writer.write_batch(values, Some(def), rep)?;
    }
    Ok(())
}

fn put_text(out: &mut SerializedColumnWriter<'_>, order: &[u32], levels: &mut Levels, text: &mut TextCol) -> Result<(), ParquetError> {
    let data = lent(&mut text.data);
    levels.def.clear();
    levels.bytes.clear();
    for row in order {
        let row = *row as usize;
        let is_there = text.present.get(row).copied().unwrap_or(false);
        levels.def.push(i16::from(is_there));
        if is_there {
            levels.bytes.push(ByteArray::from(data.slice(text.span(row))));
        }
    }
    put_bytes(out, &levels.bytes, &levels.def, None)?;
    levels.bytes.clear();
    text.data = given_back(data);
    Ok(())
}

/// The text as the writer wants it, without a copy.
fn lent(text: &mut String) -> Bytes {
    Bytes::from(std::mem::take(text))
}

/// The room that was lent, empty. Where the writer holds on to it, that is new room.
fn given_back(mut data: Bytes) -> String {
    // Emptied first: what it holds would be copied.
    data.truncate(0);
    String::from_utf8(Vec::from(data)).unwrap_or_default()
}

fn put_ints(
    out: &mut SerializedColumnWriter<'_>,
    order: &[u32],
    levels: &mut Levels,
    value: impl Fn(usize) -> Option<i64>,
) -> Result<(), ParquetError> {
    levels.def.clear();
    levels.ints.clear();
    for row in order {
        let value = value(*row as usize);
        levels.def.push(i16::from(value.is_some()));
        levels.ints.extend(value);
    }
    match out.untyped() {
        ColumnWriter::Int64ColumnWriter(writer) => {
            writer.write_batch(&levels.ints, Some(&levels.def), None)?;
        }
        ColumnWriter::BoolColumnWriter(writer) => {
            levels.bools.clear();
            levels.bools.extend(levels.ints.iter().map(|it| *it != 0));
            writer.write_batch(&levels.bools, Some(&levels.def), None)?;
        }
        _ => {}
    }
    Ok(())
}

fn put_int(out: &mut SerializedColumnWriter<'_>, order: &[u32], levels: &mut Levels, int: &IntCol) -> Result<(), ParquetError> {
    put_ints(out, order, levels, |row| int.at(row))
}

fn flag_lists(flags: &[Flags]) -> ListCol {
    let mut batch = Batch::new(EventType::CloudTrail);
    for (row, flags) in flags.iter().enumerate() {
        flags.names().for_each(|name| batch.push_item(row, Col::Labels, name));
    }
    match std::mem::replace(&mut batch.columns[Col::Labels as usize], Column::None) {
        Column::List(list) => list,
        _ => ListCol::default(),
    }
}

/// An absent list has definition level 0, an item 2; an empty list is written as absent.
fn put_list(out: &mut SerializedColumnWriter<'_>, order: &[u32], levels: &mut Levels, list: &mut ListCol) -> Result<(), ParquetError> {
    let data = lent(&mut list.items.data);
    levels.def.clear();
    levels.rep.clear();
    levels.bytes.clear();
    for row in order {
        let items = list.span(*row as usize);
        if items.is_empty() {
            levels.def.push(0);
            levels.rep.push(0);
        }
        let first = items.start;
        for item in items {
            levels.def.push(2);
            levels.rep.push(i16::from(item != first));
            levels.bytes.push(ByteArray::from(data.slice(list.items.span(item))));
        }
    }
    put_bytes(out, &levels.bytes, &levels.def, Some(&levels.rep))?;
    levels.bytes.clear();
    list.items.data = given_back(data);
    Ok(())
}

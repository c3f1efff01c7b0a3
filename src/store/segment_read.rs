//! Reading segments: the columns that are asked for, of all rows of a row group or of some.

use super::StoreError;
use super::batch::{Batch, Column, IntCol, ListCol, TextCol, empty_column};
use super::segment::parquet_error;
use crate::event::column::{ALL, Kind};
use crate::event::{Col, EventId, EventType, Flags};
use bytes::Bytes;
use memchr::memmem::Finder;
use parquet::basic::Encoding;
use parquet::bloom_filter::Sbbf;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, Length, RowGroupReader};
use parquet::file::serialized_reader::{ReadOptionsBuilder, SerializedFileReader};
use parquet::file::statistics::Statistics;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file that is read by position: Parquet's own reader of files moves a cursor that threads would share.
#[derive(Clone)]
pub(super) struct ByPosition {
    file: Arc<File>,
    length: u64,
}

impl Length for ByPosition {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for ByPosition {
    type T = BufReader<From>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::with_capacity(16 << 10, From { file: Arc::clone(&self.file), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

pub(super) struct From {
    file: Arc<File>,
    at: u64,
}

impl Read for From {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buf, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// An open segment.
pub(super) struct SegmentReader {
    reader: SerializedFileReader<ByPosition>,
    input: ByPosition,
    path: PathBuf,
    pub(super) event_type: EventType,
    /// Where each of our columns is in this file: an older file lacks the newer ones.
    places: Vec<Option<usize>>,
}

impl SegmentReader {
    /// Opens; `with_pages` also reads where pages are, which fetching single rows needs.
    pub(super) fn open(file: File, path: &Path, event_type: &str, with_pages: bool) -> Result<Self, StoreError> {
        let length = file.metadata().map_err(StoreError::at(path))?.len();
        let input = ByPosition { file: Arc::new(file), length };
        let options = ReadOptionsBuilder::new();
        let options = if with_pages { options.with_page_index() } else { options };
        let reader = SerializedFileReader::new_with_options(input.clone(), options.build()).map_err(parquet_error(path))?;
        let schema = reader.metadata().file_metadata().schema_descr();
        let at = |name: &str| schema.columns().iter().position(|it| it.path().parts().first().is_some_and(|part| part == name));
        let places = ALL.iter().map(|col| at(col.info().name)).collect();
        let event_type = EventType::named(event_type)
            .ok_or_else(|| StoreError::Damaged { path: path.to_owned(), what: "its event type is not one that we store" })?;
        Ok(Self { reader, input, path: path.to_owned(), event_type, places })
    }

    pub(super) fn groups(&self) -> usize {
        self.reader.num_row_groups()
    }

    pub(super) fn group_rows(&self, group: usize) -> usize {
        self.reader.metadata().row_group(group).num_rows() as usize
    }

    /// Bytes of the native records of a row group, before compression.
    pub(super) fn group_raw_bytes(&self, group: usize) -> usize {
        self.places[Col::Raw as usize].map_or(0, |at| self.reader.metadata().row_group(group).column(at).uncompressed_size() as usize)
    }

    /// Whether this file has our columns, all of them and in our order.
    pub(super) fn is_of_this_version(&self) -> bool {
        let n = self.reader.metadata().file_metadata().schema_descr().num_columns();
        n == ALL.len() && self.places.iter().enumerate().all(|(n, at)| *at == Some(n))
    }

    /// The file, and what is known of a column of a row group: as a writer wants it that takes the column over as it is.
    pub(super) fn encoded(&self, group: usize, at: usize) -> Result<(&ByPosition, ColumnCloseResult), StoreError> {
        let metadata = self.reader.metadata();
        let chunk = metadata.row_group(group).column(at);
        let bloom_filter = Sbbf::read_from_column_chunk(chunk, &self.input).map_err(parquet_error(&self.path))?;
        let offset_index = metadata.page_index().and_then(|it| it.offset_index(group, at)).cloned();
        let close = ColumnCloseResult {
            bytes_written: chunk.compressed_size() as u64,
            rows_written: metadata.row_group(group).num_rows() as u64,
            metadata: chunk.clone(),
            bloom_filter,
            column_index: None,
            offset_index,
        };
        Ok((&self.input, close))
    }

    /// The event times of a row group, earliest and latest.
    pub(super) fn group_times(&self, group: usize) -> (i64, i64) {
        let statistics =
            self.places[Col::EventTime as usize].and_then(|at| self.reader.metadata().row_group(group).column(at).statistics());
        match statistics {
            Some(Statistics::Int64(it)) => (it.min_opt().copied().unwrap_or(i64::MIN), it.max_opt().copied().unwrap_or(i64::MAX)),
            _ => (i64::MIN, i64::MAX),
        }
    }

    /// False where the group certainly has no such value in that column.
    pub(super) fn may_hold(&self, group: usize, col: Col, value: &str) -> Result<bool, StoreError> {
        let Some(at) = self.places[col as usize].filter(|_| col.info().bloom) else { return Ok(true) };
        let chunk = self.reader.metadata().row_group(group).column(at);
        let filter = Sbbf::read_from_column_chunk(chunk, &self.input).map_err(parquet_error(&self.path))?;
        Ok(filter.is_none_or(|it| it.check(value)))
    }

    /// False where no native record of a row group holds one of these. Looks through whole pages: no value is taken apart.
    pub(super) fn raw_may_hold(&self, group: usize, needles: &[Finder<'_>]) -> Result<bool, StoreError> {
        let Some(at) = self.places[Col::Raw as usize] else { return Ok(false) };
        let look = || -> Result<bool, ParquetError> {
            let mut pages = self.reader.get_row_group(group)?.get_column_page_reader(at)?;
            while let Some(page) = pages.get_next_page()? {
                // Other encodings do not hold values as they are.
                let is_plain = matches!(page.encoding(), Encoding::PLAIN | Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY);
                if !is_plain || needles.iter().any(|it| it.find(page.buffer()).is_some()) {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        look().map_err(parquet_error(&self.path))
    }

    /// Reads these columns of a row group: of the rows given (in order), or of all.
    pub(super) fn read(&self, group: usize, cols: &[Col], rows: Option<&[u32]>) -> Result<Batch, StoreError> {
        let reader = self.reader.get_row_group(group).map_err(parquet_error(&self.path))?;
        self.read_columns(&*reader, self.group_rows(group), cols, rows).map_err(parquet_error(&self.path))
    }

    fn read_columns(&self, group: &dyn RowGroupReader, n: usize, cols: &[Col], rows: Option<&[u32]>) -> Result<Batch, ParquetError> {
        let picked = Picked { total: n, rows };
        let mut batch = Batch::new(self.event_type);
        let len = rows.map_or(n, <[u32]>::len);
        batch.ids = vec![EventId::default(); len];
        batch.fingerprints = vec![0; len];
        batch.event_times = vec![0; len];
        batch.insert_times = vec![0; len];
        batch.flags = vec![Flags::default(); len];
        for col in cols {
            let Some(at) = self.places[*col as usize] else { continue };
            let column = read_column(group.get_column_reader(at)?, *col, &picked)?;
            match (col, column) {
                (Col::Id, Column::Text(texts)) => each_text(&texts, len, |row, text| {
                    batch.ids[row] = EventId::parse(text).unwrap_or_default();
                }),
                (Col::Fingerprint, Column::Text(texts)) => each_text(&texts, len, |row, text| {
                    batch.fingerprints[row] = u64::from_str_radix(text, 16).unwrap_or_default();
                }),
                (Col::EventTime, Column::Int(ints)) => batch.event_times = ints.values,
                (Col::InsertTime, Column::Int(ints)) => batch.insert_times = ints.values,
                (Col::FlagNames, Column::List(lists)) => {
                    for row in 0..len {
                        for item in lists.span(row) {
                            let name = lists.items.data.get(lists.items.span(item)).unwrap_or("");
                            batch.flags[row].insert(Flags::named(name).unwrap_or_default());
                        }
                    }
                }
                // Of other types the file's own says it.
                (Col::EventType, _) if self.event_type != EventType::Host => {}
                (_, column) => batch.columns[*col as usize] = column,
            }
        }
        Ok(batch)
    }
}

fn each_text(texts: &TextCol, rows: usize, mut each: impl FnMut(usize, &str)) {
    for row in 0..rows.min(texts.ends.len()) {
        each(row, texts.data.get(texts.span(row)).unwrap_or(""));
    }
}

struct Picked<'p> {
    total: usize,
    rows: Option<&'p [u32]>,
}

impl Picked<'_> {
    /// Calls `skip` and `read` with numbers of rows, in turn.
    fn walk<T: DataType>(
        &self,
        reader: &mut ColumnReaderImpl<T>,
        mut read: impl FnMut(&mut ColumnReaderImpl<T>, usize) -> Result<(), ParquetError>,
    ) -> Result<(), ParquetError> {
        let Some(rows) = self.rows else { return read(reader, self.total) };
        let mut at = 0;
        let mut rest = rows;
        while let Some(first) = rest.first() {
            let run = rest.iter().enumerate().take_while(|(n, row)| **row == first + *n as u32).count();
            let skip = *first as usize - at;
            if skip > 0 {
                reader.skip_records(skip)?;
            }
            read(reader, run)?;
            at += skip + run;
            rest = &rest[run..];
        }
        Ok(())
    }
}

fn read_column(reader: ColumnReader, col: Col, picked: &Picked<'_>) -> Result<Column, ParquetError> {
    let (mut def, mut rep) = (Vec::new(), Vec::new());
    match reader {
        ColumnReader::ByteArrayColumnReader(mut reader) => {
            let mut values: Vec<ByteArray> = Vec::new();
            let is_list = col.info().kind == Kind::List;
            picked.walk(&mut reader, |reader, n| {
                let rep = is_list.then_some(&mut rep);
                reader.read_records(n, Some(&mut def), rep, &mut values).map(|_| ())
            })?;
            if is_list {
                Ok(Column::List(lists(&def, &rep, &values)?))
            } else {
                Ok(Column::Text(texts(def.iter().map(|it| *it > 0), &values)?))
            }
        }
        ColumnReader::Int64ColumnReader(mut reader) => {
            let mut values = Vec::new();
            picked.walk(&mut reader, |reader, n| reader.read_records(n, Some(&mut def), None, &mut values).map(|_| ()))?;
            Ok(Column::Int(ints(&def, values.into_iter())))
        }
        ColumnReader::BoolColumnReader(mut reader) => {
            let mut values = Vec::new();
            picked.walk(&mut reader, |reader, n| reader.read_records(n, Some(&mut def), None, &mut values).map(|_| ()))?;
            Ok(Column::Int(ints(&def, values.into_iter().map(i64::from))))
        }
        _ => Ok(empty_column(col)),
    }
}

fn ints(def: &[i16], mut values: impl Iterator<Item = i64>) -> IntCol {
    let present: Vec<bool> = def.iter().map(|it| *it > 0).collect();
    let values = present.iter().map(|it| if *it { values.next().unwrap_or(0) } else { 0 }).collect();
    IntCol { values, present }
}

fn texts(present: impl Iterator<Item = bool>, values: &[ByteArray]) -> Result<TextCol, ParquetError> {
    let bytes = values.iter().map(ByteArray::len).sum();
    let mut values = values.iter();
    let mut column = TextCol { data: String::with_capacity(bytes), ..TextCol::default() };
    for is_there in present {
        if is_there {
            let value = values.next().map_or(&[][..], ByteArray::data);
            // Checked one by one, into their place: checked as a whole they would be there twice.
            column.data.push_str(simdutf8::basic::from_utf8(value).map_err(|error| ParquetError::External(Box::new(error)))?);
        }
        column.ends.push(column.data.len() as u32);
        column.present.push(is_there);
    }
    Ok(column)
}

fn lists(def: &[i16], rep: &[i16], values: &[ByteArray]) -> Result<ListCol, ParquetError> {
    let mut row_ends: Vec<u32> = Vec::new();
    let mut items = 0;
    for (def, rep) in def.iter().zip(rep) {
        if *rep == 0 {
            row_ends.push(items);
        }
        items += u32::from(*def == 2);
        if let Some(end) = row_ends.last_mut() {
            *end = items;
        }
    }
    Ok(ListCol { items: texts(std::iter::repeat_n(true, items as usize), values)?, row_ends })
}

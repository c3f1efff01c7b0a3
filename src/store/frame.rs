//! A log frame: the events of one group commit, by column, with their ids in front.
//!
//! `PWF1`, length and CRC-32 of the body; the body has the rows' count, insert time and type, then ids, fingerprints
//! and event times as they are (recovery reads no further), then the other columns as one zstd block.

use super::StoreError;
use super::batch::{Batch, Column, IntCol, ListCol, TextCol, empty_column};
use crate::event::{Col, EventId, EventType, Flags, column};

const MAGIC: &[u8; 4] = b"PWF1";
const HEAD_BYTES: usize = 12;
/// zstd level of frames, below 1 for speed: they are rewritten soon, so CPU counts more than bytes.
const LEVEL: i32 = -4;
/// A frame is never longer than this: one group is at most 32 MiB of records.
pub(super) const FRAME_BYTES_MAX: usize = 64 << 20;

/// Compresses frames; keeps its working memory.
pub(super) struct FrameWriter {
    compressor: zstd::bulk::Compressor<'static>,
    plain: Vec<u8>,
}

impl FrameWriter {
    pub(super) fn new() -> Result<Self, StoreError> {
        let compressor = zstd::bulk::Compressor::new(LEVEL).map_err(StoreError::Codec)?;
        Ok(Self { compressor, plain: Vec::new() })
    }

    /// Appends the frame of a batch, all of whose events are inserted at this time.
    pub(super) fn write(&mut self, batch: &Batch, insert_time: i64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let start = out.len();
        out.extend_from_slice(&[0; HEAD_BYTES]);
        out.extend_from_slice(&(batch.len() as u32).to_le_bytes());
        out.extend_from_slice(&insert_time.to_le_bytes());
        out.push(batch.event_type as u8);
        batch.ids.iter().for_each(|it| out.extend_from_slice(&it.0.to_be_bytes()));
        batch.fingerprints.iter().for_each(|it| out.extend_from_slice(&it.to_le_bytes()));
        batch.event_times.iter().for_each(|it| out.extend_from_slice(&it.to_le_bytes()));
        self.plain.clear();
        batch.flags.iter().for_each(|it| self.plain.extend_from_slice(&it.0.to_le_bytes()));
        for (number, column) in batch.columns.iter().enumerate() {
            put_column(number as u8, column, &mut self.plain);
        }
        out.extend_from_slice(&(self.plain.len() as u32).to_le_bytes());
        let packed = self.compressor.compress(&self.plain).map_err(StoreError::Codec)?;
        out.extend_from_slice(&packed);
        let body = start + HEAD_BYTES;
        let length = (out.len() - body) as u32;
        let crc = crc32fast::hash(&out[body..]);
        out[start..start + 4].copy_from_slice(MAGIC);
        out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
        out[start + 8..start + 12].copy_from_slice(&crc.to_le_bytes());
        Ok(())
    }
}

fn put_texts(text: &TextCol, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.ends.len() as u32).to_le_bytes());
    out.extend_from_slice(&(text.data.len() as u32).to_le_bytes());
    text.ends.iter().for_each(|it| out.extend_from_slice(&it.to_le_bytes()));
    out.extend(text.present.iter().map(|it| u8::from(*it)));
    out.extend_from_slice(text.data.as_bytes());
}

fn put_column(number: u8, column: &Column, out: &mut Vec<u8>) {
    match column {
        Column::Text(text) if !text.ends.is_empty() => {
            out.push(number);
            put_texts(text, out);
        }
        Column::Int(int) if !int.values.is_empty() => {
            out.push(number);
            out.extend_from_slice(&(int.values.len() as u32).to_le_bytes());
            int.values.iter().for_each(|it| out.extend_from_slice(&it.to_le_bytes()));
            out.extend(int.present.iter().map(|it| u8::from(*it)));
        }
        Column::List(list) if !list.row_ends.is_empty() => {
            out.push(number);
            out.extend_from_slice(&(list.row_ends.len() as u32).to_le_bytes());
            list.row_ends.iter().for_each(|it| out.extend_from_slice(&it.to_le_bytes()));
            put_texts(&list.items, out);
        }
        _ => {}
    }
}

/// Reads a frame's parts in order; every length is checked.
struct Cursor<'b> {
    rest: &'b [u8],
}

impl<'b> Cursor<'b> {
    fn take(&mut self, n: usize) -> Option<&'b [u8]> {
        let (head, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(head)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(*self.take(4)?.first_chunk()?))
    }

    fn i64(&mut self) -> Option<i64> {
        Some(i64::from_le_bytes(*self.take(8)?.first_chunk()?))
    }

    fn u32s(&mut self, n: usize) -> Option<Vec<u32>> {
        Some(self.take(n.checked_mul(4)?)?.as_chunks::<4>().0.iter().map(|it| u32::from_le_bytes(*it)).collect())
    }

    fn i64s(&mut self, n: usize) -> Option<Vec<i64>> {
        Some(self.take(n.checked_mul(8)?)?.as_chunks::<8>().0.iter().map(|it| i64::from_le_bytes(*it)).collect())
    }

    fn bools(&mut self, n: usize) -> Option<Vec<bool>> {
        Some(self.take(n)?.iter().map(|it| *it != 0).collect())
    }

    fn texts(&mut self) -> Option<TextCol> {
        let (n, bytes) = (self.u32()? as usize, self.u32()? as usize);
        let ends = self.u32s(n)?;
        let present = self.bools(n)?;
        let data = simdutf8::basic::from_utf8(self.take(bytes)?).ok()?.to_owned();
        let is_whole = ends.is_sorted() && ends.last().is_none_or(|it| *it as usize <= bytes);
        is_whole.then_some(TextCol { data, ends, present })
    }
}

/// What recovery needs of a frame, and where the next one starts.
pub(super) struct FrameHead {
    pub(super) event_type: EventType,
    pub(super) ids: Vec<EventId>,
    pub(super) fingerprints: Vec<u64>,
    pub(super) event_times: Vec<i64>,
    pub(super) insert_time: i64,
}

/// The length of the frame that starts with these bytes, its head included.
pub(super) fn frame_length(head: &[u8]) -> Option<usize> {
    let mut cursor = Cursor { rest: head };
    (cursor.take(4)? == MAGIC).then_some(())?;
    let length = cursor.u32()? as usize;
    (length <= FRAME_BYTES_MAX).then_some(HEAD_BYTES + length)
}

/// Bytes enough for [`frame_length`].
pub(super) const FRAME_HEAD_BYTES: usize = HEAD_BYTES;

fn head(frame: &[u8]) -> Option<(FrameHead, Cursor<'_>)> {
    let mut cursor = Cursor { rest: frame };
    cursor.take(8)?;
    let crc = cursor.u32()?;
    (crc32fast::hash(cursor.rest) == crc).then_some(())?;
    let rows = cursor.u32()? as usize;
    let insert_time = cursor.i64()?;
    let event_type = *EventType::ALL.get(usize::from(*cursor.take(1)?.first()?))?;
    let ids = cursor.take(rows.checked_mul(16)?)?.as_chunks::<16>().0.iter().map(|it| EventId(u128::from_be_bytes(*it))).collect();
    let fingerprints = cursor.i64s(rows)?.into_iter().map(|it| it as u64).collect();
    let event_times = cursor.i64s(rows)?;
    Some((FrameHead { event_type, ids, fingerprints, event_times, insert_time }, cursor))
}

/// The ids of a frame. None: damaged.
pub(super) fn read_head(frame: &[u8]) -> Option<FrameHead> {
    head(frame).map(|(head, _)| head)
}

/// The events of a frame. None: damaged.
pub(super) fn read_frame(frame: &[u8]) -> Option<Batch> {
    let (head, mut cursor) = head(frame)?;
    let plain_bytes = cursor.u32()? as usize;
    let plain = zstd::bulk::decompress(cursor.rest, plain_bytes).ok()?;
    let rows = head.ids.len();
    let mut cursor = Cursor { rest: &plain };
    let flags = cursor.u32s(rows)?.into_iter().map(Flags).collect();
    let mut columns: Vec<Column> = column::ALL.iter().map(|col| empty_column(*col)).collect();
    while let Some([number]) = cursor.take(1) {
        // A column of a later version is not ours to read: frames are not shared between versions (FORMAT).
        let col: Col = *column::ALL.get(usize::from(*number))?;
        columns[col as usize] = match &columns[col as usize] {
            Column::None => return None,
            Column::Text(_) => Column::Text(cursor.texts()?),
            Column::Int(_) => {
                let n = cursor.u32()? as usize;
                Column::Int(IntCol { values: cursor.i64s(n)?, present: cursor.bools(n)? })
            }
            Column::List(_) => {
                let n = cursor.u32()? as usize;
                Column::List(ListCol { row_ends: cursor.u32s(n)?, items: cursor.texts()? })
            }
        };
    }
    Some(Batch {
        event_type: head.event_type,
        ids: head.ids,
        fingerprints: head.fingerprints,
        event_times: head.event_times,
        insert_times: vec![head.insert_time; rows],
        flags,
        rules: None,
        hits: Vec::new(),
        hidden: Vec::new(),
        columns,
    })
}

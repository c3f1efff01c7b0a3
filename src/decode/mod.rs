//! 3 · From bytes to records: gunzip, then find the records, whatever form they are in.
//!
//! Content decides, never a name. No I/O of its own beyond the reader it is given, and no memory beyond one
//! window, whatever the input's size. A bad record never hides its neighbours: it comes out as a [`Reject`].

mod container;
mod gunzip;
mod record;
mod records;
mod resync;
mod salvage;
mod subscription;
mod window;

pub use gunzip::{WHOLE_BYTES_MAX, is_gzip, stream as inflated};
pub use record::{Around, Item, Record};
pub use records::{Buffers, Records};
pub use resync::{AUDIT_API, SENSOR_KEY, is_host_event, watched_object, wrapped_log};
pub use salvage::{Cut, Salvaged};
pub use window::{BETWEEN_TOKENS_BYTES_MAX, RECORD_BYTES_MAX};

use std::fmt;
use std::io;

/// Why bytes were not accepted as a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The input is not JSON at all.
    NotJson,
    /// This record is not valid JSON.
    BadRecord,
    /// The record holds bytes that are not UTF-8.
    InvalidUtf8,
    /// The record nests deeper than we read.
    TooDeep,
    /// The record is longer than [`RECORD_BYTES_MAX`].
    RecordTooLarge,
    /// More than [`BETWEEN_TOKENS_BYTES_MAX`] bytes of white space.
    TooMuchSpace,
    /// An element of `Records` that is not an object.
    NotAnObject,
    /// `Records` is there and is not an array.
    RecordsNotArray,
    /// An object that is no kind of record that we know.
    NotARecord,
    /// The JSON ends in the middle.
    Cut,
    /// The gzip stream ends in the middle.
    CutGzip,
    /// The gzip stream is damaged.
    BadGzip,
    /// Bytes follow the gzip stream that are not another member.
    BytesAfterGzip,
    /// The message on the queue is in no form that we know.
    UnknownEnvelope,
    /// The object could not be read for lack of permission.
    AccessDenied,
    /// The object's key may not be used.
    KmsDenied,
    /// There is no such object.
    NotFound,
    /// The bucket is not one that the source may read.
    BucketNotAllowed,
}

impl Reason {
    /// The name in `quarantine list` and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::BadRecord => "bad_record",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::TooDeep => "too_deep",
            Self::RecordTooLarge => "record_too_large",
            Self::TooMuchSpace => "too_much_space",
            Self::NotAnObject => "not_an_object",
            Self::RecordsNotArray => "records_not_array",
            Self::NotARecord => "not_a_record",
            Self::Cut => "cut",
            Self::CutGzip => "cut_gzip",
            Self::BadGzip => "bad_gzip",
            Self::BytesAfterGzip => "bytes_after_gzip",
            Self::UnknownEnvelope => "unknown_envelope",
            Self::AccessDenied => "access_denied",
            Self::KmsDenied => "kms_denied",
            Self::NotFound => "not_found",
            Self::BucketNotAllowed => "bucket_not_allowed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How much of rejected bytes is kept to look at; the rest is read again from where it came.
pub const EXCERPT_BYTES_MAX: usize = 1024;

/// Bytes that did not become a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Position among the object's records; the next one's, where the whole rest was rejected.
    pub index: u64,
    /// Why.
    pub reason: Reason,
    /// What exactly, for a person.
    pub detail: String,
    /// Length of the rejected bytes, as far as they were read.
    pub bytes: u64,
    /// Their beginning, at most [`EXCERPT_BYTES_MAX`], not yet masked.
    pub excerpt: Vec<u8>,
}

/// Input that could not even be read: a fault of the disk or the network, not of the bytes.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {uri}: {source}")]
pub struct ReadError {
    /// Where the bytes were to come from.
    pub uri: String,
    /// What the system said.
    pub source: io::Error,
}

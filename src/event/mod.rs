//! 1 · The common event schema (EVENT.md): one kind of event for both control planes.
//!
//! One table ([`column::COLUMNS`]) says what fields there are; the JSON form, the Parquet schema, the published
//! JSON Schema and the names that a filter may use all come from it.

pub mod column;
mod flags;
mod identity;
mod json;
mod row;
pub mod schema;
pub mod time;

pub use column::Col;
pub use flags::Flags;
pub use identity::{EventId, fingerprint, hash_identity};
pub use json::write_json;
pub use row::{Context, Event, EventType, HOST_ADDRESS_PATHS, Label, Resource, Row, Sensor, Val};

/// The version of the column set, written with every event.
pub const FIELDS_VERSION: i64 = 1;

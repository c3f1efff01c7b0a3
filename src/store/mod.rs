//! 6 · Where events are kept on one machine: a log, Parquet segments, one `SQLite` state (DESIGN.md §2, Store).
//!
//! ```text
//! FORMAT  lock  reserve  state.db     what is stored is what state.db names
//! log/SEQ                             frames of the last commits, until they are sealed
//! events/event_type=…/collected=…/SEQ.parquet
//! ids/SEQ                             sorted runs of stored ids
//! tmp/                                files that no transaction names yet
//! ```

mod alert_list;
mod alerts;
mod backup;
mod batch;
mod bulk;
mod commit;
mod disk;
mod error;
mod evidence;
mod frame;
mod handle;
mod ids;
mod intake;
mod keeper;
mod layout;
mod quarantine;
mod recover;
mod runs;
mod seal;
mod search;
mod segment;
mod segment_read;
mod state;
mod tallies;
mod upkeep;

pub use alert_list::{NOTES_MAX, StoredAlert, assign_alert, dismiss_alert, list_alerts, note_alert, rule_counts, suppression_hits};
pub use backup::backup;
pub use batch::{Batch, BatchRow};
pub use bulk::{Answer, Bulk};
pub use disk::{CrashPoint, Disk, DiskFile, RealDisk};
pub use error::StoreError;
pub use handle::{Lateness, Store, StoreOptions};
pub use intake::{Counts, Intake, Parked, Verdict};
pub use quarantine::{Quarantined, drop_quarantined, due_now, list_quarantine};
pub use search::{Hit, SearchOptions, search};
pub use state::FORMAT;

//! The state database: one `SQLite` file, one writer. What it names is stored; what it does not name never happened.

use super::StoreError;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, params};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// The layout of the data folder. A newer one is refused, an older one is migrated forwards.
pub const FORMAT: u32 = 1;
/// How long a reader waits for the database.
const BUSY: Duration = Duration::from_secs(10);
/// How long an object that was read is remembered, ms: 400 days.
pub(super) const LEDGER_MS: i64 = 400 * 86_400_000;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log (seq INTEGER PRIMARY KEY, length INTEGER NOT NULL, events INTEGER NOT NULL, opened_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS segments (seq INTEGER PRIMARY KEY, event_type TEXT NOT NULL, collected INTEGER NOT NULL,
  rows INTEGER NOT NULL, bytes INTEGER NOT NULL, time_min INTEGER NOT NULL, time_max INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS segments_time ON segments (time_max);
CREATE TABLE IF NOT EXISTS runs (seq INTEGER PRIMARY KEY, entries INTEGER NOT NULL, hour_min INTEGER NOT NULL, hour_max INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS ledger (object TEXT PRIMARY KEY, read_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ledger_age ON ledger (read_ms);
CREATE TABLE IF NOT EXISTS files (source TEXT, path TEXT, stamp TEXT NOT NULL, PRIMARY KEY (source, path)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counters (source TEXT, name TEXT, value INTEGER NOT NULL, PRIMARY KEY (source, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS quarantine (id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, uri TEXT NOT NULL, position INTEGER,
  reason TEXT NOT NULL, detail TEXT NOT NULL, time_ms INTEGER NOT NULL, bytes INTEGER NOT NULL, excerpt TEXT NOT NULL,
  object TEXT, next_try_ms INTEGER, tries INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS quarantine_uri ON quarantine (source, uri);
CREATE TABLE IF NOT EXISTS requests (id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT NOT NULL, quarantine_id INTEGER NOT NULL);
";

/// Opens the database for the one process that writes.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    if !path.try_exists().map_err(StoreError::at(path))? {
        create(path)?;
    }
    let db = Connection::open(path)?;
    db.busy_timeout(BUSY)?;
    // Commits are the product's promise: FULL syncs the write-ahead log at each.
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 2000; PRAGMA cache_size = -2000;")?;
    db.execute_batch(SCHEMA)?;
    db.execute_batch(super::alerts::SCHEMA)?;
    db.execute_batch(super::evidence::SCHEMA)?;
    Ok(db)
}

/// Makes an empty database under another name first: who reads beside us never sees one without tables.
fn create(path: &Path) -> Result<(), StoreError> {
    let fresh = path.with_extension("new");
    if fresh.try_exists().map_err(StoreError::at(&fresh))? {
        std::fs::remove_file(&fresh).map_err(StoreError::at(&fresh))?;
    }
    // SQLite gives its other files the mode of this one.
    File::options().create(true).append(true).mode(0o600).open(&fresh).map_err(StoreError::at(&fresh))?;
    let db = Connection::open(&fresh)?;
    for schema in [SCHEMA, super::alerts::SCHEMA, super::evidence::SCHEMA] {
        db.execute_batch(schema)?;
    }
    db.close().map_err(|(_, error)| error)?;
    std::fs::rename(&fresh, path).map_err(StoreError::at(path))
}

/// Opens the database to look at, beside a writer or without one.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    db.busy_timeout(BUSY)?;
    Ok(db)
}

/// One Parquet file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) seq: u64,
    pub(super) event_type: String,
    /// Hour of collection.
    pub(super) collected: i64,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) time_min: i64,
    pub(super) time_max: i64,
}

/// One log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Log {
    pub(super) seq: u64,
    pub(super) length: u64,
    pub(super) events: u64,
    pub(super) opened_ms: i64,
}

pub(super) fn insert_segment(tx: &Transaction<'_>, it: &Segment) -> Result<(), StoreError> {
    tx.prepare_cached("INSERT INTO segments VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(params![
        it.seq,
        it.event_type,
        it.collected,
        it.rows,
        it.bytes,
        it.time_min,
        it.time_max
    ])?;
    Ok(())
}

pub(super) fn segments(db: &Connection) -> Result<Vec<Segment>, StoreError> {
    let mut query =
        db.prepare_cached("SELECT seq, event_type, collected, rows, bytes, time_min, time_max FROM segments ORDER BY time_max DESC")?;
    let rows = query.query_map([], |row| {
        Ok(Segment {
            seq: row.get(0)?,
            event_type: row.get(1)?,
            collected: row.get(2)?,
            rows: row.get(3)?,
            bytes: row.get(4)?,
            time_min: row.get(5)?,
            time_max: row.get(6)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn logs(db: &Connection) -> Result<Vec<Log>, StoreError> {
    let mut query = db.prepare_cached("SELECT seq, length, events, opened_ms FROM log ORDER BY seq")?;
    let rows = query.query_map([], |row| Ok(Log { seq: row.get(0)?, length: row.get(1)?, events: row.get(2)?, opened_ms: row.get(3)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn run_seqs(db: &Connection) -> Result<Vec<u64>, StoreError> {
    let mut query = db.prepare_cached("SELECT seq FROM runs ORDER BY seq")?;
    let rows = query.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn set_meta(db: &Connection, key: &str, value: &str) -> Result<(), StoreError> {
    db.prepare_cached("INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2")?.execute(params![key, value])?;
    Ok(())
}

pub(super) fn meta(db: &Connection, key: &str) -> Result<Option<String>, StoreError> {
    Ok(db.prepare_cached("SELECT value FROM meta WHERE key = ?1")?.query_row([key], |row| row.get(0)).optional()?)
}

pub(super) fn add_counter(tx: &Transaction<'_>, source: &str, name: &str, n: u64) -> Result<(), StoreError> {
    if n > 0 {
        tx.prepare_cached("INSERT INTO counters VALUES (?1, ?2, ?3) ON CONFLICT (source, name) DO UPDATE SET value = value + ?3")?
            .execute(params![source, name, n])?;
    }
    Ok(())
}

/// All counters: source, name, value.
pub(super) fn counters(db: &Connection) -> Result<Vec<(String, String, u64)>, StoreError> {
    let mut query = db.prepare_cached("SELECT source, name, value FROM counters")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn in_ledger(db: &Connection, object: &str) -> Result<bool, StoreError> {
    Ok(db.prepare_cached("SELECT 1 FROM ledger WHERE object = ?1")?.query_row([object], |_| Ok(())).optional()?.is_some())
}

pub(super) fn add_to_ledger(tx: &Transaction<'_>, object: &str, now_ms: i64) -> Result<(), StoreError> {
    tx.prepare_cached("INSERT INTO ledger VALUES (?1, ?2) ON CONFLICT (object) DO NOTHING")?.execute(params![object, now_ms])?;
    Ok(())
}

pub(super) fn forget_old_objects(tx: &Transaction<'_>, now_ms: i64) -> Result<(), StoreError> {
    tx.execute("DELETE FROM ledger WHERE read_ms < ?1", [now_ms - LEDGER_MS])?;
    Ok(())
}

pub(super) fn insert_run(tx: &Transaction<'_>, run: &super::runs::Run) -> Result<(), StoreError> {
    let (min, max) = run.hours().unwrap_or((0, 0));
    tx.prepare_cached("INSERT INTO runs VALUES (?1, ?2, ?3, ?4)")?.execute((run.seq, run.entries, min, max))?;
    Ok(())
}

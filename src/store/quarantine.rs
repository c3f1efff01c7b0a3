//! The quarantine: what could not become events, with its reason, until a person or a second fetch settles it.

use super::StoreError;
use super::intake::Parked;
use super::layout::Layout;
use super::state;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::path::Path;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Quarantined {
    /// Its number.
    pub id: i64,
    /// Where the bytes came from.
    pub origin: Origin,
    /// Why, by its name.
    pub reason: String,
    /// Why, for a person.
    pub detail: String,
    /// When it was set aside, ms.
    pub time: i64,
    /// How many bytes.
    pub bytes: u64,
    /// Their beginning, masked.
    pub excerpt: String,
    /// How often it was tried.
    pub tries: u32,
    /// When it is tried again by itself, ms.
    pub next_try: Option<i64>,
    /// What to fetch again.
    #[serde(skip)]
    pub object: Option<String>,
}

/// Where quarantined bytes came from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Origin {
    /// The source's name.
    pub source: String,
    /// The object or file.
    pub uri: String,
    /// The record's position; absent when the whole was set aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
}

const SELECT: &str =
    "SELECT id, source, uri, position, reason, detail, time_ms, bytes, excerpt, tries, next_try_ms, object FROM quarantine";

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Quarantined> {
    Ok(Quarantined {
        id: row.get(0)?,
        origin: Origin { source: row.get(1)?, uri: row.get(2)?, index: row.get(3)? },
        reason: row.get(4)?,
        detail: row.get(5)?,
        time: row.get(6)?,
        bytes: row.get(7)?,
        excerpt: row.get(8)?,
        tries: row.get(9)?,
        next_try: row.get(10)?,
        object: row.get(11)?,
    })
}

pub(super) fn insert(tx: &Transaction<'_>, source: &str, parked: &Parked, now: i64) -> Result<(), StoreError> {
    tx.prepare_cached(
        "INSERT INTO quarantine (source, uri, position, reason, detail, time_ms, bytes, excerpt, object, next_try_ms, tries)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute(params![
        source,
        parked.uri,
        parked.index,
        parked.reason,
        parked.detail,
        now,
        parked.bytes,
        parked.excerpt,
        parked.object,
        parked.next_try_ms,
        parked.tries
    ])?;
    Ok(())
}

pub(super) fn settle(tx: &Transaction<'_>, id: i64) -> Result<(), StoreError> {
    tx.prepare_cached("DELETE FROM quarantine WHERE id = ?1")?.execute([id])?;
    Ok(())
}

pub(super) fn settle_uri(tx: &Transaction<'_>, source: &str, uri: &str) -> Result<(), StoreError> {
    tx.prepare_cached("DELETE FROM quarantine WHERE source = ?1 AND uri = ?2")?.execute([source, uri])?;
    Ok(())
}

/// Whether the object waits in the quarantine as a pointer.
pub(super) fn is_parked(db: &Connection, object: &str) -> Result<bool, StoreError> {
    let mut query = db.prepare_cached("SELECT 1 FROM quarantine WHERE object = ?1 AND next_try_ms IS NOT NULL LIMIT 1")?;
    Ok(query.query_row([object], |_| Ok(())).optional()?.is_some())
}

pub(super) fn reader(dir: &Path) -> Result<Connection, StoreError> {
    let layout = Layout::new(dir);
    if layout.check_format()?.is_none() {
        return Err(StoreError::Missing { path: dir.to_owned() });
    }
    state::open_reader(&layout.state())
}

/// Calls `each` with every entry, oldest first; beside a running writer or without one.
pub fn list_quarantine(dir: &Path, mut each: impl FnMut(Quarantined) -> bool) -> Result<(), StoreError> {
    let db = reader(dir)?;
    let mut query = db.prepare(&format!("{SELECT} ORDER BY id"))?;
    for entry in query.query_map([], read)? {
        if !each(entry?) {
            break;
        }
    }
    Ok(())
}

/// Makes entries due: the running (or next) `run` reads them again. All of them where `ids` is empty.
/// Returns how many.
pub fn due_now(dir: &Path, ids: &[i64], now_ms: i64) -> Result<usize, StoreError> {
    let db = reader(dir)?;
    each_of(&db, ids, "UPDATE quarantine SET next_try_ms = MIN(IFNULL(next_try_ms, ?1), ?1) WHERE object IS NOT NULL", Some(now_ms))
}

/// Removes entries for good. All of them where `ids` is empty. Returns how many.
pub fn drop_quarantined(dir: &Path, ids: &[i64]) -> Result<usize, StoreError> {
    let db = reader(dir)?;
    each_of(&db, ids, "DELETE FROM quarantine WHERE (?1 IS NULL)", None)
}

fn each_of(db: &Connection, ids: &[i64], statement: &str, parameter: Option<i64>) -> Result<usize, StoreError> {
    if ids.is_empty() {
        return Ok(db.execute(statement, [parameter])?);
    }
    let mut n = 0;
    for id in ids {
        n += db.execute(&format!("{statement} AND id = ?2"), (parameter, id))?;
    }
    Ok(n)
}

impl super::Store {
    /// The entries of a source that are due to be read again.
    pub async fn due(&self, source: &str, now_ms: i64) -> Result<Vec<Quarantined>, StoreError> {
        let source = source.to_owned();
        self.ask(move |db| {
            let mut query =
                db.prepare_cached(&format!("{SELECT} WHERE source = ?1 AND next_try_ms <= ?2 ORDER BY next_try_ms LIMIT 100"))?;
            let rows = query.query_map(params![source, now_ms], read)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// An entry was tried in vain: when it is tried next.
    pub async fn postpone(&self, id: i64, next_try_ms: Option<i64>, why: String) -> Result<(), StoreError> {
        self.ask(move |db| {
            db.prepare_cached("UPDATE quarantine SET next_try_ms = ?2, tries = tries + 1, detail = ?3 WHERE id = ?1")?.execute(params![
                id,
                next_try_ms,
                why
            ])?;
            Ok(())
        })
        .await
    }

    /// How many entries there are now, by source and reason.
    pub async fn quarantine_size(&self) -> Result<Vec<(String, String, u64)>, StoreError> {
        self.ask(|db| {
            let mut query = db.prepare_cached("SELECT source, reason, COUNT(*) FROM quarantine GROUP BY source, reason")?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}

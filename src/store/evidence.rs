//! The events that alerts show: named in the commit of the alert, and copied whole soon after, so that they outlive
//! the hours for which events are kept. Until then whoever lists an alert finds them among the stored events.

use super::StoreError;
use super::search::{SearchOptions, search_unordered};
use crate::event::{EventId, write_json};
use crate::rules::{EVENTS_MAX, Kept};
use rusqlite::{Connection, Transaction, params};
use serde_json::value::RawValue;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// Events that are copied at a time: their JSON is in memory then.
const COPY_MAX: usize = 1_000;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS evidence (alert TEXT, time INTEGER, key BLOB, event BLOB NOT NULL, title TEXT NOT NULL, json TEXT,
  PRIMARY KEY (alert, time, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS evidence_named ON evidence (time, event) WHERE json IS NULL;
";

/// An event, and when it happened.
pub(super) type Named = (EventId, i64);

/// Names the latest events of an alert; its title is that of the latest.
pub(super) fn keep(tx: &Transaction<'_>, alert: &str, events: &[Kept]) -> Result<(), StoreError> {
    let mut insert = tx.prepare_cached("INSERT OR IGNORE INTO evidence VALUES (?1, ?2, ?3, ?4, ?5, NULL)")?;
    for it in events {
        insert.execute(params![alert, it.time, it.key.to_be_bytes(), it.event.0.to_be_bytes(), it.title])?;
    }
    tx.prepare_cached(
        "DELETE FROM evidence WHERE alert = ?1 AND (time, key) NOT IN
         (SELECT time, key FROM evidence WHERE alert = ?1 ORDER BY time DESC, key DESC LIMIT ?2)",
    )?
    .execute(params![alert, EVENTS_MAX as i64])?;
    tx.prepare_cached(
        "UPDATE alerts SET title = coalesce((SELECT title FROM evidence WHERE alert = ?1 ORDER BY time DESC, key DESC LIMIT 1), title)
         WHERE id = ?1",
    )?
    .execute([alert])?;
    Ok(())
}

/// Events that are named and not copied yet, the oldest first.
pub(super) fn to_copy(db: &Connection) -> Result<Vec<Named>, StoreError> {
    let mut query = db.prepare_cached("SELECT DISTINCT event, time FROM evidence WHERE json IS NULL ORDER BY time LIMIT ?1")?;
    let rows = query.query_map([COPY_MAX as i64], |row| Ok((EventId(u128::from_be_bytes(row.get(0)?)), row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The events as JSON, found among those that are stored. What is not there any more is not found.
pub(super) fn find(dir: &Path, named: &[Named]) -> Result<HashMap<EventId, String>, StoreError> {
    let mut found = HashMap::new();
    if named.is_empty() {
        return Ok(found);
    }
    let times = || named.iter().map(|(_, time)| *time);
    let options = SearchOptions {
        dir: dir.to_owned(),
        since_ms: times().min(),
        until_ms: times().max(),
        ids: Some(Arc::new(named.iter().map(|(id, _)| *id).collect::<HashSet<_>>())),
        ..SearchOptions::default()
    };
    search_unordered(options, |hit| {
        let mut json = Vec::new();
        write_json(hit.row(), &mut json);
        if let Ok(json) = String::from_utf8(json) {
            found.insert(hit.id(), json);
        }
    })?;
    Ok(found)
}

/// Keeps the copies. What was not found stays named by its id alone, as an object that says so.
pub(super) fn copied(tx: &Transaction<'_>, named: &[Named], found: &HashMap<EventId, String>) -> Result<(), StoreError> {
    let mut update = tx.prepare_cached("UPDATE evidence SET json = ?3 WHERE json IS NULL AND time = ?2 AND event = ?1")?;
    for (id, time) in named {
        let json = found.get(id).cloned().unwrap_or_else(|| format!("{{\"_id\":\"{id}\",\"event_time\":{time}}}"));
        update.execute(params![id.0.to_be_bytes(), time, json])?;
    }
    Ok(())
}

/// The events that an alert shows, newest first.
pub(super) fn of_alert(db: &Connection, dir: &Path, alert: &str) -> Result<Vec<Box<RawValue>>, StoreError> {
    let mut query = db.prepare_cached("SELECT event, time, json FROM evidence WHERE alert = ?1 ORDER BY time DESC, key DESC")?;
    let rows = query.query_map([alert], |row| Ok(((EventId(u128::from_be_bytes(row.get(0)?)), row.get(1)?), row.get(2)?)))?;
    let rows: Vec<(Named, Option<String>)> = rows.collect::<Result<_, _>>()?;
    let missing: Vec<Named> = rows.iter().filter(|(_, json)| json.is_none()).map(|(named, _)| *named).collect();
    let mut found = find(dir, &missing)?;
    let whole = rows.into_iter().filter_map(|((id, _), json)| json.or_else(|| found.remove(&id)));
    Ok(whole.filter_map(|it| RawValue::from_string(it).ok()).collect())
}

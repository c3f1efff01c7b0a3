//! Alerts as people see them: listed, and dismissed.

use super::{Store, StoreError, evidence};
use rusqlite::{Connection, params};
use std::collections::HashMap;
use std::path::Path;

/// A stored alert, as `alerts list` prints it.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredAlert {
    /// Its id.
    pub id: String,
    /// The rule.
    pub rule_id: String,
    /// The rule's title, its fields filled in from the latest event.
    pub title: String,
    /// 1 high, 2 medium, 3 low.
    pub severity: u8,
    /// The rule's tags.
    pub tags: Vec<String>,
    /// When it was raised, ms.
    pub created_at: i64,
    /// When it is forgotten, ms.
    pub expires_at: i64,
    /// Start of its window, ms of event time.
    pub window_start: i64,
    /// End of its window.
    pub window_end: i64,
    /// Time of the first event that counts, ms.
    pub first_event_time: i64,
    /// Time of the last, ms.
    pub last_event_time: i64,
    /// How many events count.
    pub count: u64,
    /// Aggregate fields with their values.
    pub aggregates: serde_json::Map<String, serde_json::Value>,
    /// Whether a person has dismissed it.
    pub is_dismissed: bool,
    /// When, ms.
    pub dismissed_at: Option<i64>,
    /// Who.
    pub dismissed_by: Option<String>,
    /// `BUSINESS_OP`, `COMPANY_POLICY`, `MAINTENANCE` or `OTHER`.
    pub dismiss_reason: Option<String>,
    /// Why, in words.
    pub dismiss_reason_text: Option<String>,
    /// Who looks at it.
    pub assignee: Option<String>,
    /// What was noted.
    pub notes: Vec<String>,
    /// The latest events, whole, newest first.
    pub events: Vec<Box<serde_json::value::RawValue>>,
}

/// Calls `each` with the alerts of a data folder, newest first, until it says no. `id`: only that one.
pub fn list_alerts(dir: &Path, id: Option<&str>, each: &mut dyn FnMut(StoredAlert) -> bool) -> Result<(), StoreError> {
    let db = super::quarantine::reader(dir)?;
    let mut query = db.prepare(
        "SELECT id, rule, title, severity, tags, created_ms, expires_ms, window_start, window_end, first_ms, last_ms, count, fields,
         aggregates, dismissed_ms, dismissed_by, dismiss_reason, dismiss_text, assignee, notes FROM alerts
         WHERE ?1 IS NULL OR id = ?1 ORDER BY last_ms DESC, id",
    )?;
    let mut rows = query.query([id])?;
    while let Some(row) = rows.next()? {
        let list =
            |at: usize| -> rusqlite::Result<Vec<String>> { Ok(serde_json::from_str(&row.get::<_, String>(at)?).unwrap_or_default()) };
        let id: String = row.get(0)?;
        let dismissed_at: Option<i64> = row.get(14)?;
        let alert = StoredAlert {
            events: evidence::of_alert(&db, dir, &id)?,
            id,
            rule_id: row.get(1)?,
            title: row.get(2)?,
            severity: row.get(3)?,
            tags: list(4)?,
            created_at: row.get(5)?,
            expires_at: row.get(6)?,
            window_start: row.get(7)?,
            window_end: row.get(8)?,
            first_event_time: row.get(9)?,
            last_event_time: row.get(10)?,
            count: row.get(11)?,
            aggregates: list(12)?.into_iter().zip(list(13)?.into_iter().map(serde_json::Value::String)).collect(),
            is_dismissed: dismissed_at.is_some(),
            dismissed_at,
            dismissed_by: row.get(15)?,
            dismiss_reason: row.get(16)?,
            dismiss_reason_text: row.get(17)?,
            assignee: row.get(18)?,
            notes: list(19)?,
        };
        if !each(alert) {
            return Ok(());
        }
    }
    Ok(())
}

/// Notes of one alert, at most.
pub const NOTES_MAX: usize = 1_000;

/// Dismisses an alert; the next match of its window opens another. False: there is none that is open with this id.
pub fn dismiss_alert(dir: &Path, id: &str, reason: &str, text: &str, by: &str, now: i64) -> Result<bool, StoreError> {
    let db = super::quarantine::reader(dir)?;
    let changed = db.execute(
        "UPDATE alerts SET dismissed_ms = ?2, dismissed_by = ?3, dismiss_reason = ?4, dismiss_text = ?5 WHERE id = ?1 AND dismissed_ms IS NULL",
        params![id, now, by, reason, text],
    )?;
    Ok(changed > 0)
}

/// Gives an alert to a person, or to nobody. False: there is none with this id.
pub fn assign_alert(dir: &Path, id: &str, assignee: Option<&str>) -> Result<bool, StoreError> {
    let db = super::quarantine::reader(dir)?;
    Ok(db.execute("UPDATE alerts SET assignee = ?2 WHERE id = ?1", params![id, assignee])? > 0)
}

/// Adds a note to an alert. False: there is none with this id, or it has [`NOTES_MAX`].
pub fn note_alert(dir: &Path, id: &str, note: &str) -> Result<bool, StoreError> {
    let db = super::quarantine::reader(dir)?;
    let changed = db.execute(
        "UPDATE alerts SET notes = json_insert(notes, '$[#]', ?2) WHERE id = ?1 AND json_array_length(notes) < ?3",
        params![id, note, NOTES_MAX],
    )?;
    Ok(changed > 0)
}

/// How often each suppression hid a match, and the event time of the last, ms; by its id.
pub fn suppression_hits(dir: &Path) -> Result<HashMap<String, (u64, i64)>, StoreError> {
    let db = super::quarantine::reader(dir)?;
    let mut query = db.prepare("SELECT id, hits, last_ms FROM suppression_hits")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How often each rule matched, and how many of these matches came too late for its state; by the rule's id.
pub fn rule_counts(dir: &Path) -> Result<HashMap<String, (u64, u64)>, StoreError> {
    counts(&super::quarantine::reader(dir)?)
}

fn counts(db: &Connection) -> Result<HashMap<String, (u64, u64)>, StoreError> {
    let mut query = db.prepare_cached("SELECT id, matches, late FROM rule_counts")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

impl Store {
    /// As [`rule_counts`], of this store.
    pub async fn rule_counts(&self) -> Result<HashMap<String, (u64, u64)>, StoreError> {
        self.ask(counts).await
    }
}

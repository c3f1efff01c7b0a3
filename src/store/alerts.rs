//! Alerts, and what rules remember between commits: written in the commit of the events that they are about.
//!
//! What is kept of a stateful rule's matches is enough to decide them anew whenever another comes, so the alerts are
//! the same in whatever order events arrive, and a crash changes nothing.

use super::StoreError;
use crate::rules::{Alert, EVENTS_MAX, Group, Kept, Match, Rule, RuleSet, Tally, Trigger, decide, tidy};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// How late an event may come and still count in a stateful rule, ms.
pub(super) const LATE_MS: i64 = 6 * 3_600_000;
/// How long what is seen for the first time waits for earlier events that come late, ms.
const FIRST_SEEN_WAIT_MS: i64 = 20 * 60_000;
/// How long alerts are kept, ms: 365 days.
const ALERT_MS: i64 = 365 * 86_400_000;
/// Matches of one rule and aggregate values that are kept; further ones do not count.
const MATCHES_MAX: i64 = 100_000;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS rule_matches (rule TEXT, aggregates TEXT, time INTEGER, key BLOB, value TEXT, steps INTEGER NOT NULL,
  due_ms INTEGER, added_ms INTEGER NOT NULL, PRIMARY KEY (rule, aggregates, time, key, value)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS rule_matches_due ON rule_matches (due_ms) WHERE due_ms IS NOT NULL;
CREATE TABLE IF NOT EXISTS rule_events (rule TEXT, aggregates TEXT, bucket INTEGER, time INTEGER, key BLOB, title TEXT NOT NULL,
  event TEXT NOT NULL, PRIMARY KEY (rule, aggregates, bucket, time, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alerts (id TEXT PRIMARY KEY, rule TEXT NOT NULL, aggregates TEXT NOT NULL, bucket INTEGER NOT NULL,
  generation INTEGER NOT NULL, title TEXT NOT NULL, severity INTEGER NOT NULL, tags TEXT NOT NULL, fields TEXT NOT NULL,
  created_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL, window_start INTEGER NOT NULL, window_end INTEGER NOT NULL,
  first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, count INTEGER NOT NULL, dismissed_ms INTEGER, dismissed_by TEXT,
  dismiss_reason TEXT, dismiss_text TEXT, assignee TEXT, notes TEXT NOT NULL DEFAULT '[]');
CREATE INDEX IF NOT EXISTS alerts_rule ON alerts (rule, aggregates, bucket, generation);
CREATE INDEX IF NOT EXISTS alerts_last ON alerts (last_ms);
CREATE TABLE IF NOT EXISTS suppression_hits (id TEXT PRIMARY KEY, hits INTEGER NOT NULL, last_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alert_events (alert TEXT, time INTEGER, key BLOB, title TEXT NOT NULL, event TEXT NOT NULL,
  PRIMARY KEY (alert, time, key)) WITHOUT ROWID;
";

/// Records what rules matched in a commit, and raises or extends the alerts that follow.
pub(super) fn record(tx: &Transaction<'_>, set: &RuleSet, tally: Tally, now: i64) -> Result<(), StoreError> {
    if tally.is_empty() {
        return Ok(());
    }
    for (it, (hits, last)) in set.suppressions.iter().zip(&tally.hidden).filter(|(_, (hits, _))| *hits > 0) {
        tx.prepare_cached(
            "INSERT INTO suppression_hits VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET hits = hits + ?2, last_ms = max(last_ms, ?3)",
        )?
        .execute(params![it.id, hits, last])?;
    }
    let values = tally.values();
    for (n, aggregates, group) in tally.into_groups() {
        let of = Of { tx, rule: &set.rules[n], key: to_json(&aggregates), aggregates: &aggregates, now };
        match of.rule.trigger {
            Trigger::Each => of.each(&group)?,
            Trigger::FirstSeen(..) => of.remember(&group, &values, Some(now + FIRST_SEEN_WAIT_MS))?,
            _ => {
                of.remember(&group, &values, None)?;
                let touched: BTreeSet<i64> = group.buckets.keys().flat_map(|at| [*at, at + 1]).collect();
                of.decide(&touched)?;
            }
        }
    }
    Ok(())
}

/// Decides what was seen for the first time long enough ago, and forgets what no window needs any more.
pub(super) fn upkeep(tx: &Transaction<'_>, set: &RuleSet, now: i64) -> Result<(), StoreError> {
    let due: Vec<(String, String)> = tx
        .prepare_cached("SELECT DISTINCT rule, aggregates FROM rule_matches WHERE due_ms <= ?1 ORDER BY rule, aggregates")?
        .query_map([now], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (rule, key) in due {
        if let Some(rule) = set.rules.iter().find(|it| it.id == rule) {
            let aggregates: Vec<String> = serde_json::from_str(&key).unwrap_or_default();
            let of = Of { tx, rule, key: key.clone(), aggregates: &aggregates, now };
            let times: Vec<i64> = tx
                .prepare_cached("SELECT time FROM rule_matches WHERE rule = ?1 AND aggregates = ?2 AND due_ms <= ?3")?
                .query_map(params![rule.id, key, now], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            of.decide(&times.into_iter().map(|time: i64| time.div_euclid(rule.window_ms)).collect())?;
        }
        tx.execute("UPDATE rule_matches SET due_ms = NULL WHERE aggregates = ?1 AND due_ms <= ?2", params![key, now])?;
    }
    for rule in &set.rules {
        let kept_ms = match &rule.trigger {
            Trigger::Each => continue,
            Trigger::FirstSeen(_, history_ms) => (*history_ms).max(rule.window_ms),
            _ => 2 * rule.window_ms,
        };
        let before = now - kept_ms - LATE_MS;
        tx.prepare_cached("DELETE FROM rule_matches WHERE rule = ?1 AND added_ms < ?2 AND time < ?2 AND due_ms IS NULL")?
            .execute(params![rule.id, before])?;
        let bucket = before.div_euclid(rule.window_ms);
        tx.prepare_cached(
            "DELETE FROM rule_events WHERE rule = ?1 AND bucket < ?2 AND NOT EXISTS (SELECT 1 FROM rule_matches m WHERE
            m.rule = rule_events.rule AND m.aggregates = rule_events.aggregates)",
        )?
        .execute(params![rule.id, bucket])?;
    }
    tx.execute("DELETE FROM alert_events WHERE alert IN (SELECT id FROM alerts WHERE expires_ms < ?1)", [now])?;
    tx.execute("DELETE FROM alerts WHERE expires_ms < ?1", [now])?;
    Ok(())
}

/// One rule with one set of aggregate values, in one commit.
struct Of<'t> {
    tx: &'t Transaction<'t>,
    rule: &'t Rule,
    /// The aggregate values as JSON.
    key: String,
    aggregates: &'t [String],
    now: i64,
}

impl Of<'_> {
    /// A rule without state: each window is an alert, and only grows.
    fn each(&self, group: &Group) -> Result<(), StoreError> {
        for (at, bucket) in &group.buckets {
            let (id, is_new) = self.open_alert(*at)?;
            let sum = (bucket.count, bucket.first, bucket.last);
            if is_new {
                self.insert(&id, *at, sum)?;
            } else {
                self.tx
                    .prepare_cached(
                        "UPDATE alerts SET count = count + ?2, first_ms = min(first_ms, ?3), last_ms = max(last_ms, ?4) WHERE id = ?1",
                    )?
                    .execute(params![id, sum.0, sum.1, sum.2])?;
            }
            self.keep_events(&id, &bucket.latest)?;
        }
        Ok(())
    }

    fn remember(&self, group: &Group, values: &[String], due_ms: Option<i64>) -> Result<(), StoreError> {
        let n: i64 = self
            .tx
            .prepare_cached("SELECT count(*) FROM rule_matches WHERE rule = ?1 AND aggregates = ?2")?
            .query_row(params![self.rule.id, self.key], |row| row.get(0))?;
        if n >= MATCHES_MAX {
            tracing::warn!(rule = self.rule.id, aggregates = self.key, "more matches than are kept; narrow the rule's filter");
            return Ok(());
        }
        let has_values = matches!(self.rule.trigger, Trigger::Distinct(..) | Trigger::FirstSeen(..));
        let mut insert = self.tx.prepare_cached(
            "INSERT INTO rule_matches VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT DO UPDATE SET steps = steps | ?6",
        )?;
        for it in &group.matches {
            let value = if has_values { values.get(it.value as usize).map_or("", String::as_str) } else { "" };
            insert.execute(params![self.rule.id, self.key, it.time, it.key.to_be_bytes(), value, it.steps, due_ms, self.now])?;
        }
        for (at, bucket) in &group.buckets {
            let mut insert = self.tx.prepare_cached("INSERT OR IGNORE INTO rule_events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
            for it in &bucket.latest {
                insert.execute(params![self.rule.id, self.key, at, it.time, it.key.to_be_bytes(), it.title, &*it.json])?;
            }
            self.tx
                .prepare_cached(
                    "DELETE FROM rule_events WHERE rule = ?1 AND aggregates = ?2 AND bucket = ?3 AND (time, key) NOT IN
                     (SELECT time, key FROM rule_events WHERE rule = ?1 AND aggregates = ?2 AND bucket = ?3
                      ORDER BY time DESC, key DESC LIMIT ?4)",
                )?
                .execute(params![self.rule.id, self.key, at, EVENTS_MAX as i64])?;
        }
        Ok(())
    }

    /// A stateful rule: the alerts of these windows, from all that is known of them.
    fn decide(&self, touched: &BTreeSet<i64>) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (touched.first(), touched.last()) else { return Ok(()) };
        let window_ms = self.rule.window_ms;
        let back_ms = match &self.rule.trigger {
            Trigger::FirstSeen(_, history_ms) => *history_ms,
            _ => window_ms,
        };
        let mut matches = self.matches(first * window_ms - back_ms, (last + 1) * window_ms)?;
        tidy(&mut matches);
        let waiting = self.waiting()?;
        for (at, mut covered) in decide(self.rule, &matches) {
            covered.retain(|n| !waiting.contains(&matches[*n].key));
            if !touched.contains(&at) || covered.is_empty() {
                continue;
            }
            let keys: BTreeSet<u128> = covered.iter().map(|n| matches[*n].key).collect();
            let times = covered.iter().map(|n| matches[*n].time);
            let sum = (keys.len() as u64, times.clone().min().unwrap_or(0), times.max().unwrap_or(0));
            let events = self.events(at, &keys)?;
            let Some((id, is_new)) = self.alert_to_set(at, &keys, &events)? else { continue };
            if is_new {
                self.insert(&id, at, sum)?;
            } else {
                self.tx
                    .prepare_cached(
                        "UPDATE alerts SET count = max(count, ?2), first_ms = min(first_ms, ?3), last_ms = max(last_ms, ?4) WHERE id = ?1",
                    )?
                    .execute(params![id, sum.0, sum.1, sum.2])?;
            }
            self.keep_events(&id, &events)?;
        }
        Ok(())
    }

    /// What is not decided yet, since earlier events may still come.
    fn waiting(&self) -> Result<BTreeSet<u128>, StoreError> {
        let mut query = self.tx.prepare_cached("SELECT key FROM rule_matches WHERE rule = ?1 AND aggregates = ?2 AND due_ms > ?3")?;
        let keys = query.query_map(params![self.rule.id, self.key, self.now], |row| Ok(u128::from_be_bytes(row.get(0)?)))?;
        Ok(keys.collect::<Result<_, _>>()?)
    }

    fn matches(&self, from: i64, to: i64) -> Result<Vec<Match>, StoreError> {
        let mut numbers = HashMap::<String, u32>::new();
        let mut query = self.tx.prepare_cached(
            "SELECT time, key, value, steps FROM rule_matches WHERE rule = ?1 AND aggregates = ?2 AND time > ?3 AND time < ?4",
        )?;
        let rows = query.query_map(params![self.rule.id, self.key, from, to], |row| {
            let next = numbers.len() as u32;
            let value = *numbers.entry(row.get(2)?).or_insert(next);
            Ok(Match { time: row.get(0)?, key: u128::from_be_bytes(row.get(1)?), steps: row.get(3)?, value })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The latest events of a window and the one before it that count.
    fn events(&self, at: i64, keys: &BTreeSet<u128>) -> Result<Vec<Kept>, StoreError> {
        let mut query = self.tx.prepare_cached(
            "SELECT time, key, title, event FROM rule_events WHERE rule = ?1 AND aggregates = ?2 AND bucket BETWEEN ?3 - 1 AND ?3
             ORDER BY time DESC, key DESC",
        )?;
        let rows = query.query_map(params![self.rule.id, self.key, at], |row| {
            let json: String = row.get(3)?;
            Ok(Kept { time: row.get(0)?, key: u128::from_be_bytes(row.get(1)?), title: row.get(2)?, json: json.into() })
        })?;
        let mut kept = Vec::new();
        for row in rows {
            let row = row?;
            if keys.contains(&row.key) && kept.len() < EVENTS_MAX {
                kept.push(row);
            }
        }
        Ok(kept)
    }

    /// The newest alert of a window: its id, generation and whether it was dismissed.
    fn newest(&self, at: i64) -> Result<Option<(String, u32, bool)>, StoreError> {
        let mut query = self.tx.prepare_cached(
            "SELECT id, generation, dismissed_ms IS NOT NULL FROM alerts WHERE rule = ?1 AND aggregates = ?2 AND bucket = ?3
             ORDER BY generation DESC LIMIT 1",
        )?;
        Ok(query.query_row(params![self.rule.id, self.key, at], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?)
    }

    /// The alert that takes further matches of a window, and whether it is new: after a dismissal another one opens.
    fn open_alert(&self, at: i64) -> Result<(String, bool), StoreError> {
        let id = |generation| Alert::id_of(self.rule, self.aggregates, at, generation).to_string();
        Ok(match self.newest(at)? {
            None => (id(0), true),
            Some((id, _, false)) => (id, false),
            Some((_, generation, true)) => (id(generation + 1), true),
        })
    }

    /// As [`Of::open_alert`]; none where everything that counts was in the alert when it was dismissed.
    fn alert_to_set(&self, at: i64, keys: &BTreeSet<u128>, events: &[Kept]) -> Result<Option<(String, bool)>, StoreError> {
        if let Some((id, _, true)) = self.newest(at)? {
            let count: u64 = self.tx.query_row("SELECT count FROM alerts WHERE id = ?1", [&id], |row| row.get(0))?;
            if events.is_empty() || keys.len() as u64 <= count {
                return Ok(None);
            }
        }
        self.open_alert(at).map(Some)
    }

    fn insert(&self, id: &str, at: i64, (count, first, last): (u64, i64, i64)) -> Result<(), StoreError> {
        let rule = self.rule;
        let generation = self.newest(at)?.map_or(0, |(_, generation, _)| generation + 1);
        let fields: Vec<&str> = rule.aggregates.iter().map(|it| it.path.as_str()).collect();
        self.tx
            .prepare_cached(
                "INSERT INTO alerts (id, rule, aggregates, bucket, generation, title, severity, tags, fields, created_ms, expires_ms,
                 window_start, window_end, first_ms, last_ms, count) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
            )?
            .execute(params![
                id,
                rule.id,
                self.key,
                at,
                generation,
                rule.title.text,
                rule.severity,
                to_json(&rule.tags),
                to_json(&fields),
                self.now,
                self.now + ALERT_MS,
                at * rule.window_ms,
                (at + 1) * rule.window_ms,
                first,
                last,
                count
            ])?;
        Ok(())
    }

    /// Keeps the latest events of an alert whole; the title is that of the latest.
    fn keep_events(&self, id: &str, events: &[Kept]) -> Result<(), StoreError> {
        let mut insert = self.tx.prepare_cached("INSERT OR IGNORE INTO alert_events VALUES (?1, ?2, ?3, ?4, ?5)")?;
        for it in events {
            insert.execute(params![id, it.time, it.key.to_be_bytes(), it.title, &*it.json])?;
        }
        self.tx
            .prepare_cached(
                "DELETE FROM alert_events WHERE alert = ?1 AND (time, key) NOT IN
                 (SELECT time, key FROM alert_events WHERE alert = ?1 ORDER BY time DESC, key DESC LIMIT ?2)",
            )?
            .execute(params![id, EVENTS_MAX as i64])?;
        self.tx
            .prepare_cached("UPDATE alerts SET title = coalesce((SELECT title FROM alert_events WHERE alert = ?1 ORDER BY time DESC, key DESC LIMIT 1), title) WHERE id = ?1")?
            .execute([id])?;
        Ok(())
    }
}

fn to_json<T: serde::Serialize>(value: &T) -> String {
    // Lists of texts always serialize.
    serde_json::to_string(value).unwrap_or_default()
}

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
            events: events_of(&db, &id)?,
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

fn events_of(db: &Connection, id: &str) -> Result<Vec<Box<serde_json::value::RawValue>>, StoreError> {
    let mut query = db.prepare_cached("SELECT event FROM alert_events WHERE alert = ?1 ORDER BY time DESC, key DESC")?;
    let texts: Vec<String> = query.query_map([id], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(texts.into_iter().filter_map(|it| serde_json::value::RawValue::from_string(it).ok()).collect())
}

/// Dismisses an alert; the next match of its window opens another. False: there is none that is open with this id.
pub fn dismiss_alert(dir: &Path, id: &str, reason: &str, text: &str, by: &str, now: i64) -> Result<bool, StoreError> {
    let db = super::quarantine::reader(dir)?;
    let changed = db.execute(
        "UPDATE alerts SET dismissed_ms = ?2, dismissed_by = ?3, dismiss_reason = ?4, dismiss_text = ?5 WHERE id = ?1 AND dismissed_ms IS NULL",
        params![id, now, by, reason, text],
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

//! Alerts, and what rules remember between commits: written in the commit of the events that they are about.
//!
//! What is kept of a stateful rule's matches is enough to decide them anew whenever another comes, so the alerts are
//! the same in whatever order events arrive, and a crash changes nothing. Events are named, not kept: they are stored
//! in the same commit, and `evidence` makes whole copies of those that an alert shows.

use super::{Lateness, StoreError, evidence};
use crate::event::EventId;
use crate::rules::{
    Alert, Bucket, EVENTS_MAX, Group, Kept, Match, Rule, RuleSet, TROUBLE_WINDOW_MS, Tally, Title, Trigger, Trouble, decide, tidy,
};
use rusqlite::{OptionalExtension, Transaction, params};
use std::collections::{BTreeSet, HashMap};

/// How long alerts are kept, ms: 365 days.
const ALERT_MS: i64 = 365 * 86_400_000;
/// Matches of one rule and aggregate values that are kept; further ones do not count.
const MATCHES_MAX: i64 = 100_000;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS rule_groups (id INTEGER PRIMARY KEY, rule TEXT NOT NULL, aggregates TEXT NOT NULL, UNIQUE (rule, aggregates));
CREATE TABLE IF NOT EXISTS group_matches (rule_group INTEGER, time INTEGER, key BLOB, value TEXT, steps INTEGER NOT NULL,
  event BLOB NOT NULL, title TEXT NOT NULL, due_ms INTEGER, added_ms INTEGER NOT NULL,
  PRIMARY KEY (rule_group, time, key, value)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS group_matches_due ON group_matches (due_ms) WHERE due_ms IS NOT NULL;
CREATE TABLE IF NOT EXISTS alerts (id TEXT PRIMARY KEY, rule TEXT NOT NULL, aggregates TEXT NOT NULL, bucket INTEGER NOT NULL,
  generation INTEGER NOT NULL, title TEXT NOT NULL, severity INTEGER NOT NULL, tags TEXT NOT NULL, fields TEXT NOT NULL,
  created_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL, window_start INTEGER NOT NULL, window_end INTEGER NOT NULL,
  first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, count INTEGER NOT NULL, dismissed_ms INTEGER, dismissed_by TEXT,
  dismiss_reason TEXT, dismiss_text TEXT, assignee TEXT, notes TEXT NOT NULL DEFAULT '[]');
CREATE INDEX IF NOT EXISTS alerts_rule ON alerts (rule, aggregates, bucket, generation);
CREATE INDEX IF NOT EXISTS alerts_last ON alerts (last_ms);
CREATE TABLE IF NOT EXISTS rule_counts (id TEXT PRIMARY KEY, matches INTEGER NOT NULL, late INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS suppression_hits (id TEXT PRIMARY KEY, hits INTEGER NOT NULL, last_ms INTEGER NOT NULL) WITHOUT ROWID;
";

/// Records what rules matched in a commit, and raises or extends the alerts that follow.
pub(super) fn record(tx: &Transaction<'_>, set: &RuleSet, tally: Tally, lateness: Lateness, now: i64) -> Result<(), StoreError> {
    if tally.is_empty() {
        return Ok(());
    }
    for (it, (hits, last)) in set.suppressions.iter().zip(&tally.hidden).filter(|(_, (hits, _))| *hits > 0) {
        tx.prepare_cached(
            "INSERT INTO suppression_hits VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET hits = hits + ?2, last_ms = max(last_ms, ?3)",
        )?
        .execute(params![it.id, hits, last])?;
    }
    for (n, matches) in tally.matches.iter().enumerate().filter(|(_, it)| **it > 0) {
        count(tx, &set.rules[n].id, *matches, 0)?;
    }
    let values = tally.values();
    for (n, aggregates, group) in tally.into_groups() {
        let of = Of { tx, rule: &set.rules[n], key: to_json(&aggregates), aggregates: &aggregates, now };
        let late = late(of.rule, &group, now - lateness.max_ms);
        if late > 0 {
            count(tx, &of.rule.id, 0, late)?;
        }
        match of.rule.trigger {
            Trigger::Each => of.each(&group)?,
            Trigger::FirstSeen(..) if lateness.first_seen_ms > 0 => {
                of.remember(&group, &values, Some(now + lateness.first_seen_ms))?;
            }
            _ => {
                let id = of.remember(&group, &values, None)?;
                let touched: BTreeSet<i64> = group.buckets.keys().flat_map(|at| [*at, at + 1]).collect();
                of.decide(id, &touched)?;
            }
        }
    }
    Ok(())
}

fn count(tx: &Transaction<'_>, rule: &str, matches: u64, late: u64) -> Result<(), StoreError> {
    tx.prepare_cached(
        "INSERT INTO rule_counts VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET matches = matches + ?2, late = late + ?3",
    )?
    .execute(params![rule, matches, late])?;
    Ok(())
}

/// Matches for which what they would count with may be forgotten: they are older than the rule's window and the lateness.
/// They count with what there is.
fn late(rule: &Rule, group: &Group, before: i64) -> u64 {
    let keys = group.matches.iter().filter(|it| it.time < before - rule.window_ms).map(|it| it.key);
    keys.collect::<BTreeSet<u128>>().len() as u64
}

/// Raises or extends the alert of a trouble; `what` stands behind its title.
pub(super) fn raise(
    tx: &Transaction<'_>,
    trouble: Trouble,
    aggregates: &[String],
    what: &str,
    (count, now): (u64, i64),
) -> Result<(), StoreError> {
    let mut group = Group::default();
    group.buckets.insert(now.div_euclid(TROUBLE_WINDOW_MS), Bucket { count, first: now, last: now, latest: Vec::new() });
    let mut rule = trouble.rule();
    if !what.is_empty() {
        rule.title = Title::new(&format!("{}: {what}", rule.title.text));
    }
    Of { tx, rule: &rule, key: to_json(&aggregates), aggregates, now }.each(&group)
}

/// The same of events that are in trouble, which the alert shows.
pub(super) fn raise_group(
    tx: &Transaction<'_>,
    trouble: Trouble,
    aggregates: &[String],
    group: &Group,
    now: i64,
) -> Result<(), StoreError> {
    Of { tx, rule: &trouble.rule(), key: to_json(&aggregates), aggregates, now }.each(group)
}

/// Decides what was seen for the first time long enough ago, and forgets what no window needs any more.
pub(super) fn upkeep(tx: &Transaction<'_>, set: &RuleSet, lateness: Lateness, now: i64) -> Result<(), StoreError> {
    let due: Vec<(i64, String, String)> = tx
        .prepare_cached(
            "SELECT DISTINCT g.id, g.rule, g.aggregates FROM group_matches m JOIN rule_groups g ON g.id = m.rule_group
             WHERE m.due_ms <= ?1 ORDER BY 2, 3",
        )?
        .query_map([now], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    for (group, rule, key) in due {
        if let Some(rule) = set.rules.iter().find(|it| it.id == rule) {
            let aggregates: Vec<String> = serde_json::from_str(&key).unwrap_or_default();
            let of = Of { tx, rule, key, aggregates: &aggregates, now };
            let times: Vec<i64> = tx
                .prepare_cached("SELECT time FROM group_matches WHERE rule_group = ?1 AND due_ms <= ?2")?
                .query_map(params![group, now], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            of.decide(group, &times.into_iter().map(|time: i64| time.div_euclid(rule.window_ms)).collect())?;
        }
        tx.execute("UPDATE group_matches SET due_ms = NULL WHERE rule_group = ?1 AND due_ms <= ?2", params![group, now])?;
    }
    for rule in &set.rules {
        let kept_ms = match &rule.trigger {
            Trigger::Each => continue,
            Trigger::FirstSeen(_, history_ms) => (*history_ms).max(rule.window_ms),
            _ => 2 * rule.window_ms,
        };
        let before = now - kept_ms - lateness.max_ms;
        tx.prepare_cached(
            "DELETE FROM group_matches WHERE rule_group IN (SELECT id FROM rule_groups WHERE rule = ?1)
             AND added_ms < ?2 AND time < ?2 AND due_ms IS NULL",
        )?
        .execute(params![rule.id, before])?;
    }
    tx.execute("DELETE FROM rule_groups WHERE NOT EXISTS (SELECT 1 FROM group_matches m WHERE m.rule_group = rule_groups.id)", [])?;
    tx.execute("DELETE FROM evidence WHERE alert IN (SELECT id FROM alerts WHERE expires_ms < ?1)", [now])?;
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
            evidence::keep(self.tx, &id, &bucket.latest)?;
        }
        Ok(())
    }

    /// Keeps the matches; returns the number under which they are kept.
    fn remember(&self, group: &Group, values: &[String], due_ms: Option<i64>) -> Result<i64, StoreError> {
        let id = self.group()?;
        let n: i64 = self
            .tx
            .prepare_cached("SELECT count(*) FROM (SELECT 1 FROM group_matches WHERE rule_group = ?1 LIMIT ?2)")?
            .query_row(params![id, MATCHES_MAX], |row| row.get(0))?;
        if n >= MATCHES_MAX {
            tracing::warn!(rule = self.rule.id, aggregates = self.key, "more matches than are kept; narrow the rule's filter");
            let left_out = group.buckets.values().map(|it| it.count).sum();
            raise(self.tx, Trouble::RuleOverflow, std::slice::from_ref(&self.rule.id), "", (left_out, self.now))?;
            return Ok(id);
        }
        let has_values = matches!(self.rule.trigger, Trigger::Distinct(..) | Trigger::FirstSeen(..));
        let mut insert = self.tx.prepare_cached(
            "INSERT INTO group_matches VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO UPDATE SET steps = steps | ?5",
        )?;
        for it in &group.matches {
            let value = if has_values { values.get(it.value as usize).map_or("", String::as_str) } else { "" };
            let (event, title) = group.shown.get(&(it.time, it.key)).map_or((0, ""), |it| (it.event.0, &*it.title));
            insert.execute(params![id, it.time, it.key.to_be_bytes(), value, it.steps, event.to_be_bytes(), title, due_ms, self.now])?;
        }
        Ok(id)
    }

    /// The number of this rule with these aggregate values.
    fn group(&self) -> Result<i64, StoreError> {
        let found = self
            .tx
            .prepare_cached("SELECT id FROM rule_groups WHERE rule = ?1 AND aggregates = ?2")?
            .query_row(params![self.rule.id, self.key], |row| row.get(0))
            .optional()?;
        if let Some(id) = found {
            return Ok(id);
        }
        self.tx.prepare_cached("INSERT INTO rule_groups (rule, aggregates) VALUES (?1, ?2)")?.execute(params![self.rule.id, self.key])?;
        Ok(self.tx.last_insert_rowid())
    }

    /// A stateful rule: the alerts of these windows, from all that is known of them.
    fn decide(&self, group: i64, touched: &BTreeSet<i64>) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (touched.first(), touched.last()) else { return Ok(()) };
        let window_ms = self.rule.window_ms;
        let back_ms = match &self.rule.trigger {
            Trigger::FirstSeen(_, history_ms) => *history_ms,
            _ => window_ms,
        };
        let mut matches = self.matches(group, first * window_ms - back_ms, (last + 1) * window_ms)?;
        tidy(&mut matches);
        let waiting = self.waiting(group)?;
        for (at, mut covered) in decide(self.rule, &matches) {
            covered.retain(|n| !waiting.contains(&matches[*n].key));
            if !touched.contains(&at) || covered.is_empty() {
                continue;
            }
            let keys: BTreeSet<u128> = covered.iter().map(|n| matches[*n].key).collect();
            let times = covered.iter().map(|n| matches[*n].time);
            let sum = (keys.len() as u64, times.clone().min().unwrap_or(0), times.max().unwrap_or(0));
            let events = self.events(group, (sum.1, sum.2), &keys)?;
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
            evidence::keep(self.tx, &id, &events)?;
        }
        Ok(())
    }

    /// What is not decided yet, since earlier events may still come.
    fn waiting(&self, group: i64) -> Result<BTreeSet<u128>, StoreError> {
        if !matches!(self.rule.trigger, Trigger::FirstSeen(..)) {
            return Ok(BTreeSet::new());
        }
        let mut query = self.tx.prepare_cached("SELECT key FROM group_matches WHERE rule_group = ?1 AND due_ms > ?2")?;
        let keys = query.query_map(params![group, self.now], |row| Ok(u128::from_be_bytes(row.get(0)?)))?;
        Ok(keys.collect::<Result<_, _>>()?)
    }

    fn matches(&self, group: i64, from: i64, to: i64) -> Result<Vec<Match>, StoreError> {
        let mut numbers = HashMap::<String, u32>::new();
        let mut query = self
            .tx
            .prepare_cached("SELECT time, key, value, steps FROM group_matches WHERE rule_group = ?1 AND time > ?2 AND time < ?3")?;
        let rows = query.query_map(params![group, from, to], |row| {
            let next = numbers.len() as u32;
            let value = *numbers.entry(row.get(2)?).or_insert(next);
            Ok(Match { time: row.get(0)?, key: u128::from_be_bytes(row.get(1)?), steps: row.get(3)?, value })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The latest of the events that count, which lie between two times.
    fn events(&self, group: i64, (first, last): (i64, i64), keys: &BTreeSet<u128>) -> Result<Vec<Kept>, StoreError> {
        let mut query = self.tx.prepare_cached(
            "SELECT time, key, event, title FROM group_matches WHERE rule_group = ?1 AND time BETWEEN ?2 AND ?3 ORDER BY time DESC, key DESC",
        )?;
        let mut rows = query.query(params![group, first, last])?;
        let mut kept: Vec<Kept> = Vec::new();
        while let Some(row) = rows.next()? {
            if kept.len() >= EVENTS_MAX {
                break;
            }
            let (time, key) = (row.get(0)?, u128::from_be_bytes(row.get(1)?));
            // An event with several values that count is there several times.
            if keys.contains(&key) && kept.last().is_none_or(|it| (it.time, it.key) != (time, key)) {
                kept.push(Kept { time, key, event: EventId(u128::from_be_bytes(row.get(2)?)), title: row.get(3)?, json: None });
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
}

fn to_json<T: serde::Serialize>(value: &T) -> String {
    // Lists of texts always serialize.
    serde_json::to_string(value).unwrap_or_default()
}

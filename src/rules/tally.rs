//! Matches become alerts: gathered by rule and aggregate values, decided when all of the input is in.

use super::alert::Alert;
use super::rule::{Rule, Trigger};
use super::set::RuleSet;
use super::spool::{Spool, Spooled};
use super::window::{self, Match, tidy};
use crate::event::{Col, EventId, EventType, Row, Val, write_json};
use crate::filter::{Field, Scratch};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::{Arc, LazyLock};

/// Events that an alert keeps whole: the latest.
pub const EVENTS_MAX: usize = 10;
/// Different aggregate values of one rule that are kept apart; further ones are counted as overflow.
pub const GROUPS_MAX: usize = 100_000;
/// Matches of a stateful rule that are kept for one set of aggregate values; further ones are counted as overflow.
const MATCHES_MAX: usize = 1_000_000;

/// One match, ready for the tally: made without it, so that many threads can.
#[derive(Debug)]
pub struct Hit {
    rule: usize,
    aggregates: Vec<String>,
    of: Match,
    values: Vec<String>,
    title: Arc<str>,
    event: EventId,
    json: Option<Arc<str>>,
}

/// An event that an alert shows.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Event time, ms.
    pub time: i64,
    /// What counts once.
    pub key: u128,
    /// The event.
    pub event: EventId,
    /// The rule's title with its values.
    pub title: Arc<str>,
    /// The event as JSON, where it is not to be found in a store.
    pub json: Option<Spooled>,
}

/// What a match shows if it is in an alert.
#[derive(Debug)]
pub struct Shown {
    /// The event.
    pub event: EventId,
    /// The rule's title with its values.
    pub title: Arc<str>,
    json: Option<Spooled>,
}

/// What one window of one set of aggregate values holds.
#[derive(Debug, Default)]
pub struct Bucket {
    /// Matches.
    pub count: u64,
    /// Time of the first, ms.
    pub first: i64,
    /// Time of the last, ms.
    pub last: i64,
    /// The latest, newest first.
    pub latest: Vec<Kept>,
}

impl Bucket {
    /// Counts a match at this time, and shows its event if it is among the latest.
    pub fn add(&mut self, order: (i64, u128), kept: impl FnOnce() -> Kept) {
        self.count(order.0);
        self.keep(order, kept);
    }

    fn count(&mut self, time: i64) {
        (self.first, self.last) = if self.count == 0 { (time, time) } else { (self.first.min(time), self.last.max(time)) };
        self.count += 1;
    }

    /// Keeps the event if it is among the latest; of equal times the larger key, so that the order does not matter.
    fn keep(&mut self, order: (i64, u128), kept: impl FnOnce() -> Kept) {
        let at = self.latest.partition_point(|it| (it.time, it.key) > order);
        if at < EVENTS_MAX {
            let mut it = kept();
            // Most have one title.
            if let Some(same) = self.latest.first().filter(|other| other.title == it.title) {
                it.title = Arc::clone(&same.title);
            }
            self.latest.insert(at, it);
            self.latest.truncate(EVENTS_MAX);
        }
    }
}

/// The matches of one rule that have the same aggregate values.
#[derive(Debug, Default)]
pub struct Group {
    /// By the number of their window: event time over its length.
    pub buckets: BTreeMap<i64, Bucket>,
    /// All of them, where the rule has a state.
    pub matches: Vec<Match>,
    /// What they show, by time and what counts once.
    pub shown: HashMap<(i64, u128), Shown>,
    /// The title of the last of them: most have one.
    title: Option<Arc<str>>,
}

/// All matches of a hunt.
#[derive(Debug, Default)]
pub struct Tally {
    groups: Vec<HashMap<Vec<String>, Group>>,
    values: HashMap<String, u32>,
    /// Matches a rule, by its number.
    pub matches: Vec<u64>,
    /// Matches that a rule's bounds left out, by its number.
    pub overflow: Vec<u64>,
    /// Matches that a suppression hid and the time of the last, by its number.
    pub hidden: Vec<(u64, i64)>,
    spool: Spool,
}

impl Hit {
    /// What a rule needs of an event that matches it; `json` is the event, written once for all of its rules, where no
    /// store keeps it.
    pub fn new<R: Row>(set: &RuleSet, rule: usize, event: &R, json: Option<&Arc<str>>, scratch: &mut Scratch) -> Self {
        let it = &set.rules[rule];
        let text = |field: &Field, scratch: &mut Scratch| field.values(event, scratch).join(",");
        let aggregates = it.aggregates.iter().map(|field| text(field, scratch)).collect();
        let values = it.trigger.field().map(|field| field.values(event, scratch)).unwrap_or_default();
        let steps = it.trigger.steps().iter().enumerate();
        let steps = steps.fold(0, |bits, (n, step)| bits | u32::from(step.matches(event, scratch)) << n);
        Self {
            rule,
            aggregates,
            of: Match { time: time_of(event), key: request(event, scratch), steps, value: 0 },
            values,
            title: it.title.of(event, scratch).into(),
            event: event.id(),
            json: json.cloned(),
        }
    }
}

/// The event as JSON, to be shared.
pub fn shared_json(event: &impl Row) -> Arc<str> {
    let mut json = Vec::new();
    write_json(event, &mut json);
    String::from_utf8(json).unwrap_or_default().into()
}

static AUDIT_ID: LazyLock<Option<Field>> = LazyLock::new(|| Field::new("auditID").ok());

/// What counts once: a request to Kubernetes, whatever its stages; else the event.
fn request(event: &impl Row, scratch: &mut Scratch) -> u128 {
    if event.event_type() == EventType::KubernetesAudit {
        let id = AUDIT_ID.as_ref().map(|field| field.values(event, scratch)).unwrap_or_default();
        if let [id] = id.as_slice() {
            return xxhash_rust::xxh3::xxh3_128(format!("{}|{id}", event.val(Col::Cluster).text().unwrap_or("")).as_bytes());
        }
    }
    event.id().0
}

fn time_of(event: &impl Row) -> i64 {
    match event.val(Col::EventTime) {
        Val::Int(ms) => ms,
        _ => 0,
    }
}

impl Tally {
    /// A tally for these rules.
    pub fn new(set: &RuleSet) -> Self {
        let n = set.rules.len();
        Self {
            groups: (0..n).map(|_| HashMap::new()).collect(),
            values: HashMap::new(),
            matches: vec![0; n],
            overflow: vec![0; n],
            hidden: vec![(0, i64::MIN); set.suppressions.len()],
            spool: Spool::default(),
        }
    }

    /// Counts a match that a suppression hid.
    pub fn hide(&mut self, suppression: usize, time: i64) {
        if let Some((n, last)) = self.hidden.get_mut(suppression) {
            (*n, *last) = (*n + 1, time.max(*last));
        }
    }

    /// Counts a match.
    pub fn add(&mut self, set: &RuleSet, hit: &Hit) {
        let rule = &set.rules[hit.rule];
        self.matches[hit.rule] += 1;
        if !rule.is_live {
            return;
        }
        let groups = &mut self.groups[hit.rule];
        if groups.len() >= GROUPS_MAX && !groups.contains_key(&hit.aggregates) {
            self.overflow[hit.rule] += 1;
            return;
        }
        let group = groups.entry(hit.aggregates.clone()).or_default();
        let bucket = group.buckets.entry(hit.of.time.div_euclid(rule.window_ms)).or_default();
        let (time, key) = (hit.of.time, hit.of.key);
        let mut json = || hit.json.as_ref().and_then(|it| self.spool.keep(it));
        bucket.count(time);
        if matches!(rule.trigger, Trigger::Each) {
            let kept = || Kept { time, key, event: hit.event, title: Arc::clone(&hit.title), json: json() };
            return bucket.keep((time, key), kept);
        }
        if group.matches.len() >= MATCHES_MAX {
            self.overflow[hit.rule] += 1;
            return;
        }
        // Which of them an alert shows is known when it is decided.
        group.shown.entry((time, key)).or_insert_with(|| {
            let title = group.title.take().filter(|it| *it == hit.title).unwrap_or_else(|| Arc::clone(&hit.title));
            Shown { event: hit.event, title: Arc::clone(group.title.insert(title)), json: json() }
        });
        if rule.trigger.field().is_none() {
            group.matches.push(hit.of);
        }
        // A match without a value of the field that counts has nothing to count.
        for value in &hit.values {
            let next = self.values.len() as u32;
            let value = *self.values.entry(value.clone()).or_insert(next);
            group.matches.push(Match { value, ..hit.of });
        }
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.matches.iter().all(|n| *n == 0) && self.hidden.iter().all(|(n, _)| *n == 0)
    }

    /// The values that matches name by number.
    pub fn values(&self) -> Vec<String> {
        let mut values: Vec<_> = self.values.iter().collect();
        values.sort_unstable_by_key(|(_, n)| **n);
        values.into_iter().map(|(value, _)| value.clone()).collect()
    }

    /// Everything that was gathered: the rule's number, the aggregate values, their matches; in a fixed order.
    pub fn into_groups(self) -> Vec<(usize, Vec<String>, Group)> {
        let of_rule = |(n, groups): (usize, HashMap<Vec<String>, Group>)| groups.into_iter().map(move |(key, group)| (n, key, group));
        let mut all: Vec<_> = self.groups.into_iter().enumerate().flat_map(of_rule).collect();
        all.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        all
    }

    /// All alerts, in the order of rules, aggregate values and time. An error: the file that holds their events failed.
    pub fn finish(mut self, set: &RuleSet, each: &mut dyn FnMut(&Alert)) -> io::Result<()> {
        let mut spool = std::mem::take(&mut self.spool);
        spool.close()?;
        for (n, aggregates, group) in self.into_groups() {
            alerts(&set.rules[n], &aggregates, group, &spool, each)?;
        }
        Ok(())
    }
}

/// Of a stateful rule's matches (sorted and without repeats, see [`tidy`]) those that count, by the window of the
/// alert that they are part of. Windows without an alert are not there.
pub fn decide(rule: &Rule, matches: &[Match]) -> BTreeMap<i64, Vec<usize>> {
    let window_ms = rule.window_ms;
    let qualifying = match &rule.trigger {
        Trigger::Each => Vec::new(),
        Trigger::Threshold(count) => window::threshold(matches, window_ms, *count),
        Trigger::Distinct(_, count) => window::distinct(matches, window_ms, *count),
        Trigger::FirstSeen(_, history_ms) => window::first_seen(matches, *history_ms),
        Trigger::Sequence(steps) => window::sequence(matches, window_ms, steps.len()),
        Trigger::Together(steps) => window::together(matches, window_ms, steps.len()),
    };
    let mut by_bucket: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for at in qualifying {
        by_bucket.entry(matches[at].time.div_euclid(window_ms)).or_default().push(at);
    }
    // What was first seen is one event, not all that came before it.
    if !matches!(rule.trigger, Trigger::FirstSeen(..)) {
        for of_bucket in by_bucket.values_mut() {
            *of_bucket = window::covered(matches, of_bucket, window_ms);
        }
    }
    by_bucket
}

fn alerts(rule: &Rule, aggregates: &[String], mut group: Group, spool: &Spool, each: &mut dyn FnMut(&Alert)) -> io::Result<()> {
    if matches!(rule.trigger, Trigger::Each) {
        for (at, bucket) in &group.buckets {
            each(&alert(rule, aggregates, *at, (bucket.count, bucket.first, bucket.last), &bucket.latest, spool)?);
        }
        return Ok(());
    }
    tidy(&mut group.matches);
    let matches = &group.matches;
    for (at, covered) in decide(rule, matches) {
        // A match with several values that count is there several times.
        let mut counted: Vec<(i64, u128)> = covered.iter().map(|n| (matches[*n].time, matches[*n].key)).collect();
        counted.sort_unstable();
        let mut keys = HashSet::new();
        counted.retain(|it| keys.insert(it.1));
        let (first, last) = (counted.first().map_or(0, |it| it.0), counted.last().map_or(0, |it| it.0));
        let kept = |it: &(i64, u128)| {
            let Shown { event, title, json } = group.shown.get(it)?;
            Some(Kept { time: it.0, key: it.1, event: *event, title: Arc::clone(title), json: json.clone() })
        };
        let latest: Vec<Kept> = counted.iter().rev().filter_map(kept).take(EVENTS_MAX).collect();
        each(&alert(rule, aggregates, at, (counted.len() as u64, first, last), &latest, spool)?);
    }
    Ok(())
}

fn alert(
    rule: &Rule,
    aggregates: &[String],
    at: i64,
    (count, first, last): (u64, i64, i64),
    latest: &[Kept],
    spool: &Spool,
) -> io::Result<Alert> {
    Ok(Alert {
        id: Alert::id_of(rule, aggregates, at, 0),
        rule_id: rule.id.clone(),
        title: latest.first().map_or_else(|| rule.title.text.clone(), |it| it.title.to_string()),
        severity: rule.severity,
        tags: rule.tags.clone(),
        window_start: at * rule.window_ms,
        window_end: (at + 1) * rule.window_ms,
        first_event_time: first,
        last_event_time: last,
        count,
        aggregates: rule.aggregates.iter().map(|it| it.path.clone()).zip(aggregates.iter().cloned()).collect(),
        events: latest.iter().filter_map(|it| it.json.as_ref()).map(|it| spool.read(it)).collect::<Result<_, _>>()?,
    })
}

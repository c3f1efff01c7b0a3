//! What the events of a commit are to alerts: matches by the set of rules that found them (two sets while a new one takes
//! over), and what is wrong with the events themselves.

use super::{Batch, Lateness, StoreError, alerts};
use crate::event::{Col, Flags, Row};
use crate::rules::{Group, Kept, RuleSet, TROUBLE_WINDOW_MS, Tally, Trouble};
use rusqlite::Transaction;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Flags of events that are troubles, and what tells their alerts apart.
const FLAGGED: &[(Flags, Trouble, &[Col])] = &[
    (Flags::CONFLICT, Trouble::Conflict, &[Col::OriginSource]),
    (Flags::ACCOUNT_MISMATCH, Trouble::AccountMismatch, &[Col::OriginSource, Col::AccountId]),
];

#[derive(Default)]
pub(super) struct Tallies {
    sets: Vec<(Arc<RuleSet>, Tally)>,
    flagged: BTreeMap<(Trouble, Vec<String>), Group>,
}

impl Tallies {
    /// Gathers what was found in these events.
    pub(super) fn add(&mut self, batch: &Batch) {
        for (row, flags) in batch.flags.iter().enumerate() {
            for (_, trouble, cols) in FLAGGED.iter().filter(|(flag, ..)| flags.contains(*flag)) {
                self.flag(*trouble, cols, batch, row);
            }
        }
        let Some(set) = batch.rules.as_ref().filter(|_| !batch.hits.is_empty() || !batch.hidden.is_empty()) else { return };
        let at = self.sets.iter().position(|(it, _)| Arc::ptr_eq(it, set)).unwrap_or_else(|| {
            self.sets.push((Arc::clone(set), Tally::new(set)));
            self.sets.len() - 1
        });
        let (set, tally) = &mut self.sets[at];
        batch.hits.iter().for_each(|(_, hit)| tally.add(set, hit));
        batch.hidden.iter().for_each(|(row, by)| tally.hide(*by, batch.event_times[*row as usize]));
    }

    fn flag(&mut self, trouble: Trouble, cols: &[Col], batch: &Batch, row: usize) {
        let event = batch.row(row);
        let aggregates = cols.iter().map(|col| event.val(*col).text().unwrap_or("").to_owned()).collect();
        let (time, id) = (batch.event_times[row], batch.ids[row]);
        let bucket = self.flagged.entry((trouble, aggregates)).or_default().buckets.entry(time.div_euclid(TROUBLE_WINDOW_MS)).or_default();
        bucket.add((time, id.0), || Kept { time, key: id.0, event: id, title: trouble.title().into(), json: None });
    }

    /// How many matches there are: each takes memory until the commit.
    pub(super) fn matches(&self) -> u64 {
        self.sets.iter().flat_map(|(_, tally)| &tally.matches).sum()
    }

    /// Writes what follows into the commit.
    pub(super) fn record(self, tx: &Transaction<'_>, lateness: Lateness, now: i64) -> Result<(), StoreError> {
        for (set, tally) in self.sets {
            for (n, overflow) in tally.overflow.iter().enumerate().filter(|(_, it)| **it > 0) {
                alerts::raise(tx, Trouble::RuleOverflow, &[set.rules[n].id.clone()], "", (*overflow, now))?;
            }
            alerts::record(tx, &set, tally, lateness, now)?;
        }
        for ((trouble, aggregates), group) in self.flagged {
            alerts::raise_group(tx, trouble, &aggregates, &group, now)?;
        }
        Ok(())
    }
}

//! All rules together: what one place of an event says decides every rule that looks there.

use super::rule::Rule;
use super::suppression::Suppression;
use crate::event::{Event, EventType, Row};
use crate::filter::{Many, Scratch};

/// What hides a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hider {
    /// A filter of the rule itself.
    Rule,
    /// The suppression of that number.
    Suppression(usize),
}

/// A rule that matches an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The rule's number.
    pub rule: usize,
    /// Hidden: it raises no alert and counts in none.
    pub hidden_by: Option<Hider>,
}

/// Rules that can be asked at once.
#[derive(Debug, Default)]
pub struct RuleSet {
    /// The rules, those that are not enabled left out.
    pub rules: Vec<Rule>,
    /// What hides their matches.
    pub suppressions: Vec<Suppression>,
    /// By the rule's number, whether it has filters of its own that hide: close together, as rules are not.
    have_own: Vec<bool>,
    /// In groups, as [`EventType::ALL`] has them.
    many: Many,
}

impl RuleSet {
    /// A set of those that are enabled.
    pub fn new(rules: Vec<Rule>) -> Self {
        let rules: Vec<_> = rules.into_iter().filter(|it| it.is_enabled).collect();
        let of_type = |of: &EventType| (0..rules.len()).filter(|n| rules[*n].event_types.contains(of)).collect();
        let many = Many::new(rules.iter().map(|it| &it.filter), &EventType::ALL.iter().map(of_type).collect::<Vec<_>>());
        let have_own = rules.iter().map(|it| !it.suppressions.is_empty()).collect();
        Self { rules, suppressions: Vec::new(), have_own, many }
    }

    /// The same with these suppressions.
    #[must_use]
    pub fn with_suppressions(self, suppressions: Vec<Suppression>) -> Self {
        Self { suppressions, ..self }
    }

    /// What hides this rule's match of the event that `scratch` was last used for, if anything does: the rule's own filters,
    /// else a suppression.
    pub fn hidden_by(&self, rule: &Rule, event: &impl Row, now: i64, scratch: &mut Scratch) -> Option<Hider> {
        if rule.suppressions.iter().any(|it| it.matches_again(event, scratch)) {
            return Some(Hider::Rule);
        }
        let mut all = self.suppressions.iter().enumerate();
        all.find(|(_, it)| it.is_for(&rule.id, now) && it.filter.matches_again(event, scratch)).map(|(n, _)| Hider::Suppression(n))
    }

    /// The rules that match the event, in order, into `found`.
    pub fn matches(&self, event: &Event<'_>, scratch: &mut Scratch, found: &mut Vec<Found>) {
        found.clear();
        let Some(group) = EventType::ALL.iter().position(|it| *it == event.event_type) else { return };
        scratch.next_event();
        self.many.ask(group, event, scratch, &mut |rule| found.push(Found { rule: rule as usize, hidden_by: None }));
        for it in &mut *found {
            if self.have_own[it.rule] || !self.suppressions.is_empty() {
                it.hidden_by = self.hidden_by(&self.rules[it.rule], event, event.context.now_ms, scratch);
            }
        }
        found.sort_unstable_by_key(|it| it.rule);
    }
}

//! All rules together: an event is shown only to the rules that its action lets match.

use super::rule::{Rule, action_member};
use crate::event::{Col, Event, Row};
use crate::filter::Scratch;
use std::collections::HashMap;

/// Rules that can be asked at once.
#[derive(Debug, Default)]
pub struct RuleSet {
    /// The rules, those that are not enabled left out.
    pub rules: Vec<Rule>,
    by_action: HashMap<String, Vec<usize>>,
    always: Vec<usize>,
}

impl RuleSet {
    /// A set of those that are enabled.
    pub fn new(rules: Vec<Rule>) -> Self {
        let rules: Vec<_> = rules.into_iter().filter(|it| it.is_enabled).collect();
        let (mut by_action, mut always) = (HashMap::<String, Vec<usize>>::new(), Vec::new());
        for (n, rule) in rules.iter().enumerate() {
            match rule.filter.actions(action_member(rule.event_types)) {
                Some(mut actions) => {
                    actions.sort_unstable();
                    actions.dedup();
                    for action in actions {
                        by_action.entry(action).or_default().push(n);
                    }
                }
                None => always.push(n),
            }
        }
        Self { rules, by_action, always }
    }

    /// The numbers of the rules that match the event, suppressed ones left out, into `found`.
    pub fn matches(&self, event: &Event<'_>, scratch: &mut Scratch, found: &mut Vec<usize>) {
        found.clear();
        scratch.next_event();
        let action = event.text(Col::Action).unwrap_or("").to_lowercase();
        let named = self.by_action.get(&action).map_or(&[][..], Vec::as_slice);
        for n in named.iter().chain(&self.always) {
            let rule = &self.rules[*n];
            if rule.event_types.contains(&event.event_type)
                && rule.filter.matches_again(event, scratch)
                && !rule.suppressions.iter().any(|it| it.matches_again(event, scratch))
            {
                found.push(*n);
            }
        }
        found.sort_unstable();
    }
}

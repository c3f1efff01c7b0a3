//! All rules together: an event is shown only to the rules that its action, or else its service, lets match, and a test
//! that several of them have is asked once.

use super::rule::{Rule, keys};
use super::suppression::Suppression;
use crate::event::{Col, Event, EventType, Row};
use crate::filter::{Filter, Groups, Plan, Scratch, Shared};
use crate::json::key_hash;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A column by which rules are found, and the native record's name for it.
type Key = (Col, &'static str);

/// By a value, whatever its case: the hash looks at its ends alone, and the values are rules', not an attacker's.
#[derive(Debug, Default)]
struct ByValue(HashMap<u32, Vec<(String, Groups)>, BuildHasherDefault<Mixed>>);

/// Spreads what is a hash already over all bits.
#[derive(Debug, Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, n: u32) {
        self.0 = (self.0 ^ u64::from(n)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl ByValue {
    /// `value` is in lower case.
    fn insert(&mut self, value: String, groups: Groups) {
        self.0.entry(key_hash(value.as_bytes())).or_default().push((value, groups));
    }

    fn get(&self, text: &str) -> Option<&Groups> {
        if !text.is_ascii() {
            return self.get_lower(&text.to_lowercase());
        }
        let of_hash = self.0.get(&key_hash(text.as_bytes()))?;
        of_hash.iter().find(|(value, _)| value.eq_ignore_ascii_case(text)).map(|(_, groups)| groups)
    }

    fn get_lower(&self, text: &str) -> Option<&Groups> {
        self.0.get(&key_hash(text.as_bytes()))?.iter().find(|(value, _)| value == text).map(|(_, groups)| groups)
    }

    fn all(&self) -> impl Iterator<Item = &Groups> {
        self.0.values().flatten().map(|(_, groups)| groups)
    }
}

/// Whether the native record has a member of that name.
fn has_member(event: &Event<'_>, name: &str) -> bool {
    event.tape.is_some_and(|tape| tape.member(0, name, &event.raw).is_some())
}

/// Which rules an event of one type is shown to.
#[derive(Debug, Default)]
struct Index {
    /// By the value, in lower case, of a column.
    by_key: Vec<(Key, ByValue)>,
    /// Those that any event may match.
    always: Groups,
}

impl Index {
    fn new(rules: &[Rule], event_type: EventType, shared: &Shared, plans: &[Plan]) -> Self {
        let mut by_key: Vec<(Key, HashMap<String, Vec<usize>>)> = Vec::new();
        let mut always = Vec::new();
        for (n, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.event_types.contains(&event_type)) {
            let keyed = keys(rule.event_types).iter().find_map(|key| Some((*key, rule.filter.needed(key.0, key.1)?)));
            let Some((key, mut values)) = keyed else {
                always.push(n);
                continue;
            };
            values.sort_unstable();
            values.dedup();
            let at = by_key.iter().position(|(of, _)| *of == key).unwrap_or_else(|| {
                by_key.push((key, HashMap::new()));
                by_key.len() - 1
            });
            for value in values {
                by_key[at].1.entry(value).or_default().push(n);
            }
        }
        let grouped = |((col, member), by_value): (Key, HashMap<String, Vec<usize>>)| {
            // What the look-up has asked already tells them apart no further.
            let is_known = |test: &Filter| test.needed(col, member).is_some();
            let mut found = ByValue::default();
            for (value, rules) in by_value {
                found.insert(value, shared.group(plans, &rules, is_known));
            }
            ((col, member), found)
        };
        Self { by_key: by_key.into_iter().map(grouped).collect(), always: shared.group(plans, &always, |_| false) }
    }
}

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
    indexes: Vec<(EventType, Index)>,
    shared: Shared,
    /// By the rule's number.
    plans: Vec<Plan>,
}

impl RuleSet {
    /// A set of those that are enabled.
    pub fn new(rules: Vec<Rule>) -> Self {
        let rules: Vec<_> = rules.into_iter().filter(|it| it.is_enabled).collect();
        let mut shared = Shared::new();
        let plans: Vec<_> = rules.iter().map(|it| shared.add(&it.filter)).collect();
        let indexes = EventType::ALL.iter().map(|it| (*it, Index::new(&rules, *it, &shared, &plans))).collect();
        Self { rules, suppressions: Vec::new(), indexes, shared, plans }
    }

    /// The same with these suppressions.
    #[must_use]
    pub fn with_suppressions(self, suppressions: Vec<Suppression>) -> Self {
        Self { suppressions, ..self }
    }

    /// What hides this rule's match of the event, if anything does: the rule's own filters, else a suppression.
    fn hidden_by(&self, rule: &Rule, event: &Event<'_>, scratch: &mut Scratch) -> Option<Hider> {
        if rule.suppressions.iter().any(|it| it.matches_again(event, scratch)) {
            return Some(Hider::Rule);
        }
        let now = event.context.now_ms;
        let mut all = self.suppressions.iter().enumerate();
        all.find(|(_, it)| it.is_for(&rule.id, now) && it.filter.matches_again(event, scratch)).map(|(n, _)| Hider::Suppression(n))
    }

    /// The rules that match the event, in order, into `found`.
    pub fn matches(&self, event: &Event<'_>, scratch: &mut Scratch, found: &mut Vec<Found>) {
        found.clear();
        let Some((_, index)) = self.indexes.iter().find(|(of, _)| *of == event.event_type) else { return };
        scratch.next_event();
        let mut answers = scratch.take_answers();
        answers.next_event();
        let mut ask = |groups: &Groups| {
            self.shared.ask(groups, &self.plans, event, (scratch, &mut answers), &mut |n, scratch| {
                found.push(Found { rule: n, hidden_by: self.hidden_by(&self.rules[n], event, scratch) });
            });
        };
        for ((col, member), rules) in &index.by_key {
            match event.text(*col) {
                Some(text) => rules.get(text).into_iter().for_each(&mut ask),
                // A list or a number where AWS writes a text: any rule may match one of its elements.
                None if has_member(event, member) => rules.all().for_each(&mut ask),
                None => {}
            }
        }
        ask(&index.always);
        scratch.give_answers(answers);
        found.sort_unstable_by_key(|it| it.rule);
    }
}

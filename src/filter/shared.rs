//! Many filters over one event: a test that several of them have is asked once, and filters whose first test is the same
//! fall together when it does not hold. So what an event costs grows with what it matches, not with how many filters
//! there are.

use super::Filter;
use super::compile::{Check, Node, Target};
use super::eval::{Scratch, holds};
use super::matcher::Matcher;
use super::quick::{Answer, Places, Quick, Seen};
use crate::event::Row;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Answers of dear tests that are kept, by test and value: callers and calls repeat.
const KEPT_ANSWERS: usize = 1 << 12;

/// A filter whose tests are numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Or(Vec<Step>),
    And(Vec<Step>),
    Not(Box<Step>),
    Test(u32),
}

/// One filter among those that share their tests.
#[derive(Debug, Clone)]
pub struct Plan(Step);

/// The tests of all filters, each once.
#[derive(Debug, Default)]
pub struct Shared {
    /// Tells the answers of one set from those of another.
    set: u64,
    tests: Vec<Test>,
    /// What hashes decide of each: apart from the tests, close together.
    quick: Vec<Quick>,
    places: Places,
    numbers: HashMap<String, u32>,
}

#[derive(Debug)]
struct Test {
    node: Node,
    cost: u32,
}

/// Plans by their first test: when that does not hold, none of them is asked.
#[derive(Debug, Default)]
pub struct Groups(Vec<(Option<u32>, Vec<usize>)>);

/// What is known of the event at hand, and of values seen before.
#[derive(Debug, Default)]
pub struct Answers {
    /// Whose they are.
    set: u64,
    /// By test: the event's number, twice, plus one where it holds.
    said: Vec<u64>,
    event: u64,
    /// By place: what is there.
    seen: Vec<Seen>,
    /// Hash of test and value, the lowest bit replaced by the answer.
    kept: Vec<u64>,
}

impl Answers {
    /// What comes next is another event.
    pub fn next_event(&mut self) {
        self.event += 1;
    }
}

static SETS: AtomicU64 = AtomicU64::new(1);

impl Shared {
    /// None yet.
    pub fn new() -> Self {
        Self { set: SETS.fetch_add(1, Ordering::Relaxed), places: Places::new(), ..Self::default() }
    }

    /// Takes a filter in.
    pub fn add(&mut self, filter: &Filter) -> Plan {
        Plan(self.step(&filter.root).0)
    }

    /// The step, and what it costs: of the parts of an AND or OR the cheapest is asked first.
    fn step(&mut self, node: &Node) -> (Step, u32) {
        match node {
            Node::Test { .. } => self.test(node),
            // What is left out leaves much: it decides little.
            Node::Not(part) => {
                let (step, cost) = self.step(part);
                (Step::Not(Box::new(step)), cost + 20)
            }
            Node::And(parts) => {
                let (steps, cost) = self.ordered(parts, |it| matches!(it, Node::And(_)));
                (Step::And(steps), cost)
            }
            Node::Or(parts) => {
                let (steps, cost) = self.ordered(parts, |it| matches!(it, Node::Or(_)));
                (Step::Or(steps), cost + 5)
            }
        }
    }

    fn ordered(&mut self, parts: &[Node], is_same: impl Fn(&Node) -> bool + Copy) -> (Vec<Step>, u32) {
        let mut steps = Vec::new();
        for part in parts {
            match part {
                Node::And(inner) | Node::Or(inner) if is_same(part) => {
                    let inner: Vec<_> = inner.iter().map(|it| self.step(it)).collect();
                    steps.extend(inner);
                }
                _ => steps.push(self.step(part)),
            }
        }
        steps.sort_by_key(|(_, cost)| *cost);
        let cost = steps.iter().map(|(_, cost)| *cost).sum();
        (steps.into_iter().map(|(step, _)| step).collect(), cost)
    }

    fn test(&mut self, node: &Node) -> (Step, u32) {
        let next = self.tests.len() as u32;
        // How a test is written down tells everything about it.
        let number = *self.numbers.entry(format!("{node:?}")).or_insert(next);
        if number == next {
            self.quick.push(self.places.quick(node));
            self.tests.push(Test { node: node.clone(), cost: cost_of(node) });
        }
        (Step::Test(number), self.tests[number as usize].cost)
    }

    /// Groups plans by their first test; `is_known` says of a test that it holds whenever the group is asked.
    pub fn group(&self, plans: &[Plan], members: &[usize], is_known: impl Fn(&Filter) -> bool) -> Groups {
        let mut groups: Vec<(Option<u32>, Vec<usize>)> = Vec::new();
        for member in members {
            let first = match &plans[*member].0 {
                Step::Test(n) => Some(*n),
                Step::And(steps) => steps.iter().find_map(|step| match step {
                    Step::Test(n) if !is_known(&Filter { root: self.tests[*n as usize].node.clone() }) => Some(*n),
                    _ => None,
                }),
                _ => None,
            };
            match groups.iter_mut().find(|(of, _)| *of == first) {
                Some((_, group)) => group.push(*member),
                None => groups.push((first, vec![*member])),
            }
        }
        Groups(groups)
    }

    /// Calls `each` with every member of the groups whose plan matches.
    pub fn ask<R: Row>(
        &self,
        groups: &Groups,
        plans: &[Plan],
        row: &R,
        (scratch, answers): (&mut Scratch, &mut Answers),
        each: &mut dyn FnMut(usize, &mut Scratch),
    ) {
        if answers.set != self.set {
            *answers = Answers {
                set: self.set,
                event: 1,
                said: vec![0; self.tests.len()],
                seen: vec![Seen::default(); self.places.len()],
                kept: vec![0; KEPT_ANSWERS],
            };
        }
        for (first, members) in &groups.0 {
            if first.is_some_and(|n| !self.holds_test(n, row, scratch, answers)) {
                continue;
            }
            for member in members {
                if self.holds(&plans[*member].0, row, scratch, answers) {
                    each(*member, scratch);
                }
            }
        }
    }

    fn holds<R: Row>(&self, step: &Step, row: &R, scratch: &mut Scratch, answers: &mut Answers) -> bool {
        match step {
            Step::Or(parts) => parts.iter().any(|it| self.holds(it, row, scratch, answers)),
            Step::And(parts) => parts.iter().all(|it| self.holds(it, row, scratch, answers)),
            Step::Not(part) => !self.holds(part, row, scratch, answers),
            Step::Test(n) => self.holds_test(*n, row, scratch, answers),
        }
    }

    fn holds_test<R: Row>(&self, n: u32, row: &R, scratch: &mut Scratch, answers: &mut Answers) -> bool {
        let said = answers.said[n as usize];
        if said >> 1 == answers.event {
            return said & 1 == 1;
        }
        let test = &self.tests[n as usize];
        let is_so = match self.places.answer(&self.quick[n as usize], row, scratch, (&mut answers.seen, answers.event)) {
            Answer::Is(is_so) => is_so,
            Answer::By(hash) => kept(n, hash, answers, || holds(&test.node, row, scratch)),
            Answer::Ask => holds(&test.node, row, scratch),
        };
        answers.said[n as usize] = answers.event << 1 | u64::from(is_so);
        is_so
    }
}

/// The answer for the value with this hash, from before or anew.
fn kept(n: u32, hash: u64, answers: &mut Answers, answer: impl FnOnce() -> bool) -> bool {
    let hash = (hash ^ u64::from(n)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let slot = &mut answers.kept[(hash >> 32) as usize & (KEPT_ANSWERS - 1)];
    if *slot >> 1 == hash >> 1 {
        return *slot & 1 == 1;
    }
    let is_so = answer();
    *slot = hash & !1 | u64::from(is_so);
    is_so
}

/// How dear a test is, about; what says little by itself counts as dear.
fn cost_of(node: &Node) -> u32 {
    let Node::Test { targets, check } = node else { return 0 };
    let look = targets.iter().map(|it| if matches!(it, Target::Column(_)) { 1 } else { 3 }).sum::<u32>();
    look + match check {
        Check::Null => 8,
        Check::Fields { .. } => 12,
        Check::Any { matchers, or_null, .. } => {
            let dearest = matchers.iter().map(matcher_cost).max().unwrap_or(0);
            // Many alternatives and an absent value let more through.
            dearest + matchers.len().min(8) as u32 + if *or_null { 8 } else { 0 }
        }
    }
}

fn matcher_cost(matcher: &Matcher) -> u32 {
    match matcher {
        Matcher::Equal(_) | Matcher::EqualNocase(_) => 0,
        Matcher::StartsWith(_) | Matcher::EndsWith(_) => 1,
        Matcher::Contains(_) | Matcher::Order(..) => 3,
        Matcher::Inside(..) => 6,
        Matcher::Regex(_) => 8,
        Matcher::Scalar(inner) => matcher_cost(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Lists;
    use super::*;
    use crate::event::{Col, Context, Event, EventType, Val};
    use std::borrow::Cow;

    #[test]
    fn shared_tests_answer_as_each_filter_does_by_itself() {
        let sources = [
            r#"user = "ada" and error matches "^Acc" and ip != null"#,
            r#"error matches "^Acc" and not user = "bob""#,
            r#"(user = "ada" or user = "bob") and not (error = null or error matches "^Acc")"#,
            r#"user in ("ada", "eve") and (ip = "10.0.0.0/8" or error != null)"#,
            r#"ip = "10.0.0.0/8""#,
            r#"error matches nocase "^acc""#,
        ];
        let filters: Vec<_> = sources.iter().map(|it| Filter::new(it, &Lists::default()).unwrap()).collect();
        let all: Vec<usize> = (0..filters.len()).collect();
        let context = Context::default();
        let mut scratch = Scratch::default();
        let mut answers = Answers::default();
        // Twice as many sets as one: the answers of one are not those of the other.
        for skipped in [0, 1] {
            let mut shared = Shared::new();
            let plans: Vec<_> = filters.iter().skip(skipped).map(|it| shared.add(it)).collect();
            let groups = shared.group(&plans, &all[skipped..].iter().map(|n| n - skipped).collect::<Vec<_>>(), |_| false);
            for user in ["ada", "bob", "eve", ""] {
                for error in ["AccessDenied", "accented", "Throttled", ""] {
                    for ip in ["10.1.2.3", "192.0.2.1", ""] {
                        let mut event = Event::new(EventType::CloudTrail, &context, 0, Cow::Borrowed("{}"));
                        for (col, text) in [(Col::User, user), (Col::Error, error), (Col::Ip, ip)] {
                            if !text.is_empty() {
                                event.set(col, Val::of(text));
                            }
                        }
                        scratch.next_event();
                        answers.next_event();
                        let mut found = Vec::new();
                        shared.ask(&groups, &plans, &event, (&mut scratch, &mut answers), &mut |n, _| found.push(n + skipped));
                        found.sort_unstable();
                        let expected: Vec<_> =
                            all[skipped..].iter().copied().filter(|n| filters[*n].matches(&event, &mut scratch)).collect();
                        assert_eq!(found, expected, "{user} {error} {ip}");
                    }
                }
            }
        }
    }
}

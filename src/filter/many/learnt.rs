//! Which step follows which: learnt from the events, forgotten when it grows too large.

use super::expr::{Exprs, Id, NO, YES};
use super::place::{Place, Seen, Waits};
use super::{Many, Scratch};
use crate::event::Row;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What may be learnt, in numbers of four bytes, about: rules of a sensible kind take a hundredth.
pub(super) const LEARNT_MAX: usize = 1 << 20;
/// So many events must pass before all is forgotten again, lest events made for it keep us learning.
pub(super) const EVENTS_BETWEEN: u64 = 1 << 16;
/// What a test costs that hashes do not answer, about, in ns: half of the values were there before.
const TEST_COST: u64 = 20;
/// Values whose next step is known without asking.
const VALUES: usize = 1 << 13;
/// No step is known.
const UNKNOWN: u32 = u32::MAX;
/// All filters are decided.
const END: u32 = u32::MAX - 1;
/// What a node or a step takes beside what it names, in numbers.
const OVERHEAD: usize = 64;

/// What was learnt of filters that are asked together.
#[derive(Debug, Default)]
pub(in crate::filter) struct Learnt {
    /// Whose it is.
    set: u64,
    exprs: Exprs,
    /// By group: where it begins.
    starts: Vec<u32>,
    nodes: Vec<Node>,
    abouts: Vec<About>,
    steps: Vec<Step>,
    /// By the filters that are undecided.
    nodes_by_left: HashMap<Arc<[(u32, Id)]>, u32>,
    values: Vec<(u64, u32)>,
    /// Tests that hold: memory that is used again.
    said: Vec<u32>,
    /// Tests that were asked about this event while there was no room, and whether they hold: the same.
    asked: HashMap<u32, bool>,
    size: usize,
    events: u64,
    is_full: bool,
}

/// Filters that are undecided, and the place that is looked at next.
#[derive(Debug)]
struct Node {
    /// Where it looks.
    place: Place,
    /// The step where nothing is there.
    missing: u32,
    /// The step for a text that no test waits for.
    other: u32,
    waits: Waits,
}

/// What a node is about, which is needed when it learns.
#[derive(Debug)]
struct About {
    place: u32,
    left: Arc<[(u32, Id)]>,
    /// Tests of the place, in order.
    tests: Box<[u32]>,
    /// Whether only texts that they wait for make them hold.
    is_by_text: bool,
    /// Those of the tests that held together before, in order, and the step that this was.
    steps: Vec<(Box<[u32]>, u32)>,
}

/// What an answer decides, and what is next.
#[derive(Debug)]
struct Step {
    to: u32,
    found: Box<[u32]>,
}

impl Learnt {
    pub(super) fn ask<R: Row>(&mut self, many: &Many, group: usize, row: &R, scratch: &mut Scratch, each: &mut dyn FnMut(u32)) {
        self.events += 1;
        if self.set != many.set || self.is_full && self.events >= EVENTS_BETWEEN {
            self.forget(many);
        }
        let mut at = self.start(many, group);
        while let Some(node) = self.nodes.get(at as usize) {
            let step = match node.place.look(row, scratch, node.waits, many.seed) {
                Seen::Missing if node.missing != UNKNOWN => node.missing,
                Seen::Missing => {
                    let step = self.step(many, at, None, row, scratch);
                    self.nodes[at as usize].missing = step;
                    step
                }
                Seen::Other(text) => {
                    if node.other == UNKNOWN {
                        self.nodes[at as usize].other = self.step(many, at, Some(text), row, scratch);
                    }
                    self.nodes[at as usize].other
                }
                Seen::Value { text, whole } => {
                    let tag = (whole ^ u64::from(at)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let slot = (tag >> 40) as usize & (VALUES - 1);
                    match self.values[slot] {
                        (of, step) if of == tag && step != UNKNOWN => step,
                        _ => {
                            let step = self.step(many, at, text, row, scratch);
                            if step != UNKNOWN {
                                self.values[slot] = (tag, step);
                            }
                            step
                        }
                    }
                }
                Seen::Unknown => self.step(many, at, None, row, scratch),
            };
            let Some(step) = self.steps.get(step as usize) else {
                return self.ask_each(many, at, row, scratch, each);
            };
            step.found.iter().for_each(|it| each(*it));
            at = step.to;
        }
    }

    /// How many numbers it keeps, about.
    pub(super) fn size(&self, many: &Many) -> usize {
        self.size + self.exprs.size - many.exprs.size
    }

    fn forget(&mut self, many: &Many) {
        *self = Self {
            set: many.set,
            exprs: many.exprs.clone(),
            starts: vec![UNKNOWN; many.groups.len()],
            values: vec![(0, UNKNOWN); VALUES],
            ..Self::default()
        };
    }

    fn start(&mut self, many: &Many, group: usize) -> u32 {
        if self.starts[group] == UNKNOWN {
            self.starts[group] = self.node(many, Arc::clone(&many.groups[group].undecided));
        }
        self.starts[group]
    }

    /// Asks the tests of the node's place; the step that this event takes from there. Unknown: there is no room to learn it.
    fn step<R: Row>(&mut self, many: &Many, at: u32, text: Option<u32>, row: &R, scratch: &mut Scratch) -> u32 {
        let about = &self.abouts[at as usize];
        self.said.clear();
        match text.filter(|_| about.is_by_text) {
            Some(text) => {
                let tests = many.places[about.place as usize].by_text.get(&text).into_iter().flatten();
                self.said.extend(tests.copied().filter(|it| about.tests.binary_search(it).is_ok() && many.holds(*it, row, scratch)));
                self.said.sort_unstable();
            }
            None => self.said.extend(about.tests.iter().copied().filter(|it| many.holds(*it, row, scratch))),
        }
        match about.steps.binary_search_by(|(said, _)| said.as_ref().cmp(&self.said)) {
            Ok(found) => about.steps[found].1,
            Err(_) if self.size(many) >= many.learnt_max => {
                self.is_full = true;
                UNKNOWN
            }
            Err(place) => {
                let step = self.learn(many, at);
                self.abouts[at as usize].steps.insert(place, (self.said.as_slice().into(), step));
                step
            }
        }
    }

    /// The step from a node where of its tests those in `said` hold.
    fn learn(&mut self, many: &Many, at: u32) -> u32 {
        let about = &self.abouts[at as usize];
        let answer = |test: u32| about.tests.binary_search(&test).is_ok().then(|| self.said.binary_search(&test).is_ok());
        let (mut found, mut left) = (Vec::new(), Vec::with_capacity(about.left.len()));
        for (member, expr) in about.left.iter() {
            match self.exprs.given(*expr, about.place, &answer) {
                NO => {}
                YES => found.push(*member),
                expr => left.push((*member, expr)),
            }
        }
        self.size += found.len() + self.said.len() + OVERHEAD;
        let to = self.node(many, left.into());
        self.steps.push(Step { to, found: found.into() });
        self.steps.len() as u32 - 1
    }

    fn node(&mut self, many: &Many, left: Arc<[(u32, Id)]>) -> u32 {
        if let Some(node) = self.nodes_by_left.get(&left) {
            return *node;
        }
        let Some(place) = self.next_place(many, &left) else { return END };
        let mut tests = Vec::new();
        for (_, expr) in left.iter() {
            self.exprs.tests(*expr, true, &mut |test, _| {
                if many.tests[test as usize].place == place {
                    tests.push(test);
                }
            });
        }
        tests.sort_unstable();
        tests.dedup();
        let number = self.nodes.len() as u32;
        self.size += 2 * left.len() + tests.len() + OVERHEAD;
        let (mut waits, mut is_by_text) = (Waits::default(), true);
        for test in &tests {
            match &many.tests[*test as usize].texts {
                Some(texts) => texts.iter().for_each(|it| waits.add(*it)),
                None => is_by_text = false,
            }
        }
        let waits = if is_by_text { waits } else { Waits::ALL };
        let look = many.places[place as usize].place.clone();
        self.nodes.push(Node { place: look, missing: UNKNOWN, other: UNKNOWN, waits });
        self.abouts.push(About { place, left: left.clone(), tests: tests.into(), is_by_text, steps: Vec::new() });
        self.nodes_by_left.insert(left, number);
        number
    }

    /// Where looking decides most for what it costs. None: nothing is undecided.
    fn next_place(&self, many: &Many, left: &[(u32, Id)]) -> Option<u32> {
        // What looking there decides, and the tests that must be asked of a value that was not there before.
        let mut by_place: HashMap<u32, (u32, HashSet<u32>)> = HashMap::new();
        for (_, expr) in left {
            self.exprs.tests(*expr, true, &mut |n, is_needed| {
                let test = &many.tests[n as usize];
                let (decides, dear) = by_place.entry(test.place).or_default();
                *decides += match (is_needed, test.is_for_nothing, &test.texts) {
                    (true, false, Some(_)) => 16,
                    (true, false, None) => 8,
                    _ => 1,
                };
                if test.texts.is_none() {
                    dear.insert(n);
                }
            });
        }
        let worth = |place: u32, decides: u32, dear: usize| {
            let cost = u64::from(many.places[place as usize].place.cost()) + TEST_COST * dear as u64;
            (u64::from(decides) << 16) / cost
        };
        let worth = by_place.into_iter().map(|(place, (decides, dear))| (worth(place, decides, dear.len()), place));
        worth.max().map(|(_, place)| place)
    }

    /// Asks each filter that is undecided by itself.
    fn ask_each<R: Row>(&mut self, many: &Many, at: u32, row: &R, scratch: &mut Scratch, each: &mut dyn FnMut(u32)) {
        self.asked.clear();
        // What was asked to find the step is known.
        let about = &self.abouts[at as usize];
        self.asked.extend(about.tests.iter().map(|it| (*it, self.said.binary_search(it).is_ok())));
        let asked = &mut self.asked;
        let mut ask = |test| *asked.entry(test).or_insert_with(|| many.holds(test, row, scratch));
        for (member, expr) in about.left.iter() {
            if self.exprs.holds(*expr, &mut ask) {
                each(*member);
            }
        }
    }
}

#[cfg(test)]
impl Learnt {
    /// Whether there was no room, and how many events were asked about since it began.
    pub(super) fn state(&self) -> (bool, u64) {
        (self.is_full, self.events)
    }
}

//! What is left of many filters while an event is asked about: expressions over numbered tests, each kept once.

use std::collections::HashMap;

/// An expression's number.
pub(super) type Id = u32;
/// What never holds.
pub(super) const NO: Id = 0;
/// What always holds.
pub(super) const YES: Id = 1;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Expr {
    No,
    Yes,
    Test(u32),
    Not(Id),
    /// Two or more, in order.
    And(Box<[Id]>),
    /// Two or more, in order.
    Or(Box<[Id]>),
}

/// Expressions by their numbers. Those that are the same have the same number.
#[derive(Debug, Clone)]
pub(super) struct Exprs {
    all: Vec<Expr>,
    /// A bit for every place that is asked about; several places share one.
    places: Vec<u64>,
    numbers: HashMap<Expr, Id>,
    /// How many numbers all this is, about.
    pub(super) size: usize,
}

impl Default for Exprs {
    fn default() -> Self {
        let mut it = Self { all: Vec::new(), places: Vec::new(), numbers: HashMap::new(), size: 0 };
        it.put(Expr::No, 0);
        it.put(Expr::Yes, 0);
        it
    }
}

impl Exprs {
    pub(super) fn get(&self, id: Id) -> &Expr {
        &self.all[id as usize]
    }

    /// A test of something at a place.
    pub(super) fn test(&mut self, test: u32, place: u32) -> Id {
        self.put(Expr::Test(test), place_bit(place))
    }

    pub(super) fn not(&mut self, of: Id) -> Id {
        match (of, self.get(of)) {
            (NO, _) => YES,
            (YES, _) => NO,
            (_, Expr::Not(inner)) => *inner,
            _ => self.put(Expr::Not(of), self.places[of as usize]),
        }
    }

    pub(super) fn and(&mut self, parts: Vec<Id>) -> Id {
        self.join(parts, (YES, NO), |it| if let Expr::And(parts) = it { Some(parts) } else { None }, Expr::And)
    }

    pub(super) fn or(&mut self, parts: Vec<Id>) -> Id {
        self.join(parts, (NO, YES), |it| if let Expr::Or(parts) = it { Some(parts) } else { None }, Expr::Or)
    }

    fn join(&mut self, parts: Vec<Id>, (nothing, all): (Id, Id), same: fn(&Expr) -> Option<&[Id]>, made: fn(Box<[Id]>) -> Expr) -> Id {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match same(self.get(part)) {
                Some(inner) => flat.extend_from_slice(inner),
                None => flat.push(part),
            }
        }
        flat.sort_unstable();
        flat.dedup();
        flat.retain(|it| *it != nothing);
        match flat.as_slice() {
            _ if flat.contains(&all) => all,
            [] => nothing,
            [one] => *one,
            _ => {
                let places = flat.iter().fold(0, |bits, it| bits | self.places[*it as usize]);
                self.put(made(flat.into()), places)
            }
        }
    }

    fn put(&mut self, expr: Expr, places: u64) -> Id {
        if let Some(id) = self.numbers.get(&expr) {
            return *id;
        }
        let id = self.all.len() as Id;
        self.size += match &expr {
            Expr::And(parts) | Expr::Or(parts) => 16 + 2 * parts.len(),
            _ => 16,
        };
        self.numbers.insert(expr.clone(), id);
        self.all.push(expr);
        self.places.push(places);
        id
    }

    /// What is left of it when the tests at a place are decided; `said` knows those, and of other tests nothing.
    pub(super) fn given(&mut self, id: Id, place: u32, said: &impl Fn(u32) -> Option<bool>) -> Id {
        if self.places[id as usize] & place_bit(place) == 0 {
            return id;
        }
        match self.all[id as usize].clone() {
            Expr::No | Expr::Yes => id,
            Expr::Test(n) => match said(n) {
                Some(true) => YES,
                Some(false) => NO,
                None => id,
            },
            Expr::Not(part) => {
                let part = self.given(part, place, said);
                self.not(part)
            }
            Expr::And(parts) => match self.each_given(&parts, place, said, NO) {
                Some(parts) => self.and(parts),
                None => NO,
            },
            Expr::Or(parts) => match self.each_given(&parts, place, said, YES) {
                Some(parts) => self.or(parts),
                None => YES,
            },
        }
    }

    /// Each part as far as it is decided; none where one of them decides the whole.
    fn each_given(&mut self, parts: &[Id], place: u32, said: &impl Fn(u32) -> Option<bool>, end: Id) -> Option<Vec<Id>> {
        let mut left = Vec::with_capacity(parts.len());
        for part in parts {
            let part = self.given(*part, place, said);
            if part == end {
                return None;
            }
            left.push(part);
        }
        Some(left)
    }

    /// Calls `each` with every test in it, and whether it must hold for the whole to hold.
    pub(super) fn tests(&self, id: Id, is_needed: bool, each: &mut impl FnMut(u32, bool)) {
        match self.get(id) {
            Expr::No | Expr::Yes => {}
            Expr::Test(n) => each(*n, is_needed),
            Expr::Not(part) => self.tests(*part, false, each),
            Expr::And(parts) => parts.iter().for_each(|it| self.tests(*it, is_needed, each)),
            Expr::Or(parts) => parts.iter().for_each(|it| self.tests(*it, false, each)),
        }
    }

    /// Whether it holds; every test that this takes is asked.
    pub(super) fn holds(&self, id: Id, ask: &mut impl FnMut(u32) -> bool) -> bool {
        match self.get(id) {
            Expr::No => false,
            Expr::Yes => true,
            Expr::Test(n) => ask(*n),
            Expr::Not(part) => !self.holds(*part, ask),
            Expr::And(parts) => parts.iter().all(|it| self.holds(*it, ask)),
            Expr::Or(parts) => parts.iter().any(|it| self.holds(*it, ask)),
        }
    }
}

fn place_bit(place: u32) -> u64 {
    1 << (place & 63)
}

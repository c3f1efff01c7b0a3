//! Which matches of a stateful rule qualify, whatever the order in which they came (FILTER.md, Time).

use std::collections::HashMap;

/// One match of a stateful rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Match {
    /// Event time, ms.
    pub time: i64,
    /// What counts once: the event, or the request that it is a stage of.
    pub key: u128,
    /// A bit for each step that it matches.
    pub steps: u32,
    /// The number of its value, where values count.
    pub value: u32,
}

/// Sorts matches and leaves out what counts twice; stages of one request become one match at the earliest time.
pub fn tidy(matches: &mut Vec<Match>) {
    matches.sort_unstable();
    let mut first: HashMap<(u128, u32), usize> = HashMap::new();
    let mut kept: Vec<Match> = Vec::with_capacity(matches.len());
    for it in matches.iter() {
        if let Some(at) = first.get(&(it.key, it.value)) {
            kept[*at].steps |= it.steps;
        } else {
            first.insert((it.key, it.value), kept.len());
            kept.push(*it);
        }
    }
    *matches = kept;
}

/// The first match of the window that ends with `at`.
fn window_start(matches: &[Match], at: usize, window_ms: i64) -> usize {
    let opens = matches[at].time.saturating_sub(window_ms);
    matches.partition_point(|it| it.time <= opens)
}

/// One behind the last match that has the time of `at`.
fn window_end(matches: &[Match], at: usize) -> usize {
    let time = matches[at].time;
    matches.partition_point(|it| it.time <= time)
}

/// The matches that qualify when so many are in the window that ends with them.
pub(super) fn threshold(matches: &[Match], window_ms: i64, count: u64) -> Vec<usize> {
    let enough = |at: &usize| {
        let keys = matches[window_start(matches, *at, window_ms)..window_end(matches, *at)].len() as u64;
        keys >= count
    };
    (0..matches.len()).filter(enough).collect()
}

/// The matches that qualify when so many different values are in the window that ends with them.
pub(super) fn distinct(matches: &[Match], window_ms: i64, count: u64) -> Vec<usize> {
    let (mut from, mut to) = (0, 0);
    let mut seen: HashMap<u32, u64> = HashMap::new();
    let mut found = Vec::new();
    for at in 0..matches.len() {
        let (start, end) = (window_start(matches, at, window_ms), window_end(matches, at));
        for it in &matches[to..end] {
            *seen.entry(it.value).or_default() += 1;
        }
        for it in &matches[from..start] {
            if let Some(n) = seen.get_mut(&it.value) {
                *n -= 1;
                if *n == 0 {
                    seen.remove(&it.value);
                }
            }
        }
        (from, to) = (start, end);
        if seen.len() as u64 >= count {
            found.push(at);
        }
    }
    found
}

/// The matches whose value was not there in the time before them.
pub(super) fn first_seen(matches: &[Match], history_ms: i64) -> Vec<usize> {
    let mut last: HashMap<u32, i64> = HashMap::new();
    let mut found = Vec::new();
    for (at, it) in matches.iter().enumerate() {
        let before = last.insert(it.value, it.time);
        if before.is_none_or(|before| it.time - before > history_ms) {
            found.push(at);
        }
    }
    found
}

/// The matches that end a sequence of `steps` steps: for each step one match of its own, none later than the next.
pub(super) fn sequence(matches: &[Match], window_ms: i64, steps: usize) -> Vec<usize> {
    (0..matches.len())
        .filter(|at| {
            if steps == 0 || matches[*at].steps >> (steps - 1) & 1 == 0 {
                return false;
            }
            let start = window_start(matches, *at, window_ms);
            // Backwards, each step takes the latest match that is not later than the step behind it. Events of one
            // time have no order, so one of them may stand before another that comes earlier in the list.
            let mut used = vec![*at];
            (0..steps - 1).rev().all(|step| {
                let behind = used[used.len() - 1];
                let end = window_end(matches, behind);
                let found = (start..end).rev().find(|n| matches[*n].steps >> step & 1 == 1 && !used.contains(n));
                used.extend(found);
                found.is_some()
            })
        })
        .collect()
}

/// The matches with whose time every one of `steps` steps has a match in the window.
pub(super) fn together(matches: &[Match], window_ms: i64, steps: usize) -> Vec<usize> {
    let all = (1_u32 << steps) - 1;
    let complete = |at: &usize| {
        let window = &matches[window_start(matches, *at, window_ms)..window_end(matches, *at)];
        window.iter().fold(0, |seen, it| seen | it.steps) & all == all
    };
    (0..matches.len()).filter(complete).collect()
}

/// The matches in the windows of those that qualify.
pub(super) fn covered(matches: &[Match], qualifying: &[usize], window_ms: i64) -> Vec<usize> {
    let mut found = Vec::new();
    let mut next = 0;
    for at in qualifying {
        let (start, end) = (window_start(matches, *at, window_ms).max(next), window_end(matches, *at));
        found.extend(start..end);
        next = next.max(end);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(times: &[(i64, u32, u32)]) -> Vec<Match> {
        let of = |(n, (time, steps, value)): (usize, &(i64, u32, u32))| Match { time: *time, key: n as u128, steps: *steps, value: *value };
        times.iter().enumerate().map(of).collect()
    }

    #[test]
    fn windows_open_behind_their_start_and_close_with_the_match() {
        let matches = at(&[(0, 1, 0), (10, 1, 0), (10, 1, 0), (11, 1, 1), (30, 1, 1)]);
        assert_eq!(threshold(&matches, 10, 3), [3], "0 is out of the window that ends at 10");
        assert_eq!(threshold(&matches, 11, 3), [1, 2, 3]);
        assert_eq!(distinct(&matches, 10, 2), [3]);
        assert_eq!(first_seen(&matches, 15), [0, 3, 4]);
        assert_eq!(covered(&matches, &[1, 3], 10), [1, 2, 3]);
    }

    #[test]
    fn steps_of_one_time_have_no_order_and_one_match_is_one_step() {
        assert_eq!(sequence(&at(&[(5, 0b10, 0), (5, 0b01, 0)]), 10, 2), [0]);
        assert_eq!(sequence(&at(&[(5, 0b11, 0)]), 10, 2), [] as [usize; 0]);
        assert_eq!(sequence(&at(&[(1, 0b01, 0), (20, 0b10, 0)]), 10, 2), [] as [usize; 0], "outside the window");
        assert_eq!(sequence(&at(&[(2, 0b10, 0), (3, 0b01, 0)]), 10, 2), [] as [usize; 0], "in the wrong order");
        assert_eq!(together(&at(&[(2, 0b10, 0), (3, 0b01, 0)]), 10, 2), [1]);
    }

    #[test]
    fn stages_of_one_request_count_once() {
        let mut matches = vec![Match { time: 3, key: 1, steps: 2, value: 0 }, Match { time: 1, key: 1, steps: 1, value: 0 }];
        tidy(&mut matches);
        assert_eq!(matches, [Match { time: 1, key: 1, steps: 3, value: 0 }]);
    }
}

//! Coming again: pauses that grow and differ, and what to say of what failed.

use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

/// Between half and all of a pause that doubles with each failure in a row, from the first to the longest.
pub(super) fn pause(failures: u32, first: Duration, longest: Duration) -> Duration {
    let whole = first.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(longest);
    whole.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// Growing intervals between tries of what is parked, ms: a minute to six hours.
pub fn next_try_ms(now_ms: i64, tries: u32) -> i64 {
    const INTERVALS_MINUTES: [i64; 5] = [1, 5, 30, 120, 360];
    let minutes = INTERVALS_MINUTES[(tries as usize).min(INTERVALS_MINUTES.len() - 1)];
    now_ms + minutes * 60_000
}

/// An error with what caused it, each said once: the first alone mostly says nothing.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(it) = cause {
        let text = it.to_string();
        if !said.contains(&text) {
            // Writing to a String does not fail.
            let _ = write!(said, ": {text}");
        }
        cause = it.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_differ() {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(30));
        for (failures, whole) in [(0, first), (1, first), (2, 2 * first), (60, longest)] {
            let all: Vec<_> = (0..50).map(|_| pause(failures, first, longest)).collect();
            assert!(all.iter().all(|it| *it >= whole / 2 && *it <= whole), "{failures}: {all:?}");
            assert!(all.iter().any(|it| *it != all[0]), "{failures}");
        }
    }

    #[test]
    fn causes_are_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Said(&'static str, #[source] Option<Box<Said>>);
        let cause = |text, cause| Said(text, Some(Box::new(cause)));
        assert_eq!(chain(&cause("a: b", cause("b", Said("c", None)))), "a: b: c");
    }
}

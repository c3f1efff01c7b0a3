//! `rules test`: the tests that rules bring.

use super::exit::Failure;
use super::term;
use crate::decode::{Buffers, Item, Records};
use crate::event::{Context, Event};
use crate::filter::Scratch;
use crate::normalize::{Normalizer, watched_keys};
use crate::rules::{Hit, Rule, RuleCase, RuleSet, Tally, shared_json};
use std::fmt::Write;

/// Runs the tests; whether all passed.
pub(super) fn test(rules: &[Rule]) -> Result<bool, Failure> {
    let (mut passed, mut failed) = (0, 0);
    let mut text = String::new();
    for rule in rules {
        for case in &rule.cases {
            let wrong = match rule.case_event(&case.event) {
                None => Some("there is no such file".to_owned()),
                Some(events) => wrong(rule, case, &events).unwrap_or_else(Some),
            };
            match wrong {
                None => passed += 1,
                Some(what) => {
                    failed += 1;
                    // Writing to a String does not fail.
                    let _ = writeln!(text, "{}: {}: {what}", rule.id, case.event);
                }
            }
        }
    }
    let _ = writeln!(text, "{passed} passed, {failed} failed, {} rules", rules.len());
    term::print(text.as_bytes())?;
    Ok(failed == 0)
}

/// What a test should not have found. An error: it could not be run.
fn wrong(rule: &Rule, case: &RuleCase, text: &str) -> Result<Option<String>, String> {
    // A rule that is tested speaks, whether it is in shadow or not yet enabled.
    let set = RuleSet::new(vec![Rule { is_live: true, is_enabled: true, ..rule.clone() }]);
    let (mut tally, mut scratch, mut found) = (Tally::new(&set), Scratch::default(), Vec::new());
    let mut matches = false;
    each_event(text, |event| {
        set.matches(event, &mut scratch, &mut found);
        if found.iter().any(|it| it.hidden_by.is_none()) {
            matches = true;
            tally.add(&set, &Hit::new(&set, 0, event, Some(&shared_json(event)), &mut scratch));
        }
    })?;
    if let Some(wanted) = case.matches.filter(|it| *it != matches) {
        return Ok(Some(if wanted { "does not match, and should" } else { "matches, and should not" }.to_owned()));
    }
    let mut alerts = 0;
    tally.finish(&set, &mut |_| alerts += 1).map_err(|error| error.to_string())?;
    let wanted = case.alerts.filter(|it| *it != alerts);
    Ok(wanted.map(|wanted| format!("{alerts} alerts, and there should be {wanted}")))
}

fn each_event(text: &str, mut each: impl FnMut(&Event<'_>)) -> Result<(), String> {
    let context = Context { source: "test".to_owned(), ..Context::default() };
    let mut records = Records::of_bytes(text.as_bytes(), Buffers::new(watched_keys())).map_err(|error| error.to_string())?;
    let (mut normalizer, mut seen) = (Normalizer::default(), 0);
    while let Some(item) = records.next().map_err(|error| error.to_string())? {
        match item {
            Item::Record(record) => {
                seen += 1;
                each(&normalizer.event(&record, &context));
            }
            Item::Reject(reject) => return Err(format!("{}: {}", reject.reason, reject.detail)),
            Item::Skipped(_) => {}
        }
    }
    if seen == 0 { Err("has no event".to_owned()) } else { Ok(()) }
}

//! Asking rules and filters about records, without a store.

use planewatch::decode::{Buffers, Item, Records};
use planewatch::event::{Context, Event};
use planewatch::filter::Scratch;
use planewatch::normalize::{Normalizer, watched_keys};
use planewatch::rules::RuleSet;
use std::collections::BTreeSet;

/// Calls `each` with the event of every record of a text, in order.
pub(crate) fn each_event(text: &str, mut each: impl FnMut(&Event<'_>)) {
    let (context, mut normalizer) = (Context::default(), Normalizer::default());
    let mut records = Records::of_bytes(text.as_bytes(), Buffers::new(watched_keys())).unwrap();
    while let Some(item) = records.next().unwrap() {
        if let Item::Record(record) = item {
            each(&normalizer.event(&record, &context));
        }
    }
}

/// The ids of the rules that match each record of a text.
pub(crate) fn matching(set: &RuleSet, text: &str) -> Vec<BTreeSet<String>> {
    let (mut scratch, mut found, mut ids) = (Scratch::default(), Vec::new(), Vec::new());
    each_event(text, |event| {
        set.matches(event, &mut scratch, &mut found);
        ids.push(found.iter().map(|it| set.rules[it.rule].id.clone()).collect());
    });
    ids
}

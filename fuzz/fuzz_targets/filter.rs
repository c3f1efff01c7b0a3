//! Any text parses or is refused; what parses prints to something that parses to the same; and what compiles answers on
//! events alone as it does among others. Filters stand in lines of their own.
#![no_main]

use planewatch::decode::{Buffers, Item, Records};
use planewatch::event::Context;
use planewatch::filter::{Filter, Lists, Many, Scratch, parse};
use planewatch::normalize::{Normalizer, watched_keys};

const EVENTS: &str = include_str!("../../tests/data/filter/events.ndjson");

libfuzzer_sys::fuzz_target!(|data: &str| {
    let mut filters = Vec::new();
    for text in data.split('\n').chain([data]) {
        if let Ok(expr) = parse(text) {
            let printed = expr.to_string();
            let again = parse(&printed).expect("the printed form parses");
            assert_eq!(printed, again.to_string());
            filters.extend(Filter::compile(&expr, text, &Lists::new()));
        }
    }
    if !filters.is_empty() {
        compare(&filters);
    }
});

fn compare(filters: &[Filter]) {
    let many = Many::new(filters, &[(0..filters.len()).collect()]);
    let (context, mut normalizer) = (Context::default(), Normalizer::default());
    let (mut together, mut alone) = (Scratch::default(), Scratch::default());
    // Twice: what was learnt is used.
    for _ in 0..2 {
        let mut records = Records::of_bytes(EVENTS.as_bytes(), Buffers::new(watched_keys())).expect("events");
        while let Some(item) = records.next().expect("events") {
            let Item::Record(record) = item else { continue };
            let event = normalizer.event(&record, &context);
            together.next_event();
            let mut found = Vec::new();
            many.ask(0, &event, &mut together, &mut |n| found.push(n as usize));
            found.sort_unstable();
            let expected: Vec<_> = (0..filters.len()).filter(|n| filters[*n].matches(&event, &mut alone)).collect();
            assert_eq!(found, expected);
        }
    }
}

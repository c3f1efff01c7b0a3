//! Any bytes are split into records and rejects; each record is what serde_json reads too, and its event's JSON is JSON.
//! The scanner's two ways say the same.
#![no_main]

use planewatch::decode::{Buffers, Item, Records};
use planewatch::event::{Context, write_json};
use planewatch::json::{Scanner, Tape};
use planewatch::normalize::{Normalizer, mask_lexically, watched_keys};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (mut fast, mut careful) = (Tape::default(), Tape::default());
    let mut scanner = Scanner::new(watched_keys());
    let expected = scanner.scan_carefully(data, 0, &mut careful);
    assert_eq!(scanner.scan(data, 0, &mut fast), expected);
    assert!(expected.is_err() || fast == careful);
    let context = Context::default();
    let mut normalizer = Normalizer::default();
    let mut out = Vec::new();
    let mut records = Records::of_bytes(data, Buffers::new(watched_keys())).expect("memory reads");
    while let Some(item) = records.next().expect("memory reads") {
        match item {
            Item::Record(record) => {
                serde_json::from_str::<serde::de::IgnoredAny>(record.text).expect("a record is JSON");
                out.clear();
                write_json(&normalizer.event(&record, &context), &mut out);
                serde_json::from_slice::<serde::de::IgnoredAny>(&out).expect("an event is JSON");
                assert!(!out.contains(&b'\n'), "an event is one line");
            }
            Item::Reject(reject) => drop(mask_lexically(&reject.excerpt)),
            Item::Skipped(_) => {}
        }
    }
});

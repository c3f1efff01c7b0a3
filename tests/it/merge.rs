//! Merging segments: row groups that are large enough are taken over as they are, and are as good as before.

use crate::support::{root, wait_for};
use planewatch::clock::Clock;
use planewatch::event::{Col, Context, Event, EventId, EventType, Row, Val};
use planewatch::filter::{Filter, Lists};
use planewatch::store::{Batch, Intake, SearchOptions, Store, StoreOptions, search};
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const NOW: i64 = 1_795_524_017_000;
/// A row group is kept from 4,096 rows on: of each delivery one is, and a rest is not.
const EVENTS: usize = 8_192 + 1_000;
const DELIVERIES: usize = 3;

fn raw(n: usize) -> String {
    format!("{{\"eventID\":\"{n}\",\"said\":\"text of {n}.\"}}")
}

fn id(n: usize) -> EventId {
    EventId((n as u128 + 1) << 64)
}

/// Events of a delivery; an id of the first is in the last as well, at another hour and with another content.
fn batches(delivery: usize) -> Vec<Batch> {
    let context = Context { source: "test".to_owned(), now_ms: NOW, ..Context::default() };
    let events: Vec<usize> = (delivery * EVENTS..(delivery + 1) * EVENTS).collect();
    let mut batches = Vec::new();
    for part in events.chunks(4_096) {
        let mut batch = Batch::new(EventType::CloudTrail);
        for n in part {
            let text = raw(*n);
            let mut event = Event::new(EventType::CloudTrail, &context, 0, Cow::Borrowed(&text));
            event.id = if *n == DELIVERIES * EVENTS - 1 { id(7) } else { id(*n) };
            event.fingerprint = *n as u64;
            event.event_time = NOW - 3_600_000 * (DELIVERIES - delivery) as i64 + (*n % EVENTS) as i64;
            batch.push(&event);
        }
        batches.push(batch);
    }
    batches
}

#[derive(Debug)]
struct Found {
    id: EventId,
    is_in_conflict: bool,
    time: i64,
    raw: String,
}

fn text(row: &impl Row, col: Col) -> String {
    let Val::Text(text) = row.val(col) else { panic!("{:?}", row.val(col)) };
    text.to_string()
}

fn number(row: &impl Row, col: Col) -> i64 {
    let Val::Int(n) = row.val(col) else { panic!("{:?}", row.val(col)) };
    n
}

fn found(dir: &Path, filter: Option<&str>) -> Vec<Found> {
    let mut found = Vec::new();
    let filter = filter.map(|it| Filter::new(it, &Lists::default()).unwrap());
    search(SearchOptions { dir: dir.to_owned(), filter, ..SearchOptions::default() }, |hit| {
        let row = hit.row();
        let mut is_in_conflict = false;
        row.list(Col::FlagNames, &mut |name| is_in_conflict |= name == "conflict");
        found.push(Found { id: row.id(), is_in_conflict, time: number(row, Col::EventTime), raw: text(row, Col::Raw) });
        true
    })
    .unwrap();
    found
}

fn segments(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|it| if it.path().is_dir() { segments(&it.path()) } else { 1 }).sum()
}

#[test]
fn merged_segments_hold_what_they_held_and_a_conflict_is_flagged_on_both_sides() {
    let folder = tempfile::tempdir_in(root().join("target/test-data")).unwrap();
    let dir = folder.path().join("data");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let clock = Clock::fixed(NOW);
    let open = |merge_segments| {
        let options =
            StoreOptions { clock: clock.clone(), merge_segments, tick: Duration::from_millis(1), seal_ms: 10, ..StoreOptions::new(&dir) };
        Store::open(options).unwrap()
    };
    let store = open(99);
    for delivery in 0..DELIVERIES {
        let bulk = store.begin(false).unwrap();
        for batch in batches(delivery) {
            assert!(bulk.add(batch));
        }
        runtime.block_on(bulk.finish(Intake { source: "test".to_owned(), ..Intake::default() }).wait()).unwrap();
    }
    store.close();
    let before = found(&dir, None);
    assert_eq!((before.len(), segments(&dir.join("events"))), (DELIVERIES * EVENTS, DELIVERIES));

    let store = open(DELIVERIES);
    wait_for("one segment of three", || {
        clock.advance(Duration::from_secs(1));
        let state = search(SearchOptions { dir: dir.clone(), limit: Some(1), ..SearchOptions::default() }, |_| true);
        assert_eq!(state.unwrap(), 1);
        clock.advance(Duration::from_secs(400));
        segments(&dir.join("events")) == 1
    });
    store.close();
    let after = found(&dir, None);
    let conflicts: Vec<_> = after.iter().filter(|it| it.is_in_conflict).map(|it| it.raw.clone()).collect();
    assert_eq!(conflicts, [raw(DELIVERIES * EVENTS - 1), raw(7)]);
    let without_flags = |all: &[Found]| all.iter().map(|it| (it.id, it.time, it.raw.clone())).collect::<Vec<_>>();
    assert_eq!(without_flags(&after), without_flags(&before));
    // By id over the filter of each row group, by a text over pages, and single rows by their place in a page.
    for n in [0, 5_000, EVENTS + 1, 2 * EVENTS + 8_500] {
        assert_eq!(found(&dir, Some(&format!("_id = \"{}\"", id(n)))).len(), 1, "{n}");
        assert_eq!(found(&dir, Some(&format!("raw like \"text of {n}.\""))).len(), 1, "{n}");
        let ids = Some(Arc::new([id(n)].into_iter().collect()));
        let mut raws = Vec::new();
        search(SearchOptions { dir: dir.clone(), ids, ..SearchOptions::default() }, |hit| {
            raws.push(text(hit.row(), Col::Raw));
            true
        })
        .unwrap();
        assert_eq!(raws, [raw(n)]);
    }
}

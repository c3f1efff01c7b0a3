//! The store on a disk that loses everything unsynced at each named crash point, and that fails at each operation.

use crate::support::disk::FaultDisk;
use crate::support::{record, root};
use planewatch::clock::Clock;
use planewatch::decode::{Buffers, Item, Records};
use planewatch::event::{Context, EventType, Row};
use planewatch::normalize::{Normalizer, watched_keys};
use planewatch::store::{Batch, CrashPoint, Intake, SearchOptions, Store, StoreOptions, Verdict, search};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const DELIVERIES: usize = 24;
const EVENTS: usize = 5;
const NOW: i64 = 1_795_524_017_000;

fn batch(first: usize, n: usize) -> Batch {
    let records: Vec<_> = (first..first + n).map(|n| record(&format!("event-{n}"), "2026-11-24T12:00:00Z", "GetThing")).collect();
    let text = json!({"Records": records}).to_string();
    let context = Context { source: "test".to_owned(), uri: format!("test://{first}"), now_ms: NOW, ..Context::default() };
    let mut records = Records::of_bytes(text.as_bytes(), Buffers::new(watched_keys())).unwrap();
    let (mut normalizer, mut batch) = (Normalizer::default(), Batch::new(EventType::CloudTrail));
    while let Some(item) = records.next().unwrap() {
        let Item::Record(record) = item else { panic!("{item:?}") };
        batch.push(&normalizer.event(&record, &context));
    }
    batch
}

fn intake(n: usize) -> Intake {
    Intake { source: "test".to_owned(), object: Some(format!("object-{n}")), batches: vec![batch(n * EVENTS, EVENTS)], ..Intake::default() }
}

fn options(dir: &Path, disk: &FaultDisk, clock: &Clock) -> StoreOptions {
    StoreOptions {
        disk: Arc::new(disk.clone()),
        clock: clock.clone(),
        seal_events: 4 * EVENTS as u64,
        seal_ms: 100,
        rush_bytes: 0,
        merge_segments: 3,
        tick: Duration::from_millis(1),
        ..StoreOptions::new(dir)
    }
}

/// How often each event is stored.
fn stored(dir: &Path) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    search(SearchOptions { dir: dir.to_owned(), ..SearchOptions::default() }, |hit| {
        *found.entry(hit.row().id().to_string()).or_default() += 1;
        true
    })
    .unwrap();
    found
}

fn ids_of(n: usize) -> Vec<String> {
    batch(n * EVENTS, EVENTS).ids.iter().map(ToString::to_string).collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn deliver(runtime: &tokio::runtime::Runtime, store: &Store, n: usize) -> bool {
    // Every sixth is large: it goes past the log.
    if n % 6 == 5 {
        let Ok(bulk) = store.begin(false) else { return false };
        let Intake { object, mut batches, source, .. } = intake(n);
        bulk.add(batches.remove(0));
        return runtime.block_on(bulk.finish(Intake { object, source, ..Intake::default() }).wait()).is_ok();
    }
    // Another can wait: at this store's setting it is taken in a session, past the log too.
    if n % 6 == 2 {
        return runtime.block_on(store.commit(Intake { can_wait: true, object: None, ..intake(n) })).is_ok();
    }
    runtime.block_on(store.commit(intake(n))).is_ok()
}

/// A fresh folder for one run.
fn folder() -> tempfile::TempDir {
    std::fs::create_dir_all(root().join("target/test-data")).unwrap();
    tempfile::tempdir_in(root().join("target/test-data")).unwrap()
}

#[test]
fn nothing_is_lost_or_twice_whatever_a_crash_takes() {
    let runtime = runtime();
    for point in CrashPoint::ALL.iter().filter(|it| **it != CrashPoint::RetentionCommitted) {
        for nth in [0, 1, 3] {
            let folder = folder();
            let (dir, clock) = (folder.path().join("data"), Clock::fixed(NOW));
            let disk = FaultDisk::new(&folder.path().join("limbo"));
            disk.crash_at(*point, nth);
            let store = Store::open(options(&dir, &disk, &clock)).unwrap();
            let mut acknowledged = Vec::new();
            for n in (0..DELIVERIES).chain(0..200) {
                if disk.is_dead() {
                    break;
                }
                if deliver(&runtime, &store, n % DELIVERIES) && n < DELIVERIES {
                    acknowledged.push(n % DELIVERIES);
                }
                clock.advance(Duration::from_millis(60));
            }
            let is_dead = disk.is_dead();
            assert!(is_dead || nth > 0, "{point:?} was never reached");
            store.close();
            disk.lose_unsynced();

            let again = FaultDisk::new(&folder.path().join("limbo-2"));
            let store = Store::open(options(&dir, &again, &clock)).unwrap_or_else(|error| panic!("{point:?} {nth}: {error}"));
            let found = stored(&dir);
            for n in &acknowledged {
                assert!(ids_of(*n).iter().all(|id| found.get(id) == Some(&1)), "{point:?} {nth}: delivery {n} was acknowledged: {found:?}");
            }
            for n in 0..DELIVERIES {
                assert!(deliver(&runtime, &store, n), "{point:?} {nth}");
            }
            runtime.block_on(store.seal());
            store.close();
            let found = stored(&dir);
            assert_eq!(found.len(), DELIVERIES * EVENTS, "{point:?} {nth}");
            assert!(found.values().all(|n| *n == 1), "{point:?} {nth}: {found:?}");
        }
    }
}

#[test]
fn a_seal_that_stumbles_is_made_again_without_a_restart() {
    let (runtime, folder, clock) = (runtime(), folder(), Clock::fixed(NOW));
    let dir = folder.path().join("data");
    let disk = FaultDisk::new(&folder.path().join("limbo"));
    let store = Store::open(options(&dir, &disk, &clock)).unwrap();
    disk.stumble_at(CrashPoint::SealWritten);
    assert!(runtime.block_on(store.commit(intake(0))).is_ok());
    // Sealing pauses the store and is tried again; it must end without anybody's help.
    let sealed = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), store.seal()).await });
    assert!(sealed.is_ok(), "the seal waits for a restart");
    assert_eq!(stored(&dir).len(), EVENTS);
    store.close();
    let store = Store::open(options(&dir, &disk, &clock)).unwrap();
    assert!(std::fs::read_dir(dir.join("tmp")).unwrap().next().is_none(), "nothing of the first attempt outlives a start");
    assert_eq!(stored(&dir).len(), EVENTS);
    store.close();
}

#[test]
fn deliveries_that_can_wait_share_a_session_and_each_event_is_stored_once() {
    let (runtime, folder, clock) = (runtime(), folder(), Clock::fixed(NOW));
    let dir = folder.path().join("data");
    let store = Store::open(options(&dir, &FaultDisk::new(&folder.path().join("limbo")), &clock)).unwrap();
    // Every delivery twice, at once: the second of each is all duplicates, whichever session takes it.
    let all: Vec<_> = (0..DELIVERIES).chain(0..DELIVERIES).collect();
    let verdicts = runtime.block_on(async {
        let mut running = tokio::task::JoinSet::new();
        for n in all {
            let store = store.clone();
            running.spawn(async move { store.commit(Intake { can_wait: true, object: None, ..intake(n) }).await });
        }
        running.join_all().await
    });
    let (mut stored_events, mut duplicates) = (0, 0);
    for verdict in verdicts {
        let Ok(Verdict::Stored(counts)) = verdict else { panic!("{verdict:?}") };
        (stored_events, duplicates) = (stored_events + counts.stored, duplicates + counts.duplicate);
    }
    assert_eq!((stored_events, duplicates), ((DELIVERIES * EVENTS) as u64, (DELIVERIES * EVENTS) as u64));
    let found = stored(&dir);
    assert_eq!(found.len(), DELIVERIES * EVENTS);
    assert!(found.values().all(|n| *n == 1), "{found:?}");
    let segments: Vec<_> = std::fs::read_dir(dir.join("log")).unwrap().collect();
    assert!(segments.is_empty(), "nothing of it went through the log: {segments:?}");
    store.close();
}

#[test]
fn a_failing_disk_loses_nothing_and_the_store_resumes() {
    let runtime = runtime();
    for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
        for n_operation in 0..140 {
            let folder = folder();
            let (dir, clock) = (folder.path().join("data"), Clock::fixed(NOW));
            let disk = FaultDisk::new(&folder.path().join("limbo"));
            let store = Store::open(options(&dir, &disk, &clock)).unwrap();
            disk.fail_at(n_operation, kind);
            for n in 0..DELIVERIES {
                // As a source does: again, until it is taken.
                crate::support::wait_for("the store to resume", || {
                    clock.advance(Duration::from_millis(60));
                    deliver(&runtime, &store, n)
                });
            }
            runtime.block_on(store.seal());
            let is_reached = disk.has_failed();
            store.close();
            let found = stored(&dir);
            assert_eq!(found.len(), DELIVERIES * EVENTS, "{kind:?} at operation {n_operation}");
            assert!(found.values().all(|n| *n == 1), "{kind:?} at operation {n_operation}: {found:?}");
            let store = Store::open(options(&dir, &FaultDisk::new(&folder.path().join("limbo-2")), &clock)).unwrap();
            store.close();
            if !is_reached {
                break;
            }
        }
    }
}

#[test]
fn events_live_as_long_as_they_are_to_and_no_file_outlives_them() {
    let runtime = runtime();
    let folder = folder();
    let (dir, clock) = (folder.path().join("data"), Clock::fixed(NOW));
    let disk = FaultDisk::new(&folder.path().join("limbo"));
    let store = Store::open(options(&dir, &disk, &clock)).unwrap();
    for n in 0..4 {
        assert!(deliver(&runtime, &store, n));
    }
    runtime.block_on(store.seal());
    clock.advance(Duration::from_hours(71));
    assert!(deliver(&runtime, &store, 4));
    runtime.block_on(store.seal());
    assert_eq!(stored(&dir).len(), 5 * EVENTS, "71 hours are not over");
    disk.crash_at(CrashPoint::RetentionCommitted, 0);
    clock.advance(Duration::from_hours(3));
    crate::support::wait_for("retention", || disk.is_dead());
    store.close();
    disk.lose_unsynced();
    let store = Store::open(options(&dir, &FaultDisk::new(&folder.path().join("limbo-2")), &clock)).unwrap();
    assert_eq!(stored(&dir).len(), EVENTS);
    // The object ledger still refuses what was read.
    assert_eq!(runtime.block_on(store.commit(intake(0))).unwrap(), Verdict::AlreadyRead);
    store.close();
}

#[test]
fn one_writer_at_a_time_and_no_newer_layout() {
    let folder = folder();
    let dir = folder.path().join("data");
    let store = Store::open(StoreOptions::new(&dir)).unwrap();
    let error = Store::open(StoreOptions::new(&dir)).unwrap_err().to_string();
    assert!(error.contains("in use by another planewatch"), "{error}");
    store.close();
    drop(store);
    std::fs::write(dir.join("FORMAT"), "99\n").unwrap();
    let error = Store::open(StoreOptions::new(&dir)).unwrap_err().to_string();
    assert!(error.contains("version 99"), "{error}");
}

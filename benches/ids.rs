//! `run --drain` of a folder into a store that holds a million ids, and into one that holds fifty million (`IDS` asks for
//! more): events per CPU second, and peak memory. Goals: 0.7 of the rate, the same memory, as ids on disk cost no more.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, missing_docs, reason = "a bench may panic")]

mod support;

use planewatch::event::{Context, Event, EventId, EventType};
use planewatch::store::{Batch, Intake, Store, StoreOptions};
use std::borrow::Cow;
use std::path::Path;
use std::time::Instant;
use support::{corpus, drain};

/// Ids of one delivery, and of one batch of it.
const DELIVERY: usize = 500_000;
const BATCH: usize = 4_096;
/// The corpus has the events of this day (`synth.py`, without `--start`): the same hours are filled with ids.
const DAY_MS: i64 = 1_740_787_200_000;
const HOURS_MS: i64 = 24 * 3_600_000;

/// Stores events that are nothing but an id and a time, hour after hour, as they come in life.
fn seed(dir: &Path, n: usize) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let store = Store::open(StoreOptions::new(dir)).unwrap();
    let context = Context { source: "seed".to_owned(), ..Context::default() };
    let mut random = fastrand::Rng::with_seed(n as u64);
    let mut stored = 0;
    while stored < n {
        let bulk = store.begin(false).unwrap();
        let end = (stored + DELIVERY).min(n);
        while stored < end {
            let mut batch = Batch::recycled(EventType::CloudTrail);
            for at in stored..(stored + BATCH).min(end) {
                let mut event = Event::new(EventType::CloudTrail, &context, 0, Cow::Borrowed("{}"));
                event.id = EventId(random.u128(..));
                event.fingerprint = random.u64(..);
                event.event_time = DAY_MS + (at as i128 * i128::from(HOURS_MS) / n as i128) as i64;
                batch.push(&event);
            }
            stored += batch.len();
            assert!(bulk.add(batch));
        }
        let answer = bulk.finish(Intake { source: "seed".to_owned(), ..Intake::default() });
        runtime.block_on(answer.wait()).unwrap();
    }
    runtime.block_on(store.seal());
    store.close();
}

fn main() {
    let folder = corpus();
    let most = std::env::var("IDS").ok().and_then(|it| it.parse().ok()).unwrap_or(50_000_000);
    let mut rates = Vec::new();
    for n in [1_000_000, most] {
        let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let dir = scratch.path().join("data");
        let start = Instant::now();
        seed(&dir, n);
        let seeded = start.elapsed().as_secs_f64();
        let source = serde_json::json!({"type": "directory", "name": "bench", "path": folder});
        let (read, cpu, peak) = drain(&dir, &source);
        let rate = read as f64 / cpu;
        println!("{n:>11} ids (made in {seeded:.0} s)   {rate:8.0} events/CPU s   peak {peak:6.1} MiB");
        rates.push(rate);
    }
    println!("ratio {:.2}", rates[1] / rates[0]);
}

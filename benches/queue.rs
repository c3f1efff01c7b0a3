//! `run --drain` of a queue of the AWS emulator: events per CPU second and per second, and peak memory (goal: under 100 MiB).
//! The emulator runs on the same cores.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, missing_docs, dead_code, reason = "a bench may panic")]

#[path = "../tests/it/support/aws.rs"]
mod aws;
mod support;

use aws::{Aws, s3_message};
use std::path::Path;
use std::time::{Duration, Instant};
use support::{corpus, drain};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_mins(1), "waited in vain for: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn main() {
    let aws = Aws::start();
    let keys = aws.put_folder(corpus().parent().unwrap());
    let queue = aws.queue("bench");
    let keys: Vec<_> = keys.iter().filter(|it| it.starts_with("AWSLogs/")).collect();
    aws.send(&queue, &keys.iter().map(|it| s3_message(it)).collect::<Vec<_>>());
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let start = Instant::now();
    let (read, cpu, peak) = drain(&scratch.path().join("data"), &aws.source(&queue));
    let (events, wall) = (read as f64, start.elapsed().as_secs_f64());
    println!("{} objects   {:8.0} events/CPU s   {:8.0} events/s   peak {peak:6.1} MiB", keys.len(), events / cpu, events / wall);
}

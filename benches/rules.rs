//! What rules cost beside the scan: one core, ns an event, for no rules, for 50, 500 and 2,000 of the same fifty kinds (there
//! only the number differs), for 500 and 2,000 of all kinds (which look at more places of an event), and for those built in.
//! More than there are: copies that ask for other calls. Compare within one run; the rounds alternate.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a bench prints and may panic")]

use planewatch::decode::{Buffers, Item, Records};
use planewatch::event::Context;
use planewatch::filter::{Filter, Lists, Scratch};
use planewatch::normalize::{Normalizer, watched_keys};
use planewatch::rules::{Rule, RuleSet, Source, load};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Events of one round, about.
const EVENTS: u64 = 60_000;
const ROUNDS: usize = 15;
/// So many rules are one kind of each at the least.
const KINDS: usize = 50;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = std::env::var_os("CORPUS").map_or_else(|| root.join("target/corpus/cloudtrail-500000/AWSLogs"), PathBuf::from);
    let objects = objects(&corpus);
    assert!(!objects.is_empty(), "{}: no objects; scripts/bench.sh makes a corpus, CORPUS names another", corpus.display());
    let sizes = |name: &str, default: &[usize]| {
        std::env::var(name).map_or_else(|_| default.to_vec(), |it| it.split(',').map(|it| it.parse().unwrap()).collect::<Vec<usize>>())
    };
    let mut sets = vec![("none".to_owned(), RuleSet::new(Vec::new()))];
    sets.extend(sizes("RULES", &[50, 500, 2_000]).into_iter().map(|n| (format!("{n} of {KINDS} kinds"), some_rules(root, n, KINDS))));
    sets.extend(sizes("KINDS", &[500, 2_000]).into_iter().map(|n| (format!("{n} of all kinds"), some_rules(root, n, usize::MAX))));
    let builtin = RuleSet::new(load(&[Source::Builtin], &Lists::default()).rules);
    sets.push((format!("{} built in", builtin.rules.len()), builtin));
    let mut best = vec![(Duration::MAX, 0, 0); sets.len()];
    let mut first = Vec::new();
    let mut scratch: Vec<Scratch> = sets.iter().map(|_| Scratch::default()).collect();
    for n in 0..ROUNDS {
        for (((_, set), best), scratch) in sets.iter().zip(&mut best).zip(&mut scratch) {
            let it = round(&objects, set, scratch);
            *best = (*best).min(it);
            if n == 0 {
                first.push(it);
            }
        }
    }
    let per_event = |(time, events, _): (Duration, u64, u64)| time.as_nanos() as f64 / events as f64;
    for (((name, _), it), first) in sets.iter().zip(&best).zip(&first) {
        let (all, beside) = (per_event(*it), per_event(*it) - per_event(best[0]));
        let matches = it.2 as f64 / it.1 as f64;
        // What is learnt of the rules is learnt once.
        let learning = first.0.saturating_sub(it.0).as_millis();
        println!(
            "{name:<14} {all:>7.0} ns an event, {beside:>6.0} for the rules; {matches:.3} matches an event; the first round took {learning} ms more"
        );
    }
}

fn objects(folder: &Path) -> Vec<Vec<u8>> {
    let mut bytes = 0;
    let found = planewatch::sources::directory::files_below(folder).filter_map(|it| fs::read(it.ok()?.path).ok());
    found
        .filter(|it| it.len() < 1 << 20)
        .take_while(|it| {
            bytes += it.len();
            bytes < 12 << 20
        })
        .collect()
}

/// So many built-in rules for `CloudTrail`, of all kinds alike; of more than there are the rest are copies that ask for other
/// calls, or, where they name none, for another account: no two of many rules find the same.
fn some_rules(root: &Path, n: usize, kinds: usize) -> RuleSet {
    let target = root.join(format!("target/bench-rules/{n}-{kinds}"));
    let _ = fs::remove_dir_all(&target);
    fs::create_dir_all(&target).unwrap();
    let mut files: Vec<_> = fs::read_dir(root.join("rules/aws_cloudtrail")).unwrap().map(|it| it.unwrap().path()).collect();
    files.retain(|it| it.extension().is_some_and(|it| it == "yaml"));
    files.sort();
    let mut of_others = Vec::new();
    let kinds = kinds.min(n).min(files.len());
    let files: Vec<_> = (0..kinds).map(|kind| files[kind * files.len() / kinds].clone()).collect();
    for (made, file) in files.iter().cycle().take(n).enumerate() {
        let text = fs::read_to_string(file).unwrap();
        let id = file.file_stem().unwrap().to_str().unwrap();
        let copy = made / kinds;
        let changed = if copy == 0 { text.clone() } else { other_calls(&text, copy) };
        if copy > 0 && changed == text {
            of_others.push((format!("{id}-{copy}"), Filter::new(&format!("accountId = \"{copy:012}\""), &Lists::default()).unwrap()));
        }
        let text = if copy == 0 { changed } else { changed.replace(&format!("id: {id}"), &format!("id: {id}-{copy}")) };
        fs::write(target.join(format!("{id}-{copy}.yaml")), text).unwrap();
    }
    let loaded = load(&[Source::Path(target)], &Lists::default());
    assert_eq!((loaded.rules.len(), loaded.problems.as_slice()), (n, &[][..]));
    let another = |rule: Rule| match of_others.iter().find(|(id, _)| *id == rule.id) {
        Some((_, account)) => Rule { filter: rule.filter.clone().and(account.clone()), ..rule },
        None => rule,
    };
    RuleSet::new(loaded.rules.into_iter().map(another).collect())
}

/// `"GetObject"` becomes `"GetObject7"`: every quoted word that looks like the name of a call.
fn other_calls(text: &str, copy: usize) -> String {
    let mut parts: Vec<String> = text.split('"').map(str::to_owned).collect();
    for part in parts.iter_mut().skip(1).step_by(2) {
        // Who calls is a word of a short list, of which there are no others.
        let is_call = !matches!(
            part.as_str(),
            "AssumedRole" | "IAMUser" | "FederatedUser" | "WebIdentityUser" | "SAMLUser" | "AWSAccount" | "AWSService"
        ) && part.len() > 5
            && part.starts_with(|c: char| c.is_ascii_uppercase())
            && part.bytes().all(|b| b.is_ascii_alphabetic());
        if is_call {
            part.push_str(&copy.to_string());
        }
    }
    parts.join("\"")
}

fn round(objects: &[Vec<u8>], set: &RuleSet, scratch: &mut Scratch) -> (Duration, u64, u64) {
    let context = Context { source: "bench".to_owned(), ..Context::default() }.render();
    let (mut normalizer, mut found) = (Normalizer::default(), Vec::new());
    let mut buffers = Buffers::new(watched_keys());
    let (mut events, mut matches) = (0, 0);
    let start = Instant::now();
    for object in objects {
        let mut records = Records::of_bytes(object, buffers).unwrap();
        while let Some(item) = records.next().unwrap() {
            if let Item::Record(record) = item {
                let event = normalizer.event(&record, &context);
                set.matches(&event, scratch, &mut found);
                events += 1;
                matches += found.len() as u64;
            }
        }
        buffers = records.into_buffers();
        if events >= EVENTS {
            break;
        }
    }
    (start.elapsed(), events, matches)
}

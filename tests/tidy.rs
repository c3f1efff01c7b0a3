//! House rules that neither rustfmt nor clippy can check: who may import whom, how long a file may be, and that every
//! file says what it is for.
#![allow(clippy::unwrap_used, reason = "tests say what they expect by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Small modules that import nothing of ours but each other; every module may use them.
const LEAVES: &[&str] = &["clock", "disposition", "json", "metrics"];
/// Who else may name whom through `crate::`, in the order in which data flows.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("event", &[]),
    ("filter", &["event"]),
    ("sources", &[]),
    ("decode", &[]),
    ("normalize", &["decode", "event"]),
    ("rules", &["event", "filter"]),
    ("store", &["event", "filter", "rules"]),
    ("pipeline", &["sources", "decode", "event", "filter", "normalize", "rules", "store"]),
    ("admin", &["sources", "store"]),
];
/// `app` builds everything and `config` holds the settings of every module.
const SEES_ALL: &[&str] = &["app", "config", "cli", "lib", "main", "bin", "telemetry"];
const LINES_MAX: usize = 500; // before the file's `#[cfg(test)]`
const LINES_MEDIAN_MAX: usize = 150;

#[test]
fn modules_import_only_downwards() {
    for (path, text) in sources() {
        let module = module_of(&path);
        if SEES_ALL.contains(&module.as_str()) {
            continue;
        }
        let is_leaf = LEAVES.contains(&module.as_str());
        let layer = MAY_IMPORT.iter().find(|(name, _)| *name == module);
        assert!(is_leaf || layer.is_some(), "{module} is in no list above; say where it sits");
        let above = layer.map_or(&[][..], |(_, names)| names);
        for used in crate_paths(&text) {
            let is_allowed = used == module || above.contains(&used.as_str()) || LEAVES.contains(&used.as_str());
            assert!(is_allowed, "{}: `{module}` may not use `crate::{used}`", path.display());
        }
    }
}

#[test]
fn decode_and_normalize_do_no_io_of_their_own() {
    for (path, text) in sources() {
        if matches!(module_of(&path).as_str(), "decode" | "normalize" | "event" | "filter" | "json") {
            for banned in ["std::fs", "std::net::Tcp", "std::net::Udp", "tokio::", "std::env"] {
                assert!(!text.contains(banned), "{}: uses `{banned}`", path.display());
            }
        }
    }
}

#[test]
fn files_are_short_and_introduce_themselves() {
    let mut lengths = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count();
        lengths.push(lines);
        assert!(lines <= LINES_MAX, "{}: {lines} lines, at most {LINES_MAX}", path.display());
        assert!(text.starts_with("//!"), "{}: starts without a `//!` line", path.display());
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median <= LINES_MEDIAN_MAX, "the median file has {median} lines, at most {LINES_MEDIAN_MAX}");
}

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 5, "found only {} files", found.len());
    found
}

/// `src/sources/sqs/queue.rs` belongs to `sources`, `src/clock.rs` to `clock`.
fn module_of(path: &Path) -> String {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let first = path.strip_prefix(src).unwrap().iter().next().unwrap();
    Path::new(first).file_stem().unwrap().to_string_lossy().into_owned()
}

/// The first names after `crate::`, grouped imports included, comments left out.
fn crate_paths(text: &str) -> BTreeSet<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]).collect();
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(first_name(rest));
            continue;
        };
        let (mut depth, mut item) = (0, String::new());
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    names.insert(first_name(&item));
                    item.clear();
                    continue;
                }
                _ => {}
            }
            item.push(c);
        }
        names.insert(first_name(&item));
    }
    names.remove("");
    names
}

fn first_name(path: &str) -> String {
    path.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

//! What is generated is committed, and here it is told when it is stale. `PLANEWATCH_BLESS=1` writes it anew.

use crate::support::{output, root, stdout};
use planewatch::filter::{FILTER_BYTES_MAX, Filter, LIST_VALUES_MAX, Lists, NESTING_MAX};
use serde_json::Value;
use std::fmt::Write;
use std::fs;

fn bless() -> bool {
    std::env::var_os("PLANEWATCH_BLESS").is_some()
}

fn compare(path: &str, now: &str) {
    let path = root().join(path);
    if bless() {
        fs::write(&path, now).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == now, "{} is stale: run the tests once with PLANEWATCH_BLESS=1", path.display());
}

#[test]
fn published_schemas_are_fresh() {
    compare("docs/config.schema.json", &stdout(&output(&["config", "schema"])));
    compare("docs/event.schema.json", &stdout(&output(&["config", "event-schema"])));
}

#[test]
fn the_example_configuration_is_what_the_command_prints() {
    compare("deploy/planewatch.example.yaml", &stdout(&output(&["config", "example"])));
}

#[test]
fn the_metrics_table_of_the_readme_is_fresh() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (before, rest) = readme.split_once("<!-- metrics -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- /metrics -->").unwrap();
    let table = stdout(&output(&["config", "metrics"]));
    compare("README.md", &format!("{before}<!-- metrics -->\n{table}<!-- /metrics -->{after}"));
}

/// Each `tests/data/{cloudtrail,kubernetes}/NAME.json` beside the events that it becomes. Adding a pair adds no Rust.
#[test]
fn records_become_the_events_beside_them() {
    let mut n = 0;
    let folders = ["tests/data/cloudtrail", "tests/data/kubernetes"];
    for (folder, entry) in folders.iter().flat_map(|folder| fs::read_dir(root().join(folder)).unwrap().map(move |it| (folder, it))) {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.ends_with(".event.json") {
            continue;
        }
        n += 1;
        let events: Vec<Value> = crate::support::lines(&stdout(&output(&["replay", path.to_str().unwrap(), "--cluster", "test"])))
            .into_iter()
            .map(|mut event| {
                // What differs from machine to machine and run to run; the record itself stands in the input.
                let members = event.as_object_mut().unwrap();
                for volatile in ["_insert_time", "origin", "raw", "agent_id"] {
                    members.remove(volatile);
                }
                event
            })
            .collect();
        let now = serde_json::to_string_pretty(&events).unwrap() + "\n";
        compare(&format!("{folder}/{}", name.replace(".json", ".event.json")), &now);
    }
    assert!(n >= 16, "only {n} cases");
}

/// Each `tests/data/filter/NAME.filter`: events of `events.ndjson` that match, by id, in the line behind `#`.
#[test]
fn filters_find_the_events_that_they_name() {
    let folder = root().join("tests/data/filter");
    let events = folder.join("events.ndjson");
    let mut n = 0;
    for line in fs::read_to_string(folder.join("cases.tsv")).unwrap().lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (expected, filter) = line.split_once('\t').unwrap();
        let found: Vec<_> = crate::support::lines(&stdout(&output(&["replay", "--filter", filter, events.to_str().unwrap()])))
            .iter()
            .map(|it| it["raw"]["eventID"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(found.join(" "), expected, "{filter}");
        n += 1;
    }
    assert!(n > 40, "only {n} cases");
}

/// Filters, and which of their tests `explained.json` passes; the answers are written by `PLANEWATCH_BLESS=1`.
#[test]
fn explanations_are_as_they_were_looked_at() {
    let path = "tests/data/filter/explain.txt";
    let event = root().join("tests/data/filter/explained.json");
    let golden = fs::read_to_string(root().join(path)).unwrap();
    let mut text = String::new();
    for filter in golden.lines().filter_map(|line| line.strip_prefix("> ")) {
        let said = output(&["explain", filter, "--file", event.to_str().unwrap()]);
        writeln!(text, "> {filter}\n{}", stdout(&said)).unwrap();
    }
    compare(path, &text);
}

/// Filters that cannot be used, and what is said of each; the messages are written by `PLANEWATCH_BLESS=1`.
#[test]
fn every_error_of_a_filter_is_as_it_was_looked_at() {
    let path = "tests/data/filter/errors.txt";
    let golden = fs::read_to_string(root().join(path)).unwrap();
    let lists: Lists = [("friends".to_owned(), vec!["ada".to_owned()])].into();
    let mut text = String::new();
    let mut said = |shown: &str, filter: &str| {
        let error = Filter::new(filter, &lists).err().unwrap_or_else(|| panic!("{shown} is a good filter"));
        // Of a very long one the message alone.
        let message = if filter.len() > 1_000 { format!("line {}: {}", error.line, error.message) } else { error.to_string() };
        writeln!(text, "> {shown}\n{message}").unwrap();
    };
    for filter in golden.lines().filter_map(|line| line.strip_prefix("> ").or((line == ">").then_some(""))) {
        if !filter.starts_with('(') || !filter.ends_with("times)") {
            said(filter, &filter.replace("\\n", "\n"));
        }
    }
    let deep = NESTING_MAX + 1;
    said("(one parenthesis too many times)", &format!("{}user = \"ada\"{}", "(".repeat(deep), ")".repeat(deep)));
    said("(one value too many times)", &format!("user in ({})", vec!["1"; LIST_VALUES_MAX + 1].join(",")));
    said("(one byte too many times)", &" ".repeat(FILTER_BYTES_MAX + 1));
    compare(path, &text);
    // Whatever the sources can say is there: each of their texts, up to what is filled in.
    let mut missing = Vec::new();
    for file in ["lex", "parse", "compile", "sense"] {
        let source = fs::read_to_string(root().join(format!("src/filter/{file}.rs"))).unwrap();
        for (n, line) in source.lines().enumerate() {
            let is_said = ["FilterError::new(", ".error(", "let message = format!", "Some((format!", "Some((\"", "error(format!"]
                .iter()
                .any(|it| line.contains(it));
            let Some((_, said)) = line.split_once('"').filter(|_| is_said && !line.trim_start().starts_with("//")) else { continue };
            let fixed = said.split('"').next().unwrap_or("").split('{').max_by_key(|it| it.len()).unwrap_or("");
            let fixed = fixed.split_once('}').map_or(fixed, |(_, behind)| behind);
            if !text.contains(fixed) {
                missing.push(format!("{file}.rs:{}: {fixed}", n + 1));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

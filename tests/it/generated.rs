//! What is generated is committed, and here it is told when it is stale. `PLANEWATCH_BLESS=1` writes it anew.

use crate::support::{output, root, stdout};
use serde_json::Value;
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

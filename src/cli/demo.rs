//! `demo`: sample data of ours through the real pipeline.

use super::args::{DemoArgs, Output};
use super::exit::{Exit, Failure};
use super::run::{block_on, print_sum};
use super::{alerts, search, term};
use crate::app::{self, RunOptions};
use crate::config::Config;
use crate::store::{SearchOptions, list_alerts, search as search_store};
use std::fs;

const SAMPLES: &[(&str, &str)] = &[
    ("console.json", include_str!("samples/console.json")),
    ("deploy.json", include_str!("samples/deploy.json")),
    ("lines.ndjson", include_str!("samples/lines.ndjson")),
];
const SHOWN: usize = 20;

pub(super) fn demo(args: &DemoArgs) -> Result<Exit, Failure> {
    let (samples, data) = (args.dir.join("samples"), args.dir.join("data"));
    fs::create_dir_all(&samples)?;
    for (name, text) in SAMPLES {
        let path = samples.join(name);
        // The same bytes again would look like a change.
        if fs::read(&path).is_ok_and(|it| it == text.as_bytes()) {
            continue;
        }
        fs::write(&path, text)?;
    }
    let config: Config = serde_json::from_value(serde_json::json!({
        "data_dir": data,
        "sources": [{"type": "directory", "name": "demo", "path": samples}],
        "accounts": {"111122223333": {"name": "demo account"}},
        "rules": {"builtin": true},
    }))
    .map_err(|error| Failure::new(Exit::Bug, error))?;
    let counts = block_on(app::run(config, RunOptions { is_drain: true, ..RunOptions::default() }))??;
    let mut lines = Vec::new();
    search_store(SearchOptions { dir: data.clone(), limit: Some(SHOWN), ..SearchOptions::default() }, |hit| {
        search::write_line(hit.row(), &mut lines);
        lines.push(b'\n');
        true
    })?;
    term::print(&lines)?;
    print_sum(&counts, Output::Text)?;
    term::print(b"\nWhat the built-in rules raised:\n")?;
    let mut failed = None;
    list_alerts(&data, None, &mut |alert| {
        failed = alerts::print(&alert, Output::Text).err();
        failed.is_none()
    })?;
    if let Some(failure) = failed {
        return Err(failure);
    }
    let (data, samples) = (data.display(), samples.display());
    term::print(
        format!(
            "\nThese are sample events. Try:\n  planewatch search 'eventName = \"ConsoleLogin\"' --data-dir {data}\n  \
             planewatch search 'activity = \"read\" and target_kind = \"secret\"' --data-dir {data} --output json\n  \
             planewatch alerts show ID --data-dir {data}\n  planewatch explain --rule aws-root-activity --file {samples}/console.json\n  \
             planewatch hunt {samples}\n  planewatch quarantine list --data-dir {data}\n  planewatch config example > planewatch.yaml    # then: planewatch run -c planewatch.yaml\n"
        )
        .as_bytes(),
    )
}

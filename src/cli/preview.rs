//! `suppressions preview|add`: what a suppression would have hidden, advice, and the file that it becomes.

use super::args::{AddArgs, Output, PreviewArgs};
use super::exit::{Exit, Failure};
use super::term;
use crate::clock::Clock;
use crate::event::{Col, Row};
use crate::filter::{Filter, Lists, Scratch};
use crate::rules::{Preview, end_ms, never_again};
use crate::store::{SearchOptions, search};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

/// How many values of each kind are shown.
const SHOWN: usize = 10;

pub(super) fn preview(args: &PreviewArgs, dir: Option<&Path>, lists: &Lists, output: Output) -> Result<Exit, Failure> {
    let dir = dir.ok_or_else(|| Failure::new(Exit::Usage, "give --data-dir: stored events are looked at"))?;
    let filter = compile(&args.filter, lists)?;
    let preview = look(dir, filter.clone(), &args.for_rules)?;
    let advice = preview.advice(&filter, &args.filter);
    match output {
        Output::Json => {
            let line = serde_json::json!({
                "events": preview.events, "byUser": preview.users.by_value, "byAction": preview.actions.by_value,
                "byRule": preview.rules.by_value, "byKind": preview.kinds.by_value, "advice": advice, "better": preview.better(&filter, &args.filter),
            });
            term::print(format!("{line}\n").as_bytes())?;
        }
        Output::Text => {
            let mut text = format!("{} stored events would have been hidden\n", preview.events);
            for (what, counts) in [("user", &preview.users), ("action", &preview.actions), ("rule", &preview.rules)] {
                for (value, n) in counts.most(SHOWN) {
                    // Writing to a String does not fail.
                    let _ = writeln!(text, "  {what:<7} {:<50} {n}", term::plain(value));
                }
            }
            for line in &advice {
                let _ = writeln!(text, "{}", term::plain(line));
            }
            term::print(text.as_bytes())?;
        }
    }
    Ok(Exit::Done)
}

fn compile(filter: &str, lists: &Lists) -> Result<Filter, Failure> {
    Filter::new(filter, lists).map_err(|error| Failure::new(Exit::Usage, format!("filter:\n{error}")))
}

/// The stored events that match the filter and a rule.
fn look(dir: &Path, filter: Filter, rules: &[String]) -> Result<Preview, Failure> {
    let matched = Filter::new("alert_metadata.num_matched > 0", &Lists::default()).map_err(|error| Failure::new(Exit::Bug, error))?;
    let options = SearchOptions { dir: dir.to_owned(), filter: Some(filter.and(matched)), ..SearchOptions::default() };
    let (mut preview, mut scratch) = (Preview::default(), Scratch::default());
    search(options, |hit| {
        let row = hit.row();
        let mut is_for = rules.is_empty();
        row.list(Col::RuleMatches, &mut |id| is_for |= rules.iter().any(|it| it == id));
        if is_for {
            preview.add(row, rules, &mut scratch);
        }
        true
    })?;
    Ok(preview)
}

pub(super) fn add(args: &AddArgs, lists: &Lists) -> Result<Exit, Failure> {
    let usage = |what: String| Failure::new(Exit::Usage, what);
    let is_name = !args.id.is_empty() && args.id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if !is_name {
        return Err(usage(format!("id `{}`: letters, digits, `-` and `_`; the file is named after it", args.id)));
    }
    for (key, value) in [("--owner", &args.owner), ("--reason", &args.reason)] {
        if value.trim().is_empty() {
            return Err(usage(format!("{key}: say who answers for it and why it is harmless")));
        }
    }
    let filter = compile(&args.filter, lists)?;
    let refused = never_again(&filter, &args.filter);
    if let Some(why) = refused.first().filter(|_| !args.force) {
        return Err(usage(format!("{why}; `suppressions preview` offers a better filter, --force saves this one")));
    }
    if let Some(expires) = &args.expires {
        let at = end_ms(expires).map_err(|what| usage(format!("--{what}")))?;
        if at <= Clock::system().now_ms() {
            return Err(usage(format!("--expires {expires} is over: it would hide nothing")));
        }
    }
    let mut text = String::new();
    let quoted = |it: &str| serde_json::to_string(it).unwrap_or_default();
    for (key, value) in
        [("id", Some(&args.id)), ("filter", Some(&args.filter)), ("owner", Some(&args.owner)), ("reason", Some(&args.reason))]
            .into_iter()
            .chain([("expires", args.expires.as_ref()), ("created_by", args.by.as_ref())])
    {
        if let Some(value) = value {
            let _ = writeln!(text, "{key}: {}", quoted(value));
        }
    }
    if !args.for_rules.is_empty() {
        let _ = writeln!(text, "rules: [{}]", args.for_rules.iter().map(|it| quoted(it)).collect::<Vec<_>>().join(", "));
    }
    let path = args.folder.join(format!("{}.yaml", args.id));
    // Written beside its place and moved there: a service that reads the folder never sees half of it.
    let fresh = args.folder.join(format!(".{}.new", args.id));
    if path.try_exists().map_err(|error| Failure::new(Exit::Io, format!("{}: {error}", path.display())))? {
        return Err(Failure::new(Exit::Bad, format!("{} is there already; change or remove it", path.display())));
    }
    let written = fs::File::create(&fresh).and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.and_then(|()| fs::rename(&fresh, &path)).map_err(|error| Failure::new(Exit::Io, format!("{}: {error}", path.display())))?;
    term::say(&format!("saved {}; a service that has the folder uses it within a second", path.display()));
    Ok(Exit::Done)
}

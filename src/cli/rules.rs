//! `rules list|lint|test` (and the way to `try|promote`): what rules there are, whether they load, whether their own tests pass.

use super::args::{Output, RulesArgs, RulesCommand};
use super::exit::{Exit, Failure};
use super::{term, try_rules};
use crate::decode::{Buffers, Item, Records};
use crate::event::Context;
use crate::filter::{Lists, Scratch};
use crate::normalize::{Normalizer, watched_keys};
use crate::rules::{Loaded, Problem, Rule, Source, load as load_rules};
use crate::store::rule_counts;
use std::io::Write;
use std::path::Path;

/// The rules of `--rules`: folders, files, or `builtin`. None given: the built-in ones.
pub(super) fn load(sources: &[String], lists: &Lists) -> Loaded {
    let source = |it: &String| if it == "builtin" { Source::Builtin } else { Source::Path(it.into()) };
    let mut sources: Vec<_> = sources.iter().map(source).collect();
    if sources.is_empty() {
        sources.push(Source::Builtin);
    }
    load_rules(&sources, lists)
}

/// Says which rules did not load.
pub(super) fn report(problems: &[Problem]) {
    for Problem { file, what } in problems {
        term::say(&format!("{}: not loaded: {}", term::plain(&file.display().to_string()), what.trim_end()));
    }
}

pub(super) fn rules(args: &RulesArgs) -> Result<Exit, Failure> {
    let loaded = load(&args.rules, &super::data::named_lists(&args.lists)?);
    report(&loaded.problems);
    let is_clean = match &args.command {
        RulesCommand::Try(it) => return try_rules::try_rules(it, loaded.rules, args.output),
        RulesCommand::Promote { ids } => return try_rules::promote(ids, &loaded.rules),
        RulesCommand::List { data_dir } => list(&loaded.rules, data_dir.as_deref(), args.output)?,
        RulesCommand::Lint => lint(&loaded.rules),
        RulesCommand::Test => test(&loaded.rules)?,
    };
    Ok(if is_clean && loaded.problems.is_empty() { Exit::Done } else { Exit::Bad })
}

fn list(rules: &[Rule], data_dir: Option<&Path>, output: Output) -> Result<bool, Failure> {
    let counts = data_dir.map(rule_counts).transpose()?;
    let mut out = std::io::stdout().lock();
    for rule in rules {
        let of_this = counts.as_ref().map(|all| all.get(&rule.id).copied().unwrap_or((0, 0)));
        match output {
            Output::Text => {
                let counted = of_this.map_or(String::new(), |(matches, late)| match late {
                    0 => format!("  {matches} matches"),
                    _ => format!("  {matches} matches, {late} of them late"),
                });
                writeln!(out, "{:<50} {}  {}{counted}", rule.id, rule.severity, rule.title.text)?;
            }
            Output::Json => {
                let types: Vec<_> = rule.event_types.iter().map(|it| it.name()).collect();
                let line = serde_json::json!({
                    "matches": of_this.map(|(matches, _)| matches), "late": of_this.map(|(_, late)| late),
                    "id": rule.id, "title": rule.title.text, "severity": rule.severity, "tags": rule.tags, "event_types": types,
                    "description": rule.description, "enabled": rule.is_enabled, "live": rule.is_live, "file": rule.file,
                });
                writeln!(out, "{line}")?;
            }
        }
    }
    Ok(true)
}

/// What a rule should have beside what it needs to run.
fn lint(rules: &[Rule]) -> bool {
    let mut is_clean = true;
    let mut say = |rule: &Rule, what: &str| {
        is_clean = false;
        term::say(&format!("{}: {what}", rule.id));
    };
    for rule in rules.iter().filter(|it| !it.cases.is_empty() || it.file.starts_with("builtin")) {
        for (wanted, kind) in [(true, "matches"), (false, "does not match")] {
            if !rule.cases.iter().any(|it| it.matches == wanted) {
                say(rule, &format!("has no test with an event that it {kind}"));
            }
        }
        if rule.description.is_empty() {
            say(rule, "has no description: say what happened, why it matters and what to check first");
        }
        if !rule.tags.iter().any(|it| it.starts_with("attack.")) {
            say(rule, "names no ATT&CK tactic or technique in its tags");
        }
    }
    is_clean
}

fn test(rules: &[Rule]) -> Result<bool, Failure> {
    let (mut passed, mut failed) = (0, 0);
    let mut out = std::io::stdout().lock();
    for rule in rules {
        for case in &rule.cases {
            let result = match rule.case_event(&case.event) {
                None => Err("there is no such file".to_owned()),
                Some(text) => matches(rule, &text),
            };
            match result {
                Ok(found) if found == case.matches => passed += 1,
                Ok(found) => {
                    failed += 1;
                    let does = if found { "matches, and should not" } else { "does not match, and should" };
                    writeln!(out, "{}: {}: {does}", rule.id, case.event)?;
                }
                Err(what) => {
                    failed += 1;
                    writeln!(out, "{}: {}: {what}", rule.id, case.event)?;
                }
            }
        }
    }
    writeln!(out, "{passed} passed, {failed} failed, {} rules", rules.len())?;
    Ok(failed == 0)
}

/// Whether any event of the text matches.
fn matches(rule: &Rule, text: &str) -> Result<bool, String> {
    let context = Context { source: "test".to_owned(), ..Context::default() };
    let mut records = Records::of_bytes(text.as_bytes(), Buffers::new(watched_keys())).map_err(|error| error.to_string())?;
    let (mut normalizer, mut scratch) = (Normalizer::default(), Scratch::default());
    let (mut seen, mut found) = (0, false);
    while let Some(item) = records.next().map_err(|error| error.to_string())? {
        match item {
            Item::Record(record) => {
                let event = normalizer.event(&record, &context);
                seen += 1;
                found |= rule.event_types.contains(&event.event_type) && rule.filter.matches(&event, &mut scratch);
            }
            Item::Reject(reject) => return Err(format!("{}: {}", reject.reason, reject.detail)),
            Item::Skipped(_) => {}
        }
    }
    if seen == 0 { Err("has no event".to_owned()) } else { Ok(found) }
}

//! `rules list|show|lint` (and the way to `test|try|promote`): what rules there are, and whether they are sound.

use super::args::{Output, RulesArgs, RulesCommand};
use super::exit::{Exit, Failure};
use super::{term, test_rules, try_rules};
use crate::filter::Lists;
use crate::rules::{Loaded, Problem, Rule, Source, load as load_rules};
use crate::store::rule_counts;
use std::io::Write;
use std::path::Path;

/// The rules of `--rules`: folders, files, or `builtin`. None given: the built-in ones.
pub(super) fn load(sources: &[String], lists: &Lists) -> Result<Loaded, Failure> {
    let source = |it: &String| {
        if it == "builtin" {
            return Ok(Source::Builtin);
        }
        is_there("--rules", Path::new(it), "a folder, a file, or `builtin`").map(|()| Source::Path(it.into()))
    };
    let mut sources: Vec<_> = sources.iter().map(source).collect::<Result<_, _>>()?;
    if sources.is_empty() {
        sources.push(Source::Builtin);
    }
    Ok(load_rules(&sources, lists))
}

/// What is named and not there is a slip, not an empty folder.
pub(super) fn is_there(option: &str, path: &Path, wanted: &str) -> Result<(), Failure> {
    match path.try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new(Exit::Usage, format!("{option} {}: there is no such file or folder; name {wanted}", path.display()))),
        Err(error) => Err(Failure::new(Exit::Usage, format!("{option} {}: {error}", path.display()))),
    }
}

/// Says which rules did not load.
pub(super) fn report(problems: &[Problem]) {
    for Problem { file, what } in problems {
        term::say(&format!("{}: not loaded: {}", term::plain(&file.display().to_string()), what.trim_end()));
    }
}

pub(super) fn rules(args: &RulesArgs) -> Result<Exit, Failure> {
    let mut lists = super::data::named_lists(&args.lists)?;
    if let RulesCommand::Try(it) = &args.command {
        lists.extend(it.data.lists()?);
    }
    let loaded = load(&args.rules, &lists)?;
    report(&loaded.problems);
    let is_clean = match &args.command {
        RulesCommand::Try(it) => return try_rules::try_rules(it, loaded.rules, &lists, args.output),
        RulesCommand::Promote { ids } => return try_rules::promote(ids, &loaded.rules),
        RulesCommand::List { data_dir } => list(&loaded.rules, data_dir.as_deref(), args.output)?,
        RulesCommand::Lint => lint(&loaded.rules),
        RulesCommand::Show { id } => return show(id, &loaded.rules),
        RulesCommand::Test => test_rules::test(&loaded.rules)?,
    };
    Ok(if is_clean && loaded.problems.is_empty() { Exit::Done } else { Exit::Bad })
}

fn list(rules: &[Rule], data_dir: Option<&Path>, output: Output) -> Result<bool, Failure> {
    let counts = data_dir.map(rule_counts).transpose()?;
    let mut out = Vec::new();
    for rule in rules {
        let of_this = counts.as_ref().map(|all| all.get(&rule.id).copied().unwrap_or((0, 0)));
        match output {
            Output::Text => {
                let counted = of_this.map_or(String::new(), |(matches, late)| match late {
                    0 => format!("  {matches} matches"),
                    _ => format!("  {matches} matches, {late} of them late"),
                });
                let state = match (rule.is_enabled, rule.is_live) {
                    (false, _) => "  (not enabled)",
                    (true, false) => "  (shadow)",
                    (true, true) => "",
                };
                writeln!(out, "{:<50} {}  {}{state}{counted}", rule.id, rule.severity, rule.title.text)?;
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
    term::print(&out)?;
    Ok(true)
}

fn show(id: &str, rules: &[Rule]) -> Result<Exit, Failure> {
    let rule = rules.iter().find(|it| it.id == id);
    let rule = rule.ok_or_else(|| Failure::new(Exit::Usage, format!("no rule has the id `{id}`; `rules list` shows them")))?;
    let text = rule.source().ok_or_else(|| Failure::new(Exit::Io, format!("{}: cannot be read", rule.file.display())))?;
    term::print(text.as_bytes())
}

/// What a rule should have beside what it needs to run.
fn lint(rules: &[Rule]) -> bool {
    let mut is_clean = true;
    let mut say = |rule: &Rule, what: &str| {
        is_clean = false;
        term::say(&format!("{}: {what}", rule.id));
    };
    // Sigma's format has no tests.
    for rule in rules.iter().filter(|it| it.is_ours) {
        for (wanted, kind) in [(true, "matches"), (false, "does not match")] {
            if !rule.cases.iter().any(|it| it.matches == Some(wanted)) {
                say(rule, &format!("has no test with an event that it {kind}"));
            }
        }
        for case in rule.cases.iter().filter(|it| rule.case_event(&it.event).is_none()) {
            say(rule, &format!("tests: {}: there is no such file beside the rule", case.event));
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

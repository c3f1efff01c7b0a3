//! `rules try|promote`: what a rule finds in the stored events, and from shadow to live.

use super::args::{Output, TryArgs};
use super::exit::{Exit, Failure};
use super::{hunt, term};
use crate::event::Row;
use crate::filter::{Filter, Lists, Scratch};
use crate::rules::{Hit, Rule, RuleSet, Tally, load_suppressions};
use crate::store::{SearchOptions, search};
use std::fs;

/// Evaluates rules over what is stored: the same alerts as live, if they had been there.
pub(super) fn try_rules(args: &TryArgs, rules: Vec<Rule>, lists: &Lists, output: Output) -> Result<Exit, Failure> {
    // A rule that is tried speaks, whether it is in shadow or not yet enabled.
    let wanted = |rule: &Rule| args.ids.is_empty() || args.ids.contains(&rule.id);
    let rules: Vec<_> = rules.into_iter().filter(wanted).map(|it| Rule { is_live: true, is_enabled: true, ..it }).collect();
    if let Some(id) = args.ids.iter().find(|id| !rules.iter().any(|it| it.id == **id)) {
        return Err(Failure::new(Exit::Usage, format!("no rule has the id `{id}`; `rules list` shows them")));
    }
    // What the service suppresses, it would not have raised.
    let (suppressions, problems) = load_suppressions(&args.data.suppressions()?, lists);
    super::rules::report(&problems);
    let set = RuleSet::new(rules).with_suppressions(suppressions);
    let now = crate::clock::Clock::system().now_ms();
    let options = SearchOptions {
        dir: args.data.dir()?,
        // What none of them can match is not read.
        filter: Some(Filter::any_of(&set.rules.iter().map(|it| it.filter.clone()).collect::<Vec<_>>())),
        since_ms: args.since.as_deref().map(|it| super::search::point(it, now)).transpose()?,
        ..SearchOptions::default()
    };
    let (mut tally, mut scratch, mut events) = (Tally::new(&set), Scratch::default(), 0);
    search(options, |hit| {
        let row = hit.row();
        let mut json = None;
        for (n, rule) in set.rules.iter().enumerate().filter(|(_, it)| it.event_types.contains(&row.event_type())) {
            if rule.filter.matches(row, &mut scratch) && set.hidden_by(rule, row, now, &mut scratch).is_none() {
                let json = json.get_or_insert_with(|| crate::rules::shared_json(row));
                let hit = Hit::new(&set, n, row, Some(json), &mut scratch);
                tally.add(&set, &hit);
            }
        }
        events += 1;
        true
    })?;
    hunt::finish(tally, &set, output, events, &mut std::io::stdout())?;
    Ok(Exit::Done)
}

/// Makes shadow rules live, in their files.
pub(super) fn promote(ids: &[String], rules: &[Rule]) -> Result<Exit, Failure> {
    for id in ids {
        let bad = |what: String| Failure::new(Exit::Bad, format!("{id}: {what}"));
        let rule = rules.iter().find(|it| it.id == *id).ok_or_else(|| bad("no rule has this id; `rules list` shows them".to_owned()))?;
        if rule.is_builtin() {
            return Err(bad("it is built in; `rules show` prints it: a file of yours with the same id replaces it".to_owned()));
        }
        if rule.is_live {
            return Err(bad("it is live already".to_owned()));
        }
        let io = |error: std::io::Error| Failure::new(Exit::Io, format!("{}: {error}", rule.file.display()));
        let text = fs::read_to_string(&rule.file).map_err(io)?;
        // The one line is changed: comments and the rest stay as they are.
        let live = |line: &str| {
            let (key, value) = line.split_once(':')?;
            let bare = value.split('#').next().unwrap_or("").trim().trim_matches(|c| c == '"' || c == '\'');
            (key.trim_end() == "state" && bare == "shadow").then(|| line.replacen("shadow", "live", 1))
        };
        let mut changed = 0;
        let mut lines = Vec::new();
        for line in text.lines() {
            let fresh = live(line);
            changed += usize::from(fresh.is_some());
            lines.push(fresh.unwrap_or_else(|| line.to_owned()));
        }
        if changed != 1 {
            return Err(bad(format!("{} has no line `state: shadow` by itself; change it there", rule.file.display())));
        }
        let fresh = rule.file.with_extension("yaml.new");
        fs::write(&fresh, lines.join("\n") + "\n").and_then(|()| fs::rename(&fresh, &rule.file)).map_err(io)?;
        term::say(&format!("{id} is live; a service that has its folder alerts by it within a second"));
    }
    Ok(Exit::Done)
}

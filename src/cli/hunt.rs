//! `hunt`: rules over files, without a store.

use super::args::{HuntArgs, Output};
use super::exit::{Exit, Failure};
use super::files::{Reading, Visitor, read};
use super::{rules, term};
use crate::clock::Clock;
use crate::event::{Context, Event, EventType, Row};
use crate::filter::{Field, Scratch};
use crate::json::push_quoted;
use crate::rules::{Alert, Found, Hit, RuleSet, Tally, load_suppressions, severity_name, shared_json};
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// Asks the rules about each event.
struct Hunter<'h> {
    set: &'h RuleSet,
    /// None: matches are written, and not gathered.
    tally: Option<&'h Mutex<Tally>>,
    native: &'h Native,
    scratch: Scratch,
    found: Vec<Found>,
    hits: Vec<Hit>,
}

/// Where a native record names itself.
struct Native {
    event_id: Field,
    audit_id: Field,
}

impl Visitor for Hunter<'_> {
    fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        self.set.matches(event, &mut self.scratch, &mut self.found);
        if self.found.is_empty() {
            return;
        }
        let found = std::mem::take(&mut self.found);
        let rules = found.iter().filter(|it| it.hidden_by.is_none()).map(|it| it.rule);
        match self.tally {
            Some(tally) => {
                let json = shared_json(event);
                self.hits.extend(rules.map(|rule| Hit::new(self.set, rule, event, Some(&json), &mut self.scratch)));
                let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                self.hits.drain(..).for_each(|hit| tally.add(self.set, &hit));
            }
            None => rules.for_each(|rule| self.write_match(rule, event, out)),
        }
        self.found = found;
    }
}

impl Hunter<'_> {
    fn write_match(&mut self, rule: usize, event: &Event<'_>, out: &mut Vec<u8>) {
        let field = if event.event_type == EventType::KubernetesAudit { &self.native.audit_id } else { &self.native.event_id };
        out.extend_from_slice(b"{\"rule_id\":");
        push_quoted(&self.set.rules[rule].id, out);
        if let Some(id) = field.values(event, &mut self.scratch).first() {
            out.extend_from_slice(b",\"native_id\":");
            push_quoted(id, out);
        }
        out.extend_from_slice(format!(",\"_id\":\"{}\",\"origin\":{{\"uri\":", event.id()).as_bytes());
        push_quoted(&event.context.uri, out);
        out.extend_from_slice(format!(",\"index\":{}}}}}\n", event.index).as_bytes());
    }
}

pub(super) fn hunt(args: &HuntArgs) -> Result<Exit, Failure> {
    let lists = super::data::named_lists(&args.lists)?;
    let loaded = rules::load(&args.rules, &lists)?;
    for path in &args.suppressions {
        rules::is_there("--suppressions", path, "a folder or file")?;
    }
    rules::report(&loaded.problems);
    let (suppressions, bad) = load_suppressions(&args.suppressions, &lists);
    rules::report(&bad);
    let is_partial = args.strict && loaded.problems.len() + bad.len() > 0;
    let set = RuleSet::new(loaded.rules).with_suppressions(suppressions);
    let bug = |error: crate::filter::FilterError| Failure::new(Exit::Bug, error);
    let native = Native { event_id: Field::new("eventID").map_err(bug)?, audit_id: Field::new("auditID").map_err(bug)? };
    let tally = Mutex::new(Tally::new(&set));
    let now_ms = Clock::system().now_ms();
    let base = Context { source: "hunt".to_owned(), cluster: args.cluster.clone(), now_ms, ..Context::default() };
    let reading = Reading { paths: &args.paths, base: &base, output: args.output };
    let mut out = io::stdout();
    let sum = read(&reading, &mut out, || Hunter {
        set: &set,
        tally: (!args.matches).then_some(&tally),
        native: &native,
        scratch: Scratch::default(),
        found: Vec::new(),
        hits: Vec::new(),
    })?;
    if !args.matches {
        let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
        finish(tally, &set, args.output, sum.records, &mut out)?;
    }
    let exit = sum.exit();
    Ok(if is_partial { Exit::Bad } else { exit })
}

/// Writes the alerts, and for a person a summary by rule and by user.
pub(super) fn finish(tally: Tally, set: &RuleSet, output: Output, records: u64, out: &mut dyn Write) -> io::Result<()> {
    let overflow: Vec<(usize, u64)> = tally.overflow.iter().copied().enumerate().filter(|(_, n)| *n > 0).collect();
    for (rule, n) in overflow {
        term::say(&format!("{}: {n} matches are past the rule's bounds and in no alert; narrow its filter", set.rules[rule].id));
    }
    let matches = tally.matches.clone();
    let mut by_rule = vec![0_u64; set.rules.len()];
    let mut by_user = std::collections::BTreeMap::<String, u64>::new();
    let mut failed = Ok(());
    let mut line = Vec::new();
    tally.finish(set, &mut |alert| {
        if let Some(n) = set.rules.iter().position(|it| it.id == alert.rule_id) {
            by_rule[n] += 1;
        }
        *by_user.entry(user_of(alert)).or_default() += 1;
        line.clear();
        match output {
            Output::Json => alert.write_json(&mut line),
            Output::Text => line.extend_from_slice(text_of(alert).as_bytes()),
        }
        if failed.is_ok() {
            failed = out.write_all(&line);
        }
    })?;
    failed.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })?;
    if output == Output::Text {
        term::say(&format!("{} rules over {records} records", set.rules.len()));
        // Those that matched and raised nothing are what one looks for when a rule is made.
        for (n, alerts) in by_rule.iter().enumerate().filter(|(n, _)| matches[*n] > 0) {
            term::say(&format!("  {:<48} {alerts} alerts, {} matches", set.rules[n].id, matches[n]));
        }
        for (user, alerts) in by_user {
            term::say(&format!("  user {:<43} {alerts} alerts", term::plain(&user)));
        }
    }
    Ok(())
}

/// Whose alert it is: the rule says, or else its latest event.
fn user_of(alert: &Alert) -> String {
    #[derive(serde::Deserialize)]
    struct Who {
        user: Option<String>,
    }
    let user = |(field, value): &(String, String)| (field == "user" && !value.is_empty()).then(|| value.clone());
    let latest = || alert.events.first().and_then(|it| serde_json::from_str::<Who>(it).ok()?.user);
    alert.aggregates.iter().find_map(user).or_else(latest).unwrap_or_else(|| "unknown".to_owned())
}

fn text_of(alert: &Alert) -> String {
    let severity = severity_name(alert.severity);
    let time = crate::event::time::format_ms(alert.first_event_time);
    format!("{time}  {severity:<6}  {}  {}  ({} events)\n", alert.rule_id, term::plain(&alert.title), alert.count)
}

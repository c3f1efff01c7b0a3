//! `explain`: which test of a filter or a rule an event fails, and what it has instead.

use super::args::{ExplainArgs, Output};
use super::exit::{Exit, Failure};
use super::files::{Reading, Visitor, read};
use super::{rules, search, term};
use crate::clock::Clock;
use crate::event::{Context, Event, EventType, Row};
use crate::filter::{Explained, Expr, Filter, Op, Path, Scratch, Segment, Test, Value};
use crate::store::{SearchOptions, search as search_store};
use std::io::{self, Write};

/// How much of a value is shown, in characters.
const VALUE_SHOWN: usize = 120;
/// How many values of one test are shown.
const VALUES_SHOWN: usize = 5;

/// What is explained: a filter, and what hides its matches.
#[derive(Clone)]
struct Asked {
    filter: Filter,
    suppressions: Vec<Filter>,
    /// The types of event that a rule looks at. None: all.
    types: Option<&'static [EventType]>,
    /// What a rule takes to alert beside one match.
    alerts_at: Option<String>,
    output: Output,
}

struct Explainer {
    asked: Asked,
    scratch: Scratch,
}

impl Visitor for Explainer {
    fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        self.asked.explain(event, &mut self.scratch, out);
    }
}

pub(super) fn explain(args: &ExplainArgs) -> Result<Exit, Failure> {
    let asked = asked(args)?;
    let mut out = io::stdout();
    let Some(id) = &args.id else {
        let base = Context { source: "explain".to_owned(), now_ms: Clock::system().now_ms(), ..Context::default() };
        let reading = Reading { paths: &args.files, base: &base, output: args.output };
        return Ok(read(&reading, &mut out, || Explainer { asked: asked.clone(), scratch: Scratch::default() })?.exit());
    };
    let dir = args.data_dir.clone().ok_or_else(|| Failure::new(Exit::Usage, "--id names a stored event: give --data-dir"))?;
    let options = SearchOptions { dir, filter: Some(with_id(id)?), ..SearchOptions::default() };
    let (mut scratch, mut text) = (Scratch::default(), Vec::new());
    let n = search_store(options, |hit| {
        asked.explain(hit.row(), &mut scratch, &mut text);
        true
    })?;
    out.write_all(&text)?;
    if n == 0 {
        return Err(Failure::new(Exit::Bad, format!("no stored event has the id `{id}` as `_id`, eventID or auditID")));
    }
    Ok(Exit::Done)
}

fn asked(args: &ExplainArgs) -> Result<Asked, Failure> {
    let lists = super::data::named_lists(&args.lists)?;
    let of_filter = |filter| Asked { filter, suppressions: Vec::new(), types: None, alerts_at: None, output: args.output };
    match (&args.rule, &args.filter) {
        (Some(id), _) => {
            let loaded = rules::load(&args.rules, &lists)?;
            rules::report(&loaded.problems);
            let rule = loaded.rules.into_iter().find(|it| it.id == *id);
            let rule = rule.ok_or_else(|| Failure::new(Exit::Usage, format!("no rule has the id `{id}`; `rules list` shows them")))?;
            let alerts_at = rule.alerts_at();
            Ok(Asked { suppressions: rule.suppressions, types: Some(rule.event_types), alerts_at, ..of_filter(rule.filter) })
        }
        (None, Some(filter)) => Filter::new(filter, &lists).map(of_filter).map_err(|error| Failure::new(Exit::Usage, error)),
        (None, None) => Err(Failure::new(Exit::Usage, "give a filter, or --rule with a rule's id")),
    }
}

/// The event that has this id, as we or its source name it.
fn with_id(id: &str) -> Result<Filter, Failure> {
    let test = |name: &&str| {
        let path = Path(vec![Segment::Name((*name).to_owned())]);
        Expr::Test(Test { path, op: Op::Eq, nocase: false, value: Value::Text(id.to_owned()), at: 0 })
    };
    let any = Expr::Or(["_id", "eventID", "auditID"].iter().map(test).collect());
    Filter::compile(&any, "", &crate::filter::Lists::default()).map_err(|error| Failure::new(Exit::Bug, error))
}

impl Asked {
    fn explain(&self, event: &impl Row, scratch: &mut Scratch, out: &mut Vec<u8>) {
        let filter = self.filter.explain(event, scratch);
        let suppressions: Vec<_> = self.suppressions.iter().map(|it| it.explain(event, scratch)).collect();
        let is_its_type = self.types.is_none_or(|types| types.contains(&event.event_type()));
        let holds = |all: &[Explained]| all.first().is_some_and(|it| it.holds);
        let is_hidden = suppressions.iter().any(|it| holds(it));
        let matches = is_its_type && holds(&filter) && !is_hidden;
        if self.output == Output::Json {
            let line = serde_json::json!({
                "_id": event.id().to_string(), "matches": matches, "isOfType": is_its_type, "filter": filter, "suppressions": suppressions,
                "alertsAt": self.alerts_at,
            });
            return out.extend_from_slice(format!("{line}\n").as_bytes());
        }
        search::write_line(event, out);
        out.truncate(out.trim_ascii_end().len());
        let verdict = match (is_its_type, holds(&filter), is_hidden) {
            (false, ..) => format!("does not match: the rule is not for events of type {}", event.event_type().name()),
            (_, false, _) => "does not match".to_owned(),
            (_, true, true) => "matches, and does not count: a suppression of the rule matches as well".to_owned(),
            (_, true, false) => self.alerts_at.as_ref().map_or("matches".to_owned(), |it| format!("matches; the rule alerts at {it}")),
        };
        out.extend_from_slice(format!("\n{verdict}\n").as_bytes());
        for part in &filter {
            write(part, out);
        }
        for suppression in &suppressions {
            out.extend_from_slice(b"suppression\n");
            for part in suppression {
                write(part, out);
            }
        }
    }
}

fn write(it: &Explained, out: &mut Vec<u8>) {
    let mut line = format!("  {:<4}{}{}", if it.holds { "yes" } else { "no" }, "  ".repeat(it.depth), term::plain(&it.what));
    let is_test = !matches!(it.what.as_str(), "and" | "or" | "not");
    if is_test {
        let shown: Vec<_> = it.values.iter().take(VALUES_SHOWN).map(|value| format!("{:?}", term::short(value, VALUE_SHOWN))).collect();
        let more = if it.values.len() > VALUES_SHOWN { format!(" and {} more", it.values.len() - VALUES_SHOWN) } else { String::new() };
        let values = if shown.is_empty() { "nothing there".to_owned() } else { format!("there: {}{more}", shown.join(", ")) };
        line = format!("{line:<72}  {values}");
    }
    out.extend_from_slice(line.trim_end().as_bytes());
    out.push(b'\n');
}

//! A rule file of ours (FILTER.md, Rules): YAML, unknown keys refused.

use super::rule::{Rule, RuleCase, Trigger, duration_ms, event_types};
use super::title::Title;
use crate::filter::{Field, Filter, Lists};
use serde::Deserialize;
use std::path::Path;

/// The window of a rule that names none.
const WINDOW_DEFAULT_MS: i64 = 3_600_000;
/// Steps of a sequence, at most.
const STEPS_MAX: usize = 16;
/// Aggregate fields of a rule, at most.
const AGGREGATES_MAX: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    id: String,
    title: String,
    severity: u8,
    r#type: String,
    description: String,
    #[serde(default)]
    filter: Option<String>,
    #[serde(default)]
    aggregate_fields: Vec<String>,
    #[serde(default)]
    window: Option<String>,
    #[serde(default)]
    threshold: Option<u64>,
    #[serde(default)]
    distinct: Option<DistinctFile>,
    #[serde(default)]
    first_seen: Option<FirstSeenFile>,
    #[serde(default)]
    sequence: Option<Vec<StepFile>>,
    #[serde(default)]
    suppressions: Vec<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default = "yes")]
    enabled: bool,
    #[serde(default)]
    state: State,
    #[serde(default)]
    tests: Vec<CaseFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DistinctFile {
    field: String,
    count: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstSeenFile {
    field: String,
    history: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepFile {
    filter: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    event: String,
    #[serde(default)]
    matches: Option<bool>,
    #[serde(default)]
    alerts: Option<u64>,
}

#[derive(Deserialize, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Live,
    Shadow,
}

fn yes() -> bool {
    true
}

/// The rule of one file. An error says what is wrong, with the filter's caret where it is the filter.
pub(super) fn rule(text: &str, path: &Path, lists: &Lists) -> Result<Rule, String> {
    let file: RuleFile = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    if !(1..=3).contains(&file.severity) {
        return Err(format!("severity: {} is none; 1 is high, 2 medium, 3 low", file.severity));
    }
    let types = event_types(&file.r#type).ok_or_else(|| {
        format!(
            "type: `{}` is none; CloudTrail, Kubernetes (audit events), KubernetesConfig or KubernetesEvent (a watch), Host",
            file.r#type
        )
    })?;
    if file.aggregate_fields.len() > AGGREGATES_MAX {
        return Err(format!("aggregate_fields: at most {AGGREGATES_MAX}"));
    }
    let title = Title::checked(&file.title)?;
    let compile = |key: &str, source: &str| Filter::new(source, lists).map_err(|error| format!("{key}:\n{error}"));
    let trigger = trigger(&file, &compile)?;
    let filter = match (&file.filter, trigger.steps()) {
        // Steps say what matches; a filter beside them says what all steps have in common.
        (None, steps @ [_, ..]) => Filter::any_of(steps),
        (Some(filter), steps @ [_, ..]) => compile("filter", filter)?.and(Filter::any_of(steps)),
        (Some(filter), []) => compile("filter", filter)?,
        (None, []) => return Err("filter: is missing".to_owned()),
    };
    let window_ms = file.window.as_deref().map(|it| duration("window", it)).transpose()?.unwrap_or(WINDOW_DEFAULT_MS);
    let field = |path: &String| Field::new(path).map_err(|error| format!("aggregate_fields:\n{error}"));
    Ok(Rule {
        severity: file.severity,
        event_types: types,
        filter,
        suppressions: file.suppressions.iter().map(|it| compile("suppressions", it)).collect::<Result<_, _>>()?,
        aggregates: file.aggregate_fields.iter().map(field).collect::<Result<_, _>>()?,
        window_ms,
        trigger,
        is_live: file.state == State::Live,
        is_enabled: file.enabled,
        is_ours: true,
        cases: file.tests.into_iter().map(case).collect::<Result<_, _>>()?,
        file: path.to_owned(),
        id: file.id,
        title,
        description: file.description,
        tags: file.tags,
    })
}

fn case(file: CaseFile) -> Result<RuleCase, String> {
    if file.matches.is_none() && file.alerts.is_none() {
        return Err(format!("tests: {}: say what is expected: `matches: true`, or `alerts: 1`", file.event));
    }
    Ok(RuleCase { event: file.event, matches: file.matches, alerts: file.alerts })
}

fn trigger(file: &RuleFile, compile: &impl Fn(&str, &str) -> Result<Filter, String>) -> Result<Trigger, String> {
    let field = |path: &str| Field::new(path).map_err(|error| format!("field:\n{error}"));
    let at_least = |key: &str, n: u64| if n == 0 { Err(format!("{key}: at least 1")) } else { Ok(n) };
    match (&file.threshold, &file.distinct, &file.first_seen, &file.sequence) {
        (None | Some(1), None, None, None) => Ok(Trigger::Each),
        (Some(n), None, None, None) => Ok(Trigger::Threshold(at_least("threshold", *n)?)),
        (None, Some(it), None, None) => Ok(Trigger::Distinct(field(&it.field)?, at_least("distinct", it.count)?)),
        (None, None, Some(it), None) => Ok(Trigger::FirstSeen(field(&it.field)?, duration("history", &it.history)?)),
        (None, None, None, Some(steps)) if (2..=STEPS_MAX).contains(&steps.len()) => {
            let steps = steps.iter().enumerate().map(|(n, it)| compile(&format!("sequence, step {}", n + 1), &it.filter));
            Ok(Trigger::Sequence(steps.collect::<Result<_, _>>()?))
        }
        (None, None, None, Some(_)) => Err(format!("sequence: 2 to {STEPS_MAX} steps")),
        _ => Err("only one of threshold, distinct, first_seen and sequence".to_owned()),
    }
}

fn duration(key: &str, text: &str) -> Result<i64, String> {
    duration_ms(text).ok_or_else(|| format!("{key}: `{text}` is not a length of time; write 30s, 15m, 1h or 14d"))
}

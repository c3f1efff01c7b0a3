//! Sigma rules and correlations (specification 2.1), into the same engine. What cannot be expressed is listed with
//! the reason, never half-loaded.

mod condition;
mod correlation;
mod detection;
mod text;

use super::load::{Loaded, Problem};
use super::rule::{Rule, Trigger};
use super::title::Title;
use crate::event::EventType;
use crate::filter::{Filter, Lists};
use serde_json::{Map, Value};
use std::path::Path;

/// The window in which matches of a rule are gathered.
const WINDOW_MS: i64 = 3_600_000;

/// The levels of the specification.
const LEVELS: [&str; 5] = ["informational", "low", "medium", "high", "critical"];

/// Whether a rule file is Sigma's: its documents say so at the start of a line.
pub(super) fn is_sigma(text: &str) -> bool {
    text.lines().any(|line| ["logsource:", "detection:", "correlation:"].iter().any(|it| line.starts_with(it)))
}

/// Loads the documents of one file.
pub(super) fn load(text: &str, path: &Path, lists: &Lists, loaded: &mut Loaded) {
    let problem = |what: String| Problem { file: path.to_owned(), what };
    let documents: Vec<Map<String, Value>> = match serde_saphyr::from_multiple(text) {
        Ok(documents) => documents,
        Err(error) => return loaded.problems.push(problem(error.to_string())),
    };
    let (correlations, plain): (Vec<_>, Vec<_>) = documents.into_iter().partition(|it| it.contains_key("correlation"));
    let mut rules = Vec::new();
    for document in &plain {
        match rule(document, path, lists) {
            Ok(rule) => rules.push((names(document), rule)),
            Err(what) => loaded.problems.push(problem(format!("{}: {what}", name_of(document)))),
        }
    }
    for document in &correlations {
        match correlation::rule(document, path, &mut rules) {
            Ok(rule) => loaded.rules.push(rule),
            Err(what) => loaded.problems.push(problem(format!("{}: {what}", name_of(document)))),
        }
    }
    loaded.rules.extend(rules.into_iter().map(|(_, rule)| rule));
}

fn string<'v>(document: &'v Map<String, Value>, key: &str) -> Option<&'v str> {
    document.get(key).and_then(Value::as_str)
}

fn name_of(document: &Map<String, Value>) -> &str {
    string(document, "id").or_else(|| string(document, "title")).unwrap_or("a document without id and title")
}

/// By what a correlation may name a rule.
fn names(document: &Map<String, Value>) -> Vec<String> {
    ["name", "id", "title"].iter().filter_map(|key| string(document, key)).map(str::to_owned).collect()
}

fn rule(document: &Map<String, Value>, path: &Path, lists: &Lists) -> Result<Rule, String> {
    let types = event_types(document.get("logsource").unwrap_or(&Value::Null))?;
    let detection = document.get("detection").and_then(Value::as_object).ok_or("detection: is missing")?;
    if detection.contains_key("timeframe") {
        return Err("detection: `timeframe` belongs to the old aggregations, which correlations replaced".to_owned());
    }
    if let Some(level) = document.get("level").filter(|it| !it.as_str().is_some_and(|it| LEVELS.contains(&it))) {
        return Err(format!("level: {level} is none of {}", LEVELS.join(", ")));
    }
    let filter = condition::filter(detection, lists)?;
    Ok(of(document, path, types, filter, Trigger::Each, WINDOW_MS))
}

/// What every document has in common.
fn of(document: &Map<String, Value>, path: &Path, types: &'static [EventType], filter: Filter, trigger: Trigger, window_ms: i64) -> Rule {
    let text = |key| string(document, key).unwrap_or("").to_owned();
    let tags = document.get("tags").and_then(Value::as_array).into_iter().flatten();
    Rule {
        id: name_of(document).to_owned(),
        title: Title::new(&text("title")),
        severity: match string(document, "level") {
            Some("critical" | "high") => 1,
            Some("low" | "informational") => 3,
            _ => 2,
        },
        description: text("description"),
        tags: tags.filter_map(Value::as_str).map(str::to_owned).collect(),
        event_types: types,
        filter,
        suppressions: Vec::new(),
        aggregates: Vec::new(),
        window_ms,
        trigger,
        is_live: true,
        is_enabled: true,
        is_ours: false,
        cases: Vec::new(),
        file: path.to_owned(),
    }
}

fn event_types(logsource: &Value) -> Result<&'static [EventType], String> {
    let part = |name: &str| logsource.get(name).and_then(Value::as_str);
    match (part("product"), part("service"), part("category")) {
        (Some("aws"), Some("cloudtrail"), _) => Ok(&[EventType::CloudTrail]),
        (Some("kubernetes"), Some("audit"), _) | (Some("kubernetes"), None, Some("application" | "audit")) => {
            Ok(&[EventType::KubernetesAudit])
        }
        (product, service, category) => {
            let said: Vec<_> = [("product", product), ("service", service), ("category", category)]
                .iter()
                .filter_map(|(name, value)| value.map(|it| format!("{name}: {it}")))
                .collect();
            Err(format!("logsource: {{{}}} is none that we collect; aws/cloudtrail or kubernetes/audit", said.join(", ")))
        }
    }
}

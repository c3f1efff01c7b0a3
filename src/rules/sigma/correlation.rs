//! Correlation documents: `event_count`, `value_count`, `temporal`, `temporal_ordered`.

use super::super::rule::{Rule, Trigger, duration_ms};
use crate::event::EventType;
use crate::filter::{Field, Filter};
use serde_json::{Map, Value};
use std::path::Path;

/// Rules of one correlation, at most.
const RULES_MAX: usize = 16;

/// The rule of a correlation over others of the file, each with its names; those are heard by themselves only if it says so.
pub(super) fn rule(document: &Map<String, Value>, path: &Path, others: &mut [(Vec<String>, Rule)]) -> Result<Rule, String> {
    let it = document.get("correlation").and_then(Value::as_object).ok_or("correlation: is not a map")?;
    if it.contains_key("aliases") {
        return Err("correlation: `aliases` give one field different names by rule, which our aggregates cannot".to_owned());
    }
    let named = referenced(it, others)?;
    let filters: Vec<Filter> = named.iter().map(|n| others[*n].1.filter.clone()).collect();
    let types = types_of(named.iter().map(|n| others[*n].1.event_types));
    let timespan = it.get("timespan").and_then(Value::as_str).ok_or("correlation: `timespan` is missing")?;
    let window_ms = duration_ms(timespan).ok_or_else(|| format!("correlation: timespan `{timespan}` is not a length of time"))?;
    let trigger = match it.get("type").and_then(Value::as_str) {
        Some("event_count") => Trigger::Threshold(at_least(it)?),
        Some("value_count") => {
            let field = it.get("condition").and_then(|it| it.get("field")).or_else(|| it.get("field")).and_then(Value::as_str);
            let field = field.ok_or("correlation: `value_count` needs the condition's `field`")?;
            Trigger::Distinct(Field::new(field).map_err(|error| error.to_string())?, at_least(it)?)
        }
        Some("temporal") => Trigger::Together(all_of(it, &filters)?),
        Some("temporal_ordered") => Trigger::Sequence(all_of(it, &filters)?),
        other => return Err(format!("correlation: the type `{}` is none that we know", other.unwrap_or("(missing)"))),
    };
    let mut rule = super::of(document, path, types, Filter::any_of(&filters), trigger, window_ms);
    let groups = match it.get("group-by") {
        None => &[][..],
        Some(Value::Array(several)) => several,
        Some(one) => std::slice::from_ref(one),
    };
    let field = |path: &Value| {
        let path = path.as_str().ok_or_else(|| format!("correlation: group-by `{path}` is not the name of a field"))?;
        Field::new(path).map_err(|error| error.to_string())
    };
    rule.aggregates = groups.iter().map(field).collect::<Result<_, _>>()?;
    let stay = it.get("generate").or_else(|| document.get("generate")).and_then(Value::as_bool).unwrap_or(false);
    for n in named {
        others[n].1.is_live &= stay;
    }
    Ok(rule)
}

fn referenced(it: &Map<String, Value>, others: &[(Vec<String>, Rule)]) -> Result<Vec<usize>, String> {
    let names: Vec<&str> = match it.get("rules") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => return Err("correlation: `rules` is missing".to_owned()),
    };
    if names.is_empty() || names.len() > RULES_MAX {
        return Err(format!("correlation: {} rules; 1 to {RULES_MAX}", names.len()));
    }
    let find = |name: &&str| {
        let found = others.iter().position(|(known, _)| known.iter().any(|it| it == name));
        found.ok_or_else(|| format!("correlation: no rule of the file has the name or id `{name}`"))
    };
    names.iter().map(find).collect()
}

/// The steps of a correlation over kinds of events: all of them are needed, and a condition that says otherwise is refused.
fn all_of(it: &Map<String, Value>, filters: &[Filter]) -> Result<Vec<Filter>, String> {
    if it.contains_key("condition") && at_least(it)? != filters.len() as u64 {
        return Err(format!("correlation: the condition asks for some of {} rules; only all of them can be asked for", filters.len()));
    }
    Ok(filters.to_vec())
}

/// The count of the condition. Only a lower bound can be decided while events may still come.
fn at_least(it: &Map<String, Value>) -> Result<u64, String> {
    let condition = it.get("condition").and_then(Value::as_object).ok_or("correlation: `condition` is missing")?;
    let number = |key: &str| condition.get(key).and_then(Value::as_u64);
    if let Some(other) = condition.keys().find(|it| !matches!(it.as_str(), "gte" | "gt" | "field")) {
        return Err(format!("correlation: the condition `{other}` holds for windows that are not full, so it is never decided; gte or gt"));
    }
    if condition.contains_key("gte") && condition.contains_key("gt") {
        return Err("correlation: the condition has gte and gt; one of them says it".to_owned());
    }
    number("gte")
        .or_else(|| number("gt").map(|n| n + 1))
        .filter(|n| *n > 0)
        .ok_or_else(|| "correlation: the condition needs gte or gt".to_owned())
}

fn types_of(all: impl Iterator<Item = &'static [EventType]>) -> &'static [EventType] {
    let mut found: Option<&'static [EventType]> = None;
    for types in all {
        found = match found {
            None => Some(types),
            Some(before) if before == types => found,
            Some(_) => Some(EventType::ALL),
        };
    }
    found.unwrap_or(EventType::ALL)
}

//! What must be stored of an audit log: each line once, and every field as the line says it.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// auditID and stage, which name one line of an audit log.
pub(crate) type Line = (String, String);

/// What names a line.
pub(crate) fn name(record: &Value) -> Line {
    let text = |name: &str| record[name].as_str().unwrap_or_else(|| panic!("no {name}: {record}")).to_owned();
    (text("auditID"), text("stage"))
}

/// Records by what names them; none is there twice.
pub(crate) fn by_line<'r>(records: impl IntoIterator<Item = &'r Value>) -> BTreeMap<Line, &'r Value> {
    let mut found = BTreeMap::new();
    for record in records {
        let before = found.insert(name(record), record);
        assert!(before.is_none(), "twice: {record}");
    }
    found
}

/// Stored events by the line that they come from; none is there twice.
pub(crate) fn events_by_line(events: &[Value]) -> BTreeMap<Line, &Value> {
    let found = by_line(events.iter().map(|it| &it["raw"]));
    let by_raw: BTreeMap<_, _> = events.iter().map(|it| (std::ptr::from_ref(&it["raw"]), it)).collect();
    found.into_iter().map(|(line, raw)| (line, by_raw[&std::ptr::from_ref(raw)])).collect()
}

/// Every line is stored, nothing else is, and each event says what its line says.
pub(crate) fn assert_stored(lines: &[Value], events: &[Value], cluster: &str) {
    let (lines, events) = (by_line(lines), events_by_line(events));
    for (name, line) in &lines {
        let event = events.get(name).unwrap_or_else(|| panic!("not stored: {line}"));
        assert_agrees(line, event, cluster);
    }
    for (name, event) in &events {
        assert!(lines.contains_key(name), "in no line: {event}");
    }
}

/// The fields that an event takes over from its line, computed anew.
fn assert_agrees(line: &Value, event: &Value, cluster: &str) {
    let object = &line["objectRef"];
    let resource = match (object["resource"].as_str(), object["subresource"].as_str()) {
        (Some(kind), Some(sub)) => json!(format!("{kind}/{sub}")),
        _ => object["resource"].clone(),
    };
    let service = if object.is_null() { Value::Null } else { object.get("apiGroup").cloned().unwrap_or_else(|| json!("core")) };
    let time: jiff::Timestamp = line["stageTimestamp"].as_str().unwrap().parse().unwrap();
    let code = &line["responseStatus"]["code"];
    let outcome = match code.as_i64() {
        None => Value::Null,
        Some(401 | 403) => json!("denied"),
        Some(400..) => json!("failure"),
        Some(_) => json!("success"),
    };
    let expected = [
        ("event_type", json!("kubernetesAudit")),
        ("event_time", json!(time.as_millisecond())),
        ("type", line["stage"].clone()),
        ("action", line["verb"].clone()),
        ("user", line["user"]["username"].clone()),
        ("user_groups", line["user"]["groups"].clone()),
        ("impersonated_user", line["impersonatedUser"]["username"].clone()),
        ("user_agent", line["userAgent"].clone()),
        ("ip", line["sourceIPs"].as_array().and_then(|it| it.last()).cloned().unwrap_or_default()),
        ("resource", resource),
        ("namespace", object["namespace"].clone()),
        ("name", object["name"].clone()),
        ("service", service),
        ("status_code", code.clone()),
        ("error", line["responseStatus"]["reason"].clone()),
        ("error_message", line["responseStatus"]["message"].clone()),
        ("outcome", outcome),
    ];
    for (field, value) in expected {
        assert_eq!(event[field], value, "{field} of {line}");
    }
    assert_eq!(event["provider_metadata"]["cluster"], cluster);
    assert_eq!(without_kind(&event["raw"]), without_kind(line));
}

/// A record without what only a line of its own has: a list names the kind of its items once.
pub(crate) fn without_kind(record: &Value) -> Value {
    let mut record = record.clone();
    for name in ["kind", "apiVersion"] {
        record.as_object_mut().unwrap().remove(name);
    }
    record
}

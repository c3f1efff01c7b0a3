//! The published JSON Schema of an event, made from the table of columns.

use super::column::{COLUMNS, Kind};
use serde_json::{Map, Value, json};

/// The schema, as `docs/event.schema.json` has it.
pub fn event_schema() -> Value {
    let mut properties = Map::new();
    properties.insert("timestamp".to_owned(), json!({"type": "integer", "description": "Always equal to `event_time`."}));
    for column in COLUMNS.iter().filter(|it| it.name != "raw") {
        let mut schema = match column.kind {
            Kind::Text => json!({"type": "string"}),
            Kind::Time | Kind::Int => json!({"type": "integer"}),
            Kind::Bool => json!({"type": "boolean"}),
            Kind::List => json!({"type": "array", "items": {"type": "string"}}),
        };
        if let Some(("resources", _)) = column.path.split_once('.') {
            schema = json!({"type": "string"});
        }
        schema["description"] = json!(column.doc);
        match column.path.split_once('.') {
            None => {
                properties.insert(column.path.to_owned(), schema);
            }
            Some((group, member)) => insert_member(&mut properties, group, member, schema),
        }
    }
    properties.insert("raw".to_owned(), json!({"type": "object", "description": "The native record, secrets masked."}));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://planewatch.dev/schema/event-1.json",
        "title": "planewatch event, version 1",
        "type": "object",
        "required": ["_id", "fingerprint", "_insert_time", "event_time", "timestamp", "event_type", "agent_id", "origin", "fields_version"],
        "additionalProperties": false,
        "properties": properties,
    })
}

fn insert_member(properties: &mut Map<String, Value>, group: &str, member: &str, schema: Value) {
    let object = json!({"type": "object", "additionalProperties": false, "properties": {}});
    let is_list = group == "resources";
    let empty = if is_list { json!({"type": "array", "items": object}) } else { object };
    let group = properties.entry(group).or_insert(empty);
    let object = if is_list { &mut group["items"] } else { group };
    object["properties"][member] = schema;
}

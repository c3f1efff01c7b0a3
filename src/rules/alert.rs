//! What a person gets: one alert for each rule, aggregate values and window.

use super::rule::Rule;
use crate::event::EventId;
use crate::json::push_quoted;

/// The name of a severity.
pub fn severity_name(severity: u8) -> &'static str {
    match severity {
        1 => "high",
        2 => "medium",
        3 => "low",
        _ => "?",
    }
}

/// An alert.
#[derive(Debug, Clone)]
pub struct Alert {
    /// The same for the same rule, aggregate values and window, wherever it is raised.
    pub id: EventId,
    /// The rule.
    pub rule_id: String,
    /// The rule's title, its fields filled in from the latest event.
    pub title: String,
    /// 1 high, 2 medium, 3 low.
    pub severity: u8,
    /// The rule's tags.
    pub tags: Vec<String>,
    /// Start of the window, ms.
    pub window_start: i64,
    /// End of the window, ms.
    pub window_end: i64,
    /// Time of the first event that counts, ms.
    pub first_event_time: i64,
    /// Time of the last, ms.
    pub last_event_time: i64,
    /// How many events count.
    pub count: u64,
    /// Aggregate fields with their values.
    pub aggregates: Vec<(String, String)>,
    /// The latest events, whole, newest first, as JSON.
    pub events: Vec<String>,
}

impl Alert {
    /// The id of the alert of these.
    /// `generation` counts how often an alert of these was dismissed before.
    pub fn id_of(rule: &Rule, aggregates: &[String], bucket: i64, generation: u32) -> EventId {
        let mut parts = vec!["alert", rule.id.as_str()];
        let (bucket, generation) = (bucket.to_string(), generation.to_string());
        parts.extend(aggregates.iter().map(String::as_str));
        parts.push(&bucket);
        parts.push(&generation);
        EventId::of(&parts)
    }

    /// Writes it as one line of JSON.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let quoted = |key: &str, value: &str, out: &mut Vec<u8>| {
            out.extend_from_slice(key.as_bytes());
            push_quoted(value, out);
        };
        quoted("{\"id\":", &self.id.to_string(), out);
        quoted(",\"ruleId\":", &self.rule_id, out);
        quoted(",\"title\":", &self.title, out);
        out.extend_from_slice(format!(",\"severity\":{},\"tags\":[", self.severity).as_bytes());
        for (n, tag) in self.tags.iter().enumerate() {
            quoted(if n > 0 { "," } else { "" }, tag, out);
        }
        let times = format!(
            "],\"windowStart\":{},\"windowEnd\":{},\"firstEventTime\":{},\"lastEventTime\":{},\"count\":{},\"aggregates\":{{",
            self.window_start, self.window_end, self.first_event_time, self.last_event_time, self.count
        );
        out.extend_from_slice(times.as_bytes());
        for (n, (field, value)) in self.aggregates.iter().enumerate() {
            quoted(if n > 0 { "," } else { "" }, field, out);
            quoted(":", value, out);
        }
        out.extend_from_slice(b"},\"events\":[");
        for (n, event) in self.events.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            out.extend_from_slice(event.as_bytes());
        }
        out.extend_from_slice(b"]}\n");
    }
}

//! Advice on a suppression before it is saved (FILTER.md, Suppressions): what it would have hidden, and whether it is one
//! that never matches again, or hides too much, and what would be better.

use crate::event::{Col, EventType, Row};
use crate::filter::{Field, Filter, Scratch};
use std::collections::BTreeMap;

/// Different values of one kind that are counted by name; further ones are counted together.
const COUNTED_MAX: usize = 1_000;
/// Fields that are new in every event or process: what rests on them never matches again.
const NEVER_AGAIN: &[&str] = &[
    "pid",
    "ppid",
    "event_time",
    "timestamp",
    "agent_id",
    "_id",
    "eventID",
    "requestID",
    "auditID",
    "stageTimestamp",
    "header.sequenceId",
];
/// Fields that many kinds of behaviour have in common: a filter that names no others is broad.
const COMMON: &[&str] = &[
    "user",
    "command",
    "uid",
    "group",
    "gid",
    "ip",
    "src_ip",
    "accountId",
    "region",
    "awsRegion",
    "event_type",
    "cluster",
    "namespace",
    "severity",
    "user_type",
    "userType",
    "service",
    "eventSource",
    "outcome",
    "read_only",
    "success",
];
/// The least that arguments must have in common to be offered, characters.
const PREFIX_CHARS_MIN: usize = 4;

/// What tells one kind of behaviour from another, by type of event.
fn kind_fields(event_type: EventType) -> &'static [&'static str] {
    match event_type {
        EventType::Host => &["exe", "command", "type", "parent_metadata.exe"],
        EventType::CloudTrail => &["eventSource", "eventName"],
        _ => &["action", "resource", "namespace"],
    }
}

/// Fields that a better filter may rest on, by type of event.
fn steady_fields(event_type: EventType) -> &'static [&'static str] {
    match event_type {
        EventType::Host => &["user", "tty", "session", "auid", "cwd", "exe", "arguments", "parent_metadata.exe", "containerImage"],
        EventType::CloudTrail => {
            &["user", "user_type", "accountId", "region", "eventSource", "eventName", "ip", "user_agent", "error", "name"]
        }
        _ => &["user", "user_type", "cluster", "action", "resource", "namespace", "name", "user_agent", "ip"],
    }
}

/// How often each value came.
#[derive(Debug, Default)]
pub struct Tallied {
    /// By value.
    pub by_value: BTreeMap<String, u64>,
    /// Those that found no room.
    pub others: u64,
}

impl Tallied {
    fn add(&mut self, value: String) {
        if self.by_value.len() < COUNTED_MAX || self.by_value.contains_key(&value) {
            *self.by_value.entry(value).or_default() += 1;
        } else {
            self.others += 1;
        }
    }

    /// The values that came most often, and how often.
    pub fn most(&self, n: usize) -> Vec<(&str, u64)> {
        let mut all: Vec<_> = self.by_value.iter().map(|(value, n)| (value.as_str(), *n)).collect();
        all.sort_by_key(|(value, n)| (std::cmp::Reverse(*n), *value));
        all.truncate(n);
        all
    }
}

/// What is known of a field over all events.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Steady {
    /// The same in all: a text, or missing.
    Same(Option<String>),
    /// All begin so.
    Prefix(String),
    Varies,
}

/// What a filter would have hidden.
#[derive(Debug, Default)]
pub struct Preview {
    /// Events that match it and a rule.
    pub events: u64,
    /// By user.
    pub users: Tallied,
    /// By action, or program.
    pub actions: Tallied,
    /// By rule.
    pub rules: Tallied,
    /// By kind of behaviour.
    pub kinds: Tallied,
    fields: BTreeMap<(EventType, &'static str), Steady>,
    /// The fields that are read of every event.
    parsed: BTreeMap<&'static str, Option<Field>>,
}

impl Preview {
    /// Counts an event of which a suppression would hide matches: of these rules, or where none is named, of all.
    pub fn add(&mut self, row: &impl Row, rules: &[String], scratch: &mut Scratch) {
        self.events += 1;
        let event_type = row.event_type();
        let parsed = &mut self.parsed;
        let mut text = |path: &'static str| {
            let field = parsed.entry(path).or_insert_with(|| Field::new(path).ok());
            field.as_ref().map(|it| it.values(row, scratch)).unwrap_or_default().join(",")
        };
        self.users.add(text("user"));
        self.actions.add(match event_type {
            EventType::Host => text("command"),
            _ => text("action"),
        });
        self.kinds.add(kind_fields(event_type).iter().map(|it| text(it)).collect::<Vec<_>>().join(" "));
        row.list(Col::RuleMatches, &mut |rule| {
            if rules.is_empty() || rules.iter().any(|it| it == rule) {
                self.rules.add(rule.to_owned());
            }
        });
        for path in steady_fields(event_type) {
            let said = Some(text(path)).filter(|it| !it.is_empty());
            let is_text = *path == "arguments";
            self.fields.entry((event_type, path)).and_modify(|it| *it = joined(it, said.as_ref(), is_text)).or_insert(Steady::Same(said));
        }
    }

    /// A filter of what was the same in all events, which hides no more than the one it is to be better than, unless that one
    /// never matches again. None: there were none, or of several types.
    pub fn better(&self, filter: &Filter, source: &str) -> Option<String> {
        let steady = self.steady()?;
        let is_in_it = |field: &String| steady.iter().any(|(path, _)| path == field);
        let tests: Vec<_> = steady.iter().map(|(_, test)| test.as_str()).collect();
        let tests = tests.join(" and ");
        let is_replaced = filter.fields().iter().all(is_in_it) || !never_again(filter, source).is_empty();
        Some(if is_replaced { tests } else { format!("({source}) and {tests}") })
    }

    /// What was the same in all events: the field, and a test of it.
    fn steady(&self) -> Option<Vec<(&'static str, String)>> {
        let (first, _) = self.fields.keys().next()?;
        if self.fields.keys().any(|(event_type, _)| event_type != first) {
            return None;
        }
        let test = |path: &&'static str| {
            let test = match self.fields.get(&(*first, *path))? {
                Steady::Same(Some(text)) => format!("{path} = {}", quoted(text)),
                // That it is always missing tells a service's process from a person's.
                Steady::Same(None) if matches!(*path, "tty") => format!("{path} = null"),
                Steady::Prefix(text) => format!("{path} starts_with {}", quoted(text)),
                _ => return None,
            };
            Some((*path, test))
        };
        let tests: Vec<_> = steady_fields(*first).iter().filter_map(test).collect();
        (tests.len() > 1).then_some(tests)
    }

    /// What is to be said of the filter.
    pub fn advice(&self, filter: &Filter, source: &str) -> Vec<String> {
        let mut advice = never_again(filter, source);
        if self.kinds.by_value.len() > 1 {
            let kinds: Vec<_> = self.kinds.most(5).into_iter().map(|(kind, n)| format!("{kind} ({n})")).collect();
            advice.push(format!("too broad: it hides {} kinds of behaviour: {}", self.kinds.by_value.len(), kinds.join("; ")));
        } else if is_broad(filter) {
            advice.push("too broad: it rests on what many kinds of behaviour have in common; name what this one does, too".to_owned());
        }
        if let Some(better) = self.better(filter, source).filter(|it| it != source) {
            advice.push(format!("better: {better}"));
        }
        advice
    }
}

/// Why a filter never matches again, for each reason.
pub fn never_again(filter: &Filter, source: &str) -> Vec<String> {
    let mut found: Vec<String> = NEVER_AGAIN
        .iter()
        .filter(|field| filter.names(field))
        .map(|field| format!("never matches again: `{field}` is new in every event or process"))
        .collect();
    // The session of a role on an instance is the instance's id.
    if filter.names("session_name") && (source.contains("'i-") || source.contains("\"i-")) {
        found.push("never matches again: the session name of an instance is its id".to_owned());
    }
    found
}

fn is_broad(filter: &Filter) -> bool {
    let fields = filter.fields();
    !fields.is_empty() && fields.iter().all(|it| COMMON.contains(&it.as_str()))
}

fn joined(before: &Steady, said: Option<&String>, is_text: bool) -> Steady {
    let prefix = |a: &str, b: &str| {
        let common: String = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
        if common.chars().count() >= PREFIX_CHARS_MIN { Steady::Prefix(common) } else { Steady::Varies }
    };
    match (before, said) {
        (Steady::Same(a), b) if a.as_ref() == b => before.clone(),
        (Steady::Same(Some(a)), Some(b)) if is_text => prefix(a, b),
        (Steady::Prefix(a), Some(b)) if b.starts_with(a.as_str()) => before.clone(),
        (Steady::Prefix(a), Some(b)) => prefix(a, b),
        _ => Steady::Varies,
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Context, Event};
    use crate::filter::Lists;
    use std::borrow::Cow;

    fn preview(events: &[String]) -> Preview {
        let (context, mut scratch, mut preview) = (Context::default(), Scratch::default(), Preview::default());
        for raw in events {
            let mut event = Event::new(EventType::Host, &context, 0, Cow::Borrowed(raw));
            event.set(Col::User, crate::event::Val::of("root"));
            scratch.next_event();
            preview.add(&event, &[], &mut scratch);
        }
        preview
    }

    fn ps(exe: &str, arguments: &str, pid: u32) -> String {
        format!(
            r#"{{"user":"root","command":"ps","exe":"{exe}","arguments":"{arguments}","pid":{pid},"session":4294967295,"cwd":"/usr/bin"}}"#
        )
    }

    fn better(preview: &Preview, source: &str) -> Option<String> {
        preview.better(&Filter::new(source, &Lists::default()).unwrap(), source)
    }

    fn advice(preview: &Preview, source: &str) -> String {
        preview.advice(&Filter::new(source, &Lists::default()).unwrap(), source).join("\n")
    }

    #[test]
    fn each_kind_of_advice_is_given_where_it_is_due() {
        let one = preview(&[ps("/usr/bin/ps", "ps -e -o pid,ppid", 3), ps("/usr/bin/ps", "ps -e -o state", 4)]);
        let said =
            advice(&one, "pid = '3081' AND user = 'root' AND agent_id = 'abcdef' AND command = 'ps' AND event_time = '1654270691800'");
        for field in ["pid", "agent_id", "event_time"] {
            assert!(said.contains(&format!("never matches again: `{field}`")), "{said}");
        }
        // One kind so far; what it rests on is common all the same.
        let said = advice(&one, "user = 'root' AND command = 'ps'");
        assert!(said.contains("too broad: it rests on"), "{said}");
        // It hides no more than what it is to be better than.
        let tests = "user = \"root\" and tty = null and session = \"4294967295\" and cwd = \"/usr/bin\"";
        assert!(said.contains(&format!("better: (user = 'root' AND command = 'ps') and {tests}")), "{said}");
        assert!(said.contains("exe = \"/usr/bin/ps\" and arguments starts_with \"ps -e -o \""), "{said}");
        let several = preview(&[ps("/usr/bin/ps", "ps", 3), ps("/tmp/ps", "ps", 4)]);
        let said = advice(&several, "user = 'root' AND command = 'ps'");
        assert!(said.contains("too broad: it hides 2 kinds of behaviour"), "{said}");
        // A good one hears nothing but what it says itself.
        let good = better(&one, "user = 'root' and exe = '/usr/bin/ps'").unwrap();
        assert!(good.starts_with(tests), "{good}");
        assert_eq!(advice(&one, &good), "");
        assert!(advice(&one, "session_name = \"i-0abc\"").contains("instance"));
        assert_eq!(better(&preview(&[]), "user = 'root'"), None);
    }

    #[test]
    fn what_is_offered_matches_what_it_was_made_of() {
        let texts = [ps("/usr/bin/p\\\"s", "ps -e", 1), ps("/usr/bin/p\\\"s", "ps -f", 2)];
        let filter = Filter::new(&better(&preview(&texts), "pid in (1, 2)").unwrap(), &Lists::default()).unwrap();
        let context = Context::default();
        for raw in &texts {
            let mut event = Event::new(EventType::Host, &context, 0, Cow::Borrowed(raw));
            event.set(Col::User, crate::event::Val::of("root"));
            assert!(filter.matches(&event, &mut Scratch::default()), "{raw}");
        }
    }
}

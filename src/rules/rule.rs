//! One rule, ready to be asked.

use super::title::Title;
use crate::event::EventType;
use crate::filter::{Field, Filter};
use std::path::PathBuf;

/// When matches of a rule are an alert.
#[derive(Debug, Clone)]
pub enum Trigger {
    /// Each match, gathered by window.
    Each,
    /// So many matches within the window.
    Threshold(u64),
    /// So many different values of a field within the window.
    Distinct(Field, u64),
    /// A value of a field that was not there for this long, ms.
    FirstSeen(Field, i64),
    /// A match of each step, in this order, within the window.
    Sequence(Vec<Filter>),
    /// A match of each, in any order, within the window.
    Together(Vec<Filter>),
}

impl Trigger {
    /// The filters of its steps.
    pub(super) fn steps(&self) -> &[Filter] {
        match self {
            Self::Sequence(steps) | Self::Together(steps) => steps,
            _ => &[],
        }
    }

    /// The field whose values count.
    pub(super) fn field(&self) -> Option<&Field> {
        match self {
            Self::Distinct(field, _) | Self::FirstSeen(field, _) => Some(field),
            _ => None,
        }
    }
}

/// A test that a rule brings: a file with events, and what the rule says of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleCase {
    /// The file, relative to the rule's.
    pub event: String,
    /// Whether the rule matches any of them.
    pub matches: Option<bool>,
    /// How many alerts they are, all together.
    pub alerts: Option<u64>,
}

/// A rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its stable id.
    pub id: String,
    /// Its title; `{{field}}` stands for a value of the event.
    pub title: Title,
    /// 1 high, 2 medium, 3 low.
    pub severity: u8,
    /// What happened, why it matters, what to check first.
    pub description: String,
    /// ATT&CK tactics and techniques, and others.
    pub tags: Vec<String>,
    /// The types of event that it looks at.
    pub event_types: &'static [EventType],
    /// Which events it matches.
    pub filter: Filter,
    /// Matches that these match as well do not count.
    pub suppressions: Vec<Filter>,
    /// What tells its alerts apart.
    pub aggregates: Vec<Field>,
    /// The length of its window, ms.
    pub window_ms: i64,
    /// When it alerts.
    pub trigger: Trigger,
    /// False: it counts, and raises no alerts.
    pub is_live: bool,
    /// False: it is not asked.
    pub is_enabled: bool,
    /// Whether it is in our own format.
    pub is_ours: bool,
    /// Its own tests.
    pub cases: Vec<RuleCase>,
    /// Its file.
    pub file: PathBuf,
}

impl Rule {
    /// What it takes beside one match, for people. None: nothing.
    pub fn alerts_at(&self) -> Option<String> {
        let window = spelled(self.window_ms);
        Some(match &self.trigger {
            Trigger::Each => return None,
            Trigger::Threshold(n) => format!("{n} matches within {window}"),
            Trigger::Distinct(field, n) => format!("{n} different values of {} within {window}", field.path),
            Trigger::FirstSeen(field, history_ms) => format!("a value of {} that was not there for {}", field.path, spelled(*history_ms)),
            Trigger::Sequence(steps) => format!("matches of its {} steps, in their order, within {window}", steps.len()),
            Trigger::Together(steps) => format!("matches of all {} of its rules within {window}", steps.len()),
        })
    }
}

/// A length of time as rules spell it, in the largest unit that needs no fraction.
fn spelled(ms: i64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let fits = units.iter().find(|(unit_ms, _)| ms % unit_ms == 0);
    fits.map_or_else(|| format!("{ms} ms"), |(unit_ms, unit)| format!("{}{unit}", ms / unit_ms))
}

/// The types of event that a rule's `type` names.
pub(super) fn event_types(kind: &str) -> Option<&'static [EventType]> {
    match kind {
        "CloudTrail" => Some(&[EventType::CloudTrail]),
        "Kubernetes" => Some(&[EventType::KubernetesAudit]),
        "KubernetesConfig" => Some(&[EventType::KubernetesConfig]),
        "KubernetesEvent" => Some(&[EventType::KubernetesEvent]),
        "Host" => Some(&[EventType::Host]),
        _ => None,
    }
}

/// A length of time as rules spell it: `30s`, `15m`, `1h`, `14d`; in ms.
pub(super) fn duration_ms(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit_ms = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 7 * 86_400_000,
        _ => return None,
    };
    number.parse::<i64>().ok().filter(|it| *it > 0)?.checked_mul(unit_ms)
}

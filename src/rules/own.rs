//! The product's own troubles: alerts like others, of rules that nobody has to write.

use super::rule::{Rule, Trigger};
use super::title::Title;
use crate::filter::{Field, Filter};
use std::path::PathBuf;

/// Troubles of one kind and place within this time are one alert, ms.
pub const TROUBLE_WINDOW_MS: i64 = 3_600_000;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// A stored event contradicts another with the same id.
    Conflict,
    /// An event's account is not the one that its object's key names.
    AccountMismatch,
    /// More matched a rule than its bounds keep.
    RuleOverflow,
    /// A source does not work.
    SourceDown,
    /// Nothing could be stored for a while: the disk is full, or broken.
    StorePaused,
    /// Rules, lists or suppressions were changed to something that does not load.
    RulesNotLoaded,
    /// A suppression is about to expire, or has.
    SuppressionExpires,
}

impl Trouble {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Conflict,
        Self::AccountMismatch,
        Self::RuleOverflow,
        Self::SourceDown,
        Self::StorePaused,
        Self::RulesNotLoaded,
        Self::SuppressionExpires,
    ];

    /// The id that its alerts have as `ruleId`.
    pub fn id(self) -> &'static str {
        match self {
            Self::Conflict => "planewatch-conflict",
            Self::AccountMismatch => "planewatch-account-mismatch",
            Self::RuleOverflow => "planewatch-rule-overflow",
            Self::SourceDown => "planewatch-source-down",
            Self::StorePaused => "planewatch-store-paused",
            Self::RulesNotLoaded => "planewatch-rules-not-loaded",
            Self::SuppressionExpires => "planewatch-suppression-expires",
        }
    }

    /// Severity, title, and what tells its alerts apart.
    fn said(self) -> (u8, &'static str, &'static [&'static str]) {
        match self {
            Self::Conflict => (1, "An event contradicts a stored one with the same id: one of them was forged or changed", &["source"]),
            Self::AccountMismatch => (1, "Events of another account than their object's key names", &["source", "accountId"]),
            Self::RuleOverflow => (2, "More matched a rule than is kept: its alerts are not complete", &["rule"]),
            Self::SourceDown => (2, "A source does not work", &["source"]),
            Self::StorePaused => (1, "Nothing could be stored for a while; sources waited", &["store"]),
            Self::RulesNotLoaded => (2, "Changed rules, lists or suppressions do not load: those from before run", &["file"]),
            Self::SuppressionExpires => (3, "A suppression ends", &["suppression", "when"]),
        }
    }

    /// The title of its alerts.
    pub fn title(self) -> &'static str {
        self.said().1
    }

    /// The rule that its alerts are of.
    pub fn rule(self) -> Rule {
        let (severity, title, fields) = self.said();
        Rule {
            id: self.id().to_owned(),
            title: Title::new(title),
            severity,
            description: title.to_owned(),
            tags: vec!["planewatch".to_owned()],
            event_types: &[],
            filter: Filter::any_of(&[]),
            suppressions: Vec::new(),
            aggregates: fields.iter().filter_map(|it| Field::new(it).ok()).collect(),
            window_ms: TROUBLE_WINDOW_MS,
            trigger: Trigger::Each,
            is_live: true,
            is_enabled: true,
            is_ours: false,
            cases: Vec::new(),
            file: PathBuf::new(),
        }
    }
}

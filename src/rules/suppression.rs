//! Suppressions: what is known to be harmless. They hide alerts, never events (FILTER.md, Suppressions).

use super::load::{Problem, rule_files};
use crate::event::time;
use crate::filter::{Filter, Lists};
use serde::Deserialize;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// A suppression.
#[derive(Debug, Clone)]
pub struct Suppression {
    /// Its stable id.
    pub id: String,
    /// Which matches it hides.
    pub filter: Filter,
    /// The filter as it was written.
    pub source: String,
    /// Ids of the rules that it is for. None: all.
    pub rules: Option<Vec<String>>,
    /// Who answers for it.
    pub owner: String,
    /// Why it is harmless.
    pub reason: String,
    /// From when on it hides nothing, ms.
    pub expires_ms: Option<i64>,
    /// Who made it.
    pub created_by: Option<String>,
    /// Its file.
    pub file: PathBuf,
}

impl Suppression {
    /// Whether it is for this rule, now.
    pub(super) fn is_for(&self, rule: &str, now_ms: i64) -> bool {
        self.expires_ms.is_none_or(|at| now_ms < at) && self.rules.as_ref().is_none_or(|ids| ids.iter().any(|it| it == rule))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SuppressionFile {
    id: String,
    filter: String,
    #[serde(default)]
    rules: Option<Vec<String>>,
    owner: String,
    reason: String,
    #[serde(default)]
    expires: Option<String>,
    #[serde(default)]
    created_by: Option<String>,
}

/// Loads the suppressions below these folders. Of two with one id the first stays.
pub fn load_suppressions(paths: &[PathBuf], lists: &Lists) -> (Vec<Suppression>, Vec<Problem>) {
    let (mut found, mut problems) = (Vec::<Suppression>::new(), Vec::new());
    let mut ids = HashSet::new();
    for path in paths {
        rule_files(path, &mut problems, &mut |path, text, problems| match suppression(text, path, lists) {
            Ok(it) if ids.insert(it.id.clone()) => found.push(it),
            Ok(it) => problems.push(Problem { file: path.to_owned(), what: format!("another suppression has the id `{}`", it.id) }),
            Err(what) => problems.push(Problem { file: path.to_owned(), what }),
        });
    }
    (found, problems)
}

/// When a suppression ends, ms: a day, from its beginning, or a time.
pub fn end_ms(text: &str) -> Result<i64, String> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    time::parse_ms(&whole).ok_or_else(|| format!("expires: `{text}` is not a time; write 2027-01-31 or 2027-01-31T12:00:00Z"))
}

fn suppression(text: &str, path: &Path, lists: &Lists) -> Result<Suppression, String> {
    let file: SuppressionFile = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    for (key, value) in [("owner", &file.owner), ("reason", &file.reason)] {
        if value.trim().is_empty() {
            return Err(format!("{key}: say who answers for it and why it is harmless"));
        }
    }
    if file.rules.as_ref().is_some_and(Vec::is_empty) {
        return Err("rules: names none, so it would hide nothing; leave the key out for all rules".to_owned());
    }
    Ok(Suppression {
        filter: Filter::new(&file.filter, lists).map_err(|error| format!("filter:\n{error}"))?,
        expires_ms: file.expires.as_deref().map(end_ms).transpose()?,
        id: file.id,
        source: file.filter,
        rules: file.rules,
        owner: file.owner,
        reason: file.reason,
        created_by: file.created_by,
        file: path.to_owned(),
    })
}

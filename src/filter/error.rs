//! What is wrong with a filter, with a line, a column, a caret, and what to write instead.

use std::fmt;

/// A filter that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub suggestion: Option<String>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line of the text.
    pub text: String,
}

impl FilterError {
    pub(super) fn new(source: &str, at: usize, message: impl Into<String>) -> Self {
        let at = at.min(source.len());
        let before = &source[..at];
        let start = before.rfind('\n').map_or(0, |it| it + 1);
        let end = source[at..].find('\n').map_or(source.len(), |it| at + it);
        Self {
            message: message.into(),
            suggestion: None,
            line: before.matches('\n').count() + 1,
            column: source[start..at].chars().count() + 1,
            text: source[start..end].to_owned(),
        }
    }

    pub(super) fn suggest(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }
}

impl std::error::Error for FilterError {}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "line {}, column {}: {}", self.line, self.column, self.message)?;
        writeln!(f, "  {}", self.text)?;
        write!(f, "  {}^", " ".repeat(self.column - 1))?;
        match &self.suggestion {
            Some(suggestion) => write!(f, " {suggestion}"),
            None => Ok(()),
        }
    }
}

/// The candidate nearest to a word, when it is near enough to be meant.
pub(super) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let lower = word.to_lowercase();
    let limit = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|it| (distance(&lower, &it.to_lowercase()), it))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, it)| it)
}

/// How many letters to put in, take out or replace, to make one of the other.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let insert_or_delete = row[j].min(row[j + 1]) + 1;
            let replace = diagonal + usize::from(x != *y);
            diagonal = std::mem::replace(&mut row[j + 1], insert_or_delete.min(replace));
        }
    }
    row[b.len()]
}

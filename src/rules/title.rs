//! Titles of alerts: a text in which `{{field}}` stands for a value of the event.

use crate::event::Row;
use crate::filter::{Field, FilterError, Scratch};

/// A title, its fields resolved once.
#[derive(Debug, Clone)]
pub struct Title {
    /// As it was written.
    pub text: String,
    /// Text, and the field behind it, or why it is none.
    parts: Vec<(String, Result<Field, FilterError>)>,
    rest: String,
}

impl Title {
    /// Reads a title.
    pub fn new(text: &str) -> Self {
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some((before, after)) = rest.split_once("{{") {
            plain.push_str(before);
            rest = after;
            let Some((path, behind)) = after.split_once("}}") else {
                plain.push_str("{{");
                continue;
            };
            parts.push((std::mem::take(&mut plain), Field::new(path.trim())));
            rest = behind;
        }
        Self { text: text.to_owned(), parts, rest: plain + rest }
    }

    /// Reads the title of a rule of ours, where slips are refused: a field that is nearly one that there is, or none, or no end.
    pub(super) fn checked(text: &str) -> Result<Self, String> {
        let title = Self::new(text);
        if let Some(error) = title.parts.iter().find_map(|(_, field)| field.as_ref().err()) {
            return Err(format!("title:\n{error}"));
        }
        // What was read leaves these only where they are not closed.
        if title.rest.contains("{{") {
            return Err("title: `{{` without `}}`; write {{user}}".to_owned());
        }
        Ok(title)
    }

    /// The title of an event's alert; a missing value reads `unknown`.
    pub fn of(&self, event: &impl Row, scratch: &mut Scratch) -> String {
        let mut out = String::new();
        for (before, field) in &self.parts {
            out.push_str(before);
            let values = field.as_ref().map(|field| field.values(event, scratch)).unwrap_or_default();
            out.push_str(values.first().map_or("unknown", String::as_str));
        }
        out.push_str(&self.rest);
        out
    }
}

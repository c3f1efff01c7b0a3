//! Titles of alerts: a text in which `{{field}}` stands for a value of the event.

use crate::event::Row;
use crate::filter::{Field, Scratch};

/// A title, its fields resolved once.
#[derive(Debug, Clone)]
pub struct Title {
    /// As it was written.
    pub text: String,
    /// Text, and the field behind it; a name that is no field is none.
    parts: Vec<(String, Option<Field>)>,
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
            parts.push((std::mem::take(&mut plain), Field::new(path.trim()).ok()));
            rest = behind;
        }
        Self { text: text.to_owned(), parts, rest: plain + rest }
    }

    /// Why a title cannot be meant: a field that is nearly one that there is, or no field at all.
    pub(super) fn check(text: &str) -> Result<(), String> {
        let mut rest = text;
        while let Some((_, after)) = rest.split_once("{{") {
            let (path, behind) = after.split_once("}}").ok_or("title: `{{` without `}}`; write {{user}}")?;
            Field::new(path.trim()).map_err(|error| format!("title:\n{error}"))?;
            rest = behind;
        }
        Ok(())
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

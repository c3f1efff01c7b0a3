//! A detection's condition: search identifiers joined by and, or, not, `1 of` and `all of`.

use super::detection::part;
use crate::filter::{Filter, Lists, Part};
use serde_json::{Map, Value};

/// How deeply parentheses may nest.
const NESTING_MAX: usize = 64;

/// The filter of a detection; of several conditions any one is enough.
pub(super) fn filter(detection: &Map<String, Value>, lists: &Lists) -> Result<Filter, String> {
    let conditions: Vec<&str> = match detection.get("condition") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) if several.is_empty() => return Err("condition: is empty".to_owned()),
        Some(Value::Array(several)) => several.iter().map(|it| it.as_str().ok_or("condition: is not a text")).collect::<Result<_, _>>()?,
        _ => return Err("condition: is missing".to_owned()),
    };
    let parts = conditions.into_iter().map(|source| {
        let mut parser = Parser { tokens: tokens(source), at: 0, depth: 0, detection, lists };
        let part = parser.or()?;
        match parser.peek() {
            None => Ok(part),
            Some("|") => Err("condition: aggregations behind `|` were replaced by correlations".to_owned()),
            Some(other) => Err(format!("condition: `{other}` where and, or, or the end should stand")),
        }
    });
    Ok(Part::any(parts.collect::<Result<_, _>>()?).into_filter())
}

fn tokens(source: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = source.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = if matches!(first, '(' | ')' | '|') {
            1
        } else {
            rest.find(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '|')).unwrap_or(rest.len())
        };
        found.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    found
}

struct Parser<'c> {
    tokens: Vec<&'c str>,
    at: usize,
    depth: usize,
    detection: &'c Map<String, Value>,
    lists: &'c Lists,
}

impl<'c> Parser<'c> {
    fn peek(&self) -> Option<&'c str> {
        self.tokens.get(self.at).copied()
    }

    fn takes(&mut self, word: &str) -> bool {
        let is_it = self.peek().is_some_and(|it| it.eq_ignore_ascii_case(word));
        self.at += usize::from(is_it);
        is_it
    }

    fn or(&mut self) -> Result<Part, String> {
        let mut parts = vec![self.and()?];
        while self.takes("or") {
            parts.push(self.and()?);
        }
        Ok(Part::any(parts))
    }

    fn and(&mut self) -> Result<Part, String> {
        let mut parts = vec![self.unary()?];
        while self.takes("and") {
            parts.push(self.unary()?);
        }
        Ok(Part::all(parts))
    }

    fn unary(&mut self) -> Result<Part, String> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(format!("condition: nests more than {NESTING_MAX} deep"));
        }
        let part = if self.takes("not") {
            self.unary()?.negated()
        } else if self.takes("(") {
            let part = self.or()?;
            if !self.takes(")") {
                return Err("condition: a parenthesis is not closed".to_owned());
            }
            part
        } else {
            self.identifier()?
        };
        self.depth -= 1;
        Ok(part)
    }

    fn identifier(&mut self) -> Result<Part, String> {
        let word = self.peek().ok_or("condition: ends where a search identifier should stand")?;
        self.at += 1;
        if self.takes("of") {
            let pattern = self.peek().ok_or("condition: `of` without a name")?;
            self.at += 1;
            let parts = self.named(pattern)?;
            return match word.to_ascii_lowercase().as_str() {
                "1" | "any" => Ok(Part::any(parts)),
                "all" => Ok(Part::all(parts)),
                _ => Err(format!("condition: `{word} of`; 1 of, any of, or all of")),
            };
        }
        let search = self.detection.get(word).filter(|_| word != "condition");
        let search = search.ok_or_else(|| format!("condition: no search is called `{word}`"))?;
        part(search, self.lists).map_err(|what| format!("{word}: {what}"))
    }

    /// The searches that a pattern names; those that start with `_` only if it does.
    fn named(&self, pattern: &str) -> Result<Vec<Part>, String> {
        let is_named = |name: &str| match (pattern, pattern.split_once('*')) {
            ("them", _) => !name.starts_with('_'),
            (_, Some((head, tail))) => {
                (head.starts_with('_') || !name.starts_with('_'))
                    && name.len() >= head.len() + tail.len()
                    && name.starts_with(head)
                    && name.ends_with(tail)
            }
            _ => name == pattern,
        };
        let searches = self.detection.iter().filter(|(name, _)| *name != "condition" && is_named(name));
        let parts: Vec<_> =
            searches.map(|(name, it)| part(it, self.lists).map_err(|what| format!("{name}: {what}"))).collect::<Result<_, _>>()?;
        if parts.is_empty() { Err(format!("condition: no search is called `{pattern}`")) } else { Ok(parts) }
    }
}

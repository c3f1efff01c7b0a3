//! One search identifier of a detection: maps of fields, lists of them, keywords; every modifier of the specification.

use super::text;
use crate::filter::{Lists, Op, Part, Pattern, Piece};
use serde_json::Value;

/// What a field's modifiers say.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a modifier that is there or not")]
struct Modifiers {
    contains: bool,
    starts: bool,
    ends: bool,
    all: bool,
    cased: bool,
    negated: bool,
    exists: bool,
    fieldref: bool,
    network: bool,
    expand: bool,
    order: Option<Op>,
    /// Flags of a regular expression.
    regex: Option<String>,
    /// In order: what is done to the text before it is compared.
    encodings: Vec<Encoding>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Windash,
    Utf16 { big_endian: bool, mark: bool },
    Base64,
    Base64Offset,
}

impl Modifiers {
    fn parse(names: &[&str]) -> Result<Self, String> {
        let mut it = Self::default();
        for name in names {
            match *name {
                "contains" => it.contains = true,
                "startswith" => it.starts = true,
                "endswith" => it.ends = true,
                "all" => it.all = true,
                "cased" => it.cased = true,
                "neq" => it.negated = true,
                "exists" => it.exists = true,
                "fieldref" => it.fieldref = true,
                "cidr" => it.network = true,
                "expand" => it.expand = true,
                "lt" => it.order = Some(Op::Lt),
                "lte" => it.order = Some(Op::Le),
                "gt" => it.order = Some(Op::Gt),
                "gte" => it.order = Some(Op::Ge),
                "re" => it.regex = Some(String::new()),
                "i" | "ignorecase" | "m" | "multiline" | "s" | "dotall" if it.regex.is_some() => {
                    let flag = match *name {
                        "i" | "ignorecase" => 'i',
                        "m" | "multiline" => 'm',
                        _ => 's',
                    };
                    it.regex.get_or_insert_default().push(flag);
                }
                "windash" => it.encodings.push(Encoding::Windash),
                "wide" | "utf16le" => it.encodings.push(Encoding::Utf16 { big_endian: false, mark: false }),
                "utf16be" => it.encodings.push(Encoding::Utf16 { big_endian: true, mark: false }),
                "utf16" => it.encodings.push(Encoding::Utf16 { big_endian: false, mark: true }),
                "base64" => it.encodings.push(Encoding::Base64),
                "base64offset" => it.encodings.push(Encoding::Base64Offset),
                "minute" | "hour" | "day" | "week" | "month" | "year" => {
                    return Err(format!("the modifier `{name}` takes a part of a time, which our filters cannot"));
                }
                name => return Err(format!("no modifier is called `{name}`")),
            }
        }
        it.check(names)
    }

    /// Those that do not go together are refused: of two that say what a comparison is, one would be forgotten.
    fn check(self, names: &[&str]) -> Result<Self, String> {
        let orders = names.iter().filter(|it| matches!(**it, "lt" | "lte" | "gt" | "gte")).count();
        let kinds = [self.exists, self.fieldref, self.network, self.regex.is_some(), orders > 0].iter().filter(|it| **it).count();
        let places = usize::from(self.contains) + usize::from(self.starts) + usize::from(self.ends);
        let is_text = kinds == 0 || kinds == 1 && self.fieldref;
        let is_encoded = self.expand || !self.encodings.is_empty();
        if kinds > 1 || orders > 1 || places > 1 || !is_text && places > 0 || kinds > 0 && is_encoded {
            return Err(format!("the modifiers `{}` do not go together", names.join("|")));
        }
        Ok(self)
    }
}

impl Modifiers {
    /// Nothing is said of how a value is compared.
    fn is_plain(&self) -> bool {
        let is_placed = self.contains || self.starts || self.ends;
        !(is_placed || self.fieldref || self.network || self.order.is_some() || self.regex.is_some() || !self.encodings.is_empty())
    }
}

/// The part of the filter that a search identifier stands for.
pub(super) fn part(detection: &Value, lists: &Lists) -> Result<Part, String> {
    match detection {
        Value::Object(fields) if fields.is_empty() => Err("a search without fields".to_owned()),
        Value::Object(fields) => Ok(Part::all(fields.iter().map(|(key, value)| item(key, value, lists)).collect::<Result<_, _>>()?)),
        Value::Array(items) if items.is_empty() => Err("a search without values".to_owned()),
        Value::Array(items) => {
            let (maps, words): (Vec<_>, Vec<_>) = items.iter().partition(|it| it.is_object());
            let mut parts: Vec<_> = maps.into_iter().map(|it| part(it, lists)).collect::<Result<_, _>>()?;
            for word in words {
                parts.push(item("", word, lists)?);
            }
            Ok(Part::any(parts))
        }
        Value::Null => Err("a search without content".to_owned()),
        word => item("", word, lists),
    }
}

/// A field with its values; no field: keywords, which are anywhere in the record.
fn item(key: &str, value: &Value, lists: &Lists) -> Result<Part, String> {
    let mut names = key.split('|');
    let field = names.next().unwrap_or("");
    let names: Vec<_> = names.collect();
    compile(field, &names, value, lists).map_err(|what| if key.is_empty() { what } else { format!("{key}: {what}") })
}

fn compile(field: &str, names: &[&str], value: &Value, lists: &Lists) -> Result<Part, String> {
    let modifiers = Modifiers::parse(names)?;
    if field.is_empty() && (modifiers.exists || modifiers.fieldref || modifiers.network || modifiers.order.is_some()) {
        return Err("keywords have no field, which this modifier needs".to_owned());
    }
    let values = match value {
        Value::Array(values) if values.is_empty() => return Err("a list without values".to_owned()),
        Value::Array(values) => values.iter().collect(),
        value => vec![value],
    };
    if modifiers.exists {
        let [Value::Bool(wanted)] = values.as_slice() else { return Err("`exists` takes true or false".to_owned()) };
        return Ok(if *wanted { Part::null(field).negated() } else { Part::null(field) });
    }
    let mut parts = Vec::new();
    let mut patterns = Vec::new();
    for value in values {
        match one(field, value, &modifiers, lists)? {
            One::Part(part) => parts.push(part),
            One::Patterns(several) if modifiers.all => parts.push(part_of(field, &several)?),
            One::Patterns(several) => patterns.extend(several),
        }
    }
    if !patterns.is_empty() {
        parts.push(part_of(field, &patterns)?);
    }
    let part = if modifiers.all { Part::all(parts) } else { Part::any(parts) };
    Ok(if modifiers.negated { part.negated() } else { part })
}

fn part_of(field: &str, patterns: &[Pattern]) -> Result<Part, String> {
    if field.is_empty() { Part::anywhere(patterns) } else { Part::value(field, patterns) }
}

enum One {
    Part(Part),
    Patterns(Vec<Pattern>),
}

/// What one value of a field asks for.
fn one(field: &str, value: &Value, modifiers: &Modifiers, lists: &Lists) -> Result<One, String> {
    let text = match value {
        Value::Null if field.is_empty() => return Err("a keyword that is empty is in every event".to_owned()),
        Value::Null if modifiers.is_plain() => return Ok(One::Part(Part::null(field))),
        Value::Null => return Err("null is compared with nothing: leave the modifiers out".to_owned()),
        Value::String(text) if text.is_empty() && field.is_empty() => return Err("a keyword that is empty is in every event".to_owned()),
        Value::String(text) => text.clone(),
        // `012345678901` is read as one, and would be looked for as `12345678901.0`.
        Value::Number(number) if modifiers.order.is_none() && number.is_f64() && number.as_f64().is_some_and(|it| it.fract() == 0.0) => {
            return Err(format!("{number}: write a number that starts with 0, or is that large, in quotes, to be found as it is spelled"));
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(_) | Value::Object(_) => return Err("a value that is a list or a map".to_owned()),
    };
    if modifiers.fieldref {
        let op = match (modifiers.contains, modifiers.starts, modifiers.ends) {
            (true, ..) => Op::Like,
            (_, true, _) => Op::StartsWith,
            (.., true) => Op::EndsWith,
            _ => Op::Eq,
        };
        return Ok(One::Part(Part::fields(field, op, &text, modifiers.cased)));
    }
    if let Some(op) = modifiers.order {
        return Ok(One::Patterns(vec![Pattern::Order(op, text)]));
    }
    if modifiers.network {
        return Ok(One::Patterns(vec![Pattern::Network(text)]));
    }
    if let Some(flags) = &modifiers.regex {
        let source = if flags.is_empty() { text } else { format!("(?{flags}){text}") };
        return Ok(One::Patterns(vec![Pattern::Regex(source)]));
    }
    let mut patterns = Vec::new();
    for text in expanded(text, modifiers, lists)? {
        patterns.extend(encoded(&text, modifiers)?.into_iter().map(|pieces| around(pieces, field, modifiers)));
    }
    Ok(One::Patterns(patterns))
}

/// `%name%` stands for the values of a list of that name.
fn expanded(text: String, modifiers: &Modifiers, lists: &Lists) -> Result<Vec<String>, String> {
    if !modifiers.expand {
        return Ok(vec![text]);
    }
    let parts: Vec<_> = text.splitn(3, '%').collect();
    let [before, name, after] = parts[..] else { return Ok(vec![text]) };
    let values = lists.get(name).ok_or_else(|| format!("the placeholder %{name}% needs a list @{name}, which is not configured"))?;
    Ok(values.iter().map(|value| format!("{before}{value}{after}")).collect())
}

/// The forms that a text takes by its encodings, as pieces; only plain text has wildcards.
fn encoded(value: &str, modifiers: &Modifiers) -> Result<Vec<Vec<Piece>>, String> {
    if modifiers.encodings.is_empty() {
        return Ok(vec![text::pieces(value)]);
    }
    if modifiers.encodings.iter().all(|it| *it == Encoding::Windash) {
        return Ok(vec![text::with_dashes(text::pieces(value))]);
    }
    let mut forms = vec![value.as_bytes().to_vec()];
    for encoding in &modifiers.encodings {
        forms = forms.iter().map(|form| forms_of(form, *encoding)).collect::<Result<Vec<_>, _>>()?.concat();
    }
    let piece = |form| match String::from_utf8(form) {
        Ok(text) => Ok(vec![Piece::Text(text)]),
        Err(_) => Err("an encoding that makes bytes, which are no text, without base64 behind it".to_owned()),
    };
    forms.into_iter().map(piece).collect()
}

fn forms_of(form: &[u8], encoding: Encoding) -> Result<Vec<Vec<u8>>, String> {
    let text = || String::from_utf8_lossy(form).into_owned();
    let bytes = |texts: Vec<String>| texts.into_iter().map(String::into_bytes).collect();
    Ok(match encoding {
        Encoding::Windash => bytes(
            text::windash(&text())
                .ok_or_else(|| format!("`windash` before an encoding: more than {} dashes in one value", text::ENCODED_DASHES_MAX))?,
        ),
        Encoding::Utf16 { big_endian, mark } => {
            let encoded = text::utf16(&text(), big_endian);
            vec![if mark { [vec![0xff, 0xfe], encoded].concat() } else { encoded }]
        }
        Encoding::Base64 => bytes(vec![text::base64(form)]),
        Encoding::Base64Offset => bytes(text::base64_offsets(form)),
    })
}

/// Wildcards around the pieces, as `contains` and its kin ask; a keyword is always somewhere inside.
fn around(mut pieces: Vec<Piece>, field: &str, modifiers: &Modifiers) -> Pattern {
    let is_inside = modifiers.contains || field.is_empty();
    if (is_inside || modifiers.ends) && pieces.first() != Some(&Piece::Any) {
        pieces.insert(0, Piece::Any);
    }
    if (is_inside || modifiers.starts) && pieces.last() != Some(&Piece::Any) {
        pieces.push(Piece::Any);
    }
    Pattern::Text { pieces, cased: modifiers.cased }
}

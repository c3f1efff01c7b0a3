//! What a Sigma rule matches, as slowly and plainly as its specification says it: over JSON values, without any code of
//! ours. Nothing but [`crate::sigma_property`] needs it.

use serde_json::{Map, Value};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A rule.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) searches: Map<String, Value>,
    pub(crate) condition: Condition,
}

/// Its condition, as a tree.
#[derive(Debug, Clone)]
pub(crate) enum Condition {
    Named(&'static str),
    /// A quantifier, whether it means all, and a pattern of names.
    Of((&'static str, bool), &'static str),
    Not(Box<Self>),
    Joined {
        all: bool,
        /// In capitals, and in parentheses that it may not need.
        loud: bool,
        parts: Vec<Self>,
    },
}

impl Rule {
    pub(crate) fn holds(&self, record: &Value) -> bool {
        self.condition.holds(&self.searches, record)
    }
}

impl Condition {
    fn holds(&self, searches: &Map<String, Value>, record: &Value) -> bool {
        match self {
            Self::Named(name) => search_holds(&searches[*name], record),
            Self::Of((_, all), pattern) => {
                let is_named = |name: &str| !name.starts_with('_') && (*pattern == "them" || is_like(&glyphs(pattern), &chars(name), true));
                let mut named = searches.iter().filter(|(name, _)| is_named(name)).map(|(_, it)| search_holds(it, record));
                if *all { named.all(|it| it) } else { named.any(|it| it) }
            }
            Self::Not(part) => !part.holds(searches, record),
            Self::Joined { all: true, parts, .. } => parts.iter().all(|it| it.holds(searches, record)),
            Self::Joined { all: false, parts, .. } => parts.iter().any(|it| it.holds(searches, record)),
        }
    }
}

fn search_holds(search: &Value, record: &Value) -> bool {
    match search {
        Value::Object(items) => items.iter().all(|(key, it)| item_holds(key, it, record)),
        Value::Array(items) => items.iter().any(|it| search_holds(it, record)),
        keyword => item_holds("", keyword, record),
    }
}

fn item_holds(key: &str, value: &Value, record: &Value) -> bool {
    let mut modifiers = key.split('|');
    let path = modifiers.next().unwrap();
    let modifiers: Vec<_> = modifiers.collect();
    let mut each = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice).iter();
    let holds = |it: &Value| value_holds(path, &modifiers, it, record);
    let is_so = if modifiers.contains(&"all") { each.all(holds) } else { each.any(holds) };
    is_so != modifiers.contains(&"neq")
}

fn value_holds(path: &str, modifiers: &[&str], value: &Value, record: &Value) -> bool {
    let has = |name: &str| modifiers.contains(&name);
    let is_there = !values_at(record, path).is_empty();
    if has("exists") {
        return *value == Value::Bool(is_there);
    }
    let Some(wanted) = text_of(value) else { return !is_there };
    let inside = has("contains") || path.is_empty();
    let before = vec![Glyph::Any; usize::from(inside || has("endswith"))];
    let behind = vec![Glyph::Any; usize::from(inside || has("startswith"))];
    let is_text_like = |pattern: Vec<Glyph>, text: &str| {
        let pattern = [before.clone(), pattern, behind.clone()].concat();
        is_like(&pattern, &chars(text), has("cased"))
    };
    let forms: Vec<Vec<Glyph>> = if has("fieldref") {
        texts_at(record, &wanted).iter().map(|it| it.chars().map(Glyph::This).collect()).collect()
    } else {
        forms(&wanted, modifiers).iter().map(|it| glyphs(it)).collect()
    };
    let order = modifiers.iter().find(|it| matches!(**it, "lt" | "lte" | "gt" | "gte"));
    texts_at(record, path).iter().any(|text| match order {
        Some(order) => text.parse::<f64>().is_ok_and(|it| is_ordered(it, order, value.as_f64().unwrap())),
        None if has("re") => is_found(&wanted, text, modifiers),
        None if has("cidr") => is_inside(text, &wanted),
        None => forms.iter().any(|it| is_text_like(it.clone(), text)),
    })
}

/// Values at a path: of a list those of each element. Null is none. Without a path, everything that holds nothing else.
fn values_at<'v>(record: &'v Value, path: &str) -> Vec<&'v Value> {
    fn at<'v>(value: &'v Value, path: &[&str], found: &mut Vec<&'v Value>) {
        match (value, path) {
            (Value::Array(items), _) => items.iter().for_each(|it| at(it, path, found)),
            (Value::Object(members), [first, rest @ ..]) => {
                if let Some(it) = members.get(*first) {
                    at(it, rest, found);
                }
            }
            (Value::Null, _) | (_, [_, ..]) => {}
            (value, []) => found.push(value),
        }
    }
    fn everything<'v>(value: &'v Value, found: &mut Vec<&'v Value>) {
        match value {
            Value::Array(items) => items.iter().for_each(|it| everything(it, found)),
            Value::Object(members) => members.values().for_each(|it| everything(it, found)),
            value => found.push(value),
        }
    }
    let mut found = Vec::new();
    match path {
        "" => everything(record, &mut found),
        path => at(record, &path.split('.').collect::<Vec<_>>(), &mut found),
    }
    found
}

fn texts_at(record: &Value, path: &str) -> Vec<String> {
    values_at(record, path).into_iter().filter_map(text_of).collect()
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A piece of a value with wildcards.
#[derive(Clone, Copy)]
enum Glyph {
    This(char),
    One,
    Any,
}

fn glyphs(value: &str) -> Vec<Glyph> {
    let mut found = Vec::new();
    let mut rest = value.chars().peekable();
    while let Some(c) = rest.next() {
        found.push(match c {
            '\\' => Glyph::This(rest.next_if(|it| matches!(it, '*' | '?' | '\\')).unwrap_or(c)),
            '*' => Glyph::Any,
            '?' => Glyph::One,
            c => Glyph::This(c),
        });
    }
    found
}

fn chars(text: &str) -> Vec<char> {
    text.chars().collect()
}

fn is_same(a: char, b: char, cased: bool) -> bool {
    a == b || !cased && a.to_lowercase().eq(b.to_lowercase())
}

fn is_like(pattern: &[Glyph], text: &[char], cased: bool) -> bool {
    match (pattern, text) {
        ([], _) => text.is_empty(),
        ([Glyph::Any, rest @ ..], _) => (0..=text.len()).any(|from| is_like(rest, &text[from..], cased)),
        ([Glyph::One, rest @ ..], [_, behind @ ..]) => is_like(rest, behind, cased),
        ([Glyph::This(a), rest @ ..], [b, behind @ ..]) => is_same(*a, *b, cased) && is_like(rest, behind, cased),
        (_, []) => false,
    }
}

/// Regular expressions of characters, `.`, `*`, `^` and `$`.
fn is_found(pattern: &str, text: &str, modifiers: &[&str]) -> bool {
    fn is_at(pattern: &[char], text: &[char], fits: &dyn Fn(char, char) -> bool) -> bool {
        match pattern {
            [] => true,
            ['$'] => text.is_empty(),
            [one, '*', rest @ ..] => {
                let reach = text.iter().take_while(|c| fits(*one, **c)).count();
                (0..=reach).any(|n| is_at(rest, &text[n..], fits))
            }
            [one, rest @ ..] => text.split_first().is_some_and(|(c, behind)| fits(*one, *c) && is_at(rest, behind, fits)),
        }
    }
    let (cased, over_lines) = (!modifiers.contains(&"i"), modifiers.contains(&"s"));
    let fits = |one: char, c: char| if one == '.' { over_lines || c != '\n' } else { is_same(one, c, cased) };
    let (pattern, text) = (chars(pattern), chars(text));
    match pattern.as_slice() {
        ['^', rest @ ..] => is_at(rest, &text, &fits),
        pattern => (0..=text.len()).any(|from| is_at(pattern, &text[from..], &fits)),
    }
}

fn is_ordered(a: f64, order: &str, b: f64) -> bool {
    match order {
        "lt" => a < b,
        "lte" => a <= b,
        "gt" => a > b,
        _ => a >= b,
    }
}

fn is_inside(address: &str, network: &str) -> bool {
    let bits = |text: &str| match (text.parse::<Ipv4Addr>(), text.parse::<Ipv6Addr>()) {
        (Ok(it), _) => Some(format!("4{:032b}", u32::from(it))),
        (_, Ok(it)) => Some(format!("6{:0128b}", u128::from(it))),
        _ => None,
    };
    let (base, length) = network.split_once('/').unwrap();
    let length: usize = length.parse().unwrap();
    bits(address).zip(bits(base)).is_some_and(|(it, base)| it.get(..=length) == base.get(..=length))
}

/// Every dash before a word and behind none, in each of its forms, in all ways.
fn dashed(done: String, rest: &str) -> Vec<String> {
    let is_word = |c: Option<char>| c.is_some_and(|it| it.is_alphanumeric() || it == '_');
    let mut chars = rest.chars();
    let Some(first) = chars.next() else { return vec![done] };
    let is_dash = (first == '-' || first == '/') && !is_word(done.chars().last()) && is_word(chars.clone().next());
    let forms = if is_dash { "-/–—―".chars().collect() } else { vec![first] };
    forms.into_iter().flat_map(|it| dashed(format!("{done}{it}"), chars.as_str())).collect()
}

/// The texts that a value stands for.
fn forms(value: &str, modifiers: &[&str]) -> Vec<String> {
    if modifiers.contains(&"windash") {
        return dashed(String::new(), value);
    }
    if modifiers.contains(&"base64") {
        return vec![base64(value.as_bytes())];
    }
    if modifiers.contains(&"base64offset") {
        return (0..3).map(|before| base64_behind(before, value)).collect();
    }
    vec![value.to_owned()]
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = bytes.iter().map(|it| format!("{it:08b}")).collect::<Vec<_>>().concat();
    let letter = |six: &[u8]| usize::from_str_radix(&format!("{:0<6}", String::from_utf8_lossy(six)), 2).unwrap();
    let mut text: String = bits.as_bytes().chunks(6).map(|six| char::from(LETTERS[letter(six)])).collect();
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

/// The letters that stand for this text alone, where so many bytes are before it.
fn base64_behind(before: usize, text: &str) -> String {
    let (from, to) = (8 * before, 8 * (before + text.len()));
    let all = base64(&[vec![0; before], text.as_bytes().to_vec()].concat());
    all.chars().enumerate().filter(|(n, _)| 6 * n >= from && 6 * n + 6 <= to).map(|(_, letter)| letter).collect()
}

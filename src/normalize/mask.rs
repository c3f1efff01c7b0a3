//! Secrets are masked before anything else sees a record (DESIGN.md §8). The list is `tables/secrets.tsv`.

use super::mask_kubernetes;
use super::tables::lines;
use crate::json::{KeySet, Kind, Tape, string_end_lexical, value_end_lexical};
use memchr::memmem;
use std::ops::Range;
use std::sync::LazyLock;

/// What stands where a secret stood. No hash of it: what can be guessed can be checked against a hash.
pub(super) const MASK: &str = "[masked]";
/// What AWS itself puts where it left a secret out.
const LEFT_OUT: &[&str] =
    &["HIDDEN_DUE_TO_SECURITY_REASONS", "<sensitiveDataRemoved>", "sensitiveDataRemoved", "****", "***", "REDACTED", ""];

struct Secret {
    key: &'static str,
    parent: Option<&'static str>,
    call: Option<(&'static str, &'static str)>,
}

static SECRETS: LazyLock<Vec<Secret>> = LazyLock::new(|| {
    lines(include_str!("tables/secrets.tsv"))
        .filter_map(|line| {
            let [key, parent, call, _] = line[..] else { return None };
            Some(Secret { key, parent: (parent != "-").then_some(parent), call: call.split_once('/') })
        })
        .collect()
});

/// The keys to watch for while scanning.
pub fn watched_keys() -> KeySet {
    KeySet::new(SECRETS.iter().map(|it| it.key))
}

/// Spans of a text, each with what is to stand there.
pub(super) type Spans = Vec<(Range<usize>, &'static str)>;

/// The spans of `text` to replace, in order, each with its replacement; `found` are some that are known already.
pub(super) fn secrets(tape: &Tape, text: &str, mut found: Spans) -> Spans {
    for at in &tape.watched {
        let at = *at as usize;
        if is_secret(tape, text, at) {
            scalars(tape, text, at, &mut found);
        }
    }
    // `\/` is an escape: where there is none, one look is enough.
    if SCHEME.find(text.as_bytes()).is_some() || tape.has_escapes && ESCAPED_SCHEME.find(text.as_bytes()).is_some() {
        found.extend(credentials_in_urls(text).into_iter().map(|span| (span, MASK)));
    }
    found.sort_by_key(|(span, _)| (span.start, std::cmp::Reverse(span.end)));
    let mut end = 0;
    found.retain(|(span, _)| {
        let is_new = span.start >= end;
        end = end.max(span.end);
        is_new
    });
    found
}

fn is_secret(tape: &Tape, text: &str, at: usize) -> bool {
    let key = tape.key(at, text);
    SECRETS.iter().filter(|it| it.key.eq_ignore_ascii_case(&key)).any(|it| {
        it.parent.is_none_or(|parent| has_parent(tape, text, at, parent))
            && it.call.is_none_or(|(service, action)| {
                let is = |name, expected| tape.member(0, name, text).and_then(|at| tape.string(at, text)).is_some_and(|it| it == expected);
                is("eventSource", service) && is("eventName", action)
            })
    })
}

/// Whether the nearest container around the node that has a key has this one.
fn has_parent(tape: &Tape, text: &str, at: usize, parent: &str) -> bool {
    let mut around = 0;
    let mut nearest = None;
    while let Some(child) = tape.children(around).take_while(|child| *child <= at).last() {
        if child == at {
            break;
        }
        if tape.nodes[child].key_end > tape.nodes[child].key_start {
            nearest = Some(child);
        }
        around = child;
    }
    nearest.is_some_and(|node| tape.key(node, text).eq_ignore_ascii_case(parent))
}

pub(super) fn scalars(tape: &Tape, text: &str, at: usize, found: &mut Spans) {
    let node = &tape.nodes[at];
    match node.kind {
        Kind::Object | Kind::Array => tape.children(at).for_each(|child| scalars(tape, text, child, found)),
        Kind::Null | Kind::True | Kind::False => {}
        Kind::String | Kind::EscapedString if LEFT_OUT.contains(&&text[node.start as usize + 1..node.end as usize - 1]) => {}
        Kind::String | Kind::EscapedString | Kind::Number => found.push((node.start as usize..node.end as usize, "\"[masked]\"")),
    }
}

static SCHEME: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"://"));
static ESCAPED_SCHEME: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(br":\/\/"));

static URL_SECRETS: LazyLock<Option<regex::Regex>> = LazyLock::new(|| {
    // Groups: a password before `@`; what signs a presigned request.
    regex::Regex::new(r#"(?i):(?://|\\/\\/)[^\s"/?#@:\\]*:([^\s"/?#@\\]+)@|[?&](?:X-Amz-Signature|X-Amz-Security-Token|Signature|access_token|sig)=([^\s"&#\\]+)"#)
        .ok()
});

fn credentials_in_urls(text: &str) -> Vec<Range<usize>> {
    let Some(pattern) = &*URL_SECRETS else { return Vec::new() };
    pattern
        .captures_iter(text)
        .filter_map(|groups| groups.get(1).or_else(|| groups.get(2)))
        .filter(|it| it.as_str() != MASK)
        .map(|it| it.range())
        .collect()
}

static LEXICAL: LazyLock<Option<regex::bytes::Regex>> = LazyLock::new(|| {
    let of_secrets = mask_kubernetes::DATA_KEYS.iter().chain([&mask_kubernetes::LAST_APPLIED]);
    let keys: Vec<_> = SECRETS.iter().map(|it| it.key).chain(of_secrets.copied()).map(regex::escape).collect();
    // Quotes may themselves be escaped (JSON in a JSON string); the value may be cut, or a whole list: of that, its bracket.
    let pattern = format!(r#"(?i-u)\\*"(?:{})\\*"\s*:\s*(?:\\*"((?:[^"\\]|\\.)*)|(-?[0-9][0-9.eE+-]*)|([\[\{{]))"#, keys.join("|"));
    // The API server quotes what it refuses, as JSON or as Go prints a map.
    let pattern = format!(r#"{pattern}|(?-u)nvalid value: \\*"((?:[^"\\]|\\.)*)"#);
    regex::bytes::Regex::new(&pattern).ok()
});

/// Masks bytes that are not known to be JSON, by the look of them: `"password": "…"`, passwords in URLs. Masks more
/// rather than less, since nobody will parse the result.
pub fn mask_lexically(bytes: &[u8]) -> String {
    let mut masked = Vec::with_capacity(bytes.len());
    let mut from = 0;
    for groups in LEXICAL.iter().flat_map(|it| it.captures_iter(bytes)) {
        // Of the groups, the one that took part is the value.
        let Some(value) = groups.iter().skip(1).flatten().last().map(|it| it.range()) else { continue };
        if value.start < from {
            continue;
        }
        masked.extend_from_slice(&bytes[from..value.start]);
        masked.extend_from_slice(MASK.as_bytes());
        let is_escaped = groups.get(0).is_some_and(|it| it.as_bytes().starts_with(b"\\"));
        from = if groups.get(3).is_some() { list_end(bytes, value.start, is_escaped) } else { value.end };
    }
    masked.extend_from_slice(&bytes[from..]);
    let mut text = String::from_utf8_lossy(&masked).into_owned();
    for span in credentials_in_urls(&text).into_iter().rev() {
        text.replace_range(span, MASK);
    }
    text
}

/// Where a list or object ends, all in it included; where it is in a text, with the text. Else it is cut, and all is in it.
fn list_end(bytes: &[u8], at: usize, is_escaped: bool) -> usize {
    let end = if is_escaped { string_end_lexical(bytes, at) } else { value_end_lexical(bytes, at) };
    end.unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_list_is_masked_lexically() {
        for text in [
            r#"{"data":{"a":"x}]","b":{"c":["d"],"e":"hunter2"}},"z":1"#,
            r#"{"data":{"a":"x\"}","b":"hunter2"}}"#,
            r#"{"body":"{\"data\":{\"a\":\"x}\",\"b\":\"hunter2\"}}","z":1}"#,
            r#"{"data":{"a":["b"],"c":"hunter2"#,
        ] {
            let masked = mask_lexically(text.as_bytes());
            assert!(!masked.contains("hunter2"), "{text} -> {masked}");
            assert_eq!(masked.contains("\"z\":1"), text.contains("\"z\":1"), "{text} -> {masked}");
        }
    }

    #[test]
    fn every_key_of_the_list_is_masked_lexically_in_good_cut_and_nested_json() {
        for secret in SECRETS.iter() {
            let key = secret.key;
            for text in [
                format!(r#"{{"{key}": "hunter2","b":1}}"#),
                format!(r#"{{"{key}":"hunter2"#),
                format!(r#"{{"body":"{{\"{key}\":\"hunter2\"}}"}}"#),
                format!(r#"{{"{}":["hunter2"]"#, key.to_uppercase()),
                format!(r#"{{"{key}":{{"a":"hunter2""#),
            ] {
                let masked = mask_lexically(text.as_bytes());
                assert!(!masked.contains("hunter2"), "{text} -> {masked}");
            }
        }
    }

    #[test]
    fn what_a_refusal_quotes_is_masked_lexically() {
        for text in [
            r#"{"message":" \"\" is invalid: patch: Invalid value: \"map[data:map[k:hunter2]]\": error","code":422}"#,
            r#"{"message":"Invalid value: \"{\\\"data\\\":{\\\"k\\\":\\\"hunter2\\\"}}\": illegal base64 data","code":422}"#,
            r#"{"message":"Invalid value: \"map[data:map[a:b k:hunter2"#,
        ] {
            let masked = mask_lexically(text.as_bytes());
            assert!(!masked.contains("hunter2") && masked.contains("[masked]"), "{text} -> {masked}");
        }
    }

    #[test]
    fn credentials_in_urls_are_masked() {
        for (text, expected) in [
            ("https://bob:hunter2@example.com/x", "https://bob:[masked]@example.com/x"),
            (r"postgres:\/\/u:p@h", r"postgres:\/\/u:[masked]@h"),
            ("https://b.s3.amazonaws.com/k?X-Amz-Signature=abc&x=1", "https://b.s3.amazonaws.com/k?X-Amz-Signature=[masked]&x=1"),
            ("https://example.com:8080/a@b", "https://example.com:8080/a@b"),
        ] {
            assert_eq!(mask_lexically(text.as_bytes()), expected);
        }
    }
}

//! The beginning of a JSON value, made whole: for records that something cut before they came here.

use super::ScanError;
use super::lexical::string_end_lexical;
use super::scan::escape_end;

/// A value with the end that it lacked.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed {
    /// JSON, as far as its beginning was.
    pub text: String,
    /// How many bytes at its end are ours: a quote, brackets.
    pub added: usize,
    /// The last string is the beginning of a longer one.
    pub is_partial: bool,
}

/// Closes what is open at the end of `cut`. A string that has begun is kept as far as it goes; a number that may have gone on
/// and a key without a value are left out. Does not look whether the rest is JSON: whoever scans the result will know.
pub fn close(cut: &str) -> Closed {
    let bytes = cut.as_bytes();
    let mut open = Vec::new();
    // Behind the last value or opening bracket: from there on nothing is complete.
    let mut whole_to = 0;
    let mut is_key = false;
    let mut i = 0;
    while let Some(byte) = bytes.get(i) {
        match byte {
            b'"' => match string_end_lexical(bytes, i + 1) {
                Some(end) => {
                    i = end + 1;
                    whole_to = if is_key { whole_to } else { i };
                }
                None if is_key => break,
                None => {
                    let inside = i + 1 + whole_escapes(&bytes[i + 1..]);
                    return ended(&cut[..inside], "\"", &open, true);
                }
            },
            b'{' | b'[' => {
                // `{` and `}` are two apart in ASCII, `[` and `]` too.
                open.push(byte + 2);
                is_key = *byte == b'{';
                i += 1;
                whole_to = i;
            }
            b'}' | b']' => {
                open.pop();
                i += 1;
                whole_to = i;
            }
            b',' | b':' => {
                is_key = *byte == b',' && open.last() == Some(&b'}');
                i += 1;
            }
            b' ' | b'\n' | b'\r' | b'\t' => i += 1,
            _ => {
                let end = bytes[i..].iter().position(|b| b" \n\r\t,:{}[]\"".contains(b)).map_or(bytes.len(), |n| i + n);
                // `20` may have been the beginning of 200.
                if end == bytes.len() && !matches!(&cut[i..end], "true" | "false" | "null") {
                    break;
                }
                i = end;
                whole_to = end;
            }
        }
    }
    ended(&cut[..whole_to], "", &open, false)
}

fn ended(kept: &str, quote: &str, open: &[u8], is_partial: bool) -> Closed {
    let mut text = String::with_capacity(kept.len() + open.len() + 1);
    text.push_str(kept);
    text.push_str(quote);
    text.extend(open.iter().rev().map(|it| char::from(*it)));
    Closed { added: text.len() - kept.len(), text, is_partial }
}

/// How far the inside of a string goes without an escape that is cut.
fn whole_escapes(inside: &[u8]) -> usize {
    let mut i = 0;
    while let Some(n) = inside.get(i..).and_then(|rest| memchr::memchr(b'\\', rest)) {
        match escape_end(inside, i + n + 1) {
            Ok(end) => i = end,
            Err(ScanError::Incomplete) => return i + n,
            Err(_) => break,
        }
    }
    inside.len()
}

#[cfg(test)]
mod tests {
    use super::super::{Scanner, Tape};
    use super::*;

    #[test]
    fn what_is_open_is_closed() {
        for (cut, expected, added, is_partial) in [
            ("", "", 0, false),
            ("{", "{}", 1, false),
            (r#"{"a"#, "{}", 1, false),
            (r#"{"a""#, "{}", 1, false),
            (r#"{"a": "#, "{}", 1, false),
            (r#"{"a":"b"#, r#"{"a":"b"}"#, 2, true),
            (r#"{"a":"b\"#, r#"{"a":"b"}"#, 2, true),
            (r#"{"a":"\\"#, r#"{"a":"\\"}"#, 2, true),
            (r#"{"a":"b\u00"#, r#"{"a":"b"}"#, 2, true),
            (r#"{"a":"b","#, r#"{"a":"b"}"#, 1, false),
            (r#"{"a":20"#, "{}", 1, false),
            (r#"{"a":20 "#, r#"{"a":20}"#, 1, false),
            (r#"{"a":1,"b":-"#, r#"{"a":1}"#, 1, false),
            (r#"{"a":1,"b":tru"#, r#"{"a":1}"#, 1, false),
            (r#"{"a":1,"b":true"#, r#"{"a":1,"b":true}"#, 1, false),
            (r#"{"a":[{"b":["x","y"#, r#"{"a":[{"b":["x","y"]}]}"#, 5, true),
            (r#"{"a":[1],"#, r#"{"a":[1]}"#, 1, false),
            (r#"{"a":{"b":1}}"#, r#"{"a":{"b":1}}"#, 0, false),
        ] {
            assert_eq!(close(cut), Closed { text: expected.to_owned(), added, is_partial }, "{cut}");
        }
    }

    #[test]
    fn an_object_cut_anywhere_is_json_again() {
        let whole = r#"{"a\"}":"x}\\\"]","ü":[1.5e+3,{"b":{},"c":[[],null,false]},"\ud83d\ude00"],"d":-0,"e":{"f":"\u0041é"}}"#;
        for (cut, _) in whole.char_indices().skip(1) {
            let closed = close(&whole[..cut]);
            let end = Scanner::default().scan(closed.text.as_bytes(), 0, &mut Tape::default());
            assert_eq!(end, Ok(closed.text.len()), "{} -> {}", &whole[..cut], closed.text);
            assert!(whole.starts_with(&closed.text[..closed.text.len() - closed.added]));
            assert!(
                serde_json::from_str::<serde_json::Value>(&closed.text).is_ok() || closed.text.contains("\\ud83d\"]"),
                "{}",
                closed.text
            );
        }
    }
}

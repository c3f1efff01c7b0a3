//! Sigma's texts: wildcards and escapes, dashes, encodings.

use crate::filter::Piece;

/// The pieces of a value: `*` and `?` are wildcards, a backslash makes one of them, or itself, plain.
pub(super) fn pieces(value: &str) -> Vec<Piece> {
    let mut found = Vec::new();
    let mut plain = String::new();
    let mut rest = value.chars().peekable();
    while let Some(c) = rest.next() {
        let wild = match c {
            '\\' => {
                match rest.peek() {
                    Some(next @ ('*' | '?' | '\\')) => {
                        plain.push(*next);
                        rest.next();
                    }
                    _ => plain.push('\\'),
                }
                continue;
            }
            '*' => Piece::Any,
            '?' => Piece::One,
            c => {
                plain.push(c);
                continue;
            }
        };
        if !plain.is_empty() {
            found.push(Piece::Text(std::mem::take(&mut plain)));
        }
        if wild != Piece::Any || found.last() != Some(&Piece::Any) {
            found.push(wild);
        }
    }
    if !plain.is_empty() {
        found.push(Piece::Text(plain));
    }
    found
}

/// What programs for Windows take for the dash of an option.
const DASHES: [char; 5] = ['-', '/', '\u{2013}', '\u{2014}', '\u{2015}'];
/// Dashes of a value that is encoded further: each has five forms.
pub(super) const ENCODED_DASHES_MAX: usize = 4;

/// Where the dashes of options are, in bytes: a dash or slash before a word and behind none.
fn dashes(value: &str) -> Vec<usize> {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let is_dash = |(at, c): &(usize, char)| {
        matches!(c, '-' | '/') && !is_word(value[..*at].chars().next_back()) && is_word(value[at + 1..].chars().next())
    };
    value.char_indices().filter(is_dash).map(|(at, _)| at).collect()
}

/// The pieces with every dash of an option by itself, to stand for all of its forms.
pub(super) fn with_dashes(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut found = Vec::new();
    for piece in pieces {
        let Piece::Text(text) = &piece else {
            found.push(piece);
            continue;
        };
        let mut from = 0;
        for at in dashes(text) {
            if at > from {
                found.push(Piece::Text(text[from..at].to_owned()));
            }
            found.push(Piece::Dash);
            from = at + 1;
        }
        if from < text.len() {
            found.push(Piece::Text(text[from..].to_owned()));
        }
    }
    found
}

/// The value with every dash of an option in each of its forms, in all ways. None: there are too many.
pub(super) fn windash(value: &str) -> Option<Vec<String>> {
    let dashes = dashes(value);
    if dashes.len() > ENCODED_DASHES_MAX {
        return None;
    }
    // From behind, so that what stands before keeps its place.
    let every_form = |forms: Vec<String>, at: &usize| {
        let replaced = |form: &String| DASHES.map(|dash| format!("{}{dash}{}", &form[..*at], &form[at + 1..]));
        forms.iter().flat_map(replaced).collect()
    };
    Some(dashes.iter().rev().fold(vec![value.to_owned()], every_form))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for n in 0..4 {
            let is_padding = n > chunk.len();
            out.push(if is_padding { '=' } else { char::from(ALPHABET[(word >> (18 - 6 * n) & 63) as usize]) });
        }
    }
    out
}

/// What stands in the base64 of a longer text wherever these bytes are in it: one form for each offset.
pub(super) fn base64_offsets(bytes: &[u8]) -> Vec<String> {
    (0..3)
        .map(|offset| {
            let padded = [vec![b' '; offset], bytes.to_vec()].concat();
            let text = base64(&padded);
            // Characters that depend on what stands before or behind are left out.
            let from = [0, 2, 3][offset];
            let to = text.len() - [0, 3, 2][padded.len() % 3];
            text[from..to].to_owned()
        })
        .collect()
}

/// UTF-16 of a text.
pub(super) fn utf16(text: &str, big_endian: bool) -> Vec<u8> {
    text.encode_utf16().flat_map(|unit| if big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_and_escapes() {
        let text = |it: &str| Piece::Text(it.to_owned());
        assert_eq!(pieces("a*b?"), [text("a"), Piece::Any, text("b"), Piece::One]);
        assert_eq!(pieces(r"a\*b\\c\d"), [text(r"a*b\c\d")]);
        assert_eq!(pieces("**"), [Piece::Any]);
        assert_eq!(pieces(""), []);
    }

    #[test]
    fn encodings() {
        for (bytes, expected) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
        for before in 0..6 {
            for after in 0..6 {
                let long = format!("{}needle in hay{}", "x".repeat(before), "y".repeat(after));
                let encoded = base64(long.as_bytes());
                assert!(base64_offsets(b"needle in hay").iter().any(|it| encoded.contains(it.as_str())), "{before} {after}");
            }
        }
        assert_eq!(utf16("a", false), [b'a', 0]);
    }

    #[test]
    fn dashes_of_options_in_all_forms() {
        let text = |it: &str| Piece::Text(it.to_owned());
        assert_eq!(windash(" -x a-b").unwrap(), [" -x a-b", " /x a-b", " \u{2013}x a-b", " \u{2014}x a-b", " \u{2015}x a-b"]);
        let two = windash("-a /b").unwrap();
        assert!(two.len() == 25 && two.contains(&"/a \u{2014}b".to_owned()), "{two:?}");
        assert_eq!(with_dashes(pieces("*-a --b c-d /*")), [Piece::Any, Piece::Dash, text("a -"), Piece::Dash, text("b c-d /"), Piece::Any]);
        assert_eq!(windash("-a -b -c -d").unwrap().len(), 625);
        assert_eq!(windash("-a -b -c -d -e"), None);
    }
}

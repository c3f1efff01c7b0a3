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

/// The value with each of the characters that programs take for the dash of an option.
pub(super) fn windash(value: &str) -> Vec<String> {
    const DASHES: [char; 5] = ['-', '/', '\u{2013}', '\u{2014}', '\u{2015}'];
    let mut found = vec![value.to_owned()];
    for dash in DASHES {
        let mut out = String::new();
        let mut before = ' ';
        for c in value.chars() {
            let is_option = (c == '-' || c == '/') && before == ' ';
            out.push(if is_option { dash } else { c });
            before = c;
        }
        if !found.contains(&out) {
            found.push(out);
        }
    }
    found
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
        assert_eq!(windash(" -x a-b"), [" -x a-b", " /x a-b", " \u{2013}x a-b", " \u{2014}x a-b", " \u{2015}x a-b"]);
    }
}

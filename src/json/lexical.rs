//! JSON by its brackets and quotes alone, for bytes that are not (yet) known to be JSON.

/// Where the bracketed value that starts at `buf[at]` ends, minding strings and nothing else.
/// None when it does not end in `buf`. No depth is too deep for it.
pub fn value_end_lexical(buf: &[u8], at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut i = at;
    loop {
        i += memchr_structure(buf.get(i..)?)?;
        match buf[i] {
            b'"' => i = string_end_lexical(buf, i + 1)?,
            b'{' | b'[' => depth += 1,
            _ => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(i + 1);
                }
            }
        }
        i += 1;
    }
}

fn memchr_structure(rest: &[u8]) -> Option<usize> {
    rest.iter().position(|b| matches!(b, b'"' | b'{' | b'}' | b'[' | b']'))
}

/// The closing quote of the string whose inside starts at `buf[i]`. None when it is not in `buf`.
pub fn string_end_lexical(buf: &[u8], mut i: usize) -> Option<usize> {
    loop {
        i += memchr::memchr2(b'"', b'\\', buf.get(i..)?)?;
        if buf[i] == b'"' {
            return Some(i);
        }
        i += 2;
    }
}

/// A valid value without the white space outside its strings.
pub fn compact(value: &str) -> String {
    let bytes = value.as_bytes();
    let mut out = String::with_capacity(value.len());
    let mut kept = 0;
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'"' => i = string_end_lexical(bytes, i + 1).unwrap_or(bytes.len()) + 1,
            b' ' | b'\n' | b'\r' | b'\t' => {
                out.push_str(&value[kept..i]);
                while matches!(bytes.get(i), Some(b' ' | b'\n' | b'\r' | b'\t')) {
                    i += 1;
                }
                kept = i;
            }
            _ => i += 1,
        }
    }
    out.push_str(&value[kept.min(value.len())..]);
    out
}

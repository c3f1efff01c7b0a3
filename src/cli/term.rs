//! Writing to the terminal: a closed pipe is no failure, and what comes from events cannot steer a terminal.

use super::exit::{Exit, Failure};
use std::io::{self, ErrorKind, Write};

/// Writes all to standard output.
pub(super) fn print(bytes: &[u8]) -> Result<Exit, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(Exit::Done),
    }
}

/// Writes a line to standard error. There is nobody to tell when that fails.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Text of an event without what a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') { '\u{fffd}' } else { c })
        .collect()
}

/// The same, at most so many characters.
pub(super) fn short(text: &str, max: usize) -> String {
    let text = plain(text);
    match text.char_indices().nth(max) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

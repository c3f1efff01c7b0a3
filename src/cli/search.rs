//! `search`.

use super::args::{Output, SearchArgs};
use super::exit::{Exit, Failure};
use super::term;
use crate::clock::Clock;
use crate::event::{Col, Row, Val, time, write_json};
use crate::filter::Filter;
use crate::store::{SearchOptions, search as search_store};
use std::io::{BufWriter, ErrorKind, IsTerminal, Write};

pub(super) fn search(args: &SearchArgs) -> Result<Exit, Failure> {
    let usage = |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, error);
    let filter = match args.filter.trim() {
        "" => None,
        text => Some(Filter::new(text, &args.data.lists()?).map_err(|it| usage(&it))?),
    };
    let now = Clock::system().now_ms();
    let options = SearchOptions {
        dir: args.data.dir()?,
        filter,
        since_ms: args.since.as_deref().map(|it| point(it, now)).transpose()?,
        until_ms: args.until.as_deref().map(|it| point(it, now)).transpose()?,
        limit: (args.limit > 0).then_some(args.limit),
        ids: None,
    };
    let stdout = std::io::stdout();
    let is_terminal = stdout.is_terminal();
    let mut out = BufWriter::new(stdout.lock());
    let mut line = Vec::new();
    let mut failed = None;
    let n = search_store(options, |hit| {
        line.clear();
        match args.output {
            Output::Json => write_json(hit.row(), &mut line),
            Output::Text => write_line(hit.row(), &mut line),
        }
        line.push(b'\n');
        // A person sees each as it is found; a program is faster with large pieces.
        let written = out.write_all(&line).and_then(|()| if is_terminal { out.flush() } else { Ok(()) });
        failed = written.err();
        failed.is_none()
    })?;
    match failed.or_else(|| out.flush().err()) {
        Some(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    if args.output == Output::Text && n == args.limit {
        term::say(&format!("the newest {n} events; more with --limit"));
    }
    Ok(Exit::Done)
}

/// One event as a line for people.
pub(super) fn write_line(row: &impl Row, out: &mut Vec<u8>) {
    let text = |col| match row.val(col) {
        Val::Text(text) => term::short(&text, 60),
        _ => String::new(),
    };
    let or = |a: String, b: String| if a.is_empty() { b } else { a };
    let when = match row.val(Col::EventTime) {
        Val::Int(ms) => time::format_ms(ms).replace(".000Z", "Z"),
        _ => String::new(),
    };
    let who = or(text(Col::User), or(text(Col::UserId), "-".to_owned()));
    let from = or(text(Col::Ip), or(text(Col::SrcHost), "-".to_owned()));
    let service = text(Col::Service).replace(".amazonaws.com", "");
    let mut flags = String::new();
    row.list(Col::FlagNames, &mut |name| flags = format!("{flags} [{name}]"));
    // Writing to a Vec does not fail.
    let _ = write!(
        out,
        "{when}  {:<8} {:<28} {who:<24} {from:<18} {}{}{flags}",
        text(Col::Outcome),
        format!("{service}:{}", text(Col::Action)),
        text(Col::Name),
        match text(Col::Error) {
            error if error.is_empty() => String::new(),
            error => format!("  ({error})"),
        }
    );
}

/// `24h` before now, or a time.
pub(super) fn point(text: &str, now_ms: i64) -> Result<i64, Failure> {
    if let Some(ms) = time::parse_ms(text) {
        return Ok(ms);
    }
    let wrong =
        || Failure::new(Exit::Usage, format!("`{text}` is neither a span like 90m, 24h or 7d nor a time like 2026-01-02T03:04:05Z"));
    // A date alone is its beginning.
    if let Some(ms) = time::parse_ms(&format!("{text}T00:00:00Z")) {
        return Ok(ms);
    }
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    // A day is 24 hours here: event times are UTC.
    let span = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Ok(now_ms.saturating_sub(span.as_millis() as i64))
}

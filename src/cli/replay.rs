//! `replay`: the events of files as JSON lines.

use super::args::ReplayArgs;
use super::exit::{Exit, Failure};
use super::files::{Reading, Visitor, read};
use crate::clock::Clock;
use crate::event::{Context, Event, write_json};
use crate::filter::{Filter, Lists, Scratch};
use std::fs::File;
use std::io::{self, Write};

/// Writes every event that the filter lets through.
struct Writer {
    filter: Option<Filter>,
    scratch: Scratch,
}

impl Visitor for Writer {
    fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        if self.filter.as_ref().is_none_or(|it| it.matches(event, &mut self.scratch)) {
            write_json(event, out);
            out.push(b'\n');
        }
    }
}

pub(super) fn replay(args: &ReplayArgs) -> Result<Exit, Failure> {
    let filter = args.filter.as_deref().map(|it| Filter::new(it, &Lists::default())).transpose();
    let filter = filter.map_err(|error| Failure::new(Exit::Usage, error))?;
    let mut out: Box<dyn Write> = match &args.output_file {
        Some(path) => Box::new(File::create(path).map_err(|error| Failure::new(Exit::Io, format!("{}: {error}", path.display())))?),
        None => Box::new(io::stdout()),
    };
    let now_ms = Clock::system().now_ms();
    let base = Context { source: "replay".to_owned(), cluster: args.cluster.clone(), now_ms, ..Context::default() };
    let reading = Reading { paths: &args.paths, base: &base, output: args.output };
    let sum = read(&reading, &mut *out, || Writer { filter: filter.clone(), scratch: Scratch::default() })?;
    Ok(sum.exit())
}

//! `quarantine list|show|replay|drop`.

use super::args::{Output, QuarantineCommand, QuarantineIds};
use super::exit::{Exit, Failure};
use super::term;
use crate::clock::Clock;
use crate::event::time;
use crate::store::{Quarantined, drop_quarantined, due_now, list_quarantine};

pub(super) fn quarantine(command: QuarantineCommand) -> Result<Exit, Failure> {
    match command {
        QuarantineCommand::List { data, output } => {
            let mut failed = None;
            list_quarantine(&data.dir()?, |entry| {
                failed = print(&entry, output).err();
                failed.is_none()
            })?;
            failed.map_or(Ok(Exit::Done), Err)
        }
        QuarantineCommand::Show { id, data, output } => {
            let mut found = None;
            list_quarantine(&data.dir()?, |entry| {
                let is_it = entry.id == id;
                if is_it {
                    found = Some(entry);
                }
                !is_it
            })?;
            let entry = found.ok_or_else(|| Failure::new(Exit::Bad, format!("there is no entry {id}; `quarantine list` shows them")))?;
            print(&entry, output)?;
            if output == Output::Text {
                term::print(format!("{}\n", term::plain(&entry.excerpt)).as_bytes())?;
            }
            Ok(Exit::Done)
        }
        QuarantineCommand::Replay(args) => {
            let dir = args.data.dir()?;
            let n = due_now(&dir, &args.ids, Clock::system().now_ms())?;
            Ok(changed(&args, n, "due: `planewatch run` reads them again within seconds, or when it is started"))
        }
        QuarantineCommand::Drop(args) => {
            let dir = args.data.dir()?;
            let n = drop_quarantined(&dir, &args.ids)?;
            Ok(changed(&args, n, "removed"))
        }
    }
}

fn changed(args: &QuarantineIds, n: usize, what: &str) -> Exit {
    term::say(&format!("{n} entries {what}"));
    if n < args.ids.len() { Exit::Bad } else { Exit::Done }
}

fn print(entry: &Quarantined, output: Output) -> Result<(), Failure> {
    let line = match output {
        Output::Json => serde_json::to_string(entry).map_err(|error| Failure::new(Exit::Bug, error))?,
        Output::Text => {
            let index = entry.origin.index.map(|it| format!(" record {it}")).unwrap_or_default();
            format!(
                "{:>6}  {}  {:<18} {}{index}  {} bytes: {}",
                entry.id,
                time::format_ms(entry.time),
                entry.reason,
                term::short(&entry.origin.uri, 200),
                entry.bytes,
                term::short(&entry.detail, 200)
            )
        }
    };
    term::print(format!("{line}\n").as_bytes()).map(|_| ())
}

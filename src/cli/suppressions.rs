//! `suppressions list|lint` (and the way to `preview|add`): which there are, how often they hid a match, whether they are sound.

use super::args::{Output, SuppressionsArgs, SuppressionsCommand};
use super::exit::{Exit, Failure};
use super::{preview, rules, term};
use crate::clock::Clock;
use crate::event::time;
use crate::rules::{Suppression, load_suppressions, never_again};
use crate::store::suppression_hits;
use std::collections::HashMap;

pub(super) fn suppressions(args: &SuppressionsArgs) -> Result<Exit, Failure> {
    let lists = super::data::named_lists(&args.lists)?;
    match &args.command {
        SuppressionsCommand::Preview(it) => return preview::preview(it, args.data_dir.as_deref(), &lists, args.output),
        SuppressionsCommand::Add(it) => return preview::add(it, &lists),
        SuppressionsCommand::List | SuppressionsCommand::Lint => {}
    }
    if args.suppressions.is_empty() {
        return Err(Failure::new(Exit::Usage, "give --suppressions with a folder or file"));
    }
    let (found, problems) = load_suppressions(&args.suppressions, &lists);
    rules::report(&problems);
    let now = Clock::system().now_ms();
    let is_clean = match args.command {
        SuppressionsCommand::List => {
            let hits = args.data_dir.as_ref().map(|dir| suppression_hits(dir)).transpose()?;
            for it in &found {
                print(it, hits.as_ref(), now, args.output)?;
            }
            true
        }
        _ => lint(&found, now),
    };
    Ok(if is_clean && problems.is_empty() { Exit::Done } else { Exit::Bad })
}

fn print(it: &Suppression, hits: Option<&HashMap<String, (u64, i64)>>, now: i64, output: Output) -> Result<(), Failure> {
    let of_this = hits.map(|all| all.get(&it.id).copied().unwrap_or((0, 0)));
    let last = of_this.filter(|(n, _)| *n > 0).map(|(_, last)| last);
    let line = match output {
        Output::Json => serde_json::json!({
            "id": it.id, "filter": it.source, "rules": it.rules, "owner": it.owner, "reason": it.reason, "expires": it.expires_ms,
            "isExpired": it.expires_ms.is_some_and(|at| at <= now), "createdBy": it.created_by, "file": it.file,
            "hits": of_this.map(|(n, _)| n), "lastHit": last,
        })
        .to_string(),
        Output::Text => {
            let ends = it.expires_ms.map_or_else(|| "does not expire".to_owned(), |at| format!("expires {}", time::format_ms(at)));
            let hits = of_this.map_or(String::new(), |(n, _)| {
                let last = last.map_or(String::new(), |at| format!(", the last at {}", time::format_ms(at)));
                format!("  {n} hits{last}")
            });
            let for_rules = it.rules.as_ref().map_or_else(|| "all rules".to_owned(), |ids| ids.join(", "));
            format!("{}  {for_rules}  {ends}  {}  ({}){hits}", it.id, term::plain(&it.reason), term::plain(&it.owner))
        }
    };
    term::print(format!("{line}\n").as_bytes())?;
    Ok(())
}

fn lint(found: &[Suppression], now: i64) -> bool {
    let mut is_clean = true;
    let mut say = |it: &Suppression, what: &str| {
        is_clean = false;
        term::say(&format!("{}: {what}", it.id));
    };
    for it in found {
        if it.expires_ms.is_some_and(|at| at <= now) {
            say(it, "has expired and hides nothing; renew it or remove the file");
        }
        for why in never_again(&it.filter, &it.source) {
            say(it, &why);
        }
    }
    is_clean
}

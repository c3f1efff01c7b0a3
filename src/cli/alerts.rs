//! `alerts list|show|dismiss|assign|note`.

use super::args::{AlertsCommand, DismissReason, Output};
use super::exit::{Exit, Failure};
use super::{search, term};
use crate::clock::Clock;
use crate::event::time;
use crate::rules::{load_builtin, severity_name};
use crate::store::{NOTES_MAX, StoredAlert, assign_alert, dismiss_alert, list_alerts, note_alert};

pub(super) fn alerts(command: AlertsCommand) -> Result<Exit, Failure> {
    match command {
        AlertsCommand::List { data, dismissed, rules, since, output } => {
            let mut failed = None;
            let since_ms = since.as_deref().map(|it| search::point(it, Clock::system().now_ms())).transpose()?;
            list_alerts(&data.dir()?, None, &mut |alert| {
                let is_of_rule = rules.is_empty() || rules.contains(&alert.rule_id);
                let is_new = since_ms.is_none_or(|at| alert.last_event_time >= at);
                if is_of_rule && is_new && (dismissed || !alert.is_dismissed) {
                    failed = print(&alert, output).err();
                }
                failed.is_none()
            })?;
            failed.map_or(Ok(Exit::Done), Err)
        }
        AlertsCommand::Show { id, data, output } => {
            let mut found = None;
            list_alerts(&data.dir()?, Some(&id), &mut |alert| {
                found = Some(alert);
                false
            })?;
            let alert = found.ok_or_else(|| Failure::new(Exit::Bad, format!("there is no alert {id}; `alerts list` shows them")))?;
            print(&alert, output)?;
            if output == Output::Text {
                for (field, value) in &alert.aggregates {
                    term::print(format!("  {field} = {}\n", term::plain(&value.to_string())).as_bytes())?;
                }
                for line in people(&alert) {
                    term::print(format!("  {}\n", term::plain(&line)).as_bytes())?;
                }
                for event in &alert.events {
                    term::print(format!("  {}\n", term::plain(event.get())).as_bytes())?;
                }
            }
            Ok(Exit::Done)
        }
        AlertsCommand::Dismiss { id, reason, text, by, data } => {
            said("--by", &by)?;
            let text = text.unwrap_or_default();
            if reason == DismissReason::Other {
                said("--text", &text)?;
            }
            let is_done = dismiss_alert(&data.dir()?, &id, reason.name(), &text, &by, Clock::system().now_ms())?;
            if !is_done {
                return Err(Failure::new(Exit::Bad, format!("no open alert has the id {id}; `alerts list` shows them")));
            }
            term::say(&format!("dismissed {id}; the next match in its window opens a new alert"));
            Ok(Exit::Done)
        }
        AlertsCommand::Assign { id, person, data } => known(&id, assign_alert(&data.dir()?, &id, person.as_deref())?, ""),
        AlertsCommand::Note { id, text, by, data } => {
            said("--by", &by)?;
            said("the note", &text)?;
            let now = time::format_ms(Clock::system().now_ms());
            let is_done = note_alert(&data.dir()?, &id, &format!("{now} {by}: {text}"))?;
            known(&id, is_done, &format!(", or it has {NOTES_MAX} notes"))
        }
    }
}

/// Nobody, and nothing, explains nothing to whoever looks later.
fn said(what: &str, text: &str) -> Result<(), Failure> {
    if text.trim().is_empty() {
        return Err(Failure::new(Exit::Usage, format!("{what} is empty: say it, for whoever looks at the alert later")));
    }
    Ok(())
}

/// What the rule wants looked at, and what people did.
fn people(alert: &StoredAlert) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(load_builtin(&alert.rule_id).map(|it| it.description));
    lines.extend(alert.assignee.as_ref().map(|it| format!("assigned to {it}")));
    lines.extend(alert.notes.iter().map(|it| format!("note {it}")));
    if let (Some(at), Some(by)) = (alert.dismissed_at, &alert.dismissed_by) {
        let text = alert.dismiss_reason_text.as_deref().filter(|it| !it.is_empty()).map_or(String::new(), |it| format!(": {it}"));
        lines.push(format!("dismissed {} by {by}, {}{text}", time::format_ms(at), alert.dismiss_reason.as_deref().unwrap_or("")));
    }
    lines
}

/// Done, unless there is no such alert.
fn known(id: &str, is_done: bool, or: &str) -> Result<Exit, Failure> {
    if is_done {
        return Ok(Exit::Done);
    }
    Err(Failure::new(Exit::Bad, format!("there is no alert {id}{or}; `alerts list` shows them")))
}

pub(super) fn print(alert: &StoredAlert, output: Output) -> Result<(), Failure> {
    let line = match output {
        Output::Json => serde_json::to_string(alert).map_err(|error| Failure::new(Exit::Bug, error))?,
        Output::Text => {
            let severity = severity_name(alert.severity);
            let time = time::format_ms(alert.last_event_time);
            let state = alert.dismiss_reason.as_deref().map_or(String::new(), |reason| format!("  dismissed: {}", term::plain(reason)));
            let title = term::short(&alert.title, 100);
            format!("{}  {time}  {severity:<6}  {}  {title}  ({} events){state}", alert.id, alert.rule_id, alert.count)
        }
    };
    term::print(format!("{line}\n").as_bytes())?;
    Ok(())
}

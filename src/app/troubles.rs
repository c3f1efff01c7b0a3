//! What does not work for a while becomes an alert: a source that is down, a store that took nothing.

use super::reload::{Told, raise};
use crate::rules::Trouble;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Since when something does not work, and why.
struct Down {
    since_ms: i64,
    why: String,
    is_said: bool,
}

/// Looks until it is told to stop. `after_ms`: how long something may be down before that is an alert; `is_ours` says
/// whether it is one that nobody else raises an alert of.
pub(super) async fn watch(told: Told, after_ms: i64, is_ours: impl Fn(&str) -> bool, mut stop: watch::Receiver<bool>) {
    let mut down: BTreeMap<String, Down> = BTreeMap::new();
    let mut paused: Option<(i64, String)> = None;
    loop {
        tokio::select! {
            _ = stop.wait_for(|it| *it) => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let now = told.clock.now_ms();
        let reasons = told.health.all();
        down.retain(|who, _| reasons.contains_key(who));
        for (who, why) in reasons.into_iter().filter(|(who, _)| is_ours(who)) {
            let it = down.entry(who.clone()).or_insert(Down { since_ms: now, why: String::new(), is_said: false });
            it.why = why;
            if !it.is_said && now - it.since_ms >= after_ms {
                it.is_said = true;
                raise(&told, Trouble::SourceDown, vec![who], it.why.clone()).await;
            }
        }
        match (told.store.paused(), paused.take()) {
            (Some(why), before) => paused = Some(before.unwrap_or((now, why))),
            // It can be written down now that it is over.
            (None, Some((since_ms, why))) => {
                let seconds = (now - since_ms) / 1_000;
                raise(&told, Trouble::StorePaused, vec!["paused".to_owned()], format!("for {seconds} s: {why}")).await;
            }
            (None, None) => {}
        }
    }
}

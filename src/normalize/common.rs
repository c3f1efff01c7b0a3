//! What records of every kind say in the same way.

use super::look::Text;
use crate::event::{Col, Context, Event, EventType, Flags, Val};
use std::borrow::Cow;

/// An event time this far in the future is flagged.
const CLOCK_SKEW_MS: i64 = 10 * 60_000;

/// An event of this record, of which nothing more is known yet.
pub(super) fn begin<'s>(event_type: EventType, look: &Text<'s>, context: &'s Context, index: u64, flags: Flags) -> Event<'s> {
    let mut event = Event::new(event_type, context, index, Cow::Borrowed(look.text));
    event.flags = flags;
    event.tape = Some(look.tape);
    event
}

/// Sets when it happened, ms; the time of collection stands in where the record does not say.
pub(super) fn set_time(event: &mut Event<'_>, time: Option<i64>) {
    let now = event.context.now_ms;
    event.event_time = time.unwrap_or(now);
    match time {
        None => event.flags.insert(Flags::NO_EVENT_TIME),
        Some(time) if time > now.saturating_add(CLOCK_SKEW_MS) => event.flags.insert(Flags::CLOCK_SKEW),
        Some(_) => {}
    }
}

/// Sets where the call came from: an address, or the name that stands in its place.
pub(super) fn set_source<'s>(event: &mut Event<'s>, source: Option<Cow<'s, str>>) {
    let Some(source) = source else { return };
    if source.parse::<std::net::IpAddr>().is_ok() {
        event.set(Col::Ip, Val::Text(source));
    } else {
        event.flags.insert(Flags::SOURCE_NOT_IP);
        event.set(Col::SrcHost, Val::Text(source));
    }
}

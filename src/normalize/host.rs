//! Events of host sensors: every member stays as it came; those that are named as a common field are that field too.

use super::common::{begin, set_source, set_time};
use super::look::{Text, members};
use crate::event::column::{self, Kind as ColumnKind};
use crate::event::{Col, Context, Event, EventId, EventType, Flags, Sensor, Val, fingerprint, hash_identity, time};
use crate::json::Kind;
use std::borrow::Cow;

members! {
    /// The members of a host event that we use, as node numbers. A key twice: the last one stands.
    Members {
        event_type: "event_type",
        id: "_id",
        agent_id: "agent_id",
        organization_id: "organization_id",
        event_time: "event_time",
        timestamp: "timestamp",
        provider: "provider_metadata",
        src_ip: "src_ip",
        connection: "connection",
        success: "success",
    }
}

/// The event of a record.
pub(super) fn event<'s>(look: Text<'s>, context: &'s Context, index: u64, flags: Flags) -> Event<'s> {
    let it = Members::of(&look, 0);
    let mut event = begin(EventType::Host, &look, context, index, flags);
    let text = |at| look.string(at);
    event.sensor = Some(Sensor { event_type: text(it.event_type).unwrap_or_default(), agent_id: text(it.agent_id) });
    for at in look.tape.children(0) {
        set_column(&mut event, &look, at);
    }
    if let Some(provider) = it.provider {
        for (col, name) in
            [(Col::CloudProvider, "cloud_provider"), (Col::AccountId, "account_id"), (Col::AvailabilityZone, "availability_zone")]
        {
            event.set_text(col, text(look.member(Some(provider), name)));
        }
        event.label = text(look.member(Some(provider), "account_id")).and_then(|it| context.accounts.get(&*it));
    }
    if event.get(Col::Ip) == &Val::Null {
        let stated = [it.src_ip, look.member(it.connection, "addr"), look.member(it.connection, "src_addr")];
        if let Some(address) = stated.into_iter().find_map(text).filter(|it| it.parse::<std::net::IpAddr>().is_ok()) {
            set_source(&mut event, Some(address));
        }
    }
    if event.get(Col::Outcome) == &Val::Null {
        if let Some(success) = look.boolean(it.success) {
            event.set(Col::Outcome, Val::of(if success { "success" } else { "failure" }));
        }
    }
    set_time(&mut event, stated_ms(&look, it.event_time).or_else(|| stated_ms(&look, it.timestamp)));
    event.id = match (text(it.agent_id), text(it.id)) {
        (Some(agent), Some(id)) => EventId::of(&["host", &text(it.organization_id).unwrap_or_default(), &agent, &id]),
        _ => hash_identity(look.text),
    };
    event.fingerprint = fingerprint(event.event_time, &[look.text]);
    event
}

/// A time as these events state it: milliseconds, or a text.
fn stated_ms(look: &Text<'_>, at: Option<usize>) -> Option<i64> {
    let node = &look.tape.nodes[at?];
    match node.kind {
        Kind::Number => look.tape.spelled(at?, look.text).parse().ok(),
        _ => look.string(at).and_then(|it| it.parse().ok().or_else(|| time::parse_ms(&it))),
    }
}

/// A member that has the name of a common field is that field: a filter looks there first.
fn set_column<'s>(event: &mut Event<'s>, look: &Text<'s>, at: usize) {
    let key = look.tape.key(at, look.text);
    let Some(col) = column::ALL[Col::User as usize..=Col::RoleType as usize].iter().copied().find(|col| col.info().path == key) else {
        return;
    };
    let spelled = || look.tape.spelled(at, look.text);
    let value = match (col.info().kind, look.tape.nodes[at].kind) {
        (_, Kind::Null | Kind::Object | Kind::Array) | (ColumnKind::List, _) => None,
        (ColumnKind::Bool, _) => look.boolean(Some(at)).map(Val::Bool),
        (ColumnKind::Int | ColumnKind::Time, _) => spelled().parse().ok().map(Val::Int),
        (ColumnKind::Text, Kind::String | Kind::EscapedString) => look.string(Some(at)).map(Val::Text),
        (ColumnKind::Text, _) => Some(Val::Text(Cow::Borrowed(spelled()))),
    };
    if let Some(value) = value {
        event.set(col, value);
    }
}

//! `CloudTrail` records of every kind: management, data, network activity, Insights, aggregated (protocols.md §1).

use super::common;
use super::look::{Text, members};
use super::principal;
use super::tables::{self, Call};
use super::{Known, resources};
use crate::event::{Col, Context, Event, EventId, EventType, Flags, Val, fingerprint, hash_identity, time};
use crate::json::Kind;
use std::borrow::Cow;

members! {
    /// The members of a record that we use, as node numbers. A key twice: the last one stands.
    Members {
        event_time: "eventTime",
        event_name: "eventName",
        event_source: "eventSource",
        event_id: "eventID" | "eventId",
        region: "awsRegion",
        source_ip: "sourceIPAddress",
        user_agent: "userAgent",
        identity: "userIdentity",
        error_code: "errorCode",
        error_message: "errorMessage",
        request: "requestParameters",
        response: "responseElements",
        additional: "additionalEventData",
        resources: "resources",
        read_only: "readOnly",
        recipient: "recipientAccountId",
        account_id: "accountId",
        addendum: "addendum",
        insight: "insightDetails",
        window: "timeWindow",
        summary: "summary",
    }
}

/// The event of a record that is compact and masked.
pub(super) fn event<'s>(calls: &mut Known<Call>, look: Text<'s>, context: &'s Context, index: u64, flags: Flags) -> Event<'s> {
    let it = Members::of(&look, 0);
    let mut event = common::begin(EventType::CloudTrail, &look, context, index, flags);
    event.set(Col::CloudProvider, Val::of("aws"));
    // An Insight and a roll-up say elsewhere what they are about.
    event.repeats_members = it.insight.is_none() && it.summary.is_none();

    principal::set(&mut event, &look, it.identity);
    let service = look.string(it.event_source).or_else(|| look.string(look.member(it.insight, "eventSource")));
    let action = look.string(it.event_name).or_else(|| look.string(look.member(it.insight, "eventName")));
    let action = action.or_else(|| dimension(&look, it.summary, "eventName"));
    let region = look.string(it.region);
    set_times(&mut event, &look, &it);
    set_source(&mut event, &look, &it);
    set_outcome(&mut event, &look, &it, action.as_deref());

    let known = calls.get(service.as_deref().unwrap_or(""), action.as_deref().unwrap_or(""), tables::call);
    set_activity(&mut event, &look, &it, &known, action.is_some());
    resources::set(&mut event, &look, it.resources, it.request, &known);
    event.set_text(Col::UserAgent, look.string(it.user_agent).or_else(|| dimension(&look, it.summary, "userAgent")));
    event.set_text(Col::Type, look.string(look.member(it.insight, "state")));
    if look.string(look.member(it.addendum, "reason")).as_deref() == Some("UPDATED_DATA") {
        event.flags.insert(Flags::CORRECTION);
    }
    identify(&mut event, &look, &it, [service.as_deref(), action.as_deref(), region.as_deref()]);
    event.set_text(Col::Service, service);
    event.set_text(Col::Action, action);
    event.set_text(Col::Region, region);
    event
}

/// `_id`, `fingerprint`, and whose trail it is.
fn identify<'s>(event: &mut Event<'s>, look: &Text<'s>, it: &Members, said: [Option<&str>; 3]) {
    let recipient = look.string(it.recipient).or_else(|| look.string(it.account_id));
    let id = look.string(it.event_id);
    let actor = event.get(Col::ActorAccountId).text().map(str::to_owned);
    let account = recipient.as_deref().or(actor.as_deref());
    // The order of DESIGN.md: the recipient, then the caller, then an aggregated event's own member.
    let named = look.string(it.recipient);
    let of_id = named.as_deref().or(actor.as_deref()).or(recipient.as_deref());
    event.id = match &id {
        Some(id) => EventId::of(&["cloudtrail", of_id.unwrap_or(""), id]),
        None => hash_identity(&event.raw),
    };
    if let (Some(expected), Some(said)) = (&event.context.key_account, account) {
        if expected != said {
            event.flags.insert(Flags::ACCOUNT_MISMATCH);
        }
    }
    event.label = account.and_then(|it| event.context.accounts.get(it));
    let text = |col| event.get(col).text().unwrap_or("");
    let source = if text(Col::Ip).is_empty() { text(Col::SrcHost) } else { text(Col::Ip) };
    let [service, action, region] = said.map(|it| it.unwrap_or(""));
    event.fingerprint = fingerprint(event.event_time, &[service, action, text(Col::UserId), source, region]);
    event.set_text(Col::AccountId, recipient);
}

fn set_times(event: &mut Event<'_>, look: &Text<'_>, it: &Members) {
    let read = |at| look.string(at).and_then(|text| time::parse_ms(&text));
    let time =
        read(it.event_time).or_else(|| read(look.member(it.window, "windowEnd"))).or_else(|| read(look.member(it.window, "windowStart")));
    common::set_time(event, time);
}

/// `sourceIPAddress` is not always an address: services put their names there.
fn set_source<'s>(event: &mut Event<'s>, look: &Text<'s>, it: &Members) {
    common::set_source(event, look.string(it.source_ip).or_else(|| dimension(look, it.summary, "sourceIpAddress")));
}

fn set_activity(event: &mut Event<'_>, look: &Text<'_>, it: &Members, known: &Call, has_action: bool) {
    let read_only = look.boolean(it.read_only);
    if let Some(read_only) = read_only {
        event.set(Col::ReadOnly, Val::Bool(read_only));
    }
    event.set(Col::TargetKind, Val::of(known.target_kind));
    if has_action {
        let activity = match (known.stated_activity, read_only) {
            (Some(stated), _) => stated,
            (None, Some(true)) => "read",
            (None, _) => known.word_activity,
        };
        event.set(Col::Activity, Val::of(activity));
    } else {
        event.set(Col::Activity, Val::of("other"));
    }
}

/// Error codes that mean that a policy said no.
const DENIED: &[&str] = &[
    "AccessDenied",
    "AccessDeniedException",
    "Client.UnauthorizedOperation",
    "UnauthorizedOperation",
    "VpceAccessDenied",
    "AuthorizationError",
    "AuthorizationErrorException",
    "NotAuthorized",
    "NotAuthorizedException",
    "UnauthorizedException",
    "Forbidden",
    "ForbiddenException",
    "UnauthorizedAccess",
    "KMSAccessDeniedException",
    "KMS.AccessDeniedException",
    "AccessDeniedFault",
    "Client.AccessDenied",
    "OperationNotPermittedException",
    "InsufficientPrivilegesException",
    "AllAccessDisabled",
];

fn set_outcome<'s>(event: &mut Event<'s>, look: &Text<'s>, it: &Members, action: Option<&str>) {
    let insight_error = look.string(look.member(it.insight, "errorCode"));
    let error = look.string(it.error_code).or(insight_error);
    let message = look.string(it.error_message);
    // Sign-in tells its result in responseElements, in a member named as the call is.
    let signed_in = action.and_then(|name| look.string(look.member(look.container(it.response), name)));
    let outcome = match (error.as_deref(), signed_in.as_deref()) {
        (Some(code), _) if DENIED.contains(&code) => Some("denied"),
        (_, Some("Failure")) | (Some(_), _) => Some("failure"),
        (None, Some("Success")) => Some("success"),
        (None, _) if message.is_some() => Some("failure"),
        // An Insight and a roll-up tell of many calls, which have no one outcome.
        (None, _) if it.insight.is_some() || it.summary.is_some() => None,
        (None, _) => Some("success"),
    };
    if let Some(outcome) = outcome {
        event.set(Col::Outcome, Val::of(outcome));
    }
    event.set_text(Col::Error, error);
    event.set_text(Col::ErrorMessage, message);
    match look.string(look.member(it.additional, "MFAUsed")).as_deref() {
        Some("Yes") => event.set(Col::Mfa, Val::Bool(true)),
        Some("No") => event.set(Col::Mfa, Val::Bool(false)),
        _ => {}
    }
}

/// The value of a dimension of an aggregated event, where it has just one.
fn dimension<'s>(look: &Text<'s>, summary: Option<usize>, name: &str) -> Option<Cow<'s, str>> {
    let summary = summary.filter(|at| look.tape.nodes[*at].kind == Kind::Object)?;
    let primary = look.member(Some(summary), "primaryDimension");
    let details = look.member(Some(summary), "details");
    let all = primary.into_iter().chain(details.into_iter().flat_map(|at| look.tape.children(at)));
    let mut named = all.filter(|at| look.string(look.member(Some(*at), "dimension")).as_deref() == Some(name));
    let statistics = look.member(named.next(), "statistics")?;
    let mut values = look.tape.children(statistics);
    let only = values.next().filter(|_| values.next().is_none())?;
    look.string(look.member(Some(only), "name"))
}

//! Audit events of the Kubernetes API server, `audit.k8s.io` v1 and v1beta1, every stage (protocols.md §6, §7.4).

use super::Known;
use super::common;
use super::look::{Text, members};
use super::tables::{Request, kubernetes_request};
use crate::decode::Around;
use crate::event::{Col, Context, Event, EventId, EventType, Flags, Resource, Val, fingerprint, hash_identity, time};
use crate::json::Kind;
use std::borrow::Cow;

/// How many of the caller's groups are kept as a field; all stay in `raw`.
const GROUPS_MAX: usize = 100;

members! {
    /// The members of an event that we use, as node numbers. A key twice: the last one stands.
    Members {
        audit_id: "auditID",
        stage: "stage",
        uri: "requestURI",
        verb: "verb",
        user: "user",
        impersonated: "impersonatedUser",
        source_ips: "sourceIPs",
        user_agent: "userAgent",
        object: "objectRef",
        status: "responseStatus",
        annotations: "annotations",
        stage_time: "stageTimestamp",
        received: "requestReceivedTimestamp",
        timestamp: "timestamp",
    }
}

/// What is known of an audit record beside its text.
pub(super) struct Given<'s> {
    pub(super) index: u64,
    pub(super) flags: Flags,
    pub(super) around: Around<'s>,
    /// What to keep of one that was cut, in place of the record.
    pub(super) raw_text: Option<String>,
}

/// The event of an audit record that is compact and masked; of what is left of it, where it was cut.
pub(super) fn audit<'s>(requests: &mut Known<Request>, look: &Text<'s>, context: &'s Context, given: Given<'s>) -> Event<'s> {
    let mut it = Members::of(look, 0);
    let Given { index, flags, around, raw_text } = given;
    let cluster = around.cluster.unwrap_or(&context.cluster);
    let mut event = begin(EventType::KubernetesAudit, look, context, cluster, index, flags);
    if raw_text.is_some() {
        event.raw = Cow::Borrowed("");
        event.tape = None;
        event.raw_text = raw_text;
    }
    if let Some(account) = around.account {
        event.set(Col::AccountId, Val::of(account));
        event.label = context.accounts.get(account);
    }
    let mut is_object_whole = true;
    if let Some(cut) = &around.cut {
        let is_whole = |at: &usize| look.tape.nodes[*at].end as usize <= look.text.len() - cut.added;
        // Only the last address is not the caller's word, and there may have been more.
        it.source_ips = it.source_ips.filter(is_whole);
        is_object_whole = it.object.as_ref().is_some_and(is_whole);
    }
    set_time(&mut event, look, &it, around.time_ms);
    set_user(&mut event, look, &it);
    set_source(&mut event, look, &it);
    set_request(&mut event, look, &it, requests, is_object_whole);
    set_outcome(&mut event, look, &it);
    event.set_text(Col::Type, look.string(it.stage));
    event.set_text(Col::UserAgent, look.string(it.user_agent));
    if look.string(look.member(it.annotations, "audit.k8s.io/truncated")).as_deref() == Some("true") {
        event.flags.insert(Flags::TRUNCATED);
    }
    identify(&mut event, look, &it, cluster);
    event
}

/// What every event of Kubernetes has.
pub(super) fn begin<'s>(
    event_type: EventType,
    look: &Text<'s>,
    context: &'s Context,
    cluster: &'s str,
    index: u64,
    flags: Flags,
) -> Event<'s> {
    let mut event = common::begin(event_type, look, context, index, flags);
    event.set(Col::CloudProvider, Val::of("kubernetes"));
    if !cluster.is_empty() {
        event.set(Col::Cluster, Val::of(cluster));
    }
    event
}

/// `_id` over cluster, auditID, stage and time; the client may choose the auditID, so it alone names nothing.
fn identify(event: &mut Event<'_>, look: &Text<'_>, it: &Members, cluster: &str) {
    let said = |at| look.string(at);
    let (stage, time) = (said(it.stage), said(it.stage_time));
    let (stage, time) = (stage.as_deref(), time.as_deref());
    event.id = match (said(it.audit_id), &event.raw_text) {
        // Two stages of one request may both be cut before they say which they are.
        (_, Some(text)) if stage.is_none() || time.is_none() => hash_identity(text),
        (Some(id), _) => EventId::of(&[EventType::KubernetesAudit.name(), cluster, &id, stage.unwrap_or(""), time.unwrap_or("")]),
        (None, raw_text) => hash_identity(raw_text.as_deref().unwrap_or(&event.raw)),
    };
    let text = |col| event.get(col).text().unwrap_or("");
    // The time of collection is not what a cut event says: the same one read again says the same.
    let is_timeless = event.raw_text.is_some() && event.flags.contains(Flags::NO_EVENT_TIME);
    let time = if is_timeless { 0 } else { event.event_time };
    event.fingerprint = fingerprint(time, &[text(Col::User), text(Col::Action), said(it.uri).as_deref().unwrap_or("")]);
}

/// The log's own time stands in where the event's was cut off.
fn set_time(event: &mut Event<'_>, look: &Text<'_>, it: &Members, logged_ms: Option<i64>) {
    let read = |at| look.string(at).and_then(|text| time::parse_ms(&text));
    common::set_time(event, read(it.stage_time).or_else(|| read(it.received)).or_else(|| read(it.timestamp)).or(logged_ms));
}

fn set_user<'s>(event: &mut Event<'s>, look: &Text<'s>, it: &Members) {
    let user = look.member(it.user, "username");
    let extra = look.member(it.user, "extra");
    let first = |name| look.string(look.first(look.member(extra, name)));
    if let Some(name) = look.string(user) {
        event.set(Col::UserType, Val::of(user_type(&name)));
        if let Some(node) = name.strip_prefix("system:node:") {
            event.set(Col::NodeName, Val::Text(Cow::Owned(node.to_owned())));
        }
        event.set(Col::User, Val::Text(name));
    }
    let uid = look.string(look.member(it.user, "uid"));
    // EKS: `aws-iam-authenticator:ACCOUNT:PRINCIPAL`.
    let account = uid.as_deref().and_then(|it| it.split_once("-authenticator:")).and_then(|(_, rest)| rest.split(':').next());
    if let Some(account) = account.filter(|it| it.len() == 12 && it.bytes().all(|b| b.is_ascii_digit())) {
        event.set(Col::ActorAccountId, Val::Text(Cow::Owned(account.to_owned())));
    }
    event.set_text(Col::UserId, first("canonicalArn").or_else(|| first("arn")).or(uid));
    event.set_text(Col::SessionName, first("sessionName"));
    event.set_text(Col::AccessKey, first("accessKeyId"));
    if let Some(groups) = look.member(it.user, "groups") {
        let texts = look.tape.children(groups).filter_map(|at| look.string(Some(at)));
        event.groups = texts.take(GROUPS_MAX).collect();
    }
    event.set_text(Col::ImpersonatedUser, look.string(look.member(it.impersonated, "username")));
}

fn user_type(name: &str) -> &'static str {
    match name {
        "system:anonymous" => "Anonymous",
        _ if name.starts_with("system:serviceaccount:") => "ServiceAccount",
        _ if name.starts_with("system:node:") => "Node",
        _ => "User",
    }
}

/// Of `sourceIPs` only the last is not the caller's word.
fn set_source<'s>(event: &mut Event<'s>, look: &Text<'s>, it: &Members) {
    let last = it.source_ips.filter(|at| look.tape.nodes[*at].kind == Kind::Array).and_then(|at| look.tape.children(at).last());
    common::set_source(event, look.string(last));
}

/// Where the end of `objectRef` is missing, so may be the subresource, by which a request does something else: what it did
/// is not known then.
fn set_request<'s>(event: &mut Event<'s>, look: &Text<'s>, it: &Members, requests: &mut Known<Request>, is_object_whole: bool) {
    let part = |name| look.string(look.member(it.object, name));
    let (kind, sub) = (part("resource"), part("subresource"));
    let resource = match (kind, sub) {
        (Some(kind), Some(sub)) => Some(Cow::Owned(format!("{kind}/{sub}"))),
        (kind, _) => kind,
    };
    let verb = look.string(it.verb);
    let asked = resource.as_deref().unwrap_or("");
    if is_object_whole {
        let known = requests.get(asked, verb.as_deref().unwrap_or(""), kubernetes_request);
        if let Some(verb) = &verb {
            event.set(Col::Activity, Val::of(known.activity));
            event.set(Col::ReadOnly, Val::Bool(matches!(&**verb, "get" | "list" | "watch") && known.activity != "execute"));
        }
        event.set(Col::TargetKind, Val::of(known.target_kind));
        if it.object.is_some() {
            event.set(Col::Service, Val::Text(part("apiGroup").unwrap_or(Cow::Borrowed("core"))));
        }
    }
    event.set_text(Col::Namespace, part("namespace"));
    let name = part("name");
    if asked.split('/').next() == Some("nodes") {
        event.set_text(Col::NodeName, name.clone());
    }
    if resource.is_some() {
        let named = name.clone().unwrap_or_default();
        event.resources.push(Resource { kind: resource.clone().unwrap_or_default(), name: named, ..Resource::default() });
    }
    event.set_text(Col::Action, verb);
    event.set_text(Col::Resource, resource);
    event.set_text(Col::Name, name);
}

fn set_outcome<'s>(event: &mut Event<'s>, look: &Text<'s>, it: &Members) {
    let code = look.member(it.status, "code").and_then(|at| look.tape.spelled(at, look.text).parse::<i64>().ok());
    let decision = look.string(look.member(it.annotations, "authorization.k8s.io/decision"));
    let outcome = match (code, decision.as_deref()) {
        (Some(401 | 403), _) | (_, Some("forbid")) => Some("denied"),
        (Some(400..), _) => Some("failure"),
        (Some(_), _) => Some("success"),
        // A request that was only received has no outcome yet.
        (None, _) => None,
    };
    if let Some(outcome) = outcome {
        event.set(Col::Outcome, Val::of(outcome));
    }
    if let Some(code) = code {
        event.set(Col::StatusCode, Val::Int(code));
    }
    event.set_text(Col::Error, look.string(look.member(it.status, "reason")));
    event.set_text(Col::ErrorMessage, look.string(look.member(it.status, "message")));
}

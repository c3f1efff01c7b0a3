//! Watched objects of Kubernetes: a change of one (`kubernetesConfig`), or a core Event (`kubernetesEvent`).

use super::Known;
use super::common;
use super::kubernetes::begin;
use super::look::{Text, members};
use super::tables::{Request, kubernetes_request};
use crate::event::{Col, Context, Event, EventId, EventType, Flags, Resource, Val, fingerprint, hash_identity, time};
use crate::json::{Kind, Tape};
use std::borrow::Cow;
use std::ops::Range;

/// How many different verbs of a role are kept as a field; all stay in `raw`.
const VERBS_MAX: usize = 100;

members! {
    /// The members of an object that we use, as node numbers. A key twice: the last one stands.
    Members {
        kind: "kind",
        api_version: "apiVersion",
        metadata: "metadata",
        spec: "spec",
        role: "roleRef",
        rules: "rules",
        involved: "involvedObject",
        regarding: "regarding",
        reason: "reason",
        event_type: "type",
        source: "source",
        reporter: "reportingComponent",
        reporter_v1: "reportingController",
        series: "series",
        event_time: "eventTime",
        first_time: "firstTimestamp",
        last_time: "lastTimestamp",
    }
}

/// What happened to an object, and when. Read before managedFields are taken off: only they tell the time of a change.
pub(super) struct Change {
    action: &'static str,
    time: Option<i64>,
}

impl Change {
    /// `said` as JSON spells it.
    pub(super) fn new(said: &str, tape: &Tape, text: &str) -> Self {
        let look = Text { tape, text };
        let metadata = look.member(Some(0), "metadata");
        let read = |name| look.string(look.member(metadata, name)).and_then(|it| time::parse_ms(&it));
        let created = read("creationTimestamp");
        // What is deleted gracefully is gone that many seconds later; the time stated is the later one.
        let ended = read("deletionTimestamp").and_then(|it| it.checked_sub(grace_ms(&look, metadata)));
        let ended = ended.filter(|it| created.is_none_or(|created| *it >= created));
        let (action, time) = match said {
            "\"ADDED\"" => ("added", created),
            // That its end was asked for is in no managedFields.
            "\"MODIFIED\"" => ("modified", last_change(&look, metadata).max(ended)),
            _ => ("deleted", ended),
        };
        Self { action, time }
    }
}

fn grace_ms(look: &Text<'_>, metadata: Option<usize>) -> i64 {
    let seconds = look.member(metadata, "deletionGracePeriodSeconds").map(|at| look.tape.spelled(at, look.text));
    seconds.and_then(|it| it.parse::<i64>().ok()).unwrap_or(0).saturating_mul(1_000)
}

fn last_change(look: &Text<'_>, metadata: Option<usize>) -> Option<i64> {
    let fields = look.member(metadata, "managedFields")?;
    let times = look.tape.children(fields).filter_map(|at| look.string(look.member(Some(at), "time")));
    times.filter_map(|it| time::parse_ms(&it)).max()
}

/// Where managedFields stand, with the comma that goes with them.
pub(super) fn managed_fields(tape: &Tape, text: &str) -> Option<Range<usize>> {
    let at = tape.path(0, &["metadata", "managedFields"], text)?;
    let node = &tape.nodes[at];
    // The key's quotes are around what is noted of it.
    let start = text[..node.key_start as usize].rfind('"')?;
    let end = node.end as usize;
    let before = text[..start].trim_end();
    if before.ends_with(',') {
        return Some(before.len() - 1..end);
    }
    let after = text[end..].trim_start();
    let comma = usize::from(after.starts_with(','));
    Some(start..text.len() - after.len() + comma)
}

/// The event of a watched object that is compact and masked.
pub(super) fn event<'s>(
    requests: &mut Known<Request>,
    look: Text<'s>,
    change: &Change,
    context: &'s Context,
    index: u64,
    flags: Flags,
) -> Event<'s> {
    let it = Members::of(&look, 0);
    let is_event = look.string(it.kind).as_deref() == Some("Event");
    let event_type = if is_event { EventType::KubernetesEvent } else { EventType::KubernetesConfig };
    let mut event = begin(event_type, &look, context, &context.cluster, index, flags);
    if is_event {
        set_event(&mut event, &look, &it);
    } else {
        set_object(&mut event, &look, &it, change, requests);
    }
    identify(&mut event, &look, &it, change);
    event
}

/// `_id` over cluster, uid, version and action. The time of a deletion is mostly that of its being seen, which is
/// nothing that the event says.
fn identify(event: &mut Event<'_>, look: &Text<'_>, it: &Members, change: &Change) {
    let meta = |name| look.string(look.member(it.metadata, name));
    let uid = meta("uid");
    event.id = match &uid {
        Some(uid) => EventId::of(&[
            event.event_type.name(),
            &event.context.cluster,
            uid,
            meta("resourceVersion").as_deref().unwrap_or(""),
            change.action,
        ]),
        None => hash_identity(&event.raw),
    };
    let text = |col| event.get(col).text().unwrap_or("");
    let time = if event.flags.contains(Flags::NO_EVENT_TIME) { 0 } else { event.event_time };
    event.fingerprint = fingerprint(time, &[text(Col::Resource), text(Col::Namespace), text(Col::Name)]);
}

fn set_object<'s>(event: &mut Event<'s>, look: &Text<'s>, it: &Members, change: &Change, requests: &mut Known<Request>) {
    let meta = |name| look.string(look.member(it.metadata, name));
    common::set_time(event, change.time);
    let resource = resource_of(look.string(it.kind).as_deref().unwrap_or(""));
    let verb = match change.action {
        "added" => "create",
        "modified" => "update",
        _ => "delete",
    };
    let known = requests.get(&resource, verb, kubernetes_request);
    event.set(Col::Action, Val::of(change.action));
    event.set(Col::Activity, Val::of(known.activity));
    event.set(Col::TargetKind, Val::of(known.target_kind));
    event.set(Col::ReadOnly, Val::Bool(false));
    event.set(Col::Service, Val::Text(group_of(look.string(it.api_version))));
    event.set_text(Col::Type, look.string(it.kind));
    event.set_text(Col::NodeName, look.string(look.member(it.spec, "nodeName")));
    event.set_text(Col::RoleName, look.string(look.member(it.role, "name")));
    event.set_text(Col::RoleType, look.string(look.member(it.role, "kind")));
    set_verbs(event, look, it.rules);
    set_target(event, resource, meta("namespace"), meta("name"));
}

/// A core Event: `action` is its reason, `type` is `Normal` or `Warning`, as it says itself; what it is about is the
/// resource.
fn set_event<'s>(event: &mut Event<'s>, look: &Text<'s>, it: &Members) {
    let read = |at| look.string(at).and_then(|it| time::parse_ms(&it));
    let last = read(it.last_time).or_else(|| read(look.member(it.series, "lastObservedTime"))).or_else(|| read(it.event_time));
    let created = look.member(it.metadata, "creationTimestamp");
    common::set_time(event, last.or_else(|| read(it.first_time)).or_else(|| read(created)));
    let about = it.involved.or(it.regarding);
    let part = |name| look.string(look.member(about, name));
    event.set_text(Col::Action, look.string(it.reason));
    event.set(Col::Activity, Val::of("other"));
    event.set_text(Col::Type, look.string(it.event_type));
    event.set(Col::Service, Val::Text(group_of(part("apiVersion"))));
    event.set_text(Col::NodeName, look.string(look.member(it.source, "host")));
    let component = look.string(look.member(it.source, "component"));
    event.set_text(Col::UserAgent, component.or_else(|| look.string(it.reporter)).or_else(|| look.string(it.reporter_v1)));
    let resource = resource_of(part("kind").as_deref().unwrap_or(""));
    event.set(Col::TargetKind, Val::of(kubernetes_request(&resource, "").target_kind));
    set_target(event, resource, part("namespace"), part("name"));
}

fn set_target<'s>(event: &mut Event<'s>, resource: Cow<'s, str>, namespace: Option<Cow<'s, str>>, name: Option<Cow<'s, str>>) {
    event.set_text(Col::Namespace, namespace);
    if !resource.is_empty() {
        let named = name.clone().unwrap_or_default();
        event.resources.push(Resource { kind: resource.clone(), name: named, ..Resource::default() });
        event.set(Col::Resource, Val::Text(resource));
    }
    event.set_text(Col::Name, name);
}

fn set_verbs<'s>(event: &mut Event<'s>, look: &Text<'s>, rules: Option<usize>) {
    let rules = rules.filter(|at| look.tape.nodes[*at].kind == Kind::Array);
    for rule in rules.into_iter().flat_map(|at| look.tape.children(at)) {
        // A webhook's `rules` have operations instead.
        let Some(verbs) = look.member(Some(rule), "verbs").filter(|at| look.tape.nodes[*at].kind == Kind::Array) else { continue };
        for verb in look.tape.children(verbs).filter_map(|at| look.string(Some(at))) {
            if event.verbs.len() < VERBS_MAX && !event.verbs.contains(&verb) {
                event.verbs.push(verb);
            }
        }
    }
}

/// `core` where the version names no group.
fn group_of(api_version: Option<Cow<'_, str>>) -> Cow<'_, str> {
    match api_version {
        Some(Cow::Borrowed(it)) if it.contains('/') => Cow::Borrowed(it.split('/').next().unwrap_or(it)),
        Some(it) if it.contains('/') => Cow::Owned(it.split('/').next().unwrap_or(&it).to_owned()),
        _ => Cow::Borrowed("core"),
    }
}

/// The resource of a kind, as audit events and `kubectl` name it: Kubernetes makes its plurals like this.
fn resource_of(kind: &str) -> Cow<'static, str> {
    let lower = kind.to_ascii_lowercase();
    Cow::Owned(match () {
        () if lower.is_empty() => lower,
        () if lower == "endpoints" => lower,
        () if lower.ends_with('s') => format!("{lower}es"),
        () => match lower.strip_suffix('y') {
            Some(stem) if !stem.ends_with(['a', 'e', 'o']) => format!("{stem}ies"),
            _ => format!("{lower}s"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Scanner;

    #[test]
    fn plurals_are_those_of_kubernetes() {
        for (kind, resource) in [
            ("Pod", "pods"),
            ("ClusterRoleBinding", "clusterrolebindings"),
            ("NetworkPolicy", "networkpolicies"),
            ("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
            ("Ingress", "ingresses"),
            ("Endpoints", "endpoints"),
            ("Gateway", "gateways"),
            ("", ""),
        ] {
            assert_eq!(resource_of(kind), resource);
        }
    }

    #[test]
    fn managed_fields_go_with_one_comma() {
        for (text, rest) in [
            (r#"{"metadata":{"a":1,"managedFields":[{"b":2}],"c":3}}"#, r#"{"metadata":{"a":1,"c":3}}"#),
            (r#"{"metadata":{"managedFields":[{"b":2}],"c":3}}"#, r#"{"metadata":{"c":3}}"#),
            (r#"{"metadata":{"a":1 , "managedFields" : [] }}"#, r#"{"metadata":{"a":1  }}"#),
            (r#"{"metadata":{"managedFields":[]}}"#, r#"{"metadata":{}}"#),
        ] {
            let mut tape = Tape::default();
            Scanner::default().scan(text.as_bytes(), 0, &mut tape).unwrap();
            let mut text = text.to_owned();
            text.replace_range(managed_fields(&tape, &text).unwrap(), "");
            assert_eq!(text, rest);
        }
    }
}

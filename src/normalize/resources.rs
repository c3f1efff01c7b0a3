//! What a call was about: the record's `resources`, else the request parameter that names it.

use super::look::Text;
use super::tables::Call;
use crate::event::{Col, Event, Resource};
use crate::json::Kind;
use std::borrow::Cow;

/// How many resources of one record are kept as fields; all stay in `raw`.
const RESOURCES_MAX: usize = 100;

/// Sets `resources`, `resource` and `name`.
pub(super) fn set<'s>(event: &mut Event<'s>, look: &Text<'s>, listed: Option<usize>, parameters: Option<usize>, call: &Call) {
    if let Some(listed) = listed.filter(|at| look.tape.nodes[*at].kind == Kind::Array) {
        for at in look.tape.children(listed).take(RESOURCES_MAX) {
            let mut resource = Resource::default();
            for member in look.tape.children(at) {
                let slot = match &*look.tape.key(member, look.text) {
                    "ARN" | "arn" | "ARNPrefix" => &mut resource.arn,
                    "type" => &mut resource.kind,
                    "accountId" => &mut resource.account_id,
                    "name" | "resourceName" => &mut resource.name,
                    _ => continue,
                };
                if let Some(text) = look.string(Some(member)) {
                    *slot = text;
                }
            }
            if resource != Resource::default() {
                event.resources.push(resource);
            }
        }
    }
    if event.resources.is_empty() {
        derive(event, look, parameters, call);
    }
    let Some(first) = event.resources.first() else { return };
    let said = |text: &Cow<'s, str>| (!text.is_empty()).then(|| text.clone());
    let (kind, name) = (said(&first.kind), said(&first.arn).or_else(|| said(&first.name)));
    event.set_text(Col::Resource, kind);
    event.set_text(Col::Name, name);
}

fn derive<'s>(event: &mut Event<'s>, look: &Text<'s>, parameters: Option<usize>, call: &Call) {
    if look.container(parameters).is_none() || call.parameters.is_empty() {
        return;
    }
    let found = call.parameters.iter().find_map(|(name, kind)| Some((look.string(look.member(parameters, name))?, *kind)));
    let Some((value, kind)) = found else { return };
    let value = percent_decoded(value);
    let mut resource = Resource { kind: Cow::Borrowed(kind), ..Resource::default() };
    if value.starts_with("arn:") {
        resource.arn = value;
    } else {
        resource.name = value;
    }
    event.resources.push(resource);
}

/// Path parameters arrive percent-encoded (protocols.md §7.5): `arn%3Aaws%3A…`.
fn percent_decoded(value: Cow<'_, str>) -> Cow<'_, str> {
    if !value.starts_with("arn%3A") && !value.starts_with("arn%3a") {
        return value;
    }
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = (*first == b'%').then(|| std::str::from_utf8(tail.get(..2)?).ok()).flatten();
        if let Some(byte) = hex.and_then(|it| u8::from_str_radix(it, 16).ok()) {
            out.push(byte);
            rest = &tail[2..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(out).map_or(value, Cow::Owned)
}

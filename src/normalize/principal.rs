//! Who called: `userIdentity` (protocols.md §1.3).

use super::look::{Text, members};
use crate::event::{Col, Event, Val};
use crate::json::Kind;
use std::borrow::Cow;

members! {
    /// The members of `userIdentity` that we use, as node numbers.
    Identity {
        kind: "type",
        principal_id: "principalId",
        arn: "arn",
        account_id: "accountId",
        access_key_id: "accessKeyId",
        user_name: "userName",
        invoked_by: "invokedBy",
        session_context: "sessionContext",
        on_behalf_of: "onBehalfOf",
    }
}

/// Sets what the record says of its caller; returns the caller's account.
pub(super) fn set<'s>(event: &mut Event<'s>, look: &Text<'s>, node: Option<usize>) {
    let Some(node) = node.filter(|at| look.tape.nodes[*at].kind == Kind::Object) else { return };
    let identity = Identity::of(look, node);
    let kind = look.string(identity.kind);
    let arn = look.string(identity.arn);
    let principal_id = look.string(identity.principal_id);
    let issuer = look.member(identity.session_context, "sessionIssuer");
    let invoked_by = look.string(identity.invoked_by);

    let (arn_role, arn_session) = arn.as_ref().map_or((None, None), session_of_arn);
    let user_name = look.string(identity.user_name);
    let issuer_name = look.string(look.member(issuer, "userName"));
    let user = match kind.as_deref() {
        Some("Root") => Some(Cow::Borrowed("root")),
        Some("AssumedRole" | "Role") => issuer_name.or(arn_role).or(user_name).or_else(|| before_colon(principal_id.clone())),
        Some("FederatedUser") => issuer_name.or(user_name).or_else(|| before_colon(principal_id.clone())),
        Some("AWSService") => invoked_by.clone().or_else(|| principal_id.clone()),
        Some("IdentityCenterUser") => look.string(look.member(identity.on_behalf_of, "userId")).or(user_name),
        Some("AWSAccount") => user_name.or(arn_role).or_else(|| before_colon(principal_id.clone())),
        Some(_) => user_name.or(issuer_name).or_else(|| arn.as_ref().map(last_of_arn)),
        None => user_name.or_else(|| invoked_by.clone()),
    };
    event.set_text(Col::User, user);
    if kind.as_deref() == Some("AssumedRole") || arn_session.is_some() {
        event.set_text(Col::SessionName, arn_session.or_else(|| after_colon(principal_id.as_ref())));
    }
    event.set_text(Col::UserType, kind);
    event.set_text(Col::UserId, arn.or(principal_id));
    event.set_text(Col::ActorAccountId, look.string(identity.account_id));
    event.set_text(Col::AccessKey, look.string(identity.access_key_id));
    event.set_text(Col::SourceIdentity, look.string(look.member(identity.session_context, "sourceIdentity")));
    let attributes = look.member(identity.session_context, "attributes");
    if let Some(mfa) = look.boolean(look.member(attributes, "mfaAuthenticated")) {
        event.set(Col::Mfa, Val::Bool(mfa));
    }
    let assumed_root = look.boolean(look.member(identity.session_context, "assumedRoot")) == Some(true);
    let on_behalf_of = look.string(look.member(identity.on_behalf_of, "userId"));
    event.set_text(Col::ImpersonatedUser, if assumed_root { Some(Cow::Borrowed("root")) } else { on_behalf_of });
}

/// Role and session of `arn:aws:sts::1:assumed-role/ROLE/SESSION`; the name of a federated user is its session.
fn session_of_arn<'s>(arn: &Cow<'s, str>) -> (Option<Cow<'s, str>>, Option<Cow<'s, str>>) {
    let Some(colon) = memchr::memchr_iter(b':', arn.as_bytes()).nth(4) else { return (None, None) };
    let resource = &arn[colon + 1..];
    let from = arn.len() - resource.len();
    if let Some(rest) = resource.strip_prefix("assumed-role/") {
        let rest_from = from + resource.len() - rest.len();
        let role_end = rest.find('/').map_or(arn.len(), |at| rest_from + at);
        return (slice(arn, rest_from, role_end), slice(arn, (role_end + 1).min(arn.len()), arn.len()));
    }
    let federated = resource.strip_prefix("federated-user/").map(|rest| arn.len() - rest.len());
    (None, federated.and_then(|start| slice(arn, start, arn.len())))
}

fn slice<'s>(text: &Cow<'s, str>, from: usize, to: usize) -> Option<Cow<'s, str>> {
    let part = match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(from..to)?),
        Cow::Owned(text) => Cow::Owned(text.get(from..to)?.to_owned()),
    };
    (!part.is_empty()).then_some(part)
}

fn last_of_arn<'s>(arn: &Cow<'s, str>) -> Cow<'s, str> {
    let from = arn.rfind(['/', ':']).map_or(0, |at| at + 1);
    slice(arn, from, arn.len()).unwrap_or_else(|| arn.clone())
}

fn before_colon(text: Option<Cow<'_, str>>) -> Option<Cow<'_, str>> {
    let text = text?;
    let end = text.find(':').unwrap_or(text.len());
    slice(&text, 0, end)
}

fn after_colon<'s>(text: Option<&Cow<'s, str>>) -> Option<Cow<'s, str>> {
    let text = text?;
    slice(text, text.find(':')? + 1, text.len())
}

//! Secrets that Kubernetes objects carry: the data of a Secret in any body, the tokens of token requests and reviews.

use super::look::Text;
use super::mask::{Spans, mask_lexically, scalars};
use crate::json::{Kind, Tape, key_hash};

/// Members of a Secret that hold its values.
pub(super) const DATA_KEYS: &[&str] = &["data", "stringData"];
/// The annotation in which `kubectl apply` keeps the whole object once more, as a text.
pub(super) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const ANNOTATIONS: &str = "annotations";
const ANNOTATIONS_HASH: u32 = key_hash(ANNOTATIONS.as_bytes());
/// Bodies of an audit event.
const BODIES: &[&str] = &["requestObject", "responseObject"];
/// Refusals whose message quotes nothing of the request: who may not, what is not there, what is there already. A 422
/// quotes the whole Secret, values and all, at every level of the audit policy.
const QUOTES_NOTHING: &[u16] = &[401, 403, 404, 409];
/// Annotations with the JSON patch of a mutating webhook.
const WEBHOOK_PATCH: &str = "patch.webhook.admission.k8s.io/";

/// The spans to mask in a watched object beside those of the common list.
pub(super) fn of_watched(tape: &Tape, text: &str) -> Spans {
    let look = Text { tape, text };
    let mut found = Spans::new();
    in_body(&look, 0, false, &mut found);
    found
}

/// The spans to mask in an audit event beside those of the common list.
pub(super) fn of_audit(tape: &Tape, text: &str) -> Spans {
    let look = Text { tape, text };
    let object = look.member(Some(0), "objectRef");
    let resource = look.string(look.member(object, "resource")).unwrap_or_default();
    let sub = look.string(look.member(object, "subresource")).unwrap_or_default();
    of(&look, resource == "secrets", resource == "tokenreviews" || sub == "token")
}

/// The spans to mask of an event that may be about anything.
pub(super) fn of_any(tape: &Tape, text: &str) -> Spans {
    of(&Text { tape, text }, true, true)
}

fn of(look: &Text<'_>, is_secret: bool, is_token: bool) -> Spans {
    let mut found = Spans::new();
    for body in BODIES.iter().filter_map(|name| look.member(Some(0), name)) {
        if is_token {
            ["spec", "status"].iter().filter_map(|part| look.member(look.member(Some(body), part), "token")).for_each(|at| {
                scalars(look.tape, look.text, at, &mut found);
            });
        }
        in_body(look, body, is_secret, &mut found);
    }
    if is_secret || is_token {
        in_refusal(look, &mut found);
        in_annotations(look, &mut found);
    }
    found
}

/// The messages of a request that was refused for what is in it.
fn in_refusal(look: &Text<'_>, found: &mut Spans) {
    let status = look.member(Some(0), "responseStatus");
    let code = look.member(status, "code").and_then(|at| look.tape.spelled(at, look.text).parse::<u16>().ok());
    if code.is_some_and(|code| code < 400 || QUOTES_NOTHING.contains(&code)) {
        return;
    }
    for said in [status, look.member(Some(0), "responseObject")] {
        let causes = look.member(look.member(said, "details"), "causes");
        let each = causes.into_iter().flat_map(|at| look.tape.children(at)).map(Some);
        for at in std::iter::once(said).chain(each).filter_map(|it| look.member(it, "message")) {
            scalars(look.tape, look.text, at, found);
        }
    }
}

fn in_annotations(look: &Text<'_>, found: &mut Spans) {
    let annotations = look.member(Some(0), "annotations");
    for at in annotations.into_iter().flat_map(|at| look.tape.children(at)) {
        if look.tape.key(at, look.text).starts_with(WEBHOOK_PATCH) {
            scalars(look.tape, look.text, at, found);
        }
    }
}

/// Everything in a body that is a Secret, or all of it where the request was about Secrets.
fn in_body(look: &Text<'_>, body: usize, is_secret: bool, found: &mut Spans) {
    let end = look.tape.nodes[body].next as usize;
    let mut at = body;
    while at < end {
        if look.tape.nodes[at].kind == Kind::Object && (is_secret || is_secret_object(look, at)) {
            mask_object(look, at, is_secret, found);
        }
        if look.tape.nodes[at].key_hash == ANNOTATIONS_HASH && look.tape.is_key(at, ANNOTATIONS, look.text) {
            look.tape.children(at).for_each(|it| in_copy(look, it, found));
        }
        at += 1;
    }
}

/// kubectl and others keep a whole object in an annotation, as JSON in a text: with what is masked in the object itself,
/// such as a pod's `env`.
fn in_copy(look: &Text<'_>, at: usize, found: &mut Spans) {
    let copy = look.string(Some(at)).filter(|it| look.tape.nodes[at].kind == Kind::EscapedString && it.starts_with(['{', '[']));
    if copy.is_some_and(|copy| mask_lexically(copy.as_bytes()) != copy) {
        scalars(look.tape, look.text, at, found);
    }
}

fn is_secret_object(look: &Text<'_>, at: usize) -> bool {
    look.string(look.member(Some(at), "kind")).is_some_and(|kind| kind == "Secret")
}

fn mask_object(look: &Text<'_>, at: usize, is_any: bool, found: &mut Spans) {
    let mut mask = |node| scalars(look.tape, look.text, node, found);
    DATA_KEYS.iter().filter_map(|key| look.member(Some(at), key)).for_each(&mut mask);
    let annotations = look.member(Some(at), "annotations");
    let inner = look.member(look.member(Some(at), "metadata"), "annotations");
    [annotations, inner].into_iter().filter_map(|it| look.member(it, LAST_APPLIED)).for_each(&mut mask);
    // A JSON patch: `{"op":"replace","path":"/data/password","value":"…"}`.
    if is_any && look.member(Some(at), "op").is_some() {
        look.member(Some(at), "value").into_iter().for_each(mask);
    }
}

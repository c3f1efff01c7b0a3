//! Secrets that Kubernetes objects carry: the data of a Secret in any body, the tokens of token requests and reviews.

use super::look::Text;
use super::mask::{Spans, scalars};
use crate::json::{Kind, Tape};

/// Members of a Secret that hold its values.
pub(super) const DATA_KEYS: &[&str] = &["data", "stringData"];
/// The annotation in which `kubectl apply` keeps the whole object once more, as a text.
pub(super) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Bodies of an audit event.
const BODIES: &[&str] = &["requestObject", "responseObject"];

/// The spans to mask beside those of the common list.
pub(super) fn secrets(tape: &Tape, text: &str) -> Spans {
    let look = Text { tape, text };
    let mut found = Spans::new();
    let object = look.member(Some(0), "objectRef");
    let resource = look.string(look.member(object, "resource")).unwrap_or_default();
    let sub = look.string(look.member(object, "subresource")).unwrap_or_default();
    let is_secret = resource == "secrets";
    let is_token = resource == "tokenreviews" || sub == "token";
    for body in BODIES.iter().filter_map(|name| look.member(Some(0), name)) {
        if is_token {
            ["spec", "status"].iter().filter_map(|part| look.member(look.member(Some(body), part), "token")).for_each(|at| {
                scalars(tape, text, at, &mut found);
            });
        }
        in_body(&look, body, is_secret, &mut found);
    }
    found
}

/// Everything in a body that is a Secret, or all of it where the request was about Secrets.
fn in_body(look: &Text<'_>, body: usize, is_secret: bool, found: &mut Spans) {
    let end = look.tape.nodes[body].next as usize;
    let mut at = body;
    while at < end {
        if look.tape.nodes[at].kind == Kind::Object && (is_secret || is_secret_object(look, at)) {
            mask_object(look, at, is_secret, found);
        }
        at += 1;
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

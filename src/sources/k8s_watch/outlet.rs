//! Changes on their way into the store, and with them how far the watch came.

use super::kinds::Kind;
use super::known::Known;
use super::stream::{Meta, Verb};
use super::term::Term;
use crate::sources::{Delivery, EXCERPT_BYTES, Input, Refused, SetAside, Surroundings};
use std::sync::Arc;

/// Lines of one delivery, bytes, about.
const BATCH_BYTES: usize = 1 << 20;
/// Changes of one delivery, and what it remembers or forgets.
const BATCH_CHANGES: usize = 1_000;

/// Changes that are not handed over yet.
#[derive(Debug, Default)]
pub(super) struct Batch {
    lines: Vec<u8>,
    changes: usize,
    stamps: Vec<(String, String)>,
    forgets: Vec<String>,
    refused: Vec<Refused>,
}

impl Batch {
    /// Whether it is to be handed over before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.lines.len() >= BATCH_BYTES || self.changes.max(self.stamps.len() + self.forgets.len()) >= BATCH_CHANGES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes == 0 && self.stamps.is_empty() && self.forgets.is_empty()
    }

    /// A line as it came.
    pub(super) fn push(&mut self, line: &[u8]) {
        self.lines.extend_from_slice(line);
        self.lines.push(b'\n');
        self.changes += 1;
    }

    /// An object of a list, as a watch would have sent it. Objects in a list do not state their kind.
    pub(super) fn push_listed(&mut self, kind: &Kind, verb: Verb, object: &str) {
        let start = format!("{{\"type\":\"{}\",\"object\":", verb.name());
        self.lines.extend_from_slice(start.as_bytes());
        let stated = format!("{{\"kind\":\"{}\",\"apiVersion\":\"{}\",", kind.stated, kind.api_version());
        match object.trim_start().strip_prefix('{') {
            Some(rest) if !rest.trim_start().starts_with("\"kind\"") => {
                self.lines.extend_from_slice(stated.as_bytes());
                self.lines.extend(rest.bytes().map(unbroken));
            }
            _ => self.lines.extend(object.bytes().map(unbroken)),
        }
        self.lines.extend_from_slice(b"}\n");
        self.changes += 1;
    }

    /// An object that is gone, and nobody saw it go.
    pub(super) fn push_gone(&mut self, kind: &Kind, meta: &Meta) {
        let mut metadata = serde_json::json!({"name": meta.name, "uid": meta.uid, "resourceVersion": meta.resource_version});
        if !meta.namespace.is_empty() {
            metadata["namespace"] = meta.namespace.as_str().into();
        }
        self.push_listed(kind, Verb::Deleted, &serde_json::json!({ "metadata": metadata }).to_string());
    }

    /// A line that is too long to be read.
    pub(super) fn refuse(&mut self, bytes: u64, excerpt: Vec<u8>) {
        self.set_aside(SetAside::long_line(bytes, excerpt));
    }

    /// An element of a list that is no object of Kubernetes.
    pub(super) fn refuse_listed(&mut self, text: &str) {
        let excerpt = text.as_bytes()[..text.len().min(EXCERPT_BYTES)].to_vec();
        let detail = "an object without a uid in its metadata".to_owned();
        self.set_aside(SetAside { reason: "not_a_record", detail, bytes: text.len() as u64, excerpt, next_try_ms: None });
    }

    fn set_aside(&mut self, what: SetAside) {
        self.refused.push(Refused { index: self.changes as u64, what });
        self.changes += 1;
    }

    /// Remember an object.
    pub(super) fn remember(&mut self, key: String, meta: &Meta) {
        self.stamps.push((key, Known::stamp(meta)));
    }

    /// Forget an object.
    pub(super) fn forget(&mut self, key: String) {
        self.forgets.push(key);
    }
}

/// White space between tokens may be a line end; strings have none.
fn unbroken(byte: u8) -> u8 {
    if byte == b'\n' { b' ' } else { byte }
}

/// Takes the batches of one kind.
pub(super) struct Outlet {
    pub(super) at: Surroundings,
    pub(super) source: String,
    pub(super) resource: &'static str,
    pub(super) uri: String,
    pub(super) term: Arc<Term>,
    /// How many changes it took.
    pub(super) taken: u64,
}

impl Outlet {
    /// Makes a batch durable, and with it that the watch came to `position`. None: the source is to stop, and it is not.
    pub(super) async fn take(&mut self, batch: Batch, position: Option<&str>) -> Option<()> {
        let mut delivery = Delivery::new(&self.source, self.uri.clone());
        delivery.bytes = batch.lines.len() as u64;
        delivery.first_index = self.taken;
        delivery.refused = batch.refused;
        delivery.refused.iter_mut().for_each(|it| it.index += self.taken);
        if !batch.lines.is_empty() {
            delivery.input = Input::Lines(batch.lines.into());
        }
        delivery.files = batch.stamps;
        delivery.files.extend(position.map(|it| (self.resource.to_owned(), it.to_owned())));
        delivery.forgets = batch.forgets;
        // Nothing is stored after the term: whoever waits then is given up, or stops.
        let mut stop = self.at.stop.clone();
        tokio::select! {
            () = self.term.wait_until_held() => {}
            _ = stop.wait_for(|it| *it) => return None,
        }
        tokio::select! {
            taken = self.at.deliver(delivery) => taken.map(drop)?,
            () = self.term.wait_until_over() => {
                let _ = stop.wait_for(|it| *it).await;
                return None;
            }
        }
        self.taken += batch.changes as u64;
        if let Some(position) = position {
            self.term.came_to(self.resource, position);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(batch: &Batch) -> &str {
        std::str::from_utf8(&batch.lines).unwrap()
    }

    #[test]
    fn listed_objects_look_like_watched_ones() {
        let kind = Kind::named("roles").unwrap();
        let mut batch = Batch::default();
        batch.push_listed(kind, Verb::Added, "{\"metadata\":\n{\"uid\":\"a\"}}");
        let stated = "\"kind\":\"Role\",\"apiVersion\":\"rbac.authorization.k8s.io/v1\"";
        assert_eq!(text(&batch), format!("{{\"type\":\"ADDED\",\"object\":{{{stated},\"metadata\": {{\"uid\":\"a\"}}}}}}\n"));
        let mut batch = Batch::default();
        batch.push_listed(kind, Verb::Modified, "{\"kind\":\"Role\"}");
        assert_eq!(text(&batch), "{\"type\":\"MODIFIED\",\"object\":{\"kind\":\"Role\"}}\n");
        let mut batch = Batch::default();
        let meta = Meta { uid: "u".to_owned(), resource_version: "7".to_owned(), name: "a\"b".to_owned(), ..Meta::default() };
        batch.push_gone(kind, &meta);
        let line: serde_json::Value = serde_json::from_str(text(&batch)).unwrap();
        assert_eq!(line["object"]["metadata"], serde_json::json!({"name": "a\"b", "uid": "u", "resourceVersion": "7"}));
    }

    #[test]
    fn a_batch_is_full_at_its_bounds() {
        let mut batch = Batch::default();
        for n in 0..BATCH_CHANGES {
            assert!(!batch.is_full(), "{n}");
            batch.push(b"{}");
        }
        assert!(batch.is_full());
        let mut batch = Batch::default();
        batch.push(&vec![b' '; BATCH_BYTES - 2]);
        assert!(!batch.is_full());
        batch.push(b"");
        assert!(batch.is_full());
    }
}

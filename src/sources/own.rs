//! What planewatch has to say of itself, as a core Event of Kubernetes: stored like any other, so that rules match it.

use super::{Delivery, Input};
use serde_json::json;

/// Whose event it is, in `reportingComponent`.
const COMPONENT: &str = "planewatch";

/// An event of ours.
#[derive(Debug)]
pub(super) struct OwnEvent<'e> {
    /// The source that it is about.
    pub(super) source: &'e str,
    /// `Warning` or `Normal`.
    pub(super) kind: &'static str,
    /// In one word, as Kubernetes writes them.
    pub(super) reason: &'static str,
    /// For a person.
    pub(super) message: &'e str,
    /// When, ms.
    pub(super) now_ms: i64,
}

impl OwnEvent<'_> {
    /// As a delivery of that source.
    pub(super) fn delivery(&self) -> Delivery {
        let Self { source, kind, reason, message, now_ms } = self;
        let time = jiff::Timestamp::from_millisecond(*now_ms).unwrap_or_default().to_string();
        let hash = xxhash_rust::xxh3::xxh3_64(message.as_bytes());
        let event = json!({"type": "ADDED", "object": {
            "kind": "Event", "apiVersion": "v1",
            "metadata": {
                "name": format!("{source}.{now_ms:x}"), "uid": format!("planewatch/{source}/{reason}/{now_ms}/{hash:x}"),
                "resourceVersion": "0", "creationTimestamp": time,
            },
            "type": kind, "reason": reason, "message": message,
            "involvedObject": {"kind": "Source", "name": source},
            "source": {"component": COMPONENT}, "reportingComponent": COMPONENT, "reportingInstance": source,
            "firstTimestamp": time, "lastTimestamp": time,
        }});
        let mut delivery = Delivery::new(source, format!("planewatch:{source}"));
        let line = event.to_string();
        delivery.bytes = line.len() as u64;
        delivery.input = Input::Lines(line.into());
        delivery.is_own = true;
        delivery
    }
}

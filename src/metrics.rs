//! What is counted and measured: all names in one table, and their Prometheus text.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations in buckets.
    Histogram,
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// The label beside `source`, if any.
    pub label: Option<&'static str>,
    /// What it says.
    pub help: &'static str,
}

/// The source of what rules count, which has none, and who has them in `/readyz`.
pub const RULES: &str = "rules";

macro_rules! metrics {
    ($($constant:ident $kind:ident $name:literal $label:expr, $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: Metric = Metric { name: $name, kind: Kind::$kind, label: $label, help: $help };)*
        /// Every metric, as README lists them.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    RECEIVED Counter "planewatch_records_received_total" None, "Records that came. Received = stored + duplicate + quarantined + filtered.";
    STORED Counter "planewatch_records_stored_total" None, "Records stored as events.";
    DUPLICATE Counter "planewatch_records_duplicate_total" None, "Records whose event was stored before.";
    QUARANTINED Counter "planewatch_records_quarantined_total" None, "Records set aside.";
    FILTERED Counter "planewatch_records_filtered_total" None, "Records that a drop filter took.";
    CONFLICT Counter "planewatch_events_conflict_total" None, "Stored events that contradict a stored one with the same id.";
    ACCOUNT_MISMATCH Counter "planewatch_events_account_mismatch_total" None, "Stored events whose account is not their object's.";
    LATE Counter "planewatch_events_late_total" None, "Stored events older than the ids that are kept.";
    FORWARDED Counter "planewatch_records_forwarded_total" None, "Records sent on to another planewatch instead of being stored; outside the sum.";
    BYTES Counter "planewatch_bytes_received_total" None, "Bytes of objects and files, as they came.";
    QUARANTINED_BY Counter "planewatch_quarantined_total" Some("reason"), "Records set aside, by reason.";
    SKIPPED Counter "planewatch_skipped_total" Some("reason"), "Messages and objects that carry no log, by reason; outside the sum.";
    QUARANTINE Gauge "planewatch_quarantine_entries" Some("reason"), "What lies in quarantine now.";
    IN_FLIGHT Gauge "planewatch_messages_in_flight" None, "Messages and files being worked on.";
    UNREAD Gauge "planewatch_log_unread_bytes" None, "Bytes of followed files that were not taken yet.";
    UP Gauge "planewatch_source_up" None, "1 while the source works, 0 while it is down.";
    EXTENSIONS Counter "planewatch_visibility_extensions_total" None, "Visibility timeouts extended while a message was worked on.";
    ERRORS Counter "planewatch_source_errors_total" Some("error"), "Failed calls, by what failed.";
    LAG Histogram "planewatch_message_lag_seconds" None, "From a message's sending to its first receive.";
    FETCH Histogram "planewatch_fetch_seconds" None, "Fetching one object.";
    WATCH_UP Gauge "planewatch_watch_up" Some("resource"), "1 while a resource of Kubernetes (or `api`, `lease`) is watched, 0 while it is not.";
    WATCH_OBJECTS Gauge "planewatch_watch_objects" Some("resource"), "Watched objects that are known.";
    WATCH_HEARD Gauge "planewatch_watch_heard_timestamp_seconds" Some("resource"), "When the watch last said anything; a living one does each minute.";
    WATCH_ENDS Counter "planewatch_watch_failures_total" Some("reason"), "Watches and lists that ended otherwise than they should, by reason; `gone` is a 410.";
    LEADER Gauge "planewatch_watch_leader" None, "1 while this replica is the one that watches.";
    RULES_LOADED Gauge "planewatch_rules" None, "Rules in use.";
    RULES_NOT_LOADED Gauge "planewatch_rules_not_loaded" None, "Rules and suppressions that did not load when those in use were read.";
    RULE_MATCHES Counter "planewatch_rule_matches_total" Some("rule"), "Events that a rule matched and no suppression hid, in shadow as well.";
    RULE_LATE Counter "planewatch_rule_matches_late_total" Some("rule"), "Of these, those that came later than the rule's state is sure to be kept.";
    RELOADS Counter "planewatch_rules_reloads_total" Some("result"), "Times that changed rules, suppressions or lists were `taken`, or `refused` as they do not load.";
    HTTP_REFUSED Counter "planewatch_http_refused_total" Some("reason"), "Connections and requests that were not taken, by reason.";
    HTTP_CONNECTIONS Gauge "planewatch_http_connections" None, "Open connections.";
    HTTP_BYTES Gauge "planewatch_http_bytes_in_flight" None, "Bytes of bodies that are handed over and not yet durable.";
    HTTP_ANSWER Histogram "planewatch_http_answer_seconds" None, "From a request's head to its durable 200.";
    FORWARD Histogram "planewatch_forward_seconds" None, "From a request to another planewatch to its answer.";
    COMMIT Histogram "planewatch_commit_seconds" None, "From a decoded delivery to its durable commit.";
}

/// Upper bounds of histogram buckets, seconds.
const BUCKETS: [f64; 14] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0];

#[derive(Debug, Clone, Default)]
struct Histogram {
    counts: [u64; BUCKETS.len()],
    total: u64,
    sum: f64,
}

type Series = (&'static str, String, String);

/// All current values. Touched per delivery, never per event.
#[derive(Debug, Default)]
pub struct Metrics {
    values: Mutex<BTreeMap<Series, f64>>,
    histograms: Mutex<BTreeMap<(&'static str, String), Histogram>>,
}

fn series(metric: &Metric, source: &str, label: &str) -> Series {
    (metric.name, source.to_owned(), label.to_owned())
}

impl Metrics {
    /// Adds to a counter or gauge. `label` is empty where the metric has none.
    pub fn add(&self, metric: &Metric, source: &str, label: &str, by: f64) {
        *self.values.lock().unwrap_or_else(PoisonError::into_inner).entry(series(metric, source, label)).or_default() += by;
    }

    /// Sets a gauge, or a counter that is kept elsewhere.
    pub fn set(&self, metric: &Metric, source: &str, label: &str, to: f64) {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).insert(series(metric, source, label), to);
    }

    /// Forgets all series of a gauge, before it is set anew.
    pub fn clear(&self, metric: &Metric) {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).retain(|(name, ..), _| *name != metric.name);
    }

    /// Forgets all series of a gauge that are of one source.
    pub fn forget(&self, metric: &Metric, of: &str) {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).retain(|(name, source, _), _| *name != metric.name || source != of);
    }

    /// Adds a duration to a histogram.
    pub fn observe(&self, metric: &Metric, source: &str, duration: Duration) {
        let mut histograms = self.histograms.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = histograms.entry((metric.name, source.to_owned())).or_default();
        let seconds = duration.as_secs_f64();
        histogram.total += 1;
        histogram.sum += seconds;
        for (count, bound) in histogram.counts.iter_mut().zip(BUCKETS) {
            *count += u64::from(seconds <= bound);
        }
    }

    /// The text that Prometheus reads.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let histograms = self.histograms.lock().unwrap_or_else(PoisonError::into_inner);
        for metric in ALL {
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            // Writing to a String does not fail.
            let _ = writeln!(out, "# HELP {} {}\n# TYPE {} {kind}", metric.name, metric.help, metric.name);
            for ((_, source, label), value) in values.iter().filter(|((name, ..), _)| *name == metric.name) {
                let more = metric.label.map(|it| format!(",{it}=\"{}\"", escape(label))).unwrap_or_default();
                let _ = writeln!(out, "{}{{source=\"{}\"{more}}} {value}", metric.name, escape(source));
            }
            for ((_, source), it) in histograms.iter().filter(|((name, _), _)| *name == metric.name) {
                let (name, source) = (metric.name, escape(source));
                for (bound, count) in BUCKETS.iter().zip(it.counts) {
                    let _ = writeln!(out, "{name}_bucket{{source=\"{source}\",le=\"{bound}\"}} {count}");
                }
                let _ = writeln!(out, "{name}_bucket{{source=\"{source}\",le=\"+Inf\"}} {}", it.total);
                let _ = writeln!(out, "{name}_sum{{source=\"{source}\"}} {}\n{name}_count{{source=\"{source}\"}} {}", it.sum, it.total);
            }
        }
        out
    }
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The table of metrics for README.
pub fn table() -> String {
    let mut out = "| metric | kind | labels | what it says |\n|---|---|---|---|\n".to_owned();
    for metric in ALL {
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let labels = metric.label.map_or_else(|| "source".to_owned(), |it| format!("source, {it}"));
        let _ = writeln!(out, "| `{}` | {kind} | {labels} | {} |", metric.name, metric.help);
    }
    out
}

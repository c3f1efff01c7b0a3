//! What a subscription filter of `CloudWatch` Logs delivers: `{"messageType":…,"logGroup":…,"logEvents":[{"message":"…"}]}`.
//! Each log event's message is a record (protocols.md §7.2).

use super::Reason;
use super::container::Inside;
use super::record::Around;
use super::resync::is_record;
use super::salvage::Salvaged;
use crate::json::{Kind, ScanError, Scanner, Tape, unescape};

/// Names of log groups and streams are at most this long.
const NAME_BYTES_MAX: usize = 512;
/// A payload that asks whether anybody listens.
pub(super) const CONTROL_MESSAGE: &str = "control_message";
/// A line of another log than the audit log.
const OTHER_LOG: &str = "other_log";
/// How the audit log's streams are named, and the others of an EKS cluster. The first that fits decides.
const EKS_AUDIT: &str = "kube-apiserver-audit-";
const EKS_OTHERS: &[&str] =
    &["kube-apiserver-", "authenticator-", "kube-controller-manager-", "cloud-controller-manager-", "kube-scheduler-"];

/// What a payload says of all its log events. Members that come behind them are not known.
#[derive(Debug, Default)]
pub(super) struct Header {
    message_type: String,
    owner: String,
    group: String,
    stream: String,
}

impl Header {
    /// Takes a member's value, the inside of a string, where it is one of the header's.
    pub(super) fn note(&mut self, key: &[u8], inside: &str) {
        let slot = match key {
            b"messageType" => &mut self.message_type,
            b"owner" => &mut self.owner,
            b"logGroup" => &mut self.group,
            b"logStream" => &mut self.stream,
            _ => return,
        };
        if inside.len() <= NAME_BYTES_MAX {
            *slot = unescape(inside).into_owned();
        }
    }

    /// Nothing that came so far says whose log it is.
    pub(super) fn has_no_group(&self) -> bool {
        self.group.is_empty()
    }

    fn is_control(&self) -> bool {
        self.message_type == "CONTROL_MESSAGE"
    }

    /// `NAME` of `/aws/eks/NAME/cluster`.
    fn cluster(&self) -> Option<&str> {
        let name = self.group.strip_prefix("/aws/eks/")?.strip_suffix("/cluster")?;
        (!name.is_empty() && !name.contains('/')).then_some(name)
    }

    fn account(&self) -> Option<&str> {
        (self.owner.len() == 12 && self.owner.bytes().all(|b| b.is_ascii_digit())).then_some(&self.owner)
    }

    fn is_audit(&self) -> bool {
        self.stream.starts_with(EKS_AUDIT)
    }

    /// The log of another part of the control plane: text, most of it, and no records.
    fn is_other_log(&self) -> bool {
        self.cluster().is_some() && !self.is_audit() && EKS_OTHERS.iter().any(|it| self.stream.starts_with(it))
    }
}

/// What an object at the top is, where it is a payload.
pub(super) enum Payload {
    /// One that is to be skipped.
    Control,
    /// One with log events.
    Events(Inside),
}

/// Looks at a whole object.
pub(super) fn payload(tape: &Tape, text: &str) -> Option<Payload> {
    let mut header = Header::default();
    for name in ["messageType", "owner", "logGroup", "logStream"] {
        let Some(at) = tape.member(0, name, text) else { continue };
        let node = &tape.nodes[at];
        if matches!(node.kind, Kind::String | Kind::EscapedString) {
            header.note(name.as_bytes(), &text[node.start as usize + 1..node.end as usize - 1]);
        }
    }
    let events = tape.member(0, "logEvents", text).map(|at| &tape.nodes[at]).filter(|it| it.kind == Kind::Array)?;
    match header.message_type.as_str() {
        "" => None,
        _ if header.is_control() => Some(Payload::Control),
        _ => Some(Payload::Events(Inside { at: events.start as usize + 1, header: Some(header) })),
    }
}

/// What a log event is.
pub(super) enum Taken {
    /// It holds a record, whole or cut.
    Record { is_cut: bool },
    /// It holds none, and none was expected.
    Skipped(&'static str),
    /// It holds none.
    Bad(Reason, &'static str),
}

/// The messages of one payload.
#[derive(Debug, Default)]
pub(super) struct Messages {
    header: Header,
    time_ms: Option<i64>,
    /// The message that was taken last.
    pub(super) text: String,
    /// Its nodes, where it is whole.
    pub(super) tape: Tape,
}

impl Messages {
    pub(super) fn new(header: Header) -> Self {
        Self { header, ..Self::default() }
    }

    /// Takes the message out of a log event.
    pub(super) fn take(&mut self, event: &str, nodes: &Tape, scanner: &mut Scanner, salvaged: &mut Salvaged) -> Taken {
        if self.header.is_control() {
            return Taken::Skipped(CONTROL_MESSAGE);
        }
        if self.header.is_other_log() {
            return Taken::Skipped(OTHER_LOG);
        }
        let Some(message) = nodes.member(0, "message", event).and_then(|at| nodes.string(at, event)) else {
            return Taken::Bad(Reason::NotARecord, "a log event without a message");
        };
        self.time_ms = nodes.member(0, "timestamp", event).and_then(|at| nodes.spelled(at, event).parse().ok());
        self.text.clear();
        self.text.push_str(message.trim());
        let scanned = scanner.scan(self.text.as_bytes(), 0, &mut self.tape);
        let is_object = self.text.starts_with('{');
        match scanned {
            Ok(end) if end == self.text.len() => {
                if is_object && is_record(&self.tape, &self.text) {
                    return Taken::Record { is_cut: false };
                }
            }
            _ => {
                if salvaged.take(self.text.as_bytes(), scanner) {
                    return Taken::Record { is_cut: true };
                }
            }
        }
        // A stream of a name that we do not know, in the log group of a cluster.
        if self.header.cluster().is_some() && !self.header.is_audit() {
            return Taken::Skipped(OTHER_LOG);
        }
        match scanned {
            _ if !is_object => Taken::Bad(Reason::NotJson, "a message that is no JSON object"),
            Err(ScanError::Incomplete) => Taken::Bad(Reason::Cut, "a message whose JSON ends in the middle"),
            Ok(end) if end == self.text.len() => {
                Taken::Bad(Reason::NotARecord, "a message that is neither a CloudTrail record nor an audit event")
            }
            _ => Taken::Bad(Reason::BadRecord, "a message that is not JSON"),
        }
    }

    /// What is known of the message that was taken last.
    pub(super) fn around(&self) -> Around<'_> {
        Around { cluster: self.header.cluster(), account: self.header.account(), time_ms: self.time_ms, cut: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_groups_and_streams_say_whose_they_are() {
        for (group, stream, cluster, is_other) in [
            ("/aws/eks/prod/cluster", "kube-apiserver-audit-0123abcd", Some("prod"), false),
            ("/aws/eks/prod/cluster", "kube-apiserver-0123abcd", Some("prod"), true),
            ("/aws/eks/prod/cluster", "authenticator-0123abcd", Some("prod"), true),
            ("/aws/eks/prod/cluster", "kube-scheduler-0123abcd", Some("prod"), true),
            ("/aws/eks/prod/cluster", "something-new", Some("prod"), false),
            ("/aws/eks/a/b/cluster", "kube-scheduler-0123abcd", None, false),
            ("/aws/eks//cluster", "", None, false),
            ("/aws/eks/cluster", "", None, false),
            ("aws-cloudtrail-logs", "111122223333_CloudTrail_eu-west-1", None, false),
        ] {
            let mut header = Header::default();
            header.note(b"logGroup", group);
            header.note(b"logStream", stream);
            assert_eq!((header.cluster(), header.is_other_log()), (cluster, is_other), "{group} {stream}");
        }
        let mut header = Header::default();
        header.note(b"owner", "CloudwatchLogs");
        assert_eq!(header.account(), None);
        header.note(b"owner", "111122223333");
        header.note(b"logGroup", &"x".repeat(NAME_BYTES_MAX + 1));
        assert_eq!((header.account(), header.group.as_str()), (Some("111122223333"), ""));
    }
}

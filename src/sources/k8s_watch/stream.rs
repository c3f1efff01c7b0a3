//! A watch's answer, line by line, and what a line says.

use super::api::{ApiError, of_kube};
use crate::sources::{EXCERPT_BYTES, LINE_BYTES_MAX};
use http_body_util::BodyExt;
use kube::client::Body;
use serde::Deserialize;

/// One line of a watch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Without its line end.
    Whole(Vec<u8>),
    /// Longer than [`LINE_BYTES_MAX`]: its length, and how it begins.
    Long(u64, Vec<u8>),
}

/// The lines of an answer. What has come of one stays here when waiting for the rest of it is given up.
pub(super) struct Lines {
    body: Body,
    rest: Vec<u8>,
    /// How far `rest` holds no line end.
    seen: usize,
    /// Of a line that is too long: what was let go, and its beginning.
    long: Option<(u64, Vec<u8>)>,
}

impl Lines {
    pub(super) fn new(body: Body) -> Self {
        Self { body, rest: Vec::new(), seen: 0, long: None }
    }

    /// The next line; none when the server has ended the watch.
    pub(super) async fn next(&mut self) -> Result<Option<Line>, ApiError> {
        loop {
            if let Some(line) = self.take() {
                return Ok(Some(line));
            }
            match self.body.frame().await {
                None if self.rest.is_empty() => return Ok(None),
                None => return Err(ApiError::Garbled("the watch ends inside a line".to_owned())),
                Some(Err(error)) => return Err(of_kube(&error)),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.rest.extend_from_slice(data);
                    }
                }
            }
        }
    }

    fn take(&mut self) -> Option<Line> {
        let Some(end) = memchr::memchr(b'\n', &self.rest[self.seen..]).map(|at| at + self.seen) else {
            self.seen = self.rest.len();
            if self.rest.len() > LINE_BYTES_MAX {
                let (let_go, _) = self.long.get_or_insert_with(|| (0, self.rest[..EXCERPT_BYTES].to_vec()));
                *let_go += self.rest.len() as u64;
                self.rest.clear();
                self.seen = 0;
            }
            return None;
        };
        let mut line: Vec<u8> = self.rest.drain(..=end).collect();
        line.pop();
        self.seen = 0;
        match self.long.take() {
            Some((let_go, excerpt)) => Some(Line::Long(let_go + line.len() as u64, excerpt)),
            None if line.len() > LINE_BYTES_MAX => Some(Line::Long(line.len() as u64, line[..EXCERPT_BYTES].to_vec())),
            None => Some(Line::Whole(line)),
        }
    }
}

/// What happened to an object, in the words of the watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Added,
    Modified,
    Deleted,
}

impl Verb {
    /// As the watch spells it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// Whose object it is, and which state of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Meta {
    #[serde(deserialize_with = "or_null")]
    pub(super) uid: String,
    #[serde(deserialize_with = "or_null")]
    pub(super) resource_version: String,
    #[serde(deserialize_with = "or_null")]
    pub(super) namespace: String,
    #[serde(deserialize_with = "or_null")]
    pub(super) name: String,
    #[serde(deserialize_with = "or_null")]
    pub(super) creation_timestamp: String,
}

/// A member that is null says as much as one that is not there: servers before 1.34 write a bookmark's time of creation so.
fn or_null<'de, T: Default + Deserialize<'de>, D: serde::Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// What a line of a watch says.
#[derive(Debug)]
pub(super) enum Said {
    /// An object changed.
    Change(Verb, Meta),
    /// Everything up to this version was sent.
    Bookmark(String),
    /// The watch is over.
    Over(ApiError),
    /// Nothing that is known.
    Unknown,
}

#[derive(Deserialize)]
struct Wire {
    r#type: String,
    object: WireObject,
}

#[derive(Deserialize)]
struct WireObject {
    #[serde(default, deserialize_with = "or_null")]
    metadata: Meta,
    #[serde(default, deserialize_with = "or_null")]
    code: u16,
    #[serde(default, deserialize_with = "or_null")]
    message: String,
}

/// Reads a line.
pub(super) fn read(line: &[u8]) -> Said {
    let Ok(Wire { r#type, object }) = serde_json::from_slice(line) else { return Said::Unknown };
    let verb = match &*r#type {
        "ADDED" => Verb::Added,
        "MODIFIED" => Verb::Modified,
        "DELETED" => Verb::Deleted,
        "BOOKMARK" => return Said::Bookmark(object.metadata.resource_version),
        "ERROR" => return Said::Over(ApiError::of_status(object.code, object.message)),
        _ => return Said::Unknown,
    };
    if object.metadata.uid.is_empty() { Said::Unknown } else { Said::Change(verb, object.metadata) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(bytes: Vec<u8>) -> Vec<Line> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut lines = Lines::new(Body::from(bytes));
        let mut all = Vec::new();
        while let Some(line) = runtime.block_on(lines.next()).unwrap() {
            all.push(line);
        }
        all
    }

    #[test]
    fn lines_are_whole_and_bounded() {
        let whole = |text: &str| Line::Whole(text.as_bytes().to_vec());
        assert_eq!(lines_of(b"{}\n{\"a\":1}\n".to_vec()), [whole("{}"), whole("{\"a\":1}")]);
        let line = |n: usize| [vec![b'x'; n], b"\n{}\n".to_vec()].concat();
        assert_eq!(lines_of(line(LINE_BYTES_MAX)).len(), 2);
        assert!(matches!(&lines_of(line(LINE_BYTES_MAX))[0], Line::Whole(_)));
        let long = lines_of(line(LINE_BYTES_MAX + 1));
        assert_eq!(long, [Line::Long(LINE_BYTES_MAX as u64 + 1, vec![b'x'; EXCERPT_BYTES]), whole("{}")]);
    }

    #[test]
    fn what_is_let_go_of_a_long_line_is_counted() {
        let mut lines = Lines::new(Body::empty());
        for _ in 0..3 {
            lines.rest.extend(vec![b'x'; LINE_BYTES_MAX + 1]);
            assert_eq!(lines.take(), None);
        }
        lines.rest.extend(b"x\n");
        assert_eq!(lines.take(), Some(Line::Long(3 * (LINE_BYTES_MAX as u64 + 1) + 1, vec![b'x'; EXCERPT_BYTES])));
    }

    #[test]
    fn every_kind_of_line_is_told() {
        let change = read(br#"{"type":"MODIFIED","object":{"kind":"Pod","metadata":{"uid":"u","resourceVersion":"7","name":"n"}}}"#);
        assert!(matches!(change, Said::Change(Verb::Modified, Meta { uid, .. }) if uid == "u"));
        assert!(matches!(read(br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"7"}}}"#), Said::Bookmark(at) if at == "7"));
        let old =
            br#"{"type":"BOOKMARK","object":{"kind":"Role","metadata":{"resourceVersion":"8","creationTimestamp":null},"rules":null}}"#;
        assert!(matches!(read(old), Said::Bookmark(at) if at == "8"));
        let gone = br#"{"type":"ERROR","object":{"kind":"Status","metadata":{},"code":410,"message":"too old"}}"#;
        assert!(matches!(read(gone), Said::Over(ApiError::Gone(_))));
        for unknown in [&b"x"[..], b"{}", br#"{"type":"NEW","object":{}}"#, br#"{"type":"ADDED","object":{}}"#] {
            assert!(matches!(read(unknown), Said::Unknown), "{}", String::from_utf8_lossy(unknown));
        }
    }
}

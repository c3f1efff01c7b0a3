//! An event as one line of JSON: the native form (EVENT.md).

use super::column::{ALL, COLUMNS, Kind};
use super::{Col, Row, Val};
use crate::json::push_quoted;

const NO_MATCHES: &[u8] = br#","alert_metadata":{"rule_matches":[],"match_state":"UNMATCHED","num_matched":0,"num_suppressed":0}"#;

/// Up to this many bytes are copied as so many: a copy of fixed length is a few moves, others are a call.
const SHORT_BYTES: usize = 32;

/// A short text, with what fills it up.
#[derive(Clone, Copy)]
struct Short {
    bytes: [u8; SHORT_BYTES],
    length: usize,
}

impl Short {
    /// Empty where the text is longer than [`SHORT_BYTES`].
    const fn of(text: &str) -> Self {
        let mut it = Self { bytes: [0; SHORT_BYTES], length: 0 };
        let from = text.as_bytes();
        if from.len() <= SHORT_BYTES {
            while it.length < from.len() {
                it.bytes[it.length] = from[it.length];
                it.length += 1;
            }
        }
        it
    }
}

/// `,"name":` of every column.
static KEYS: [Short; COLUMNS.len()] = {
    let mut keys = [Short::of(""); COLUMNS.len()];
    let mut n = 0;
    while n < keys.len() {
        keys[n] = Short::of(COLUMNS[n].json_key);
        n += 1;
    }
    keys
};

/// Writes the first `length` of these bytes.
#[inline]
fn push_short(bytes: &[u8; SHORT_BYTES], length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(bytes);
    out.truncate(out.len() - (SHORT_BYTES - length));
}

/// Writes `text[from..to]`.
#[inline]
fn push_part(text: &[u8], from: usize, to: usize, out: &mut Vec<u8>) {
    match text[from..].first_chunk::<SHORT_BYTES>() {
        Some(chunk) if to - from <= SHORT_BYTES => push_short(chunk, to - from, out),
        _ => out.extend_from_slice(&text[from..to]),
    }
}

/// Writes the event as one JSON object without a line end.
pub fn write_json(row: &impl Row, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"_id\":\"");
    out.extend_from_slice(&row.id().to_text());
    out.extend_from_slice(b"\",\"fingerprint\":\"");
    push_hex(row.fingerprint(), out);
    out.push(b'"');
    member(b",\"_insert_time\":", &row.val(Col::InsertTime), out);
    let event_time = row.val(Col::EventTime);
    member(b",\"event_time\":", &event_time, out);
    member(b",\"timestamp\":", &event_time, out);
    member(b",\"event_type\":", &row.val(Col::EventType), out);
    match row.shared_json() {
        Some(shared) => out.extend_from_slice(shared.as_bytes()),
        None => shared_columns(row, out),
    }
    value(&row.val(Col::OriginIndex), out);
    out.extend_from_slice(b"},\"provider_metadata\":{");
    let start = out.len();
    for (name, col) in [
        (&b",\"cloud_provider\":"[..], Col::CloudProvider),
        (b",\"account_id\":", Col::AccountId),
        (b",\"account_name\":", Col::AccountName),
        (b",\"actor_account_id\":", Col::ActorAccountId),
        (b",\"region\":", Col::Region),
        (b",\"cluster\":", Col::Cluster),
        (b",\"availability_zone\":", Col::AvailabilityZone),
    ] {
        let start = usize::from(out.len() == start);
        if let Some(text) = row.val(col).text() {
            out.extend_from_slice(&name[start..]);
            quoted(row, text, out);
        }
    }
    out.push(b'}');
    alert_metadata(row, out);
    list("flags", row, Col::FlagNames, out);
    list("labels", row, Col::Labels, out);
    common(row, out);
    member(b",\"raw_text\":", &row.val(Col::RawText), out);
    member(b",\"fields_version\":", &row.val(Col::FieldsVersion), out);
    if let Val::Text(raw) = row.val(Col::Raw) {
        out.extend_from_slice(b",\"raw\":");
        out.extend_from_slice(raw.as_bytes());
    }
    out.push(b'}');
}

fn shared_columns(row: &impl Row, out: &mut Vec<u8>) {
    let text = |col| row.val(col).text().unwrap_or("").to_owned();
    shared(&text(Col::OrganizationId), &text(Col::AgentId), &text(Col::OriginSource), &text(Col::OriginUri), out);
}

/// What all events of one delivery have in common, up to `"index":`.
pub(super) fn shared(organization_id: &str, agent_id: &str, source: &str, uri: &str, out: &mut Vec<u8>) {
    if !organization_id.is_empty() {
        member(b",\"organization_id\":", &Val::of(organization_id), out);
    }
    member(b",\"agent_id\":", &Val::of(agent_id), out);
    out.extend_from_slice(b",\"origin\":{\"source\":");
    push_quoted(source, out);
    member(b",\"uri\":", &Val::of(uri), out);
    out.extend_from_slice(b",\"index\":");
}

fn alert_metadata(row: &impl Row, out: &mut Vec<u8>) {
    if row.val(Col::NumMatched) == Val::Int(0) && row.val(Col::NumSuppressed) == Val::Int(0) {
        out.extend_from_slice(NO_MATCHES);
        return;
    }
    out.extend_from_slice(b",\"alert_metadata\":{\"rule_matches\":[");
    items(row, Col::RuleMatches, out);
    out.push(b']');
    member(b",\"match_state\":", &row.val(Col::MatchState), out);
    member(b",\"num_matched\":", &row.val(Col::NumMatched), out);
    member(b",\"num_suppressed\":", &row.val(Col::NumSuppressed), out);
    out.push(b'}');
}

/// The common fields, from `user` to `verbs`, in the table's order.
fn common(row: &impl Row, out: &mut Vec<u8>) {
    const FIELDS: u64 = (1 << (Col::Verbs as u64 + 1)) - (1 << Col::User as u64);
    let mut present = row.present() & FIELDS;
    while present != 0 {
        let col = ALL[present.trailing_zeros() as usize];
        present &= present - 1;
        let info = col.info();
        match (col, info.kind) {
            (Col::ResourcesType, _) => resources(row, out),
            (Col::ResourcesName | Col::ResourcesArn | Col::ResourcesAccountId, _) => {}
            (_, Kind::List) => list(info.name, row, col, out),
            (_, Kind::Text) => {
                if let Some(text) = row.text(col) {
                    let key = &KEYS[col as usize];
                    push_short(&key.bytes, key.length, out);
                    quoted(row, text, out);
                }
            }
            _ => member(info.json_key.as_bytes(), &row.val(col), out),
        }
    }
}

/// A text that is a piece of the native record stands there as JSON spells it: only others are looked through.
fn quoted(row: &impl Row, text: &str, out: &mut Vec<u8>) {
    let Some((raw, at)) = row.spelled(text) else { return push_quoted(text, out) };
    let (raw, end) = (raw.as_bytes(), at + text.len());
    // A whole string has its quotes with it.
    if at > 0 && raw[at - 1] == b'"' && raw.get(end) == Some(&b'"') {
        return push_part(raw, at - 1, end + 1, out);
    }
    out.push(b'"');
    push_part(raw, at, end, out);
    out.push(b'"');
}

fn resources(row: &impl Row, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(b",\"resources\":[");
    let mut n = 0;
    row.resources(&mut |[kind, name, arn, account_id]| {
        out.extend_from_slice(if n > 0 { b",{" } else { b"{" });
        n += 1;
        let object = out.len();
        for (name, text) in [(&b",\"type\":"[..], kind), (b",\"name\":", name), (b",\"arn\":", arn), (b",\"account_id\":", account_id)] {
            if !text.is_empty() {
                out.extend_from_slice(&name[usize::from(out.len() == object)..]);
                quoted(row, text, out);
            }
        }
        out.push(b'}');
    });
    if n == 0 {
        out.truncate(start);
    } else {
        out.push(b']');
    }
}

fn key(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// `name` is spelled with its comma, quotes and colon. Nothing is written where there is no value.
fn member(name: &[u8], val: &Val<'_>, out: &mut Vec<u8>) {
    if *val != Val::Null {
        out.extend_from_slice(name);
        value(val, out);
    }
}

fn value(val: &Val<'_>, out: &mut Vec<u8>) {
    match val {
        Val::Null => out.extend_from_slice(b"null"),
        Val::Text(text) => push_quoted(text, out),
        Val::Int(n) => out.extend_from_slice(itoa::Buffer::new().format(*n).as_bytes()),
        Val::Bool(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
    }
}

fn push_hex(value: u64, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend((0..16).rev().map(|n| HEX[(value >> (4 * n) & 15) as usize]));
}

fn items(row: &impl Row, col: Col, out: &mut Vec<u8>) -> usize {
    let mut n = 0;
    row.list(col, &mut |text| {
        if n > 0 {
            out.push(b',');
        }
        n += 1;
        push_quoted(text, out);
    });
    n
}

/// A list that is left out when it is empty.
fn list(name: &str, row: &impl Row, col: Col, out: &mut Vec<u8>) {
    let start = out.len();
    key(name, out);
    out.push(b'[');
    if items(row, col, out) == 0 {
        out.truncate(start);
    } else {
        out.push(b']');
    }
}

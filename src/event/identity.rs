//! Who is who among events (DESIGN.md §2, Identity).

use sha1::{Digest, Sha1};

/// The namespace of our version 5 UUIDs. Never changes: stored ids depend on it.
const NAMESPACE: [u8; 16] = *b"\x7b\x5e\x0c\x9a\x41\xd3\x4f\x0e\x9c\x2d\x50\x6c\x61\x6e\x65\x77";

/// An event's `_id`, a UUID of version 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct EventId(pub u128);

impl EventId {
    /// The id over the parts of a name, joined by `|`.
    pub fn of(parts: &[&str]) -> Self {
        let mut hash = Sha1::new();
        hash.update(NAMESPACE);
        for (n, part) in parts.iter().enumerate() {
            if n > 0 {
                hash.update(b"|");
            }
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x50;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(u128::from_be_bytes(bytes))
    }

    /// The 36 characters of the usual spelling.
    pub fn to_text(self) -> [u8; 36] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; 36];
        let mut at = 0;
        for (n, byte) in self.0.to_be_bytes().iter().enumerate() {
            if matches!(n, 4 | 6 | 8 | 10) {
                at += 1;
            }
            text[at] = HEX[usize::from(byte >> 4)];
            text[at + 1] = HEX[usize::from(byte & 15)];
            at += 2;
        }
        text
    }

    /// Reads the usual spelling.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 36 {
            return None;
        }
        let mut value = 0_u128;
        for (n, c) in text.bytes().enumerate() {
            if matches!(n, 8 | 13 | 18 | 23) {
                if c != b'-' {
                    return None;
                }
            } else {
                value = value << 4 | u128::from(char::from(c).to_digit(16)?);
            }
        }
        Some(Self(value))
    }
}

impl std::fmt::Display for EventId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_text()))
    }
}

/// The id of a record that names none: over a 128-bit hash of its masked text.
pub fn hash_identity(raw: &str) -> EventId {
    let hash = xxhash_rust::xxh3::xxh3_128(raw.as_bytes());
    EventId::of(&["hash", &format!("{hash:032x}")])
}

/// The 64-bit hash of what an event says: the same id with another of these is a conflict.
pub fn fingerprint(event_time: i64, parts: &[&str]) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3Default::new();
    hash.update(&event_time.to_le_bytes());
    for part in parts {
        hash.update(part.as_bytes());
        hash.update(&[0x1f]);
    }
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_reads_back() {
        let id = EventId::of(&["cloudtrail", "111122223333", "abc"]);
        assert_eq!(EventId::parse(&id.to_string()), Some(id));
        assert_eq!(id.to_string().as_bytes()[14], b'5');
    }

    #[test]
    fn ids_never_change() {
        // Stored ids depend on these values: if this fails, every store in the field would repeat its events.
        assert_eq!(EventId::of(&["cloudtrail", "1", "a"]).to_string(), "38152e5b-9c77-58df-8195-28f302316e59");
        assert_eq!(fingerprint(0, &["a", "b"]), fingerprint(0, &["a", "b"]));
        assert_ne!(fingerprint(0, &["ab", ""]), fingerprint(0, &["a", "b"]));
    }
}

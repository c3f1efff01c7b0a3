//! What an object's key says of it (protocols.md §2).

/// What kind of object a key names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// A log of any of `CloudTrail`'s kinds, or a key of no known layout, whose content decides.
    Log,
    /// A digest file.
    Digest,
    /// A `CloudTrail-…` kind that we do not know.
    UnknownKind,
    /// Another producer's file below `AWSLogs/`.
    OtherProducer,
    /// A folder's marker.
    Folder,
}

/// Classifies a key.
pub fn key_kind(key: &str) -> KeyKind {
    if key.ends_with('/') || key.is_empty() {
        return KeyKind::Folder;
    }
    let Some((_, kind)) = parts(key) else { return KeyKind::Log };
    match kind {
        "CloudTrail" | "CloudTrail-Insight" | "CloudTrail-NetworkActivity" | "CloudTrail-Aggregated" => KeyKind::Log,
        "CloudTrail-Digest" => KeyKind::Digest,
        it if it.starts_with("CloudTrail-") => KeyKind::UnknownKind,
        // A marker that CloudTrail writes to test its permission has no kind of its own.
        _ => KeyKind::OtherProducer,
    }
}

/// The account whose log a key names.
pub fn key_account(key: &str) -> Option<String> {
    let (account, kind) = parts(key)?;
    kind.starts_with("CloudTrail").then(|| account.to_owned())
}

/// Account and kind in `[prefix/]AWSLogs/[o-ORG/]ACCOUNT/KIND/…`.
fn parts(key: &str) -> Option<(&str, &str)> {
    let at = if key.starts_with("AWSLogs/") { 0 } else { key.rfind("/AWSLogs/")? + 1 };
    let mut segments = key[at..].split('/').skip(1);
    let mut account = segments.next()?;
    if account.starts_with("o-") {
        account = segments.next()?;
    }
    let kind = segments.next()?;
    let is_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
    is_account.then_some((account, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_say_what_they_are() {
        for (key, kind, account) in [
            ("AWSLogs/111122223333/CloudTrail/us-east-1/2026/01/02/x.json.gz", KeyKind::Log, Some("111122223333")),
            ("p/q/AWSLogs/o-abc1234567/111122223333/CloudTrail/us-east-1/2026/01/02/x.json.gz", KeyKind::Log, Some("111122223333")),
            ("AWSLogs/111122223333/CloudTrail-Insight/us-east-1/2026/01/02/x.json.gz", KeyKind::Log, Some("111122223333")),
            ("AWSLogs/111122223333/CloudTrail-Digest/us-east-1/2026/01/02/x.json.gz", KeyKind::Digest, Some("111122223333")),
            ("AWSLogs/111122223333/CloudTrail-Future/us-east-1/x", KeyKind::UnknownKind, Some("111122223333")),
            ("AWSLogs/111122223333/elasticloadbalancing/us-east-1/x.log.gz", KeyKind::OtherProducer, None),
            ("AWSLogs/111122223333/CloudTrail/", KeyKind::Folder, Some("111122223333")),
            ("export/some.json", KeyKind::Log, None),
            ("AWSLogs/notes.txt", KeyKind::Log, None),
        ] {
            assert_eq!((key_kind(key), key_account(key).as_deref()), (kind, account), "{key}");
        }
    }
}

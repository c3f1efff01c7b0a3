//! The tables: what a call does, to what, and which parameter names it. Data files, parsed once.

use std::collections::HashMap;
use std::sync::LazyLock;

/// The data files' lines without comments, split at tabs.
pub(super) fn lines(file: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    file.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| line.split('\t').collect())
}

const CALLS: &str = include_str!("tables/calls.tsv");
const WORDS: &str = include_str!("tables/words.tsv");
const RESOURCES: &str = include_str!("tables/resources.tsv");

const KUBERNETES_ACTIVITY: &str = include_str!("tables/kubernetes_activity.tsv");
const KUBERNETES_TARGETS: &str = include_str!("tables/kubernetes_targets.tsv");

static KUBERNETES_ACTIVITIES: LazyLock<Vec<[&str; 3]>> =
    LazyLock::new(|| lines(KUBERNETES_ACTIVITY).filter_map(|line| line.try_into().ok()).collect());
static KUBERNETES_TARGET: LazyLock<HashMap<&str, &str>> =
    LazyLock::new(|| lines(KUBERNETES_TARGETS).filter_map(|line| Some((*line.first()?, *line.get(1)?))).collect());

/// What is known of one kind of Kubernetes request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) activity: &'static str,
    pub(super) target_kind: &'static str,
}

/// Looks up what a verb on this `resource[/subresource]` does. Callers keep the answer: it walks the table.
pub(super) fn kubernetes_request(resource: &str, verb: &str) -> Request {
    Request { activity: kubernetes_activity(resource, verb), target_kind: kubernetes_target(resource) }
}

/// What a Kubernetes request does to this `resource[/subresource]`.
fn kubernetes_activity(resource: &str, verb: &str) -> &'static str {
    let fits = |[kind, of, _]: &&[&str; 3]| glob(kind, resource) && (*of == "*" || of.eq_ignore_ascii_case(verb));
    KUBERNETES_ACTIVITIES.iter().find(fits).map_or("other", |line| line[2])
}

/// What kind of thing this `resource[/subresource]` of Kubernetes is.
fn kubernetes_target(resource: &str) -> &'static str {
    let whole = resource.split('/').next().unwrap_or(resource);
    KUBERNETES_TARGET.get(resource).or_else(|| KUBERNETES_TARGET.get(whole)).copied().unwrap_or("other")
}

struct CallLine {
    action: &'static str,
    activity: Option<&'static str>,
    target_kind: Option<&'static str>,
}

static CALL_LINES: LazyLock<HashMap<&str, Vec<CallLine>>> = LazyLock::new(|| {
    let mut by_service: HashMap<&str, Vec<CallLine>> = HashMap::new();
    for line in lines(CALLS) {
        let [service, action, activity, target_kind, ..] = line[..] else { continue };
        let stated = |text: &'static str| (text != "-").then_some(text);
        let entry = CallLine { action, activity: stated(activity), target_kind: stated(target_kind) };
        by_service.entry(service).or_default().push(entry);
    }
    by_service
});

static ACTIVITY_OF_WORD: LazyLock<HashMap<&str, &str>> =
    LazyLock::new(|| lines(WORDS).filter_map(|line| Some((*line.first()?, *line.get(1)?))).collect());

static PARAMETERS: LazyLock<HashMap<&str, Vec<(&str, &str)>>> = LazyLock::new(|| {
    let mut by_service: HashMap<&str, Vec<(&str, &str)>> = HashMap::new();
    for line in lines(RESOURCES) {
        if let [service, parameter, kind] = line[..] {
            by_service.entry(service).or_default().push((parameter, kind));
        }
    }
    by_service
});

/// What is known of one API call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// What the table says it does, whatever `readOnly` says.
    pub(super) stated_activity: Option<&'static str>,
    /// What its first word says.
    pub(super) word_activity: &'static str,
    /// What it is done to.
    pub(super) target_kind: &'static str,
    /// Parameters that name its resource, and the resource's type.
    pub(super) parameters: &'static [(&'static str, &'static str)],
}

/// Looks a call up. Callers keep the answer: it walks the service's lines.
pub(super) fn call(service: &str, action: &str) -> Call {
    let lines = CALL_LINES.get(service).map_or(&[][..], Vec::as_slice);
    let matching = || lines.iter().filter(|line| glob(line.action, action));
    Call {
        stated_activity: matching().find_map(|line| line.activity),
        word_activity: ACTIVITY_OF_WORD.get(first_word(action)).copied().unwrap_or("other"),
        target_kind: matching().find_map(|line| line.target_kind).unwrap_or("other"),
        parameters: PARAMETERS.get(service).map_or(&[], Vec::as_slice),
    }
}

/// `Get` of `GetObject`: up to the next capital.
fn first_word(action: &str) -> &str {
    let end = action.char_indices().skip(1).find(|(_, c)| c.is_ascii_uppercase()).map_or(action.len(), |(at, _)| at);
    &action[..end]
}

/// `*` stands for any text; there may be several.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((prefix, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(prefix) else { return false };
    let mut parts = rest.split('*').collect::<Vec<_>>();
    let suffix = parts.pop().unwrap_or("");
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(suffix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const ACTIVITIES: [&str; 9] = ["create", "read", "update", "delete", "login", "assume", "execute", "grant", "other"];
    const TARGET_KINDS: [&str; 11] =
        ["secret", "identity", "policy", "key", "network", "compute", "storage", "database", "logging", "cluster", "other"];

    #[test]
    fn every_line_of_calls_decides_its_example() {
        for line in lines(CALLS) {
            let [service, action, activity, kind, example] = line[..] else { panic!("{line:?}: five columns") };
            assert!(activity == "-" || ACTIVITIES.contains(&activity), "{line:?}");
            assert!(kind == "-" || TARGET_KINDS.contains(&kind), "{line:?}");
            assert!(glob(action, example), "{line:?}: the example is another line's");
            let call = call(service, example);
            if activity != "-" {
                assert_eq!(call.stated_activity, Some(activity), "{line:?}");
            }
            if kind != "-" {
                assert_eq!(call.target_kind, kind, "{line:?}: an earlier line decides");
            }
        }
    }

    #[test]
    fn every_word_decides_its_example() {
        let mut seen = HashSet::new();
        for line in lines(WORDS) {
            let [word, activity, example] = line[..] else { panic!("{line:?}: three columns") };
            assert!(seen.insert(word), "{word} twice");
            assert!(ACTIVITIES.contains(&activity), "{line:?}");
            assert_eq!(first_word(example), word);
            assert_eq!(call("none", example).word_activity, activity);
        }
    }

    #[test]
    fn every_resource_line_has_its_columns() {
        for line in lines(RESOURCES) {
            assert!(matches!(line[..], [service, _, kind] if service.ends_with(".amazonaws.com") && kind.starts_with("AWS::")), "{line:?}");
        }
    }

    #[test]
    fn every_line_of_the_kubernetes_tables_decides_something() {
        for (n, line) in lines(KUBERNETES_ACTIVITY).enumerate() {
            let [resource, verb, activity] = line[..] else { panic!("{line:?}: three columns") };
            assert!(ACTIVITIES.contains(&activity), "{line:?}");
            let (resource, verb) = (resource.replace('*', "anything"), if verb == "*" { "get" } else { verb });
            assert_eq!(kubernetes_activity(&resource, verb), activity, "line {n}: an earlier one decides");
        }
        for line in lines(KUBERNETES_TARGETS) {
            let [resource, kind] = line[..] else { panic!("{line:?}: two columns") };
            assert!(TARGET_KINDS.contains(&kind), "{line:?}");
            assert_eq!(kubernetes_target(resource), kind);
        }
        assert_eq!(kubernetes_target("pods/log"), "compute");
        assert_eq!(kubernetes_target("widgets"), "other");
        assert_eq!(kubernetes_activity("widgets", "frobnicate"), "other");
    }

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("*", "anything", true),
            ("Get*", "GetObject", true),
            ("*Key*", "CreateKeyPair", true),
            ("Attach*Policy", "AttachRolePolicy", true),
            ("Attach*Policy", "AttachRolePolicies", false),
            ("*Acl", "Acl", true),
            ("Exact", "Exactly", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}

//! Which objects were stored, in which version: what tells news from a repeat after a list, a restart, a new leader.
//!
//! Kept in the state for as long as the objects exist, apart from the events, which go after 72 hours. In memory an
//! object takes two dozen bytes, whatever its size and its name's.

use super::stream::{Meta, Verb};
use std::collections::HashMap;

/// Objects of one kind that are remembered. What comes beyond is stored all the same; a list may then bring it twice,
/// which the store's ids catch while they are kept.
const OBJECTS_MAX: usize = 200_000;

#[derive(Debug, Clone, Copy)]
struct Object {
    version: Option<u64>,
    /// The last list that had it.
    list: u32,
}

/// The stored objects of one kind.
#[derive(Debug, Default)]
pub(super) struct Known {
    resource: &'static str,
    objects: HashMap<u128, Object>,
    list: u32,
}

/// A version as a number: they grow, and can be compared (KEP-5504 says so since 1.35; etcd's revisions always did).
pub(super) fn version(text: &str) -> Option<u64> {
    text.parse().ok()
}

fn hash(uid: &str) -> u128 {
    xxhash_rust::xxh3::xxh3_128(uid.as_bytes())
}

impl Known {
    /// What the state remembers of this kind, by [`Known::key`].
    pub(super) fn new(resource: &'static str, stamps: &HashMap<String, String>) -> Self {
        let mut known = Self { resource, ..Self::default() };
        for (key, stamp) in stamps {
            if let Some(uid) = known.uid_of(key) {
                known.insert(uid, stamp.split('/').next().unwrap_or_default());
            }
        }
        known
    }

    fn uid_of<'k>(&self, key: &'k str) -> Option<&'k str> {
        key.strip_prefix(self.resource)?.strip_prefix('/')
    }

    /// The name of an object in the state.
    pub(super) fn key(&self, uid: &str) -> String {
        format!("{}/{uid}", self.resource)
    }

    /// What the state remembers of an object: enough to say that it is gone. Names have no slash.
    pub(super) fn stamp(meta: &Meta) -> String {
        format!("{}/{}/{}", meta.resource_version, meta.namespace, meta.name)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    /// What a listed object is: new, changed, or (none) stored as it is.
    pub(super) fn listed(&mut self, meta: &Meta) -> Option<Verb> {
        let (now, list) = (version(&meta.resource_version), self.list);
        let Some(object) = self.objects.get_mut(&hash(&meta.uid)) else { return Some(Verb::Added) };
        object.list = list;
        if now.is_some() && now == object.version { None } else { Some(Verb::Modified) }
    }

    /// Whether a watched change was stored before.
    pub(super) fn has(&self, meta: &Meta) -> bool {
        let stored = self.objects.get(&hash(&meta.uid)).and_then(|it| it.version);
        matches!((version(&meta.resource_version), stored), (Some(now), Some(stored)) if now <= stored)
    }

    /// An object is stored in this version. False: there are too many, and it is not remembered.
    pub(super) fn insert(&mut self, uid: &str, resource_version: &str) -> bool {
        let object = Object { version: version(resource_version), list: self.list };
        let hash = hash(uid);
        let has_room = self.objects.len() < OBJECTS_MAX || self.objects.contains_key(&hash);
        if has_room {
            self.objects.insert(hash, object);
        }
        has_room
    }

    /// An object is gone.
    pub(super) fn remove(&mut self, uid: &str) {
        self.objects.remove(&hash(uid));
    }

    /// A list begins: what it does not have is gone.
    pub(super) fn begin_list(&mut self) {
        self.list += 1;
    }

    /// How many objects the list that ends did not have.
    pub(super) fn missing(&self) -> usize {
        self.objects.values().filter(|it| it.list != self.list).count()
    }

    /// An object of the state, as it was last seen, if the list did not have it.
    pub(super) fn gone(&self, key: &str, stamp: &str) -> Option<Meta> {
        let uid = self.uid_of(key)?;
        self.objects.get(&hash(uid)).filter(|it| it.list != self.list)?;
        let mut parts = stamp.splitn(3, '/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        let (resource_version, namespace, name) = (next(), next(), next());
        Some(Meta { uid: uid.to_owned(), resource_version, namespace, name, ..Meta::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(uid: &str, version: &str) -> Meta {
        let text = |it: &str| it.to_owned();
        Meta { uid: text(uid), resource_version: text(version), namespace: text("ns"), name: text("a b:c"), ..Meta::default() }
    }

    #[test]
    fn a_list_is_compared_with_what_is_stored() {
        let (a, b) = (meta("a", "1"), meta("b", "2"));
        let stamps = [&a, &b].map(|it| (format!("roles/{}", it.uid), Known::stamp(it)));
        let mut stamps = HashMap::from(stamps);
        stamps.insert("roles".to_owned(), "2".to_owned());
        stamps.insert("rolebindings/c".to_owned(), "3//c".to_owned());
        let mut known = Known::new("roles", &stamps);
        assert_eq!(known.len(), 2);

        known.begin_list();
        assert_eq!(known.listed(&a), None);
        assert_eq!(known.listed(&meta("a", "5")), Some(Verb::Modified));
        assert_eq!(known.listed(&meta("new", "6")), Some(Verb::Added));
        known.insert("new", "6");
        assert_eq!(known.missing(), 1);
        assert_eq!(stamps.iter().filter_map(|(key, stamp)| known.gone(key, stamp)).collect::<Vec<_>>(), [b]);
        known.remove("b");
        assert_eq!((known.missing(), known.len()), (0, 2));
    }

    #[test]
    fn older_versions_of_what_is_stored_are_repeats() {
        let mut known = Known::new("pods", &HashMap::new());
        assert!(!known.has(&meta("a", "7")));
        known.insert("a", "7");
        for (version, is_stored) in [("6", true), ("7", true), ("10", false), ("x", false)] {
            assert_eq!(known.has(&meta("a", version)), is_stored, "{version}");
        }
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut known = Known::new("events", &HashMap::new());
        for n in 0..=OBJECTS_MAX {
            known.insert(&n.to_string(), "1");
        }
        assert_eq!(known.len(), OBJECTS_MAX);
        // Those that are there are kept up to date.
        known.insert("0", "2");
        assert!(known.has(&meta("0", "2")));
    }
}

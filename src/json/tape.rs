//! What a scan leaves behind: a flat list of nodes, each with the spans of its key and its value.

use super::keys::key_hash;
use super::text::unescape;
use std::borrow::Cow;

/// What kind of value a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `{…}`; its members follow it.
    Object,
    /// `[…]`; its elements follow it.
    Array,
    /// A string without escapes.
    String,
    /// A string with at least one escape.
    EscapedString,
    /// A number, as it was spelled.
    Number,
    /// `true`
    True,
    /// `false`
    False,
    /// `null`
    Null,
}

/// One value. Offsets are bytes from the start of the scanned buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// First byte of the key, behind its quote; equal to `key_end` where there is none.
    pub key_start: u32,
    /// End of the key.
    pub key_end: u32,
    /// First byte of the value, quotes and brackets included.
    pub start: u32,
    /// End of the value.
    pub end: u32,
    /// Index of the node that follows this one and all that is inside it.
    pub next: u32,
    /// A hash of the decoded key that ignores ASCII case; 0 where there is none.
    pub key_hash: u32,
    /// The value's kind.
    pub kind: Kind,
    /// The key has escapes.
    pub key_escaped: bool,
}

/// The nodes of one value, the value itself first.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub struct Tape {
    /// All nodes, each container before what is in it.
    pub nodes: Vec<Node>,
    /// Nodes whose key is perhaps one of those watched.
    pub watched: Vec<u32>,
    /// White space stands outside strings.
    pub has_space: bool,
    /// At least one string or key has escapes.
    pub has_escapes: bool,
    /// At least one object has a key twice.
    pub repeated_keys: bool,
    /// An object has so many keys that repeats were not looked for while scanning.
    pub many_keys: bool,
}

impl Tape {
    pub(super) fn clear(&mut self) {
        self.nodes.clear();
        self.watched.clear();
        self.has_space = false;
        self.has_escapes = false;
        self.repeated_keys = false;
        self.many_keys = false;
    }

    /// The nodes directly inside this one.
    pub fn children(&self, parent: usize) -> impl Iterator<Item = usize> + '_ {
        let end = match self.nodes.get(parent) {
            Some(node) if node.next > 0 => node.next as usize,
            _ => self.nodes.len(),
        };
        let mut at = parent + 1;
        std::iter::from_fn(move || {
            let node = self.nodes.get(at).filter(|_| at < end)?;
            let this = at;
            at = if node.next == 0 { self.nodes.len() } else { node.next as usize };
            Some(this)
        })
    }

    /// The node's key, decoded.
    pub fn key<'t>(&self, at: usize, text: &'t str) -> Cow<'t, str> {
        let node = &self.nodes[at];
        let key = &text[node.key_start as usize..node.key_end as usize];
        if node.key_escaped { unescape(key) } else { Cow::Borrowed(key) }
    }

    /// The member of this object with that key; of several, the last.
    #[inline]
    pub fn member(&self, parent: usize, name: &str, text: &str) -> Option<usize> {
        self.member_hashed(parent, key_hash(name.as_bytes()), name, text)
    }

    fn member_hashed(&self, parent: usize, hash: u32, name: &str, text: &str) -> Option<usize> {
        if self.nodes.get(parent)?.kind != Kind::Object {
            return None;
        }
        let is_it = |at: &usize| self.nodes[*at].key_hash == hash && self.is_key(*at, name, text);
        if self.repeated_keys || self.many_keys { self.children(parent).filter(is_it).last() } else { self.children(parent).find(is_it) }
    }

    /// Whether this is the node's key.
    pub fn is_key(&self, at: usize, name: &str, text: &str) -> bool {
        let node = &self.nodes[at];
        if node.key_escaped {
            return self.key(at, text) == name;
        }
        text.as_bytes().get(node.key_start as usize..node.key_end as usize) == Some(name.as_bytes())
    }

    /// The value at the end of a path of member names.
    pub fn path(&self, from: usize, names: &[&str], text: &str) -> Option<usize> {
        names.iter().try_fold(from, |at, name| self.member(at, name, text))
    }

    /// A string's text, decoded; none for other kinds.
    pub fn string<'t>(&self, at: usize, text: &'t str) -> Option<Cow<'t, str>> {
        let node = self.nodes.get(at)?;
        let inside = || text.get(node.start as usize + 1..node.end as usize - 1);
        match node.kind {
            Kind::String => inside().map(Cow::Borrowed),
            Kind::EscapedString => inside().map(unescape),
            _ => None,
        }
    }

    /// A value as it is spelled.
    pub fn spelled<'t>(&self, at: usize, text: &'t str) -> &'t str {
        let node = &self.nodes[at];
        &text[node.start as usize..node.end as usize]
    }

    /// Whether an object has a key twice, looked for thoroughly where the scan did not.
    pub fn has_repeated_keys(&self, text: &str) -> bool {
        self.repeated_keys
            || self.many_keys
                && (0..self.nodes.len()).filter(|at| self.nodes[*at].kind == Kind::Object).any(|object| {
                    let mut seen = std::collections::HashSet::new();
                    !self.children(object).all(|at| seen.insert(self.key(at, text)))
                })
    }
}

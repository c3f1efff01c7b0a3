//! A look into one scanned record: its members as text, where they are there and say something.

use crate::json::{Kind, Tape};
use std::borrow::Cow;

/// Makes a struct of node numbers, a field for each member that is used, and `of`, which finds them by the hashes of
/// their keys. A key twice: the last one stands.
macro_rules! members {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $($key:literal)|+,)* }) => {
        $(#[$doc])*
        #[derive(Default)]
        struct $name {
            $($field: Option<usize>,)*
        }

        impl $name {
            #[expect(clippy::needless_continue, reason = "it is needed for all but the last")]
            fn of(look: &$crate::normalize::look::Text<'_>, object: usize) -> Self {
                let mut it = Self::default();
                for at in look.tape.children(object) {
                    let hash = look.tape.nodes[at].key_hash;
                    $($({
                        const HASH: u32 = $crate::json::key_hash($key.as_bytes());
                        if hash == HASH && look.tape.is_key(at, $key, look.text) {
                            it.$field = Some(at);
                            continue;
                        }
                    })+)*
                }
                it
            }
        }
    };
}
pub(super) use members;

/// A look into one record.
#[derive(Clone, Copy)]
pub(super) struct Text<'s> {
    pub(super) tape: &'s Tape,
    pub(super) text: &'s str,
}

impl<'s> Text<'s> {
    /// The node's text, where it is a string that says something.
    pub(super) fn string(&self, at: Option<usize>) -> Option<Cow<'s, str>> {
        self.tape.string(at?, self.text).filter(|it| !it.is_empty())
    }

    pub(super) fn member(&self, at: Option<usize>, name: &str) -> Option<usize> {
        self.tape.member(at?, name, self.text)
    }

    /// A boolean, or a string that spells one.
    pub(super) fn boolean(&self, at: Option<usize>) -> Option<bool> {
        match self.tape.nodes.get(at?)?.kind {
            Kind::True => Some(true),
            Kind::False => Some(false),
            _ => match &*self.string(at)? {
                "true" | "True" => Some(true),
                "false" | "False" => Some(false),
                _ => None,
            },
        }
    }

    /// The first element of an array.
    pub(super) fn first(&self, at: Option<usize>) -> Option<usize> {
        at.filter(|at| self.tape.nodes[*at].kind == Kind::Array).and_then(|at| self.tape.children(at).next())
    }

    /// The node, where it is an object or array with something in it.
    pub(super) fn container(&self, at: Option<usize>) -> Option<usize> {
        at.filter(|at| matches!(self.tape.nodes[*at].kind, Kind::Object | Kind::Array))
    }
}

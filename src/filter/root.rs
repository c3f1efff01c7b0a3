//! The members of a native record, found again without a walk over them: many tests ask for few of them, and most for one
//! that is not there.

use crate::json::{Kind, Tape, key_hash};

/// The members of the object at the top of a tape, by the hashes of their names.
#[derive(Debug, Default)]
pub(super) struct Root {
    hashes: Vec<u32>,
    nodes: Vec<u32>,
    is_filled: bool,
}

impl Root {
    /// What comes next is another record.
    pub(super) fn forget(&mut self) {
        self.is_filled = false;
    }

    /// The member of that name; of several, the last.
    pub(super) fn member(&mut self, tape: &Tape, name: &str, text: &str) -> Option<usize> {
        if tape.repeated_keys || tape.many_keys {
            return tape.member(0, name, text);
        }
        if !self.is_filled {
            self.fill(tape);
        }
        let wanted = key_hash(name.as_bytes());
        let mut from = 0;
        // Two names of one hash differ in their case, or in their middle.
        while let Some(at) = self.hashes[from..].iter().position(|it| *it == wanted) {
            let node = self.nodes[from + at] as usize;
            if tape.is_key(node, name, text) {
                return Some(node);
            }
            from += at + 1;
        }
        None
    }

    fn fill(&mut self, tape: &Tape) {
        self.is_filled = true;
        self.hashes.clear();
        self.nodes.clear();
        if tape.nodes.first().is_some_and(|it| it.kind == Kind::Object) {
            for at in tape.children(0) {
                self.hashes.push(tape.nodes[at].key_hash);
                self.nodes.push(at as u32);
            }
        }
    }
}

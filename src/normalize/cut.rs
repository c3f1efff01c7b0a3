//! What is kept of audit events whose end is missing (EVENT.md: `truncated`, `raw_text`).

use super::mask::{self, mask_lexically};
use super::{Rewriter, mask_kubernetes, replaced};
use crate::decode::Cut;
use crate::event::Flags;
use crate::json::{Kind, Tape};

/// Masks what is left of a cut record: its text and nodes are in the rewriter then. Returns what is to be its `raw_text`.
pub(super) fn masked(rewriter: &mut Rewriter, text: &str, tape: &Tape, cut: &Cut<'_>, flags: &mut Flags) -> String {
    flags.insert(Flags::TRUNCATED);
    if tape.has_repeated_keys(text) {
        flags.insert(Flags::DUPLICATE_KEY);
    }
    // Whether it was about a Secret may stand behind the cut: it is masked as if it was.
    let secrets = mask::secrets(tape, text, mask_kubernetes::of_any(tape, text));
    rewriter.text = replaced(text, &secrets);
    rewriter.rescan();
    let kept = &rewriter.text[..rewriter.text.len() - cut.added];
    let raw_text = match cut.received.strip_prefix(&text[..text.len() - cut.added]) {
        // What follows the beginning of a string is half an escape of it, or says that something is missing.
        Some(_) if cut.is_partial => mask_lexically(kept.as_bytes()),
        Some(unread) => mask_lexically([kept, unread].concat().as_bytes()),
        None => mask_lexically(cut.received.as_bytes()),
    };
    if !secrets.is_empty() || raw_text.contains(mask::MASK) {
        flags.insert(Flags::MASKED);
    }
    if let Some(last) = rewriter.tape.nodes.last_mut().filter(|_| cut.is_partial) {
        // `ge` may have been `get`.
        last.kind = Kind::Null;
    }
    raw_text
}

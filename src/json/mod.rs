//! JSON as bytes: one forward scan that validates a value and says where its parts are.
//!
//! A leaf. Nothing here builds a tree of owned values; everything points into the text it was given.

mod close;
mod fast;
mod keys;
mod lexical;
mod scan;
mod tape;
mod text;

pub use close::{Closed, close};
pub use keys::{KeySet, key_hash};
pub use lexical::{compact, string_end_lexical, value_end_lexical};
pub use scan::{DEPTH_MAX, Expected, ScanError, Scanner};
pub use tape::{Kind, Node, Tape};
pub use text::{push_escaped, push_quoted, unescape};

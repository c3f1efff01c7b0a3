//! 2 · The filter language (FILTER.md): one language for search, rules, suppressions and `drop`.
//!
//! Text is parsed ([`parse`]) into an [`Expr`], which prints back canonically, and compiled into a [`Filter`] with
//! its field names resolved, networks and regular expressions ready.

mod ast;
mod build;
mod compile;
mod error;
mod eval;
mod explain;
mod lex;
mod many;
mod matcher;
mod needles;
mod parse;
mod root;
mod sense;
mod value;

pub use ast::{Expr, Op, Path, Segment, Test, Value};
pub use build::{Field, Part, Pattern, Piece};
pub use compile::{Filter, Lists, Required};
pub use error::FilterError;
pub use eval::Scratch;
pub use explain::Explained;
pub use many::Many;
pub use parse::{FILTER_BYTES_MAX, LIST_VALUES_MAX, NESTING_MAX, parse};

//! The rules that come with the program: every file under `rules/`, with the events of their tests.

/// Paths under `rules/`, and what the files hold.
pub(super) const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/rules.rs"));

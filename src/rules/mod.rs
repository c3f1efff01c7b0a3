//! 5 · Rules: what of all events a person wants to hear of (FILTER.md, Rules).
//!
//! Files are [`load`]ed, ours and Sigma's alike, into one [`RuleSet`]; what it says of each event is tallied into
//! alerts ([`Tally`]), which do not depend on the order of arrival.

mod advice;
mod alert;
mod builtin;
mod current;
mod file;
mod load;
mod own;
mod rule;
mod set;
mod sigma;
mod spool;
mod suppression;
mod tally;
mod title;
mod window;

pub use advice::{Preview, Tallied, never_again};
pub use alert::{Alert, severity_name};
pub use current::Current;
pub use load::{Loaded, Problem, Source, load, load_builtin};
pub use own::{TROUBLE_WINDOW_MS, Trouble};
pub use rule::{Rule, RuleCase, Trigger};
pub use set::{Found, Hider, RuleSet};
pub use spool::Spooled;
pub use suppression::{Suppression, end_ms, load_suppressions};
pub use tally::{Bucket, EVENTS_MAX, GROUPS_MAX, Group, Hit, Kept, Shown, Tally, decide, shared_json};
pub use title::Title;
pub use window::{Match, tidy};

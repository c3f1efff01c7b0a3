//! What is done about a failure; every error of the pipeline answers it.

/// The three answers (DESIGN.md §2, Dispositions).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It may pass: leave it where it is and come again.
    Retry,
    /// It will not change by itself: set it aside with its reason, and acknowledge.
    Park,
    /// Nothing works until a person acts: stop and say so.
    Fatal,
}

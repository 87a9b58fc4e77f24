//! Mistakes that are made on purpose, in tests alone, to see that somebody notices. Each is one that a journal could
//! really have.

use std::cell::Cell;

/// What is done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Mistake {
    /// A start goes on in the file that has a torn frame, behind it, instead of in a new file.
    AppendsBehindTear,
    /// Nothing in a frame tells which life of its file it belongs to: neither the checksum nor its place.
    ForgetsLives,
}

thread_local! {
    static MADE: Cell<Option<Mistake>> = const { Cell::new(None) };
}

/// Whether this thread makes the mistake.
pub(super) fn is_made(mistake: Mistake) -> bool {
    MADE.get() == Some(mistake)
}

/// This thread makes the mistake from now on, or none.
pub(in crate::engine) fn make(mistake: Option<Mistake>) {
    MADE.set(mistake);
}

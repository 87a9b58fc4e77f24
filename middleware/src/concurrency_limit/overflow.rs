//! What becomes of a request when all places are taken. Plain values.

use std::{fmt, time::Duration};

use crate::Rejection;

/// What a refused caller is told to wait: how long a place takes to become free is not known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// It is refused at once. The service needs not be `Clone`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OverflowReject;

/// It waits its turn, first come, first served. The service must be `Clone`: a request takes the one that was ready with
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverflowQueue {
    /// At most so many wait; the next is refused at once. 0 waits for nothing.
    pub len: usize,
    /// Who has waited this long is refused. At most a day.
    pub timeout: Duration,
}

/// Refused: all places were taken, and the queue was full, or the wait too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Overloaded;

impl Overloaded {
    /// `overloaded`, 503 / UNAVAILABLE, retry after 1 s.
    pub(super) fn rejection(self) -> Rejection {
        Rejection::unavailable("overloaded", "too many requests at once").with_retry_after(RETRY_AFTER)
    }
}

impl fmt::Display for Overloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many requests at once")
    }
}

impl std::error::Error for Overloaded {}

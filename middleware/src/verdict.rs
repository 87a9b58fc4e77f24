//! What one call said about the health of the service that was called.
//!
//! A verdict is about the *service*, not about the caller's luck: a refused request of a healthy service is a success.

use std::time::Duration;

/// What one finished (or abandoned) call says about the service behind a circuit breaker.
///
/// A handler may put a `Verdict` into the extensions of its response; it then wins over everything that the
/// [`Classify`](crate::Classify) in use would have said. `Verdict::Ignore` on a 503 reads: "a typed refusal, not a
/// failure".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It works. Ends a run of failures; counts towards closing a half-open circuit.
    Success,
    /// It is broken. Counts towards opening the circuit; re-opens a half-open one.
    Failure,
    /// It is alive and asks for less (429, `RESOURCE_EXHAUSTED`). Does not count towards opening; re-opens a half-open
    /// circuit, for `retry_after` if that is longer than the open time (at most 60 s).
    Throttled {
        /// The time that the service asked for, if it did.
        retry_after: Option<Duration>,
    },
    /// It says nothing either way. A probe's place is given to the next request.
    Ignore,
    /// The caller went away before the end. Treated like [`Verdict::Ignore`], and told apart in events.
    Cancelled,
}

impl Verdict {
    /// `success`, `failure`, `throttled`, `ignore` or `cancelled`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Throttled { .. } => "throttled",
            Self::Ignore => "ignore",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether this is [`Verdict::Failure`].
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failure)
    }
}

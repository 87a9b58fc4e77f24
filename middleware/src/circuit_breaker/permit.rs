//! The permission to make one call, and the lack of it.
//!
//! Invariant: a permit settles exactly once, by [`Permit::complete`] or by its drop. So a probe's place always comes
//! back, whatever happens to the future that held it.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use super::{CircuitBreaker, machine::Pass};
use crate::Verdict;

/// The permission to make one call. To drop it is to say [`Verdict::Cancelled`]; on a panicking thread,
/// [`Verdict::Failure`].
#[must_use = "a permit that is dropped counts as a cancelled call"]
pub struct Permit {
    /// `None` once it is settled.
    breaker: Option<CircuitBreaker>,
    generation: u64,
    pass: Pass,
    pace: Pace,
}

/// How long the call takes, if that matters.
#[derive(Debug, Clone, Copy)]
enum Pace {
    Unmeasured,
    Since(Instant),
    Answered { slow: bool },
}

impl Permit {
    #[inline]
    pub(super) fn new(breaker: CircuitBreaker, generation: u64, pass: Pass) -> Self {
        let pace = if breaker.slow_from().is_some() { Pace::Since(Instant::now()) } else { Pace::Unmeasured };
        Self { breaker: Some(breaker), generation, pass, pace }
    }

    /// The service has answered, and what follows (the body of a response, say) does not count as slow. Without this
    /// a call takes until it is complete. Only the first time counts.
    #[inline]
    pub fn answered(&mut self) {
        if let (Pace::Since(_), Some(breaker)) = (self.pace, &self.breaker) {
            self.pace = Pace::Answered { slow: self.pace.is_slow(breaker) };
        }
    }

    /// Tells how the call went. Changes nothing if the circuit has changed its state since the call was admitted.
    #[inline]
    pub fn complete(mut self, verdict: Verdict) {
        self.settle(verdict);
    }

    #[inline]
    pub(super) fn settle(&mut self, verdict: Verdict) {
        if let Some(breaker) = self.breaker.take() {
            breaker.settle(self.generation, self.pass, verdict, self.pace.is_slow(&breaker));
        }
    }
}

impl Pace {
    #[inline]
    fn is_slow(self, breaker: &CircuitBreaker) -> bool {
        match self {
            Self::Unmeasured => false,
            Self::Answered { slow } => slow,
            Self::Since(begun) => breaker.slow_from().is_some_and(|slow_from| begun.elapsed() >= slow_from),
        }
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        if self.breaker.is_some() {
            self.settle(if std::thread::panicking() { Verdict::Failure } else { Verdict::Cancelled });
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("breaker", &self.breaker.as_ref().map(CircuitBreaker::name))
            .field("generation", &self.generation)
            .field("pass", &self.pass)
            .finish_non_exhaustive()
    }
}

/// Why a call was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectReason {
    /// The circuit is open.
    Open,
    /// The circuit is half-open, and all its probes are under way.
    HalfOpenFull,
    /// The circuit is isolated.
    Isolated,
}

/// A refused call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejected {
    /// Why.
    pub reason: RejectReason,
    /// When to try again: the remaining open time, or 1 s while probes are under way. `None` when isolated.
    pub retry_after: Option<Duration>,
    /// The generation of the state that refused.
    pub generation: u64,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.reason {
            RejectReason::Open => "the circuit is open",
            RejectReason::HalfOpenFull => "the circuit is half-open and its probes are under way",
            RejectReason::Isolated => "the circuit is isolated",
        })
    }
}

impl std::error::Error for Rejected {}

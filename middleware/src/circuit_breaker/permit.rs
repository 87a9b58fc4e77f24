//! The permission to make one call, and the lack of it.
//!
//! Invariant: a permit settles exactly once, by [`Permit::complete`] or by its drop. So a probe's place always comes
//! back, whatever happens to the future that held it.

use std::{fmt, time::Duration};

use super::{CircuitBreaker, machine::Pass};
use crate::Verdict;

/// The permission to make one call. To drop it is to say [`Verdict::Cancelled`]; on a panicking thread,
/// [`Verdict::Failure`].
#[must_use = "a permit that is dropped counts as a cancelled call"]
pub struct Permit {
    breaker: CircuitBreaker,
    generation: u64,
    pass: Pass,
    settled: bool,
}

impl Permit {
    pub(super) fn new(breaker: CircuitBreaker, generation: u64, pass: Pass) -> Self {
        Self { breaker, generation, pass, settled: false }
    }

    /// Tells how the call went. Changes nothing if the circuit has changed its state since the call was admitted.
    pub fn complete(mut self, verdict: Verdict) {
        self.settle(verdict);
    }

    fn settle(&mut self, verdict: Verdict) {
        self.settled = true;
        self.breaker.settle(self.generation, self.pass, verdict);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(if std::thread::panicking() { Verdict::Failure } else { Verdict::Cancelled });
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("breaker", &self.breaker.name())
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

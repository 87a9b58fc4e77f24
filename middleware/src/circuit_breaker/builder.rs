//! The settings of a breaker. They are fixed once it is built.

use std::{fmt, sync::Arc, time::Duration};

use super::{Backoff, CircuitBreaker, Transition};

/// The longest run of failures that can be asked for (what fits into 21 bits, see `word.rs`).
pub(super) const FAILURES_MAX: u32 = (1 << 21) - 1;

/// A probe's place is kept at least so long: with no time at all, every call would be a probe.
const PROBE_TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// A probe's place is not kept longer than this: a day.
const PROBE_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

/// What a half-open circuit lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HalfOpen {
    /// How many calls may probe at once, and how many must succeed to close the circuit. At least 1. Default: 1.
    pub probes: u32,
    /// After this time a probe without a verdict loses its place to the next call (and still counts, should it end).
    /// 1 ms to a day. Default: 10 s.
    pub timeout: Duration,
}

impl Default for HalfOpen {
    fn default() -> Self {
        Self { probes: 1, timeout: Duration::from_secs(10) }
    }
}

#[derive(Debug)]
pub(super) struct Policy {
    pub(super) failures_to_open: u32,
    pub(super) open_for: Backoff,
    pub(super) half_open: HalfOpen,
}

pub(super) type Listener = dyn Fn(&Transition) + Send + Sync;

/// Builds a [`CircuitBreaker`].
#[must_use = "a builder does nothing until it builds"]
pub struct CircuitBreakerBuilder {
    name: Arc<str>,
    policy: Policy,
    listener: Option<Box<Listener>>,
}

impl CircuitBreakerBuilder {
    pub(super) fn new(name: Arc<str>) -> Self {
        let policy = Policy {
            failures_to_open: 5,
            open_for: Backoff::fixed(Duration::from_secs(30)),
            half_open: HalfOpen::default(),
        };
        Self { name, policy, listener: None }
    }

    /// Opens after `count` failures in a row, 1 to 2 097 151. Default: 5.
    pub fn consecutive_failures(mut self, count: u32) -> Self {
        self.policy.failures_to_open = count.clamp(1, FAILURES_MAX);
        self
    }

    /// Stays open for this long: a `Duration`, or a [`Backoff`]. Default: 30 s.
    pub fn open_for(mut self, time: impl Into<Backoff>) -> Self {
        self.policy.open_for = time.into();
        self
    }

    /// How it finds out whether the service is back.
    pub fn half_open(mut self, half_open: HalfOpen) -> Self {
        self.policy.half_open = HalfOpen {
            probes: half_open.probes.max(1),
            timeout: half_open.timeout.clamp(PROBE_TIMEOUT_MIN, PROBE_TIMEOUT_MAX),
        };
        self
    }

    /// Calls `listener` after every change of state, on the thread that caused it and outside the critical section: it
    /// may ask the breaker. It should not block, and must not panic: a permit may be what is dropped by a panic.
    pub fn on_transition(mut self, listener: impl Fn(&Transition) + Send + Sync + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// A closed circuit.
    #[must_use]
    pub fn build(self) -> CircuitBreaker {
        CircuitBreaker::new(self.name, self.policy, self.listener)
    }
}

impl fmt::Debug for CircuitBreakerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerBuilder")
            .field("name", &self.name)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

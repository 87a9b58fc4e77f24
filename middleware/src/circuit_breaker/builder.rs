//! The settings of a breaker. They are fixed once it is built.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    Backoff, CircuitBreaker, OpenCause, Transition, Window,
    window::{Ended, Sums},
};
use crate::Verdict;

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

/// A part of all calls, in millionths: compared without a division.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part(u32);

impl Part {
    const WHOLE: u32 = 1_000_000;

    fn new(part: f64) -> Self {
        // A part that is no number is the strictest: nobody asks for one, and nothing is let through unseen.
        Self((part * f64::from(Self::WHOLE)).round().clamp(1.0, f64::from(Self::WHOLE)) as u32)
    }

    fn is_reached(self, count: u32, calls: u32) -> bool {
        u64::from(count) * u64::from(Self::WHOLE) >= u64::from(self.0) * u64::from(calls)
    }
}

/// How many of the recent calls may fail, or be slow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    pub(super) window: Window,
    min_calls: u32,
    failed: Option<Part>,
    slow: Option<(Duration, Part)>,
}

impl Rates {
    const NONE: Self = Self { window: Window::DEFAULT, min_calls: MIN_CALLS, failed: None, slow: None };

    fn are_wanted(&self) -> bool {
        self.failed.is_some() || self.slow.is_some()
    }

    /// From which duration on a call is slow, if that matters.
    pub(super) fn slow_from(&self) -> Option<Duration> {
        self.slow.map(|(time, _)| time)
    }

    /// What a call counts as; `None` if it does not count.
    pub(super) fn ended(verdict: Verdict, slow: bool) -> Option<Ended> {
        match verdict {
            Verdict::Success => Some(Ended { failed: false, slow }),
            Verdict::Failure | Verdict::Throttled { .. } => Some(Ended { failed: true, slow }),
            Verdict::Ignore | Verdict::Cancelled => None,
        }
    }

    /// Whether these are too many.
    pub(super) fn judge(&self, sums: Sums) -> Option<OpenCause> {
        if sums.calls < self.min_calls.min(self.window.calls_max()) {
            return None;
        }
        if self.failed.is_some_and(|part| part.is_reached(sums.failed, sums.calls)) {
            return Some(OpenCause::FailureRate);
        }
        let (_, part) = self.slow?;
        part.is_reached(sums.slow, sums.calls).then_some(OpenCause::SlowCalls)
    }
}

#[derive(Debug)]
pub(super) struct Policy {
    /// `None`: runs of failures do not matter.
    pub(super) failures_to_open: Option<u32>,
    pub(super) rates: Option<Rates>,
    pub(super) open_for: Backoff,
    pub(super) half_open: HalfOpen,
    /// A number from 0 to 1, each time another one.
    pub(super) chance: fn() -> f64,
}

/// Default of [`CircuitBreakerBuilder::consecutive_failures`].
const FAILURES_TO_OPEN: u32 = 5;

/// Default of [`CircuitBreakerBuilder::min_calls`].
const MIN_CALLS: u32 = 20;

pub(super) type Listener = dyn Fn(&Transition) + Send + Sync;

/// Builds a [`CircuitBreaker`].
#[must_use = "a builder does nothing until it builds"]
pub struct CircuitBreakerBuilder {
    name: Arc<str>,
    failures_to_open: Option<u32>,
    rates: Rates,
    open_for: Backoff,
    half_open: HalfOpen,
    listener: Option<Box<Listener>>,
}

impl CircuitBreakerBuilder {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            failures_to_open: None,
            rates: Rates::NONE,
            open_for: Backoff::fixed(Duration::from_secs(30)),
            half_open: HalfOpen::default(),
            listener: None,
        }
    }

    /// Opens after `count` failures in a row, 1 to 2 097 151. Default: 5, unless a rate is set.
    pub fn consecutive_failures(mut self, count: u32) -> Self {
        self.failures_to_open = Some(count.clamp(1, FAILURES_MAX));
        self
    }

    /// Opens when at least this part of the calls in `window` failed, above 0 to 1. Judged whenever a call fails, once
    /// there are [`min_calls`](Self::min_calls). Throttled calls count as failed here. Default: no rate.
    pub fn failure_rate(mut self, part: f64, window: Window) -> Self {
        self.rates.failed = Some(Part::new(part));
        self.rates.window = window;
        self
    }

    /// Opens when at least this `part` of the calls, above 0 to 1, took `time` or longer: failed ones too, and of an
    /// HTTP response only up to its head. Taken over the window of [`failure_rate`](Self::failure_rate), or else over
    /// 30 s. A probe that is slow has failed. Costs one clock read more per call. Default: time does not matter.
    pub fn slow_calls(mut self, time: Duration, part: f64) -> Self {
        self.rates.slow = Some((time, Part::new(part)));
        self
    }

    /// How many calls there must be in the window before a rate is judged, at least 1; all that it holds, if that are
    /// fewer. Default: 20.
    pub fn min_calls(mut self, calls: u32) -> Self {
        self.rates.min_calls = calls.max(1);
        self
    }

    /// Stays open for this long: a `Duration`, or a [`Backoff`]. Default: 30 s.
    pub fn open_for(mut self, time: impl Into<Backoff>) -> Self {
        self.open_for = time.into();
        self
    }

    /// How it finds out whether the service is back.
    pub fn half_open(mut self, half_open: HalfOpen) -> Self {
        self.half_open = HalfOpen {
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
        let Self { name, failures_to_open, rates, open_for, half_open, listener } = self;
        let rates = Some(rates).filter(Rates::are_wanted);
        let failures_to_open = failures_to_open.or_else(|| rates.is_none().then_some(FAILURES_TO_OPEN));
        let policy = Policy { failures_to_open, rates, open_for, half_open, chance: fastrand::f64 };
        CircuitBreaker::new(name, policy, listener)
    }
}

impl fmt::Debug for CircuitBreakerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerBuilder")
            .field("name", &self.name)
            .field("failures_to_open", &self.failures_to_open)
            .field("rates", &self.rates)
            .field("open_for", &self.open_for)
            .field("half_open", &self.half_open)
            .finish_non_exhaustive()
    }
}

//! What a breaker tells about itself. Plain values; nothing here changes a breaker.

use std::{fmt, sync::Arc, time::Duration};

/// The states of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CircuitState {
    /// Calls pass; failures are counted.
    Closed = 0,
    /// Calls are refused. Stays so after its time until somebody asks: that call is the first probe.
    Open = 1,
    /// A few calls pass as probes, the others are refused.
    HalfOpen = 2,
    /// Calls are refused until [`reset`](super::CircuitBreaker::reset).
    Isolated = 3,
    /// Calls pass and nothing is counted until [`reset`](super::CircuitBreaker::reset).
    Disabled = 4,
}

impl CircuitState {
    /// `closed`, `open`, `half_open`, `isolated` or `disabled`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Isolated => "isolated",
            Self::Disabled => "disabled",
        }
    }
}

impl fmt::Display for CircuitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A breaker at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The breaker's name.
    pub name: Arc<str>,
    /// Its state.
    pub state: CircuitState,
    /// Grows by one with every change of state.
    pub generation: u64,
    /// The run of failures so far, while closed; 0 in other states.
    pub consecutive_failures: u32,
    /// How much longer it is open; zero when the next call will be a probe; `None` in other states.
    pub open_for: Option<Duration>,
    /// Probes that hold a place; 0 unless half-open.
    pub probes_under_way: usize,
    /// How often it has opened, ever.
    pub opened_total: u64,
    /// How many calls it has refused, ever.
    pub rejected_total: u64,
}

/// A change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// The breaker's name.
    pub name: Arc<str>,
    /// The state before.
    pub from: CircuitState,
    /// The state after.
    pub to: CircuitState,
    /// The generation that began. Listeners may be called out of order by different threads: the highest is the newest.
    pub generation: u64,
    /// For how long, if it opened.
    pub open_for: Option<Duration>,
}

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

/// Why a circuit opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OpenCause {
    /// As many calls in a row failed as were allowed.
    ConsecutiveFailures,
    /// Too large a part of the recent calls failed.
    FailureRate,
    /// Too large a part of the recent calls was slow.
    SlowCalls,
    /// A probe of the half-open circuit failed.
    Probe,
}

impl OpenCause {
    /// `consecutive_failures`, `failure_rate`, `slow_calls` or `probe`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::FailureRate => "failure_rate",
            Self::SlowCalls => "slow_calls",
            Self::Probe => "probe",
        }
    }
}

impl fmt::Display for OpenCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The recent calls, as the rates of a breaker see them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecentCalls {
    /// How many there are in the window, up to 65,535 for each sixteenth of a window of time.
    pub calls: u32,
    /// How many of them failed, or were throttled.
    pub failed: u32,
    /// How many of them were slow.
    pub slow: u32,
}

/// A breaker at one moment. Its `Display` is a line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The breaker's name.
    pub name: Arc<str>,
    /// Its state.
    pub state: CircuitState,
    /// Grows by one with every change of state.
    pub generation: u64,
    /// The run of failures so far, while closed; 0 in other states, and if runs do not matter.
    pub consecutive_failures: u32,
    /// The recent calls, while closed; `None` in other states, and if no rate matters.
    pub recent: Option<RecentCalls>,
    /// Why it opened the last time, if ever.
    pub last_cause: Option<OpenCause>,
    /// How much longer it is open; zero when the next call will be a probe; `None` in other states.
    pub open_for: Option<Duration>,
    /// Probes that hold a place; 0 unless half-open.
    pub probes_under_way: usize,
    /// How often it has opened, ever.
    pub opened_total: u64,
    /// How many calls it has refused, ever.
    pub rejected_total: u64,
}

/// For example `orders: closed, 2 failures in a row, 3 of 40 calls failed; opened 1 time, refused 7 calls`.
impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.state)?;
        match (self.open_for, self.last_cause) {
            (Some(time), Some(cause)) => write!(f, " ({cause}) for {:.1} s more", time.as_secs_f64())?,
            (Some(time), None) => write!(f, " for {:.1} s more", time.as_secs_f64())?,
            (None, _) => {}
        }
        match self.consecutive_failures {
            0 => {}
            1 => write!(f, ", 1 failure in a row")?,
            run => write!(f, ", {run} failures in a row")?,
        }
        if let Some(RecentCalls { calls, failed, slow }) = self.recent {
            write!(f, ", {failed} of {calls} calls failed")?;
            if slow > 0 {
                write!(f, ", {slow} were slow")?;
            }
        }
        match self.probes_under_way {
            0 => {}
            1 => write!(f, ", 1 probe under way")?,
            probes => write!(f, ", {probes} probes under way")?,
        }
        let times = if self.opened_total == 1 { "time" } else { "times" };
        let calls = if self.rejected_total == 1 { "call" } else { "calls" };
        write!(f, "; opened {} {times}, refused {} {calls}", self.opened_total, self.rejected_total)
    }
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
    /// Why, if it opened.
    pub cause: Option<OpenCause>,
}

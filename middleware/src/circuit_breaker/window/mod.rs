//! What the recent calls were like: how many failed, how many were slow.
//!
//! Constant cost per call, whatever the rate of calls and the length of the window. Nothing here judges: that is
//! [`Rates`](super::builder::Rates). Invariant: a call counts only in the generation that admitted it; what an earlier
//! closed circuit counted is forgotten when it closes again.

mod count_ring;
mod time_ring;

use std::time::Duration;

use tokio::time::Instant;

use count_ring::CountRing;
use time_ring::TimeRing;

/// The shortest window, so that a part of it is longer than a clock's tick.
const TIME_MIN: Duration = Duration::from_millis(100);
/// A day.
const TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// What 64 KiB hold.
const COUNT_MAX: u32 = 65_536;

/// Which calls a rate is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window(Extent);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Time(Duration),
    Count(u32),
}

impl Window {
    /// Half a minute.
    pub(super) const DEFAULT: Self = Self(Extent::Time(Duration::from_secs(30)));

    /// The calls that ended within this time, 100 ms to a day. It moves in steps of a sixteenth, so what it covers is
    /// between fifteen sixteenths of the time and all of it. Costs a clock read per call and no lock.
    #[must_use]
    pub fn time(time: Duration) -> Self {
        Self(Extent::Time(time.clamp(TIME_MIN, TIME_MAX)))
    }

    /// The calls that ended last, 1 to 65,536 of them. Costs a lock per call, held for a few nanoseconds, and no clock.
    #[must_use]
    pub fn count(calls: u32) -> Self {
        Self(Extent::Count(calls.clamp(1, COUNT_MAX)))
    }

    /// The most calls that there can be in it.
    pub(super) fn calls_max(self) -> u32 {
        match self.0 {
            Extent::Time(_) => u32::MAX,
            Extent::Count(calls) => calls,
        }
    }
}

/// A call that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) failed: bool,
    pub(super) slow: bool,
}

/// The calls in a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) calls: u32,
    pub(super) failed: u32,
    pub(super) slow: u32,
}

/// The calls of one breaker, as far as its window reaches.
#[derive(Debug)]
pub(super) enum Recent {
    Time(TimeRing),
    Count(CountRing),
}

impl Recent {
    pub(super) fn new(window: Window) -> Self {
        match window.0 {
            Extent::Time(time) => Self::Time(TimeRing::new(time, Instant::now())),
            Extent::Count(calls) => Self::Count(CountRing::new(calls)),
        }
    }

    /// Counts a call that was admitted in `generation`; answers what there is now, if the call is one that a rate could
    /// have grown with.
    pub(super) fn record(&self, generation: u64, ended: Ended) -> Option<Sums> {
        let is_bad = ended.failed || ended.slow;
        match self {
            Self::Time(ring) => {
                let now = Instant::now();
                ring.record(generation, ended, now);
                is_bad.then(|| ring.sums(generation, now))
            }
            Self::Count(ring) => Some(ring.record(generation, ended)).filter(|_| is_bad),
        }
    }

    /// What there is.
    pub(super) fn sums(&self, generation: u64) -> Sums {
        match self {
            Self::Time(ring) => ring.sums(generation, Instant::now()),
            Self::Count(ring) => ring.sums(generation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_kept_within_their_bounds() {
        let of = |ms| Window::time(Duration::from_millis(ms));
        assert_eq!((of(0), of(99)), (of(100), of(100)));
        assert_ne!(of(100), of(101));
        assert_eq!(Window::time(Duration::MAX), of(86_400_000));
        assert_ne!(of(86_400_000), of(86_399_999));
        assert_eq!((Window::count(0), Window::count(u32::MAX)), (Window::count(1), Window::count(65_536)));
        assert_ne!(Window::count(65_536), Window::count(65_535));
    }
}

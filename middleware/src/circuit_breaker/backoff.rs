//! How long a circuit stays open. A pure function of how often it opened without closing in between.

use std::time::Duration;

/// A year: long enough for anyone, and safe to add to any clock.
const OPEN_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long a circuit stays open before it lets a probe through. At most a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
}

impl Backoff {
    /// Always the same time.
    #[must_use]
    pub fn fixed(time: Duration) -> Self {
        Self::exponential(time, time)
    }

    /// `min` at first, twice as long each time that a probe fails, at most `max` (or `min`, if that is more). Starts
    /// again at `min` once the circuit has closed.
    #[must_use]
    pub fn exponential(min: Duration, max: Duration) -> Self {
        let min = min.min(OPEN_MAX);
        Self { min, max: max.min(OPEN_MAX).max(min) }
    }

    /// The open time after `openings` openings in a row, this one included.
    pub(super) fn delay(&self, openings: u32) -> Duration {
        let doublings = openings.saturating_sub(1).min(31);
        self.min.checked_mul(1 << doublings).unwrap_or(self.max).min(self.max)
    }
}

impl From<Duration> for Backoff {
    fn from(time: Duration) -> Self {
        Self::fixed(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_the_maximum() {
        let backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(5));
        let seconds: Vec<u64> = (1..=5).map(|n| backoff.delay(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 5, 5]);
        assert_eq!(backoff.delay(u32::MAX), Duration::from_secs(5));
    }

    #[test]
    fn a_fixed_time_stays_and_nothing_overflows() {
        assert_eq!(Backoff::from(Duration::from_secs(30)).delay(9), Duration::from_secs(30));
        assert_eq!(Backoff::exponential(Duration::MAX, Duration::ZERO).delay(40), OPEN_MAX);
    }
}

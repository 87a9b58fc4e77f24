//! How long a circuit stays open. A pure function of how often it opened without closing in between.

use std::time::Duration;

/// A year: long enough for anyone, and safe to add to any clock.
const OPEN_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

const WHOLE: f64 = 1_000_000.0;

/// How long a circuit stays open before it lets a probe through. At most a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    /// The part of a delay that chance may take away or add, in millionths.
    jitter: u32,
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
        Self { min, max: max.min(OPEN_MAX).max(min), jitter: 0 }
    }

    /// Makes every delay longer or shorter by up to this part of it, 0 to 1, as chance wants, so that the callers of a
    /// service that failed do not all come back at the same moment. Default: 0.
    #[must_use]
    pub fn jitter(self, part: f64) -> Self {
        let jitter = if part.is_finite() { (part.clamp(0.0, 1.0) * WHOLE).round() as u32 } else { 0 };
        Self { jitter, ..self }
    }

    /// The open time after `openings` openings in a row, this one included; `chance` is from 0 to 1.
    pub(super) fn delay(&self, openings: u32, chance: f64) -> Duration {
        let doublings = openings.saturating_sub(1).min(31);
        let delay = self.min.checked_mul(1 << doublings).unwrap_or(self.max).min(self.max);
        let part = f64::from(self.jitter) / WHOLE;
        if self.jitter == 0 { delay } else { delay.mul_f64(1.0 + part * (2.0 * chance - 1.0)) }
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
        let seconds: Vec<u64> = (1..=5).map(|n| backoff.delay(n, 0.9).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 5, 5]);
        assert_eq!(backoff.delay(u32::MAX, 0.1), Duration::from_secs(5));
    }

    #[test]
    fn a_fixed_time_stays_and_nothing_overflows() {
        assert_eq!(Backoff::from(Duration::from_secs(30)).delay(9, 1.0), Duration::from_secs(30));
        let a_year = Duration::from_secs(31_536_000);
        assert_eq!(Backoff::exponential(Duration::MAX, Duration::ZERO).delay(40, 0.0), a_year);
    }

    #[test]
    fn chance_takes_away_or_adds_a_part_at_most() {
        let backoff = Backoff::exponential(Duration::from_secs(10), Duration::from_secs(20)).jitter(0.2);
        let delays = [0.0, 0.5, 1.0].map(|chance| backoff.delay(1, chance).as_millis());
        assert_eq!(delays, [8000, 10_000, 12_000]);
        assert_eq!(backoff.delay(5, 1.0), Duration::from_secs(24), "of the maximum, too");
        assert_eq!(backoff.jitter(f64::NAN).delay(1, 1.0), Duration::from_secs(10));
        assert_eq!(backoff.jitter(7.0).delay(1, 1.0), Duration::from_secs(20));
        assert!(Backoff::fixed(Duration::MAX).jitter(1.0).delay(9, 1.0) <= 2 * OPEN_MAX);
    }
}

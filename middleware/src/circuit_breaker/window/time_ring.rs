//! The calls of a stretch of time, in sixteen buckets that are used again and again. No lock.
//!
//! ```text
//!  now: epoch 37                     bucket  63      56 55       32 31      16 15     0
//!  ┌────┬────┬────┬─ … ─┬────┐              ┌──────────┬───────────┬──────────┬────────┐
//!  │ 32 │ 33 │ 34 │     │ 31 │  37 % 16 = 5 │ gen.   8 │ epoch  24 │ failed 16│ calls 16│
//!  └────┴────┴────┴─ … ─┴────┘              └──────────┴───────────┴──────────┴────────┘
//! ```
//!
//! Each bucket says what it is about: which generation of the circuit, which sixteenth of which window. Whoever comes
//! with a newer one begins it anew, in the same compare-and-swap that counts the call; whoever comes with an older one
//! has no say; whoever adds up leaves out what is about something else. So nothing is ever cleared, and no counter can
//! be cleared between two halves of somebody's step. Slow calls have a word of their own, made the same way.
//!
//! A bucket that is full counts no more: its first 65,535 calls speak for the others.

use std::time::Duration;

use tokio::time::Instant;

use super::{Ended, Sums};
use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

const BUCKETS: u64 = 16;
const EPOCH_BITS: u32 = 24;
const COUNT_BITS: u32 = 16;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const ABOUT_SHIFT: u32 = 2 * COUNT_BITS;
/// Between looking at the circuit and counting nobody is later than this, in buckets and in generations. What seems
/// later still is not: the numbers have gone once round.
const LATE_MAX: u64 = 1 << 12;
const GENERATIONS_LATE_MAX: u64 = 16;

#[derive(Debug)]
pub(in crate::circuit_breaker) struct TimeRing {
    begun: Instant,
    /// How long a bucket is, in nanoseconds.
    width: u64,
    buckets: Box<[Bucket; BUCKETS as usize]>,
}

#[derive(Debug, Default)]
struct Bucket {
    calls: AtomicU64,
    slow: AtomicU64,
}

/// What a bucket is about: a generation and an epoch, as far as their bits go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct About(u64);

impl About {
    fn new(generation: u64, epoch: u64) -> Self {
        Self((generation & 0xff) << EPOCH_BITS | epoch & ((1 << EPOCH_BITS) - 1))
    }

    /// Whether somebody who is about this came too late for a bucket that is about `other`.
    fn is_older_than(self, other: Self) -> bool {
        let ahead = |bits: u32, a: u64, b: u64| b.wrapping_sub(a) & ((1 << bits) - 1);
        match ahead(8, self.0 >> EPOCH_BITS, other.0 >> EPOCH_BITS) {
            0 => (1..LATE_MAX).contains(&ahead(EPOCH_BITS, self.0, other.0)),
            generations => generations < GENERATIONS_LATE_MAX,
        }
    }
}

/// The word of a bucket: adds `low` and `high` to its counts, or begins it with them. Answers whether they count.
fn add(word: &AtomicU64, about: About, low: u64, high: u64) -> bool {
    let mut current = word.load(Relaxed);
    loop {
        let found = About(current >> ABOUT_SHIFT);
        let next = if found == about {
            if current & COUNT_MAX == COUNT_MAX {
                return false;
            }
            current + (high << COUNT_BITS | low)
        } else if about.is_older_than(found) {
            return false;
        } else {
            about.0 << ABOUT_SHIFT | high << COUNT_BITS | low
        };
        match word.compare_exchange_weak(current, next, AcqRel, Relaxed) {
            Ok(_) => return true,
            Err(now) => current = now,
        }
    }
}

impl TimeRing {
    pub(super) fn new(window: Duration, begun: Instant) -> Self {
        let width = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX) / BUCKETS;
        Self { begun, width: width.max(1), buckets: Box::default() }
    }

    pub(super) fn record(&self, generation: u64, ended: Ended, now: Instant) {
        let epoch = self.epoch(now);
        let about = About::new(generation, epoch);
        let bucket = &self.buckets[(epoch % BUCKETS) as usize];
        if add(&bucket.calls, about, 1, u64::from(ended.failed)) && ended.slow {
            add(&bucket.slow, about, 1, 0);
        }
    }

    pub(super) fn sums(&self, generation: u64, now: Instant) -> Sums {
        let epoch = self.epoch(now);
        let mut sums = Sums::default();
        for epoch in epoch.saturating_sub(BUCKETS - 1)..=epoch {
            let bucket = &self.buckets[(epoch % BUCKETS) as usize];
            let about = About::new(generation, epoch);
            let calls = bucket.calls.load(Acquire);
            if About(calls >> ABOUT_SHIFT) == about {
                sums.calls += (calls & COUNT_MAX) as u32;
                sums.failed += (calls >> COUNT_BITS & COUNT_MAX) as u32;
            }
            let slow = bucket.slow.load(Acquire);
            if About(slow >> ABOUT_SHIFT) == about {
                sums.slow += (slow & COUNT_MAX) as u32;
            }
        }
        sums
    }

    fn epoch(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.begun).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX) / self.width
    }
}

#[cfg(all(test, not(campanile_loom)))]
mod tests {
    use super::*;

    const FAILED: Ended = Ended { failed: true, slow: false };
    const SLOW: Ended = Ended { failed: false, slow: true };
    const FINE: Ended = Ended { failed: false, slow: false };
    const SECOND: Duration = Duration::from_secs(1);

    fn sums(calls: u32, failed: u32, slow: u32) -> Sums {
        Sums { calls, failed, slow }
    }

    /// A window of sixteen seconds, and when it began.
    fn ring() -> (TimeRing, Instant) {
        let now = Instant::now();
        (TimeRing::new(16 * SECOND, now), now)
    }

    #[test]
    fn a_call_counts_for_the_window_and_not_longer() {
        let (ring, begun) = ring();
        let now = begun + 100 * SECOND;
        ring.record(0, FAILED, now);
        ring.record(0, SLOW, now + SECOND / 2);
        ring.record(0, FINE, now + SECOND);
        assert_eq!(ring.sums(0, now + SECOND), sums(3, 1, 1));
        assert_eq!(ring.sums(0, now + 16 * SECOND - SECOND / 100), sums(3, 1, 1));
        assert_eq!(ring.sums(0, now + 16 * SECOND), sums(1, 0, 0));
        assert_eq!(ring.sums(0, now + 17 * SECOND), sums(0, 0, 0));
    }

    #[test]
    fn a_bucket_begins_anew_when_its_turn_comes_again() {
        let (ring, begun) = ring();
        for second in 0..1000 {
            ring.record(0, FAILED, begun + second * SECOND);
        }
        assert_eq!(ring.sums(0, begun + 999 * SECOND), sums(16, 16, 0));
    }

    #[test]
    fn who_is_late_has_no_say_and_who_was_away_for_long_has() {
        let (ring, begun) = ring();
        let now = begun + 100 * SECOND;
        ring.record(0, FINE, now);
        ring.record(0, FAILED, now - 16 * SECOND);
        assert_eq!(ring.sums(0, now), sums(1, 0, 0));
        // The number of the epoch has no more bits: it seems to lie before the one that is there.
        let much_later = now + SECOND * (1 << EPOCH_BITS) - 16 * SECOND * (LATE_MAX as u32);
        ring.record(0, FAILED, much_later);
        assert_eq!(ring.sums(0, much_later), sums(1, 1, 0));
    }

    #[test]
    fn a_generation_begins_with_nothing_and_an_earlier_one_has_no_say() {
        let (ring, begun) = ring();
        let now = begun + 100 * SECOND;
        for generation in [0, 200, 300, 513] {
            ring.record(generation, FAILED, now);
            ring.record(generation + 3, FINE, now);
            ring.record(generation + 3, SLOW, now);
            ring.record(generation, FAILED, now);
            assert_eq!(ring.sums(generation + 3, now), sums(2, 0, 1), "after {generation}");
            assert_eq!(ring.sums(generation, now), sums(0, 0, 0), "of {generation}");
        }
    }

    #[test]
    fn a_full_bucket_speaks_for_the_calls_behind_it() {
        let (ring, now) = ring();
        for n in 0..200_000 {
            ring.record(0, Ended { failed: n % 4 == 0, slow: n % 2 == 0 }, now);
        }
        assert_eq!(ring.sums(0, now), sums(65_535, 16_384, 32_768));
        ring.record(0, FAILED, now + SECOND);
        assert_eq!(ring.sums(0, now + SECOND), sums(65_536, 16_385, 32_768));
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let (ring, now) = ring();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let ring = &ring;
                scope.spawn(move || {
                    for n in 0..10_000 {
                        ring.record(0, Ended { failed: n % 2 == 0, slow: thread == 0 }, now + n * SECOND / 1000);
                    }
                });
            }
        });
        assert_eq!(ring.sums(0, now + 10 * SECOND), sums(40_000, 20_000, 10_000));
    }

    #[test]
    fn who_seems_sixteen_generations_late_is_of_a_new_one() {
        // The numbers of generations have 8 bits: 256 looks like 0.
        for (found, counts) in [(15, false), (16, true)] {
            let (ring, now) = ring();
            ring.record(found, FINE, now);
            ring.record(256, FAILED, now);
            let expected = if counts { sums(1, 1, 0) } else { sums(0, 0, 0) };
            assert_eq!(ring.sums(256, now), expected, "after {found}");
        }
    }
}

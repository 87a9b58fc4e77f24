//! The last calls, one by one, with running sums: a call goes in, the oldest goes out.

use crate::sync::{Mutex, PoisonError};

use super::{Ended, Sums};

/// The ring. The lock is held for a few additions, and nothing else is taken under it.
#[derive(Debug)]
pub(in crate::circuit_breaker) struct CountRing {
    calls: Mutex<Calls>,
}

#[derive(Debug)]
struct Calls {
    /// Those who ended while this one was on.
    generation: u64,
    ended: Box<[Ended]>,
    next: usize,
    sums: Sums,
}

impl CountRing {
    pub(super) fn new(calls: u32) -> Self {
        let ended = vec![Ended { failed: false, slow: false }; calls as usize].into_boxed_slice();
        Self { calls: Mutex::new(Calls { generation: 0, ended, next: 0, sums: Sums::default() }) }
    }

    /// Counts the call, if its generation is not over; answers what there is.
    pub(super) fn record(&self, generation: u64, ended: Ended) -> Sums {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if generation > calls.generation {
            (calls.generation, calls.next, calls.sums) = (generation, 0, Sums::default());
        }
        if generation == calls.generation {
            calls.push(ended);
        }
        calls.sums
    }

    pub(super) fn sums(&self, generation: u64) -> Sums {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.generation == generation { calls.sums } else { Sums::default() }
    }
}

impl Calls {
    fn push(&mut self, ended: Ended) {
        let next = self.next;
        let oldest = std::mem::replace(&mut self.ended[next], ended);
        if self.sums.calls as usize == self.ended.len() {
            self.sums.failed -= u32::from(oldest.failed);
            self.sums.slow -= u32::from(oldest.slow);
        } else {
            self.sums.calls += 1;
        }
        self.sums.failed += u32::from(ended.failed);
        self.sums.slow += u32::from(ended.slow);
        self.next = if next + 1 == self.ended.len() { 0 } else { next + 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: Ended = Ended { failed: true, slow: false };
    const SLOW: Ended = Ended { failed: false, slow: true };
    const FINE: Ended = Ended { failed: false, slow: false };

    fn sums(calls: u32, failed: u32, slow: u32) -> Sums {
        Sums { calls, failed, slow }
    }

    #[test]
    fn the_oldest_call_goes_when_the_next_comes() {
        let ring = CountRing::new(3);
        assert_eq!(ring.record(0, FAILED), sums(1, 1, 0));
        assert_eq!(ring.record(0, SLOW), sums(2, 1, 1));
        assert_eq!(ring.record(0, FINE), sums(3, 1, 1));
        assert_eq!(ring.record(0, FINE), sums(3, 0, 1));
        assert_eq!(ring.record(0, FAILED), sums(3, 1, 0));
        assert_eq!(ring.record(0, Ended { failed: true, slow: true }), sums(3, 2, 1));
        assert_eq!(ring.sums(0), sums(3, 2, 1));
    }

    #[test]
    fn a_generation_begins_with_nothing_and_an_earlier_one_has_no_say() {
        let ring = CountRing::new(2);
        ring.record(0, FAILED);
        assert_eq!(ring.sums(3), sums(0, 0, 0));
        assert_eq!(ring.record(3, FINE), sums(1, 0, 0));
        assert_eq!(ring.record(0, FAILED), sums(1, 0, 0));
        assert_eq!(ring.record(3, FAILED), sums(2, 1, 0));
        assert_eq!(ring.record(3, FINE), sums(2, 1, 0));
        assert_eq!(ring.record(3, FINE), sums(2, 0, 0));
    }

    #[test]
    fn after_many_successes_as_few_failures_are_seen_as_after_none() {
        let ring = CountRing::new(100);
        for _ in 0..100_000 {
            ring.record(0, FINE);
        }
        for failed in 1..=50 {
            assert_eq!(ring.record(0, FAILED), sums(100, failed, 0));
        }
    }
}

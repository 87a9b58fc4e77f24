//! How many requests may be repeated, over all requests together: so that failover does not multiply an overload.
//!
//! No clock and no lock. Invariant: over any stretch of requests, at most `reserve` + `percent` % of them are repeated.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

/// A token bucket that requests fill and repeats empty.
///
/// Only the repeats of what may have been processed are paid for: those add load to instances. An attempt that never
/// started is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget {
    /// How many repeats each hundred requests pay for. Default: 20, as in Finagle and linkerd.
    pub percent: u32,
    /// How many repeats can be saved up, and are there at the beginning. At least 1. Default: 10.
    pub reserve: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, reserve: 10 }
    }
}

/// What one repeat costs; a request pays in `percent`.
const REPEAT: u64 = 100;

/// A budget in use.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: AtomicU64,
    per_request: u64,
    max: u64,
}

impl Bucket {
    pub(super) fn new(budget: RetryBudget) -> Self {
        let max = u64::from(budget.reserve.max(1)) * REPEAT;
        Self { tokens: AtomicU64::new(max), per_request: u64::from(budget.percent), max }
    }

    /// A request came.
    pub(super) fn deposit(&self) {
        // The common case writes nothing, so that requests on different cores do not wait for each other.
        if self.tokens.load(Relaxed) < self.max {
            let add = |tokens: u64| Some((tokens + self.per_request).min(self.max));
            let _ = self.tokens.fetch_update(AcqRel, Acquire, add);
        }
    }

    /// Whether a repeat is paid for.
    pub(super) fn withdraw(&self) -> bool {
        self.tokens.fetch_update(AcqRel, Acquire, |tokens| tokens.checked_sub(REPEAT)).is_ok()
    }

    /// How many repeats are paid for now.
    pub(super) fn left(&self) -> u32 {
        u32::try_from(self.tokens.load(Acquire) / REPEAT).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn five_requests_pay_for_one_repeat() {
        let bucket = Bucket::new(RetryBudget { percent: 20, reserve: 1 });
        assert!(bucket.withdraw());
        assert!(!bucket.withdraw());
        (0..4).for_each(|_| bucket.deposit());
        assert!(!bucket.withdraw());
        bucket.deposit();
        assert_eq!(bucket.left(), 1);
        assert!(bucket.withdraw());
    }

    #[test]
    fn no_more_is_saved_up_than_the_reserve() {
        let bucket = Bucket::new(RetryBudget { percent: 100, reserve: 3 });
        (0..1000).for_each(|_| bucket.deposit());
        assert_eq!((0..10).filter(|_| bucket.withdraw()).count(), 3);
        assert_eq!(Bucket::new(RetryBudget { percent: 0, reserve: 0 }).left(), 1);
    }

    proptest! {
        #[test]
        fn repeats_never_exceed_the_budget(percent in 0_u32..200, reserve in 1_u32..20, steps in prop::collection::vec(any::<bool>(), 0..500)) {
            let bucket = Bucket::new(RetryBudget { percent, reserve });
            let (mut requests, mut repeats) = (0_u64, 0_u64);
            for is_request in steps {
                if is_request {
                    bucket.deposit();
                    requests += 1;
                } else if bucket.withdraw() {
                    repeats += 1;
                }
                prop_assert!(repeats * REPEAT <= u64::from(reserve) * REPEAT + requests * u64::from(percent));
            }
        }
    }
}

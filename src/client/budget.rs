//! How many calls may be repeated: a fixed share of those that succeed, so that a broker in trouble is not drowned by the
//! repetitions of all its clients. Pure: no clock.

use std::sync::{Mutex, PoisonError};

/// As gRPC's own retry throttling counts (proposal A6): a failure takes a token, a success gives a part of one back, and
/// nothing is repeated while half of them or fewer are left.
const TOKENS_MAX: u32 = 10;

/// Successes that make up for one failure.
const SUCCESSES_PER_TOKEN: u32 = 10;

/// Shared by all clones of a client.
#[derive(Debug)]
pub(super) struct Budget {
    /// In parts of a token, [`SUCCESSES_PER_TOKEN`] to one.
    parts: Mutex<u32>,
}

impl Budget {
    const PARTS_MAX: u32 = TOKENS_MAX * SUCCESSES_PER_TOKEN;

    pub(super) fn full() -> Self {
        Self { parts: Mutex::new(Self::PARTS_MAX) }
    }

    /// A call was answered.
    pub(super) fn succeeded(&self) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        *parts = Self::PARTS_MAX.min(*parts + 1);
    }

    /// A call failed in a way that a repetition may mend. Whether one may be made.
    pub(super) fn failed(&self) -> bool {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        *parts = parts.saturating_sub(SUCCESSES_PER_TOKEN);
        *parts > Self::PARTS_MAX / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_end_when_half_is_used_up_and_come_back_with_successes() {
        let budget = Budget::full();
        let allowed = (0..20).filter(|_| budget.failed()).count();
        assert_eq!(allowed, 4);
        // All tokens are gone: six of them have to be earned before one is spent and more than half is left.
        (0..69).for_each(|_| budget.succeeded());
        assert!(budget.failed(), "59 parts are left");
        assert!(!budget.failed(), "49 parts are left");
    }

    #[test]
    fn successes_are_not_saved_up() {
        let budget = Budget::full();
        (0..1000).for_each(|_| budget.succeeded());
        assert_eq!((0..20).filter(|_| budget.failed()).count(), 4);
    }
}

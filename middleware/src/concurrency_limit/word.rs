//! Limit and requests in flight in one machine word, so that a place costs one compare-and-swap and no lock.
//!
//! ```text
//!  63            33    32      31         0
//! ┌────────────────┬─────────┬─────────────┐
//! │ limit       31 │ waiting │ in flight 32 │
//! └────────────────┴─────────┴─────────────┘
//! ```
//!
//! Invariant: while `waiting` is set, nobody takes or gives back a place without the lock of the queue; so a place that
//! becomes free goes to who has waited longest.

/// The highest limit there is.
pub(super) const LIMIT_MAX: usize = (1 << 31) - 1;

const IN_FLIGHT: u64 = (1 << 32) - 1;
const WAITING: u64 = 1 << 32;
const LIMIT_SHIFT: u32 = 33;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    /// Nothing in flight. `limit` is capped at [`LIMIT_MAX`].
    pub(super) fn new(limit: usize) -> Self {
        Self((limit.min(LIMIT_MAX) as u64) << LIMIT_SHIFT)
    }

    #[inline]
    pub(super) fn limit(self) -> usize {
        (self.0 >> LIMIT_SHIFT) as usize
    }

    #[inline]
    pub(super) fn in_flight(self) -> usize {
        (self.0 & IN_FLIGHT) as usize
    }

    #[inline]
    pub(super) fn is_waiting(self) -> bool {
        self.0 & WAITING != 0
    }

    /// One place taken by somebody who just came; `None` if none is free, or others wait for it.
    #[inline]
    pub(super) fn take(self) -> Option<Self> {
        if self.is_waiting() { None } else { self.take_waited_for() }
    }

    /// One place taken by who has waited longest.
    #[inline]
    pub(super) fn take_waited_for(self) -> Option<Self> {
        (self.in_flight() < self.limit()).then_some(Self(self.0 + 1))
    }

    /// One place given back by somebody who holds one.
    #[inline]
    pub(super) fn give(self) -> Self {
        debug_assert!(self.in_flight() > 0, "only what was taken is given back");
        Self(self.0 - 1)
    }

    pub(super) fn with_waiting(self, waiting: bool) -> Self {
        Self(if waiting { self.0 | WAITING } else { self.0 & !WAITING })
    }

    pub(super) fn with_limit(self, limit: usize) -> Self {
        Self(Self::new(limit).0 | self.0 & (IN_FLIGHT | WAITING))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_do_not_touch() {
        let word = Word::new(usize::MAX);
        assert_eq!((word.limit(), word.in_flight(), word.is_waiting()), (LIMIT_MAX, 0, false));
        let word = word.take().expect("free").with_waiting(true);
        assert_eq!((word.limit(), word.in_flight(), word.is_waiting()), (LIMIT_MAX, 1, true));
        let word = word.with_limit(7);
        assert_eq!((word.limit(), word.in_flight(), word.is_waiting()), (7, 1, true));
        assert_eq!(word.with_waiting(false).give(), Word::new(7));
    }

    #[test]
    fn no_more_are_taken_than_the_limit_however_it_changes() {
        let full = Word::new(2).take().and_then(Word::take).expect("two are free");
        assert_eq!(full.take(), None);
        assert_eq!(full.with_limit(1).give().take(), None, "one is still in flight");
        assert_eq!(full.with_limit(3).take().map(Word::in_flight), Some(3));
    }

    #[test]
    fn nobody_overtakes_who_waits() {
        let word = Word::new(1).with_waiting(true);
        assert_eq!(word.take(), None);
        assert_eq!(word.take_waited_for().map(Word::in_flight), Some(1));
    }
}

//! The circuit in one machine word, so that a closed circuit costs one load and no lock.
//!
//! ```text
//!  63                    24 23           3 2   0
//! ┌────────────────────────┬──────────────┬─────┐
//! │ generation          40 │ failures  21 │ tag │
//! └────────────────────────┴──────────────┴─────┘
//! ```
//!
//! Invariant: the generation changes with every change of the tag, so that a compare-and-swap of the failures can never
//! touch a later state than the one it read.

use super::{CircuitState, builder::FAILURES_MAX};
use crate::Verdict;

const TAG_BITS: u32 = 3;
const FAILURES_BITS: u32 = 21;
const GENERATION_SHIFT: u32 = TAG_BITS + FAILURES_BITS;
const _: () = assert!(FAILURES_MAX < 1 << FAILURES_BITS, "a run of failures must fit");

/// State, generation and current run of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

/// What a verdict makes of a closed circuit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// Nothing changes.
    Keep,
    /// The run of failures is now as in this word.
    Swap(Word),
    /// The run is long enough: the circuit opens.
    Trip,
}

impl Word {
    #[inline]
    pub(super) fn new(generation: u64, state: CircuitState) -> Self {
        Self(generation << GENERATION_SHIFT | state as u64)
    }

    #[inline]
    pub(super) fn generation(self) -> u64 {
        self.0 >> GENERATION_SHIFT
    }

    #[inline]
    pub(super) fn failures(self) -> u32 {
        (self.0 >> TAG_BITS) as u32 & FAILURES_MAX
    }

    #[inline]
    pub(super) fn state(self) -> CircuitState {
        match self.0 & ((1 << TAG_BITS) - 1) {
            0 => CircuitState::Closed,
            1 => CircuitState::Open,
            2 => CircuitState::HalfOpen,
            3 => CircuitState::Isolated,
            _ => CircuitState::Disabled,
        }
    }

    #[inline]
    fn with_failures(self, failures: u32) -> Self {
        let mask = u64::from(FAILURES_MAX) << TAG_BITS;
        Self(self.0 & !mask | u64::from(failures) << TAG_BITS)
    }

    /// Counts the verdict of a call that was admitted in `generation`. Of a generation that is over, or of a state
    /// that does not count, nothing changes.
    #[inline]
    pub(super) fn count(self, generation: u64, verdict: Verdict, failures_to_open: Option<u32>) -> Count {
        if self.state() != CircuitState::Closed || self.generation() != generation {
            return Count::Keep;
        }
        let Some(failures_to_open) = failures_to_open else { return Count::Keep };
        match (verdict, self.failures()) {
            (Verdict::Failure, failures) if failures + 1 >= failures_to_open => Count::Trip,
            (Verdict::Failure, failures) => Count::Swap(self.with_failures(failures + 1)),
            (Verdict::Success, 0) => Count::Keep,
            (Verdict::Success, _) => Count::Swap(self.with_failures(0)),
            (Verdict::Throttled { .. } | Verdict::Ignore | Verdict::Cancelled, _) => Count::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: Option<u32> = Some(2);

    #[test]
    fn the_parts_do_not_touch() {
        let word = Word::new(0xff_ffff_ffff, CircuitState::Disabled).with_failures(FAILURES_MAX);
        assert_eq!((word.generation(), word.failures()), (0xff_ffff_ffff, FAILURES_MAX));
        assert_eq!(word.state(), CircuitState::Disabled);
        assert_eq!(word.with_failures(0), Word::new(0xff_ffff_ffff, CircuitState::Disabled));
    }

    #[test]
    fn a_run_of_failures_is_counted_and_ended() {
        let word = Word::new(7, CircuitState::Closed);
        assert_eq!(word.count(7, Verdict::Success, TWO), Count::Keep);
        assert_eq!(word.count(7, Verdict::Failure, TWO), Count::Swap(word.with_failures(1)));
        let once = word.with_failures(1);
        assert_eq!(once.count(7, Verdict::Failure, TWO), Count::Trip);
        assert_eq!(once.count(7, Verdict::Success, TWO), Count::Swap(word));
        assert_eq!(once.count(7, Verdict::Throttled { retry_after: None }, TWO), Count::Keep);
        assert_eq!(once.count(7, Verdict::Cancelled, TWO), Count::Keep);
        assert_eq!(once.count(7, Verdict::Failure, None), Count::Keep);
    }

    #[test]
    fn another_generation_has_no_say() {
        let once = Word::new(7, CircuitState::Closed).with_failures(1);
        assert_eq!(once.count(6, Verdict::Success, TWO), Count::Keep);
        assert_eq!(once.count(6, Verdict::Failure, TWO), Count::Keep);
        assert_eq!(Word::new(7, CircuitState::Disabled).count(7, Verdict::Failure, Some(1)), Count::Keep);
    }
}

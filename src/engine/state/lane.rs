//! The messages of one ordering key that wait in a queue: one of them at a time can be handed out, the others are behind it.
//!
//! Not here: which of the lanes comes next (see [`super::lanes`]).

use std::{collections::BTreeSet, ops::Range};

use super::seq_set::SeqSet;
use crate::model::Seq;

/// About what a lane takes in memory beside its places, in bytes.
const LANE_BYTES: usize = 256;

/// When a message has its turn: after all of smaller numbers, and not before the queue has looked so far, unless there is
/// nothing to look at. The default is now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::engine) struct Turn {
    number: u64,
    looks: u64,
}

impl Turn {
    pub(super) fn new(number: u64, looks: u64) -> Self {
        Self { number, looks }
    }

    /// How far the queue looks for others before it.
    pub(in crate::engine) fn looks(self) -> u64 {
        self.looks
    }
}

/// The lane of a key.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Those that were handed out and came back.
    back: BTreeSet<Seq>,
    /// Those that were never handed out.
    passed_over: SeqSet,
    /// Into how many stretches of neighbours the latter fall.
    stretches: u64,
    /// How many messages of it consumers hold: one at most, as far as who decides sees to it.
    pub(super) held_count: u32,
    /// When the next of it has its turn.
    pub(super) turn: Turn,
    /// Which of it is listed.
    pub(super) listed: Option<Seq>,
}

impl Lane {
    /// The first that waits.
    pub(super) fn head(&self) -> Option<Seq> {
        self.back.first().copied().into_iter().chain(self.passed_over.first()).min()
    }

    /// The first that waits behind `seq`.
    pub(super) fn after(&self, seq: Seq) -> Option<Seq> {
        let back = self.back.range(seq.next()..).next().copied();
        back.into_iter().chain(self.passed_over.from(seq.next()).next()).min()
    }

    pub(super) fn len(&self) -> usize {
        self.back.len() + self.passed_over.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn passed_over(&self) -> &SeqSet {
        &self.passed_over
    }

    pub(super) fn stretches(&self) -> u64 {
        self.stretches
    }

    /// About what those take in memory that were passed over, in bytes.
    pub(super) fn passed_over_bytes(&self) -> usize {
        if self.passed_over.is_empty() { 0 } else { LANE_BYTES + self.passed_over.bytes() }
    }

    pub(super) fn insert_back(&mut self, seq: Seq) {
        self.back.insert(seq);
    }

    pub(super) fn remove_back(&mut self, seq: Seq) {
        self.back.remove(&seq);
    }

    /// A range none of which is in it is passed over.
    pub(super) fn pass_over(&mut self, range: Range<Seq>) {
        if range.is_empty() {
            return;
        }
        self.stretches += 1;
        self.stretches -= self.neighbours(&range);
        self.passed_over.insert_all(range);
    }

    /// The same of places that may be in it.
    pub(super) fn pass_over_all(&mut self, places: &SeqSet) {
        self.passed_over.insert_set(places);
        self.stretches = self.passed_over.stretches();
    }

    /// Takes out one that was passed over.
    pub(super) fn remove_passed_over(&mut self, seq: Seq) {
        if self.passed_over.remove(seq) {
            self.stretches = (self.stretches + self.neighbours(&(seq..seq.next()))).saturating_sub(1);
        }
    }

    /// Takes out all that were passed over and stand before `end`.
    pub(super) fn remove_passed_over_before(&mut self, end: Seq) {
        self.passed_over.remove_before(end);
        self.stretches = self.passed_over.stretches();
    }

    /// Whether the place before `seq` was passed over.
    pub(super) fn goes_on(&self, seq: Seq) -> bool {
        seq.0.checked_sub(1).is_some_and(|before| self.passed_over.contains(Seq(before)))
    }

    /// How many of the two places next to a range were passed over.
    fn neighbours(&self, range: &Range<Seq>) -> u64 {
        u64::from(self.goes_on(range.start)) + u64::from(self.passed_over.contains(range.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_what_came_back_and_what_was_passed_over_is_the_head() {
        let mut lane = Lane::default();
        lane.pass_over(Seq(3)..Seq(6));
        assert_eq!((lane.head(), lane.after(Seq(3)), lane.after(Seq(5))), (Some(Seq(3)), Some(Seq(4)), None));
        lane.insert_back(Seq(1));
        lane.insert_back(Seq(9));
        assert_eq!((lane.head(), lane.after(Seq(1)), lane.after(Seq(5))), (Some(Seq(1)), Some(Seq(3)), Some(Seq(9))));
        assert_eq!((lane.len(), lane.is_empty()), (5, false));
        assert_eq!(lane.passed_over_bytes(), LANE_BYTES + lane.passed_over().bytes());
        lane.remove_back(Seq(1));
        lane.remove_passed_over(Seq(3));
        assert_eq!((lane.head(), lane.len()), (Some(Seq(4)), 3));
        lane.remove_passed_over_before(Seq(9));
        assert_eq!((lane.head(), lane.passed_over_bytes()), (Some(Seq(9)), 0));
    }

    #[test]
    fn stretches_of_neighbours_are_counted_as_they_join_and_part() {
        let mut lane = Lane::default();
        let mut after = |change: &dyn Fn(&mut Lane)| {
            change(&mut lane);
            assert_eq!(lane.stretches(), lane.passed_over().stretches());
            lane.stretches()
        };
        assert_eq!(after(&|lane| lane.pass_over(Seq(0)..Seq(3))), 1);
        assert_eq!(after(&|lane| lane.pass_over(Seq(5)..Seq(5))), 1);
        assert_eq!(after(&|lane| lane.pass_over(Seq(5)..Seq(7))), 2);
        assert_eq!(after(&|lane| lane.pass_over(Seq(4)..Seq(5))), 2);
        assert_eq!(after(&|lane| lane.pass_over(Seq(3)..Seq(4))), 1);
        assert_eq!(after(&|lane| lane.remove_passed_over(Seq(2))), 2);
        assert_eq!(after(&|lane| lane.remove_passed_over(Seq(2))), 2);
        assert_eq!(after(&|lane| lane.remove_passed_over(Seq(0))), 2);
        assert_eq!(after(&|lane| lane.remove_passed_over(Seq(1))), 1);
        assert_eq!(after(&|lane| lane.pass_over_all(&[Seq(5), Seq(8), Seq(9)].into_iter().collect())), 2);
        assert_eq!(after(&|lane| lane.remove_passed_over_before(Seq(8))), 1);
    }
}

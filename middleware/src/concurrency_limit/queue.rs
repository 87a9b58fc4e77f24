//! Who waits for a place, in the order they came. Pure: no lock, no clock, no runtime.
//!
//! ```text
//!  join ──▶ waiting ──grant──▶ granted ──collect──▶ (has a place)
//!              │                  │
//!              └──────leave───────┴──────▶ (gone; a granted place is to be given back)
//! ```
//!
//! Invariant: a number is in one of the two at most, and leaves it exactly once.

use std::{
    collections::{BTreeMap, BTreeSet},
    task::Waker,
};

#[derive(Debug, Default)]
pub(super) struct Queue {
    next: u64,
    /// By number, hence in order of arrival; the waker of who was polled.
    waiting: BTreeMap<u64, Option<Waker>>,
    /// Those who have a place and have not been told yet.
    granted: BTreeSet<u64>,
}

/// How somebody left the queue.
#[derive(Debug)]
pub(super) enum Left {
    /// Without a place. The waker is to be dropped outside the lock: that may run code of anybody's.
    Waiting(Option<Waker>),
    /// With a place, which is to be given back.
    Granted,
    /// Long ago.
    Before,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Gets in line, behind all others.
    pub(super) fn join(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        self.waiting.insert(number, None);
        number
    }

    /// Grants a place to who has waited longest; its waker, if it was polled.
    pub(super) fn grant(&mut self) -> Option<Waker> {
        let (number, waker) = self.waiting.pop_first()?;
        self.granted.insert(number);
        waker
    }

    /// Whether `number` was granted a place; it is its own to keep then. Else its `waker` is called when that happens,
    /// and the one known before is in its stead.
    pub(super) fn collect(&mut self, number: u64, waker: &mut Option<Waker>) -> bool {
        if self.granted.remove(&number) {
            return true;
        }
        if let Some(known) = self.waiting.get_mut(&number) {
            std::mem::swap(known, waker);
        }
        false
    }

    pub(super) fn leave(&mut self, number: u64) -> Left {
        if let Some(waker) = self.waiting.remove(&number) {
            Left::Waiting(waker)
        } else if self.granted.remove(&number) {
            Left::Granted
        } else {
            Left::Before
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_granted(queue: &mut Queue, number: u64) -> bool {
        queue.collect(number, &mut Some(Waker::noop().clone()))
    }

    #[test]
    fn places_are_granted_in_the_order_of_arrival() {
        let mut queue = Queue::default();
        let [first, second, third] = [queue.join(), queue.join(), queue.join()];
        assert!(!is_granted(&mut queue, second));
        assert!(queue.grant().is_none(), "the first was not polled yet");
        assert!(matches!(queue.leave(second), Left::Waiting(Some(_))));
        assert!(queue.grant().is_none());
        assert_eq!((is_granted(&mut queue, first), is_granted(&mut queue, third)), (true, true));
        assert!(queue.is_empty());
    }

    #[test]
    fn one_leaves_once() {
        let mut queue = Queue::default();
        let [stays, leaves] = [queue.join(), queue.join()];
        queue.grant();
        assert!(matches!([queue.leave(stays), queue.leave(stays)], [Left::Granted, Left::Before]));
        assert!(matches!([queue.leave(leaves), queue.leave(leaves)], [Left::Waiting(None), Left::Before]));
    }

    #[test]
    fn who_was_polled_is_woken() {
        let mut queue = Queue::default();
        let number = queue.join();
        assert!(!is_granted(&mut queue, number));
        assert!(queue.grant().is_some());
    }
}

//! The bookkeeping of one request's attempts: what may still be tried, and how the request ends if nothing works.
//!
//! Pure: no polling, no clock, no protocol. Invariant: an end that may have been processed is never replaced by one that
//! says that nothing was done.

use std::time::Duration;

/// How one attempt ended, if it did not answer the request. `A` is how the request ends if no other attempt follows.
#[derive(Debug)]
pub(super) enum Failed<A> {
    /// The instance provably did nothing.
    NothingDone(A),
    /// It may have been processed.
    MaybeDone(A),
}

/// How the request ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End<A> {
    /// No instance was asked; the soonest time that a breaker gave.
    NotAsked(Option<Duration>),
    Asked(A),
}

/// Whether another attempt may follow the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outlook {
    /// When that one provably did nothing.
    pub(super) after_nothing: bool,
    /// When it may have been processed.
    pub(super) after_maybe: bool,
}

impl Outlook {
    /// There is no other instance to try.
    pub(super) const LAST: Self = Self { after_nothing: false, after_maybe: false };
}

/// One request.
pub(super) struct Ledger<A> {
    is_idempotent: bool,
    /// How many attempts may have been processed, of so many that may.
    sent: u32,
    sent_max: u32,
    end: End<A>,
}

/// What a ledger is opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// The request may be processed twice.
    Idempotent,
    Never,
}

impl<A> Ledger<A> {
    pub(super) fn new(repeat: Repeat, sent_max: u32) -> Self {
        Self { is_idempotent: repeat == Repeat::Idempotent, sent: 0, sent_max, end: End::NotAsked(None) }
    }

    /// Whether another attempt may be made: nothing can have been processed so far, or it may be processed again.
    pub(super) fn may_go_on(&self) -> bool {
        self.sent == 0 || self.is_idempotent && self.sent < self.sent_max
    }

    /// Before an attempt is made, to know what has to be kept for those after it.
    pub(super) fn outlook(&self) -> Outlook {
        let after_maybe = self.is_idempotent && self.sent.saturating_add(1) < self.sent_max;
        Outlook { after_nothing: self.may_go_on(), after_maybe }
    }

    /// A breaker refused.
    pub(super) fn skipped(&mut self, retry_after: Option<Duration>) {
        if let End::NotAsked(soonest) = &mut self.end {
            *soonest = match (*soonest, retry_after) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
    }

    /// An attempt failed.
    pub(super) fn failed(&mut self, failed: Failed<A>) {
        match failed {
            Failed::NothingDone(end) if self.sent == 0 => self.end = End::Asked(end),
            Failed::NothingDone(_) => {}
            Failed::MaybeDone(end) => {
                self.sent += 1;
                self.end = End::Asked(end);
            }
        }
    }

    /// Nothing worked.
    pub(super) fn end(&mut self) -> End<A> {
        std::mem::replace(&mut self.end, End::NotAsked(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_done_twice_goes_on_as_often_as_allowed() {
        let mut ledger = Ledger::new(Repeat::Idempotent, 2);
        assert_eq!(ledger.outlook(), Outlook { after_nothing: true, after_maybe: true });
        ledger.failed(Failed::MaybeDone(1));
        assert!(ledger.may_go_on());
        assert_eq!(ledger.outlook(), Outlook { after_nothing: true, after_maybe: false });
        ledger.failed(Failed::MaybeDone(2));
        assert!(!ledger.may_go_on());
        assert_eq!(ledger.end(), End::Asked(2));
    }

    #[test]
    fn what_must_not_be_done_twice_goes_on_only_while_nothing_was() {
        let mut ledger = Ledger::new(Repeat::Never, 3);
        assert_eq!(ledger.outlook(), Outlook { after_nothing: true, after_maybe: false });
        ledger.failed(Failed::NothingDone(1));
        assert!(ledger.may_go_on());
        ledger.failed(Failed::MaybeDone(2));
        assert!(!ledger.may_go_on());
        ledger.failed(Failed::NothingDone(3));
        assert_eq!(ledger.end(), End::Asked(2), "it may have been done");
    }

    #[test]
    fn when_nobody_was_asked_the_soonest_breaker_says_when() {
        let mut ledger = Ledger::<()>::new(Repeat::Never, 3);
        for seconds in [None, Some(7), Some(3), None, Some(5)] {
            ledger.skipped(seconds.map(Duration::from_secs));
        }
        assert_eq!(ledger.end(), End::NotAsked(Some(Duration::from_secs(3))));
    }
}

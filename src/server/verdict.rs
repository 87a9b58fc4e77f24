//! What an instance's own report means for those who forward to it. Pure: no network, no clock.

use uuid::Uuid;

use super::identity::{Report, Role};

/// Whether requests may go to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is not known yet.
    Unknown,
    /// The target is this very process: requests are served here, without the network.
    ThisProcess,
    /// It takes requests.
    Ready,
    /// It took requests, and does not answer any more.
    Silent,
    /// It answers, and takes none.
    NotReady(Role),
    /// It has never answered, or took no requests when it last did.
    Unreachable,
    /// It is an instance of another broker: a message sent to it would be in the wrong store.
    OtherStore(Uuid),
}

impl Verdict {
    /// What the answer of a target means to the instance `me`.
    pub(super) fn of(me: Report, target: Report) -> Self {
        match (me.store, target.store) {
            _ if target.instance == me.instance => Self::ThisProcess,
            (Some(mine), Some(theirs)) if mine != theirs => Self::OtherStore(theirs),
            // Of whom it is not known which store they serve, nothing may be sent to them.
            (None, _) | (_, None) if target.role == Role::Active => Self::Unknown,
            _ if target.role == Role::Active => Self::Ready,
            _ => Self::NotReady(target.role),
        }
    }

    /// What a question without an answer makes of it.
    pub(super) fn unanswered(self) -> Self {
        if self.is_in_the_round() { Self::Silent } else { Self::Unreachable }
    }

    /// Whether requests may go there. To a silent one as well, when there is nobody else: it serves the same store until
    /// it says otherwise, and asking a process that is gone does no harm.
    pub(super) fn is_in_the_round(self) -> bool {
        matches!(self, Self::Ready | Self::Silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: Uuid = Uuid::from_u128(7);

    fn report(instance: u128, store: Option<Uuid>, role: Role) -> Report {
        Report { instance: Uuid::from_u128(instance), store, role }
    }

    #[test]
    fn requests_go_to_active_instances_of_the_same_store_only() {
        let me = report(1, Some(STORE), Role::Standby);
        let of = |target| Verdict::of(me, target);
        assert_eq!(of(report(2, Some(STORE), Role::Active)), Verdict::Ready);
        assert_eq!(of(report(2, Some(STORE), Role::Standby)), Verdict::NotReady(Role::Standby));
        assert_eq!(of(report(2, None, Role::Standby)), Verdict::NotReady(Role::Standby));
        assert_eq!(of(report(2, Some(STORE), Role::Draining)), Verdict::NotReady(Role::Draining));
    }

    #[test]
    fn one_that_falls_silent_is_still_the_last_resort() {
        assert_eq!(Verdict::Ready.unanswered(), Verdict::Silent);
        assert_eq!(Verdict::Silent.unanswered(), Verdict::Silent);
        for before in [Verdict::Unknown, Verdict::OtherStore(STORE), Verdict::NotReady(Role::Draining)] {
            assert_eq!(before.unanswered(), Verdict::Unreachable);
        }
        let others = [Verdict::Unknown, Verdict::ThisProcess, Verdict::Unreachable, Verdict::OtherStore(STORE)];
        assert!(!others.iter().any(|verdict| verdict.is_in_the_round()));
    }

    #[test]
    fn another_store_is_found_out_whatever_the_role() {
        let other = Uuid::from_u128(8);
        for role in [Role::Active, Role::Standby, Role::Draining] {
            let verdict = Verdict::of(report(1, Some(STORE), role), report(2, Some(other), role));
            assert_eq!(verdict, Verdict::OtherStore(other));
        }
    }

    #[test]
    fn a_store_that_is_not_known_is_not_trusted() {
        let active = report(2, Some(STORE), Role::Active);
        assert_eq!(Verdict::of(report(1, None, Role::Standby), active), Verdict::Unknown);
        let nameless = report(2, None, Role::Active);
        assert_eq!(Verdict::of(report(1, Some(STORE), Role::Standby), nameless), Verdict::Unknown);
    }

    #[test]
    fn this_process_knows_itself_even_before_it_knows_its_store() {
        let me = report(1, None, Role::Standby);
        assert_eq!(Verdict::of(me, me), Verdict::ThisProcess);
    }
}

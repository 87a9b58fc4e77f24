//! The state machine behind the lock: everything but the counting of failures while closed (that is [`super::word`]).
//!
//! Pure: time comes in, no clock, no lock, no callback. Invariants: the generation grows with every change of state, and
//! a verdict from an earlier one changes nothing; half-open always has a place free, or a probe under way whose time
//! runs out.

use std::{num::NonZeroU64, time::Duration};

use tokio::time::Instant;

use super::{CircuitState, OpenCause, RejectReason, Rejected, builder::Policy};
use crate::Verdict;

/// A service may ask for more time than our own back-off, but not for more than this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// What callers are told to wait while probes are under way: those take as long as one call, which is not known.
const HALF_OPEN_RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Machine {
    state: State,
    generation: u64,
    /// Openings since the circuit was last closed.
    openings: u32,
    /// Openings ever.
    opened_total: u64,
    /// Why it opened the last time.
    cause: Option<OpenCause>,
}

#[derive(Debug)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen(Probes),
    Isolated,
    Disabled,
}

#[derive(Debug, Default)]
struct Probes {
    /// Number and end of time of each probe under way. One whose time is over loses its place, but not its say.
    under_way: Vec<(NonZeroU64, Instant)>,
    succeeded: u32,
    /// How many were ever admitted, which numbers them.
    admitted: u64,
}

/// How a call was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Like every other.
    Free,
    /// As the half-open circuit's probe of this number.
    Probe(NonZeroU64),
}

impl Machine {
    pub(super) fn new() -> Self {
        Self { state: State::Closed, generation: 0, openings: 0, opened_total: 0, cause: None }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn opened_total(&self) -> u64 {
        self.opened_total
    }

    pub(super) fn state(&self) -> CircuitState {
        match self.state {
            State::Closed => CircuitState::Closed,
            State::Open { .. } => CircuitState::Open,
            State::HalfOpen(_) => CircuitState::HalfOpen,
            State::Isolated => CircuitState::Isolated,
            State::Disabled => CircuitState::Disabled,
        }
    }

    /// Why it opened the last time, if ever.
    pub(super) fn cause(&self) -> Option<OpenCause> {
        self.cause
    }

    /// How much longer it is open; `None` in other states.
    pub(super) fn open_for(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Open { until } => Some(until.saturating_duration_since(now)),
            _ => None,
        }
    }

    pub(super) fn probes_under_way(&self) -> usize {
        match &self.state {
            State::HalfOpen(probes) => probes.under_way.len(),
            _ => 0,
        }
    }

    /// Asks to make a call.
    pub(super) fn admit(&mut self, now: Instant, policy: &Policy) -> Result<Pass, Rejected> {
        if let State::Open { until } = self.state
            && until <= now
        {
            self.enter(State::HalfOpen(Probes::default()));
        }
        let generation = self.generation;
        match &mut self.state {
            State::Closed | State::Disabled => Ok(Pass::Free),
            State::HalfOpen(probes) => probes.admit(now, policy).map(Pass::Probe).ok_or(Rejected {
                reason: RejectReason::HalfOpenFull,
                retry_after: Some(HALF_OPEN_RETRY),
                generation,
            }),
            State::Open { until } => {
                let retry_after = Some(until.saturating_duration_since(now));
                Err(Rejected { reason: RejectReason::Open, retry_after, generation })
            }
            State::Isolated => Err(Rejected { reason: RejectReason::Isolated, retry_after: None, generation }),
        }
    }

    /// There is cause enough in closed `generation`; the service asks for `at_least` this time.
    pub(super) fn trip(
        &mut self,
        generation: u64,
        cause: OpenCause,
        at_least: Duration,
        now: Instant,
        policy: &Policy,
    ) {
        if matches!(self.state, State::Closed) && self.generation == generation {
            self.open(cause, now, at_least, policy);
        }
    }

    /// A probe of `generation` ended.
    pub(super) fn settle(
        &mut self,
        generation: u64,
        probe: NonZeroU64,
        verdict: Verdict,
        now: Instant,
        policy: &Policy,
    ) {
        let State::HalfOpen(probes) = &mut self.state else { return };
        // A straggler of an earlier generation has no say in this one.
        if self.generation != generation {
            return;
        }
        probes.under_way.retain(|(number, _)| *number != probe);
        match verdict {
            Verdict::Success => {
                probes.succeeded += 1;
                if probes.succeeded >= policy.half_open.probes {
                    self.openings = 0;
                    self.enter(State::Closed);
                }
            }
            Verdict::Failure => self.open(OpenCause::Probe, now, Duration::ZERO, policy),
            Verdict::Throttled { retry_after } => {
                self.open(OpenCause::Probe, now, retry_after.unwrap_or_default(), policy);
            }
            // It proved nothing either way: its place is free again.
            Verdict::Ignore | Verdict::Cancelled => {}
        }
    }

    /// Refuses everything until told otherwise.
    pub(super) fn isolate(&mut self) {
        if !matches!(self.state, State::Isolated) {
            self.enter(State::Isolated);
        }
    }

    /// Admits everything and counts nothing until told otherwise.
    pub(super) fn disable(&mut self) {
        if !matches!(self.state, State::Disabled) {
            self.enter(State::Disabled);
        }
    }

    /// As new. Also forgets the run of failures of a closed circuit, hence the new generation.
    pub(super) fn reset(&mut self) {
        self.openings = 0;
        self.enter(State::Closed);
    }

    fn open(&mut self, cause: OpenCause, now: Instant, at_least: Duration, policy: &Policy) {
        self.openings = self.openings.saturating_add(1);
        self.opened_total += 1;
        self.cause = Some(cause);
        let time = policy.open_for.delay(self.openings, (policy.chance)()).max(at_least.min(RETRY_AFTER_MAX));
        self.enter(State::Open { until: now + time });
    }

    fn enter(&mut self, state: State) {
        self.generation += 1;
        self.state = state;
    }
}

impl Probes {
    fn admit(&mut self, now: Instant, policy: &Policy) -> Option<NonZeroU64> {
        self.under_way.retain(|(_, end)| now < *end);
        let taken = self.under_way.len() + self.succeeded as usize;
        if taken >= policy.half_open.probes as usize {
            return None;
        }
        let number = NonZeroU64::MIN.saturating_add(self.admitted);
        self.admitted += 1;
        self.under_way.push((number, now + policy.half_open.timeout));
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backoff, HalfOpen};

    const OPEN: Duration = Duration::from_secs(30);
    const RUN: OpenCause = OpenCause::ConsecutiveFailures;
    const TIMEOUT: Duration = Duration::from_secs(10);

    fn policy(probes: u32) -> Policy {
        let half_open = HalfOpen { probes, timeout: TIMEOUT };
        Policy { failures_to_open: Some(1), rates: None, open_for: Backoff::fixed(OPEN), half_open, chance: || 0.5 }
    }

    /// A machine that is half-open at the returned time, and its one probe.
    fn half_open(policy: &Policy) -> (Machine, Instant, NonZeroU64) {
        let mut machine = Machine::new();
        let now = Instant::now();
        machine.trip(0, RUN, Duration::ZERO, now, policy);
        let now = now + OPEN;
        let Ok(Pass::Probe(probe)) = machine.admit(now, policy) else { panic!("the first after the open time probes") };
        (machine, now, probe)
    }

    #[test]
    fn it_stays_open_for_the_open_time() {
        let (policy, now) = (policy(1), Instant::now());
        let mut machine = Machine::new();
        machine.trip(0, RUN, Duration::ZERO, now, &policy);
        let early = machine.admit(now + OPEN - Duration::from_millis(1), &policy).expect_err("still open");
        assert_eq!((early.reason, early.retry_after), (RejectReason::Open, Some(Duration::from_millis(1))));
        assert!(machine.admit(now + OPEN, &policy).is_ok());
        assert_eq!(machine.state(), CircuitState::HalfOpen);
    }

    #[test]
    fn an_overdue_probe_loses_its_place_but_not_its_say() {
        let policy = policy(1);
        let (mut machine, now, first) = half_open(&policy);
        assert!(machine.admit(now + TIMEOUT - Duration::from_millis(1), &policy).is_err());
        assert!(machine.admit(now + TIMEOUT, &policy).is_ok());
        machine.settle(machine.generation(), first, Verdict::Success, now + TIMEOUT, &policy);
        assert_eq!(machine.state(), CircuitState::Closed);
    }

    #[test]
    fn every_probe_must_succeed() {
        let policy = policy(2);
        let (mut machine, now, first) = half_open(&policy);
        machine.settle(machine.generation(), first, Verdict::Success, now, &policy);
        assert_eq!(machine.state(), CircuitState::HalfOpen);
        let Ok(Pass::Probe(second)) = machine.admit(now, &policy) else { panic!("one place is left") };
        assert!(machine.admit(now, &policy).is_err(), "a success keeps its place");
        machine.settle(machine.generation(), second, Verdict::Success, now, &policy);
        assert_eq!(machine.state(), CircuitState::Closed);
    }

    #[test]
    fn a_probe_of_an_earlier_half_open_has_no_say() {
        let policy = policy(2);
        let (mut machine, now, straggler) = half_open(&policy);
        let earlier = machine.generation();
        let Ok(Pass::Probe(failing)) = machine.admit(now, &policy) else { panic!("two may probe") };
        machine.settle(earlier, failing, Verdict::Failure, now, &policy);
        let now = now + OPEN;
        assert!(machine.admit(now, &policy).is_ok());
        machine.settle(earlier, straggler, Verdict::Success, now, &policy);
        assert_eq!(machine.probes_under_way(), 1, "it gives back no place but its own");
        machine.settle(earlier, straggler, Verdict::Success, now, &policy);
        assert_eq!(machine.state(), CircuitState::HalfOpen);
        machine.settle(earlier, straggler, Verdict::Failure, now, &policy);
        assert_eq!(machine.state(), CircuitState::HalfOpen);
    }

    #[test]
    fn the_open_time_grows_with_failing_probes_and_starts_again_once_closed() {
        let min = Duration::from_secs(1);
        let policy = Policy { open_for: Backoff::exponential(min, OPEN), ..policy(1) };
        let (mut machine, mut now) = (Machine::new(), Instant::now());
        let mut fail = |machine: &mut Machine, verdict| {
            now += machine.open_for(now).unwrap_or_default();
            match machine.admit(now, &policy) {
                Ok(Pass::Probe(probe)) => machine.settle(machine.generation(), probe, verdict, now, &policy),
                Ok(Pass::Free) => machine.trip(machine.generation(), RUN, Duration::ZERO, now, &policy),
                Err(rejected) => panic!("{rejected}"),
            }
            machine.open_for(now)
        };
        assert_eq!(fail(&mut machine, Verdict::Failure), Some(min));
        assert_eq!(fail(&mut machine, Verdict::Failure), Some(min * 2));
        assert_eq!(fail(&mut machine, Verdict::Failure), Some(min * 4));
        assert_eq!(fail(&mut machine, Verdict::Success), None);
        assert_eq!(fail(&mut machine, Verdict::Failure), Some(min));
    }

    #[test]
    fn a_throttled_probe_stretches_the_open_time_within_reason() {
        let policy = policy(1);
        for (asked, open) in [(1, 30), (45, 45), (3600, 60)] {
            let (mut machine, now, probe) = half_open(&policy);
            let verdict = Verdict::Throttled { retry_after: Some(Duration::from_secs(asked)) };
            machine.settle(machine.generation(), probe, verdict, now, &policy);
            assert_eq!(machine.open_for(now), Some(Duration::from_secs(open)), "asked for {asked} s");
        }
    }

    #[test]
    fn isolation_and_disabling_stick() {
        let (policy, now) = (policy(1), Instant::now());
        let mut machine = Machine::new();
        machine.isolate();
        let refused = machine.admit(now + OPEN * 100, &policy).expect_err("isolated");
        assert_eq!((refused.reason, refused.retry_after), (RejectReason::Isolated, None));
        machine.disable();
        assert_eq!(machine.admit(now, &policy).ok(), Some(Pass::Free));
        machine.trip(machine.generation(), RUN, Duration::ZERO, now, &policy);
        assert_eq!(machine.state(), CircuitState::Disabled);
        machine.reset();
        assert_eq!(machine.state(), CircuitState::Closed);
    }
}

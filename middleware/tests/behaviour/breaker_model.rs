//! The breaker against a naive model of it, under random operations.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Duration,
};

use campanile_middleware::{Backoff, CircuitBreaker, CircuitState, HalfOpen, Permit, RejectReason, Verdict};
use proptest::{collection::vec, prelude::*};
use tokio::time::{Instant, advance};

const FAILURES: u32 = 2;
const PROBES: u32 = 2;
const TIMEOUT_MS: u64 = 700;
const OPEN_MIN_MS: u64 = 1000;
const OPEN_MAX_MS: u64 = 4000;

#[derive(Debug, Clone)]
enum Op {
    Acquire,
    Complete(usize, Verdict),
    Drop(usize),
    Panic(usize),
    AdvanceMs(u64),
    Isolate,
    Disable,
    Reset,
}

#[derive(Debug, PartialEq)]
enum Model {
    Closed { failures: u32 },
    Open { until_ms: u64 },
    HalfOpen { places: Vec<(usize, u64)>, succeeded: u32 },
    Isolated,
    Disabled,
}

struct World {
    model: Model,
    generation: u64,
    openings: u32,
    now_ms: u64,
    next: usize,
    /// Number and generation of the calls under way.
    calls: Vec<(usize, u64, Permit)>,
    breaker: CircuitBreaker,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let verdict = prop_oneof![
        4 => Just(Verdict::Failure),
        3 => Just(Verdict::Success),
        1 => Just(Verdict::Throttled { retry_after: None }),
        1 => Just(Verdict::Throttled { retry_after: Some(Duration::from_millis(2500)) }),
        1 => Just(Verdict::Ignore),
        1 => Just(Verdict::Cancelled),
    ];
    let op = prop_oneof![
        12 => Just(Op::Acquire),
        12 => (0..5usize, verdict).prop_map(|(call, verdict)| Op::Complete(call, verdict)),
        2 => (0..5usize).prop_map(Op::Drop),
        1 => (0..5usize).prop_map(Op::Panic),
        3 => (1..1500u64).prop_map(Op::AdvanceMs),
        3 => Just(Op::AdvanceMs(OPEN_MAX_MS)),
        1 => Just(Op::Isolate),
        1 => Just(Op::Disable),
        3 => Just(Op::Reset),
    ];
    vec(op, 1..200)
}

impl World {
    fn new() -> Self {
        let open_for = Backoff::exponential(Duration::from_millis(OPEN_MIN_MS), Duration::from_millis(OPEN_MAX_MS));
        let half_open = HalfOpen { probes: PROBES, timeout: Duration::from_millis(TIMEOUT_MS) };
        let breaker = CircuitBreaker::builder("model").consecutive_failures(FAILURES);
        World {
            model: Model::Closed { failures: 0 },
            generation: 0,
            openings: 0,
            now_ms: 0,
            next: 0,
            calls: Vec::new(),
            breaker: breaker.open_for(open_for).half_open(half_open).build(),
        }
    }

    fn enter(&mut self, model: Model) {
        self.generation += 1;
        self.model = model;
    }

    fn open(&mut self, at_least_ms: u64) {
        self.openings += 1;
        let backoff = (OPEN_MIN_MS << (self.openings - 1).min(10)).min(OPEN_MAX_MS);
        self.enter(Model::Open { until_ms: self.now_ms + backoff.max(at_least_ms) });
    }

    /// What the model says to a call.
    fn admit(&mut self) -> Result<(), RejectReason> {
        if matches!(self.model, Model::Open { until_ms } if until_ms <= self.now_ms) {
            self.enter(Model::HalfOpen { places: Vec::new(), succeeded: 0 });
        }
        match &mut self.model {
            Model::Closed { .. } | Model::Disabled => Ok(()),
            Model::Open { .. } => Err(RejectReason::Open),
            Model::Isolated => Err(RejectReason::Isolated),
            Model::HalfOpen { places, succeeded } => {
                places.retain(|(_, end_ms)| self.now_ms < *end_ms);
                if places.len() as u32 + *succeeded < PROBES {
                    places.push((self.next, self.now_ms + TIMEOUT_MS));
                    Ok(())
                } else {
                    Err(RejectReason::HalfOpenFull)
                }
            }
        }
    }

    fn settle(&mut self, number: usize, generation: u64, verdict: Verdict) {
        if generation != self.generation {
            return;
        }
        let throttled_ms = match verdict {
            Verdict::Throttled { retry_after } => Some(retry_after.map_or(0, |time| time.as_millis() as u64)),
            _ => None,
        };
        match &mut self.model {
            Model::Closed { failures } => match verdict {
                Verdict::Failure if *failures + 1 == FAILURES => self.open(0),
                Verdict::Failure => *failures += 1,
                Verdict::Success => *failures = 0,
                _ => {}
            },
            Model::HalfOpen { places, succeeded } => {
                places.retain(|(place, _)| *place != number);
                match verdict {
                    Verdict::Success if *succeeded + 1 == PROBES => {
                        self.openings = 0;
                        self.enter(Model::Closed { failures: 0 });
                    }
                    Verdict::Success => *succeeded += 1,
                    Verdict::Failure => self.open(0),
                    Verdict::Throttled { .. } => self.open(throttled_ms.unwrap_or(0)),
                    Verdict::Ignore | Verdict::Cancelled => {}
                }
            }
            Model::Open { .. } | Model::Isolated | Model::Disabled => {}
        }
    }

    async fn step(&mut self, op: Op) {
        match op {
            Op::Acquire => {
                let expected = self.admit();
                let got = self.breaker.try_acquire();
                assert_eq!(got.as_ref().map(|_| ()).map_err(|rejected| rejected.reason), expected);
                if let (Err(rejected), Model::Open { until_ms }) = (&got, &self.model) {
                    assert_eq!(rejected.retry_after, Some(Duration::from_millis(until_ms - self.now_ms)));
                }
                if let Ok(permit) = got {
                    self.calls.push((self.next, self.generation, permit));
                    self.next += 1;
                }
            }
            Op::Complete(call, verdict) if call < self.calls.len() => {
                let (number, generation, permit) = self.calls.swap_remove(call);
                self.settle(number, generation, verdict);
                permit.complete(verdict);
            }
            Op::Drop(call) if call < self.calls.len() => {
                let (number, generation, permit) = self.calls.swap_remove(call);
                self.settle(number, generation, Verdict::Cancelled);
                drop(permit);
            }
            Op::Panic(call) if call < self.calls.len() => {
                let (number, generation, permit) = self.calls.swap_remove(call);
                self.settle(number, generation, Verdict::Failure);
                let unwound = catch_unwind(AssertUnwindSafe(|| {
                    let _permit = permit;
                    resume_unwind(Box::new(()));
                }));
                assert!(unwound.is_err());
            }
            Op::Complete(..) | Op::Drop(_) | Op::Panic(_) => {}
            Op::AdvanceMs(ms) => {
                self.now_ms += ms;
                advance(Duration::from_millis(ms)).await;
            }
            Op::Isolate => {
                if self.model != Model::Isolated {
                    self.enter(Model::Isolated);
                }
                self.breaker.isolate();
            }
            Op::Disable => {
                if self.model != Model::Disabled {
                    self.enter(Model::Disabled);
                }
                self.breaker.disable();
            }
            Op::Reset => {
                self.openings = 0;
                self.enter(Model::Closed { failures: 0 });
                self.breaker.reset();
            }
        }
    }

    fn compare(&self) {
        let snapshot = self.breaker.snapshot();
        assert_eq!(snapshot.generation, self.generation);
        let state = match &self.model {
            Model::Closed { failures } => {
                assert_eq!(snapshot.consecutive_failures, *failures);
                CircuitState::Closed
            }
            Model::Open { until_ms } => {
                assert_eq!(snapshot.open_for, Some(Duration::from_millis(until_ms.saturating_sub(self.now_ms))));
                CircuitState::Open
            }
            Model::HalfOpen { places, .. } => {
                assert_eq!(snapshot.probes_under_way, places.len());
                assert!(places.len() <= PROBES as usize, "never more probes than places");
                CircuitState::HalfOpen
            }
            Model::Isolated => CircuitState::Isolated,
            Model::Disabled => CircuitState::Disabled,
        };
        assert_eq!((snapshot.state, self.breaker.state()), (state, state));
    }

    /// Whatever happened, and with every call still under way: time and successes alone close the circuit.
    async fn recovers(mut self) {
        if self.breaker.state() == CircuitState::Isolated {
            self.breaker.reset();
        }
        let began = Instant::now();
        advance(Duration::from_millis(OPEN_MAX_MS + TIMEOUT_MS)).await;
        for _ in 0..PROBES {
            let permit = self.breaker.try_acquire().expect("a place becomes free with time alone");
            permit.complete(Verdict::Success);
        }
        let state = self.breaker.state();
        assert!(matches!(state, CircuitState::Closed | CircuitState::Disabled), "{state} after {:?}", began.elapsed());
        self.calls.clear();
        assert_eq!(self.breaker.state(), state, "stragglers have no say");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn the_breaker_does_what_the_model_does_and_always_recovers(ops in ops()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let mut world = World::new();
            for op in ops {
                world.step(op).await;
                world.compare();
            }
            world.recovers().await;
        });
    }
}

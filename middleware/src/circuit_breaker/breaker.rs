//! The handle of a breaker: the lock-free path of the closed circuit, and the lock around the rest.
//!
//! It makes no calls and knows no protocol. Invariants: every change of state happens under the lock and is then
//! published in the word; listeners and logs run after the lock is released. There is one lock, so no lock order.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
};

use tokio::time::Instant;

use super::{
    CircuitBreakerBuilder, CircuitState, Permit, Rejected, Snapshot, Transition,
    builder::{Listener, Policy},
    machine::{Machine, Pass},
    word::{Count, Word},
};
use crate::Verdict;

/// A circuit breaker, usable with or without tower. Clones are handles to the same circuit.
///
/// ```
/// use std::time::Duration;
/// use campanile_middleware::{CircuitBreaker, CircuitState, Verdict};
///
/// let breaker = CircuitBreaker::builder("orders").consecutive_failures(2).open_for(Duration::from_secs(5)).build();
/// for _ in 0..2 {
///     let permit = breaker.try_acquire().expect("the circuit is closed");
///     permit.complete(Verdict::Failure);
/// }
/// assert_eq!(breaker.state(), CircuitState::Open);
/// assert!(breaker.try_acquire().is_err());
/// ```
#[derive(Clone)]
pub struct CircuitBreaker {
    shared: Arc<Shared>,
}

struct Shared {
    name: Arc<str>,
    policy: Policy,
    listener: Option<Box<Listener>>,
    word: AtomicU64,
    machine: Mutex<Machine>,
    rejected_total: AtomicU64,
}

impl CircuitBreaker {
    /// Begins to build a breaker of this name, with the default settings.
    pub fn builder(name: impl Into<Arc<str>>) -> CircuitBreakerBuilder {
        CircuitBreakerBuilder::new(name.into())
    }

    pub(super) fn new(name: Arc<str>, policy: Policy, listener: Option<Box<Listener>>) -> Self {
        let machine = Machine::new();
        let word = AtomicU64::new(Word::new(machine.generation(), machine.state()).0);
        let machine = Mutex::new(machine);
        Self { shared: Arc::new(Shared { name, policy, listener, word, machine, rejected_total: AtomicU64::new(0) }) }
    }

    /// Asks to make one call. Never waits for other calls; a closed circuit answers without lock or clock.
    ///
    /// # Errors
    ///
    /// [`Rejected`] while the circuit is open, isolated, or half-open with all its probes under way.
    pub fn try_acquire(&self) -> Result<Permit, Rejected> {
        let word = self.word();
        match word.state() {
            CircuitState::Closed | CircuitState::Disabled => {
                Ok(Permit::new(self.clone(), word.generation(), Pass::Free))
            }
            CircuitState::Open | CircuitState::HalfOpen | CircuitState::Isolated => self.try_acquire_slow(),
        }
    }

    fn try_acquire_slow(&self) -> Result<Permit, Rejected> {
        let now = Instant::now();
        let (admitted, generation) =
            self.change(now, |machine| (machine.admit(now, &self.shared.policy), machine.generation()));
        match admitted {
            Ok(pass) => Ok(Permit::new(self.clone(), generation, pass)),
            Err(rejected) => {
                self.shared.rejected_total.fetch_add(1, Relaxed);
                Err(rejected)
            }
        }
    }

    /// The name that it was built with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The state as it is now. An open circuit stays [`CircuitState::Open`] until somebody asks for a permit.
    #[must_use]
    pub fn state(&self) -> CircuitState {
        self.word().state()
    }

    /// Everything about it, at one moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let machine = self.lock();
        Snapshot {
            name: self.shared.name.clone(),
            state: machine.state(),
            generation: machine.generation(),
            consecutive_failures: self.word().failures(),
            open_for: machine.open_for(now),
            probes_under_way: machine.probes_under_way(),
            opened_total: machine.opened_total(),
            rejected_total: self.shared.rejected_total.load(Relaxed),
        }
    }

    /// Refuses every call until [`reset`](Self::reset), whatever happens.
    pub fn isolate(&self) {
        self.change(Instant::now(), Machine::isolate);
    }

    /// Admits every call and counts none until [`reset`](Self::reset).
    pub fn disable(&self) {
        self.change(Instant::now(), Machine::disable);
    }

    /// Closes the circuit and forgets what it counted. Calls that are under way have no say in it any more.
    pub fn reset(&self) {
        self.change(Instant::now(), Machine::reset);
    }

    /// The verdict of a call that was admitted in `generation`.
    pub(super) fn settle(&self, generation: u64, pass: Pass, verdict: Verdict) {
        match pass {
            Pass::Free => self.count(generation, verdict),
            Pass::Probe(probe) => {
                let now = Instant::now();
                self.change(now, |machine| machine.settle(generation, probe, verdict, now, &self.shared.policy));
            }
        }
    }

    fn count(&self, generation: u64, verdict: Verdict) {
        let mut word = self.word();
        loop {
            match word.count(generation, verdict, self.shared.policy.failures_to_open) {
                Count::Keep => return,
                Count::Swap(next) => match self.shared.word.compare_exchange_weak(word.0, next.0, AcqRel, Acquire) {
                    Ok(_) => return,
                    Err(current) => word = Word(current),
                },
                Count::Trip => {
                    let now = Instant::now();
                    self.change(now, |machine| machine.trip(generation, now, &self.shared.policy));
                    return;
                }
            }
        }
    }

    /// Runs `step` under the lock, publishes the state it leaves, and tells of a change once the lock is released.
    fn change<T>(&self, now: Instant, step: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = self.lock();
        let (from, before) = (machine.state(), machine.generation());
        let result = step(&mut machine);
        let (to, generation) = (machine.state(), machine.generation());
        if generation == before {
            return result;
        }
        self.shared.word.store(Word::new(generation, to).0, Release);
        let open_for = machine.open_for(now);
        drop(machine);
        if from != to {
            self.tell(&Transition { name: self.shared.name.clone(), from, to, generation, open_for });
        }
        result
    }

    fn tell(&self, transition: &Transition) {
        #[cfg(feature = "tracing")]
        {
            let Transition { name, from, to, open_for, .. } = transition;
            match to {
                CircuitState::Open => {
                    let open_for_ms = open_for.unwrap_or_default().as_millis();
                    tracing::warn!(breaker = %name, %from, open_for_ms, "circuit opened");
                }
                CircuitState::HalfOpen => tracing::info!(breaker = %name, "circuit half-open"),
                CircuitState::Closed => tracing::info!(breaker = %name, %from, "circuit closed"),
                CircuitState::Isolated => tracing::warn!(breaker = %name, %from, "circuit isolated"),
                CircuitState::Disabled => tracing::warn!(breaker = %name, %from, "circuit disabled"),
            }
        }
        if let Some(listener) = &self.shared.listener {
            listener(transition);
        }
    }

    fn word(&self) -> Word {
        Word(self.shared.word.load(Acquire))
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        // Nothing under this lock can panic half way through a change.
        self.shared.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("name", &self.shared.name)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

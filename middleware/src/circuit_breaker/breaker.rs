//! The handle of a breaker: the lock-free path of the closed circuit, and the lock around the rest.
//!
//! It makes no calls and knows no protocol. Invariants: every change of state happens under the lock and is then
//! published in the word; listeners and logs run after the lock is released. There is one lock, so no lock order.

use std::{fmt, num::NonZeroU64, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use super::{
    CircuitBreakerBuilder, CircuitState, OpenCause, Permit, RecentCalls, Rejected, Snapshot, Subscription, Transition,
    builder::{Listener, Policy, Rates},
    machine::{Machine, Pass},
    metrics::Metrics,
    subscription::Current,
    window::{Recent, Sums},
    word::{Count, Word},
};
use crate::{
    Verdict,
    sync::{
        AtomicU64, Mutex, MutexGuard,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
        PoisonError,
    },
};

/// A circuit breaker, usable with or without tower. Clones are handles to the same circuit.
///
/// With the feature `metrics` it tells the recorder that is installed when it is built, with its name as `breaker`:
/// `circuit_breaker_state{state}`, 1 for the state it is in and 0 for the others;
/// `circuit_breaker_transitions_total{state}`, how often it entered each; and `circuit_breaker_rejected_total`.
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

/// On cache lines of its own: a closed circuit is only read, while the count of its handles, which stands before it, is
/// written by every call.
#[repr(align(64))]
struct Shared {
    name: Arc<str>,
    policy: Policy,
    listener: Option<Box<Listener>>,
    current: watch::Sender<Current>,
    word: AtomicU64,
    /// What the rates are taken over, if there are any.
    recent: Option<Recent>,
    machine: Mutex<Machine>,
    rejected_total: AtomicU64,
    metrics: Metrics,
}

impl CircuitBreaker {
    /// Begins to build a breaker of this name, with the default settings.
    pub fn builder(name: impl Into<Arc<str>>) -> CircuitBreakerBuilder {
        CircuitBreakerBuilder::new(name.into())
    }

    pub(super) fn new(name: Arc<str>, policy: Policy, listener: Option<Box<Listener>>) -> Self {
        let machine = Machine::new();
        let word = AtomicU64::new(Word::new(machine.generation(), machine.state()).0);
        let (current, _) = watch::channel((machine.generation(), machine.state()));
        let recent = policy.rates.map(|rates| Recent::new(rates.window));
        let (machine, rejected_total, metrics) = (Mutex::new(machine), AtomicU64::new(0), Metrics::new(&name));
        let shared = Shared { name, policy, listener, current, word, recent, machine, rejected_total, metrics };
        Self { shared: Arc::new(shared) }
    }

    /// Asks to make one call. Never waits for other calls; a closed circuit answers without lock or clock.
    ///
    /// # Errors
    ///
    /// [`Rejected`] while the circuit is open, isolated, or half-open with all its probes under way.
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit, Rejected> {
        let word = self.word();
        let (generation, pass) = match word.state() {
            CircuitState::Closed | CircuitState::Disabled => (word.generation(), Pass::Free),
            CircuitState::Open | CircuitState::HalfOpen | CircuitState::Isolated => self.ask()?,
        };
        Ok(Permit::new(self.clone(), generation, pass))
    }

    /// Asks a circuit that does not admit every call.
    #[cold]
    fn ask(&self) -> Result<(u64, Pass), Rejected> {
        let now = Instant::now();
        let admitted = self
            .change(now, |machine| machine.admit(now, &self.shared.policy).map(|pass| (machine.generation(), pass)));
        if admitted.is_err() {
            self.shared.rejected_total.fetch_add(1, Relaxed);
            self.shared.metrics.rejected();
        }
        admitted
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
        let is_closed = machine.state() == CircuitState::Closed;
        let recent = self.shared.recent.as_ref().filter(|_| is_closed);
        let recent = recent.map(|recent| recent.sums(machine.generation()));
        Snapshot {
            name: self.shared.name.clone(),
            state: machine.state(),
            generation: machine.generation(),
            consecutive_failures: self.word().failures(),
            recent: recent.map(|Sums { calls, failed, slow }| RecentCalls { calls, failed, slow }),
            last_cause: machine.cause(),
            open_for: machine.open_for(now),
            probes_under_way: machine.probes_under_way(),
            opened_total: machine.opened_total(),
            rejected_total: self.shared.rejected_total.load(Relaxed),
        }
    }

    /// Tells of changes of state from now on.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        Subscription::new(self.shared.current.subscribe())
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
    #[inline]
    pub(super) fn settle(&self, generation: u64, pass: Pass, verdict: Verdict, slow: bool) {
        match pass {
            Pass::Free => {
                self.count(generation, verdict);
                if let (Some(recent), Some(rates)) = (&self.shared.recent, &self.shared.policy.rates) {
                    self.count_recent(recent, rates, generation, verdict, slow);
                }
            }
            Pass::Probe(probe) => self.settle_probe(generation, probe, verdict, slow),
        }
    }

    #[cold]
    fn settle_probe(&self, generation: u64, probe: NonZeroU64, verdict: Verdict, slow: bool) {
        let now = Instant::now();
        let verdict = if slow && verdict == Verdict::Success { Verdict::Failure } else { verdict };
        self.change(now, |machine| machine.settle(generation, probe, verdict, now, &self.shared.policy));
    }

    #[inline]
    fn count(&self, generation: u64, verdict: Verdict) {
        // A success after a success, which is nearly all that happens, writes nothing.
        if self.word().count(generation, verdict, self.shared.policy.failures_to_open) != Count::Keep {
            self.change_count(generation, verdict);
        }
    }

    #[cold]
    fn change_count(&self, generation: u64, verdict: Verdict) {
        let mut word = self.word();
        loop {
            match word.count(generation, verdict, self.shared.policy.failures_to_open) {
                Count::Keep => return,
                Count::Swap(next) => match self.shared.word.compare_exchange_weak(word.0, next.0, AcqRel, Acquire) {
                    Ok(_) => return,
                    Err(current) => word = Word(current),
                },
                Count::Trip => return self.trip(generation, OpenCause::ConsecutiveFailures, verdict),
            }
        }
    }

    /// Counts a call of a closed circuit among the recent ones.
    fn count_recent(&self, recent: &Recent, rates: &Rates, generation: u64, verdict: Verdict, slow: bool) {
        let Some(ended) = Rates::ended(verdict, slow) else { return };
        let word = self.word();
        if word.state() != CircuitState::Closed || word.generation() != generation {
            return;
        }
        if let Some(cause) = recent.record(generation, ended).and_then(|sums| rates.judge(sums)) {
            self.trip(generation, cause, verdict);
        }
    }

    #[cold]
    fn trip(&self, generation: u64, cause: OpenCause, verdict: Verdict) {
        let now = Instant::now();
        let at_least = match verdict {
            Verdict::Throttled { retry_after } => retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        self.change(now, |machine| machine.trip(generation, cause, at_least, now, &self.shared.policy));
    }

    /// From which duration on a call is slow, if that matters.
    #[inline]
    pub(super) fn slow_from(&self) -> Option<Duration> {
        self.shared.policy.rates.as_ref()?.slow_from()
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
        let cause = machine.cause().filter(|_| to == CircuitState::Open);
        drop(machine);
        if from != to {
            // Threads come here in any order: the newest stays.
            self.shared.current.send_if_modified(|current| {
                let is_newer = current.0 < generation;
                *current = if is_newer { (generation, to) } else { *current };
                is_newer
            });
            self.shared.metrics.transition(to, || self.state());
            self.tell(&Transition { name: self.shared.name.clone(), from, to, generation, open_for, cause });
        }
        result
    }

    fn tell(&self, transition: &Transition) {
        #[cfg(feature = "tracing")]
        {
            let Transition { name, from, to, open_for, cause, .. } = transition;
            let cause = cause.map_or("none", OpenCause::as_str);
            match to {
                CircuitState::Open => {
                    let open_for_ms = open_for.unwrap_or_default().as_millis();
                    tracing::warn!(breaker = %name, %from, cause, open_for_ms, "circuit opened");
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

    #[inline]
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

//! One of the instances that requests go to: a service, its breaker, and whether it is known to serve.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
};

use super::{InstanceSnapshot, metrics::InstanceMetrics, rotation::Wakeup};
use crate::{CircuitBreaker, CircuitState, Rejected};

/// Most that one instance may weigh: shares stay far from overflow.
const WEIGHT_MAX: u32 = 1000;

/// An instance of a service. Clones are handles to the same one.
#[derive(Clone)]
pub struct Instance<S> {
    service: S,
    local: bool,
    shared: Arc<Shared>,
}

struct Shared {
    name: Arc<str>,
    breaker: CircuitBreaker,
    ready: AtomicBool,
    weight: AtomicU32,
    attempts_total: AtomicU64,
    /// The generation of the breaker's state whose first skip was logged; generation 0 is never open.
    warned: AtomicU64,
    /// Who waits for an instance to become ready: one for each round robin that has this one.
    waiting: Mutex<Vec<Weak<Wakeup>>>,
    metrics: InstanceMetrics,
}

impl<S> Instance<S> {
    /// A ready instance. Its breaker is fed with the classification of every attempt.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, service: S, breaker: CircuitBreaker) -> Self {
        let name = name.into();
        let metrics = InstanceMetrics::new(&name);
        let shared = Shared {
            name,
            breaker,
            ready: AtomicBool::new(true),
            weight: AtomicU32::new(1),
            attempts_total: AtomicU64::new(0),
            warned: AtomicU64::new(0),
            waiting: Mutex::default(),
            metrics,
        };
        Self { service, local: false, shared: Arc::new(shared) }
    }

    /// In this process: [`Failover::per_try`](crate::Failover::per_try) does not bound its attempts.
    #[must_use]
    pub fn local(self) -> Self {
        Self { local: true, ..self }
    }

    /// The name that it was made with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its breaker.
    #[must_use]
    pub fn breaker(&self) -> &CircuitBreaker {
        &self.shared.breaker
    }

    /// Whether it is not known to be out of service.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.ready.load(Acquire)
    }

    /// Tells whether it serves. A hint: one that is not ready is passed over while another is, and asked last. Becoming
    /// ready wakes the requests that wait for it.
    pub fn set_ready(&self, ready: bool) {
        let before = self.shared.ready.swap(ready, AcqRel);
        if ready == before {
            return;
        }
        self.shared.metrics.changed(|| self.is_ready());
        #[cfg(feature = "tracing")]
        tracing::debug!(instance = %self.shared.name, ready, "instance changed");
        if ready {
            let waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone();
            waiting.iter().filter_map(Weak::upgrade).for_each(|wakeup| wakeup.wake());
        }
    }

    pub(super) fn shared_name(&self) -> Arc<str> {
        self.shared.name.clone()
    }

    /// How many times as many requests it gets as an instance of weight 1.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.shared.weight.load(Relaxed)
    }

    /// Sets its weight, 1 to 1000; what is beyond is brought to the nearer end. Default: 1. Takes effect at once.
    pub fn set_weight(&self, weight: u32) {
        self.shared.weight.store(weight.clamp(1, WEIGHT_MAX), Relaxed);
    }

    /// Whether it is ready and its circuit closed, or disabled.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.is_ready() && matches!(self.shared.breaker.state(), CircuitState::Closed | CircuitState::Disabled)
    }

    /// What there is to tell about it.
    #[must_use]
    pub fn snapshot(&self) -> InstanceSnapshot {
        InstanceSnapshot {
            name: self.shared.name.clone(),
            is_ready: self.is_ready(),
            is_available: self.is_available(),
            is_local: self.local,
            weight: self.weight(),
            attempts_total: self.shared.attempts_total.load(Relaxed),
            breaker: self.shared.breaker.snapshot(),
        }
    }

    pub(super) fn attempted(&self) {
        self.shared.attempts_total.fetch_add(1, Relaxed);
        self.shared.metrics.attempted();
    }

    /// Whether both are handles to the same one.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    pub(super) fn service(&self) -> &S {
        &self.service
    }

    pub(super) fn is_local(&self) -> bool {
        self.local
    }

    /// `wakeup` is to be woken when this becomes ready.
    pub(super) fn register(&self, wakeup: &Arc<Wakeup>) {
        let wakeup = Arc::downgrade(wakeup);
        let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|other| other.strong_count() > 0 && !other.ptr_eq(&wakeup));
        waiting.push(wakeup);
    }

    /// It was passed over because of its breaker: told once loudly for every opening, softly after that.
    pub(super) fn skipped(&self, rejected: &Rejected) {
        let first = self.shared.warned.swap(rejected.generation, Relaxed) != rejected.generation
            && rejected.reason != crate::RejectReason::HalfOpenFull;
        #[cfg(feature = "tracing")]
        if first {
            tracing::warn!("Instance {} circuit OPEN; skipping", self.shared.name);
        } else {
            tracing::debug!("Instance {} circuit OPEN; skipping", self.shared.name);
        }
        #[cfg(not(feature = "tracing"))]
        let _ = first;
    }
}

impl<S> fmt::Debug for Instance<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("name", &self.shared.name)
            .field("breaker", &self.shared.breaker)
            .field("ready", &self.is_ready())
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::rotation::Rotation, *};

    /// How many it would wake, gone or not.
    fn waiting(instance: &Instance<()>) -> usize {
        instance.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    #[test]
    fn it_knows_each_round_robin_once_and_forgets_those_that_are_gone() {
        let instance = Instance::new("a", (), CircuitBreaker::builder("a").build());
        let over = || Rotation::new(vec![instance.clone()], 0);
        let (stays, goes) = (over(), over());
        for _ in 0..10 {
            stays.change(|instances| (instances.to_vec(), ()));
        }
        assert_eq!(waiting(&instance), 2);
        drop(goes);
        stays.change(|instances| (instances.to_vec(), ()));
        assert_eq!(waiting(&instance), 1);
    }

    #[test]
    fn becoming_ready_wakes_every_round_robin_that_has_it() {
        let instance = Instance::new("a", (), CircuitBreaker::builder("a").build());
        instance.set_ready(false);
        let rotations = [0; 3].map(|start| Rotation::new(vec![instance.clone()], start));
        rotations[0].change(|instances| (instances.to_vec(), ()));
        let rounds = [0, 1, 2].map(|index: usize| rotations[index].round());
        instance.set_ready(true);
        for (rotation, round) in rotations.iter().zip(&rounds) {
            assert!(rotation.wait(round).is_none(), "it was woken");
        }
    }
}

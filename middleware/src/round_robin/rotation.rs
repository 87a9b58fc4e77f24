//! The instances and whose turn it is.
//!
//! It knows nothing of requests. Invariants: every pick takes the next turn, whoever picks, so passing over an instance
//! does not double the share of its neighbour; in one round nobody gets the same instance twice.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{
        AtomicU64, AtomicUsize,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
};

use tokio::sync::{Notify, futures::OwnedNotified};

use super::Instance;

/// Shared by the clones of one round robin.
pub(super) struct Rotation<S> {
    instances: RwLock<Arc<[Instance<S>]>>,
    turn: AtomicUsize,
    wakeup: Arc<Wakeup>,
}

/// Wakes requests that wait for an instance.
#[derive(Debug, Default)]
pub(super) struct Wakeup {
    /// Grows with every wake, so that one which happens during a round is not missed.
    count: AtomicU64,
    notify: Arc<Notify>,
}

/// One pass over the instances as they were at its beginning.
#[derive(Debug)]
pub(super) struct Round<S> {
    instances: Arc<[Instance<S>]>,
    /// Indices into `instances`; short, and not allocated before there is a first.
    tried: Vec<usize>,
    wakes: u64,
}

impl Wakeup {
    pub(super) fn wake(&self) {
        self.count.fetch_add(1, AcqRel);
        self.notify.notify_waiters();
    }

    fn count(&self) -> u64 {
        self.count.load(Acquire)
    }
}

impl<S> Rotation<S> {
    pub(super) fn new(instances: Vec<Instance<S>>, start: usize) -> Self {
        let rotation =
            Self { instances: RwLock::new(Arc::new([])), turn: AtomicUsize::new(start), wakeup: Arc::default() };
        rotation.set(instances);
        rotation
    }

    pub(super) fn start_at(&self, turn: usize) {
        self.turn.store(turn, Relaxed);
    }

    pub(super) fn instances(&self) -> Arc<[Instance<S>]> {
        self.instances.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, instances: Vec<Instance<S>>) {
        for instance in &instances {
            instance.register(&self.wakeup);
        }
        let instances = Arc::from(instances);
        let old = std::mem::replace(&mut *self.instances.write().unwrap_or_else(PoisonError::into_inner), instances);
        // Outside the lock: it may be the last handle to services whose drop takes time.
        drop(old);
        self.wakeup.wake();
    }

    pub(super) fn round(&self) -> Round<S> {
        let wakes = self.wakeup.count();
        Round { instances: self.instances(), tried: Vec::new(), wakes }
    }

    /// What ends when somebody wakes; `None` when somebody has since `round` began.
    pub(super) fn wait(&self, round: &Round<S>) -> Option<OwnedNotified> {
        let notified = self.wakeup.notify.clone().notified_owned();
        (self.wakeup.count() == round.wakes).then_some(notified)
    }

    /// The next instance in turn that `round` has not tried; those that are not ready come last.
    pub(super) fn pick(&self, round: &mut Round<S>) -> Option<Instance<S>>
    where
        S: Clone,
    {
        let count = round.instances.len();
        let left = |index: &usize| !round.tried.contains(index);
        let a_ready_one_is_left = (0..count).filter(left).any(|index| round.instances[index].is_ready());
        let fits = |index: &usize| left(index) && (!a_ready_one_is_left || round.instances[*index].is_ready());
        // A full turn passes every instance, unless others take turns meanwhile: then the first that fits will do.
        let mut turns = (0..count).map(|_| self.turn.fetch_add(1, Relaxed) % count);
        let index = turns.find(fits).or_else(|| (0..count).find(fits)).or_else(|| (0..count).find(left))?;
        round.tried.push(index);
        round.instances.get(index).cloned()
    }
}

impl<S> Round<S> {
    /// Whether an attempt after the one under way is possible within this round.
    pub(super) fn has_more(&self) -> bool {
        self.tried.len() < self.instances.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CircuitBreaker;

    fn rotation(names: &[&str]) -> Rotation<()> {
        let instance = |name: &&str| Instance::new(*name, (), CircuitBreaker::builder(*name).build());
        Rotation::new(names.iter().map(instance).collect(), 0)
    }

    fn pick(rotation: &Rotation<()>, round: &mut Round<()>) -> Option<String> {
        rotation.pick(round).map(|instance| instance.name().to_owned())
    }

    #[test]
    fn every_pick_takes_the_next_turn() {
        let rotation = rotation(&["a", "b", "c"]);
        let firsts: Vec<_> = (0..4).filter_map(|_| pick(&rotation, &mut rotation.round())).collect();
        assert_eq!(firsts, ["a", "b", "c", "a"]);
    }

    #[test]
    fn a_round_gives_each_instance_once() {
        let rotation = rotation(&["a", "b", "c"]);
        let mut round = rotation.round();
        let mut picked: Vec<_> = std::iter::from_fn(|| pick(&rotation, &mut round)).collect();
        picked.sort();
        assert_eq!(picked, ["a", "b", "c"]);
        assert!(!round.has_more());
    }

    #[test]
    fn one_that_is_passed_over_does_not_double_the_share_of_its_neighbour() {
        let rotation = rotation(&["a", "b", "c"]);
        rotation.instances()[1].set_ready(false);
        let firsts: Vec<_> = (0..6).filter_map(|_| pick(&rotation, &mut rotation.round())).collect();
        assert_eq!(firsts, ["a", "c", "a", "c", "a", "c"]);
    }

    #[test]
    fn one_that_is_not_ready_comes_last() {
        let rotation = rotation(&["a", "b", "c"]);
        rotation.instances()[0].set_ready(false);
        let mut round = rotation.round();
        let picked: Vec<_> = std::iter::from_fn(|| pick(&rotation, &mut round)).collect();
        assert_eq!(picked, ["b", "c", "a"]);
    }

    #[test]
    fn a_wake_during_a_round_is_not_missed() {
        let rotation = rotation(&["a"]);
        let round = rotation.round();
        assert!(rotation.wait(&round).is_some());
        rotation.instances()[0].set_ready(true);
        assert!(rotation.wait(&round).is_some(), "it was ready already");
        rotation.instances()[0].set_ready(false);
        rotation.instances()[0].set_ready(true);
        assert!(rotation.wait(&round).is_none());
    }

    #[test]
    fn no_instances_no_pick() {
        let rotation = rotation(&[]);
        assert_eq!(pick(&rotation, &mut rotation.round()), None);
    }
}

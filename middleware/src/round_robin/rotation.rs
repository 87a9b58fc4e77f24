//! The instances and whose turn it is.
//!
//! It knows nothing of requests. Invariants: every pick takes the next turn, whoever picks, so passing over an instance
//! does not double the share of its neighbour; in one round nobody gets the same instance twice.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire},
        },
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, futures::OwnedNotified},
    time::Instant,
};

use super::{
    Instance,
    turns::{Part, Turns},
    warm_up::WarmUp,
};

/// A turn of an instance with weight 1 that is warm. The smaller parts are for those that are warming up.
const SHARE: u32 = 64;

/// Most steps that a start is moved on by: enough for each of a thousand instances to be the first.
const START_MAX: usize = 1024;

/// Shared by the clones of one round robin.
pub(super) struct Rotation<S> {
    members: RwLock<Arc<Members<S>>>,
    wakeup: Arc<Wakeup>,
}

/// The instances from one change to the next, and whose turn it is among them.
pub(super) struct Members<S> {
    instances: Arc<[Instance<S>]>,
    /// Held for one step, without any other lock.
    turns: Mutex<State>,
}

struct State {
    turns: Turns,
    /// What each instance may have of the requests in this step.
    shares: Vec<u32>,
    warm_up: Vec<WarmUp>,
    /// How long an instance that comes back takes to its full share, if it takes time at all.
    slow_start: Option<Duration>,
}

/// Wakes requests that wait for an instance.
#[derive(Debug, Default)]
pub(super) struct Wakeup {
    /// Grows with every wake, so that one which happens during a round is not missed.
    count: AtomicU64,
    notify: Arc<Notify>,
}

/// One pass over the instances as they were at its beginning.
pub(super) struct Round<S> {
    members: Arc<Members<S>>,
    /// Indices of instances; short, and not allocated before there is a first.
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
        let count = instances.len();
        let warm_up = vec![WarmUp::default(); count];
        let state = State { turns: Turns::new(count), shares: vec![0; count], warm_up, slow_start: None };
        let members = Members { instances: Arc::from(instances), turns: Mutex::new(state) };
        let rotation = Self { members: RwLock::new(Arc::new(members)), wakeup: Arc::default() };
        for instance in rotation.instances().iter() {
            instance.register(&rotation.wakeup);
        }
        rotation.start_at(start);
        rotation
    }

    /// Starting with a random one.
    pub(super) fn at_random(instances: Vec<Instance<S>>) -> Self {
        // A hasher has random keys: a fleet of clients must not all begin with the same instance.
        Self::new(instances, RandomState::new().hash_one(()) as usize)
    }

    /// As if so many turns had been taken.
    pub(super) fn start_at(&self, turn: usize) {
        let members = self.members();
        let weights: Vec<_> = members.instances.iter().map(Instance::weight).collect();
        let cycle = weights.iter().map(|weight| *weight as usize).sum::<usize>().clamp(1, START_MAX);
        let mut state = members.state();
        state.turns = Turns::new(weights.len());
        for _ in 0..turn % cycle {
            state.turns.take(|index| Part::In(weights[index] * SHARE));
        }
    }

    pub(super) fn slow_start(&self, time: Option<Duration>) {
        self.members().state().slow_start = time;
    }

    fn members(&self) -> Arc<Members<S>> {
        self.members.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn instances(&self) -> Arc<[Instance<S>]> {
        self.members().instances.clone()
    }

    /// Changes the instances. Those that stay keep their turn; new ones begin cold, if there is a slow start.
    pub(super) fn change<T>(&self, change: impl FnOnce(&[Instance<S>]) -> (Vec<Instance<S>>, T)) -> T {
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        let (instances, told) = change(&members.instances);
        for instance in &instances {
            instance.register(&self.wakeup);
        }
        let before = |instance: &Instance<S>| members.instances.iter().position(|other| other.is(instance));
        let state = {
            let old = members.state();
            let now = old.slow_start.map(|_| Instant::now());
            let turns = Turns::carried(instances.iter().map(|instance| old.turns.owed(before(instance)?)));
            let warm_up = instances.iter().map(|instance| match before(instance) {
                Some(index) => old.warm_up[index],
                None => WarmUp::new_at(now),
            });
            let shares = vec![0; instances.len()];
            State { turns, shares, warm_up: warm_up.collect(), slow_start: old.slow_start }
        };
        let new = Arc::new(Members { instances: Arc::from(instances), turns: Mutex::new(state) });
        let old = std::mem::replace(&mut *members, new);
        drop(members);
        // Outside the lock: it may be the last handle to services whose drop takes time.
        drop(old);
        self.wakeup.wake();
        told
    }

    pub(super) fn set(&self, instances: Vec<Instance<S>>) {
        self.change(|_| (instances, ()));
    }

    /// Adds it, or puts it in the place of the one that has its name.
    pub(super) fn add(&self, instance: Instance<S>)
    where
        S: Clone,
    {
        self.change(|instances| {
            let mut instances = instances.to_vec();
            match instances.iter_mut().find(|other| other.name() == instance.name()) {
                Some(other) => *other = instance,
                None => instances.push(instance),
            }
            (instances, ())
        });
    }

    /// Takes out the one of this name, and tells whether it was there.
    pub(super) fn remove(&self, name: &str) -> bool
    where
        S: Clone,
    {
        self.change(|instances| {
            let left: Vec<_> = instances.iter().filter(|instance| instance.name() != name).cloned().collect();
            let was_there = left.len() < instances.len();
            (left, was_there)
        })
    }

    pub(super) fn round(&self) -> Round<S> {
        let wakes = self.wakeup.count();
        Round { members: self.members(), tried: Vec::new(), wakes }
    }

    /// What ends when somebody wakes; `None` when somebody has since `round` began.
    pub(super) fn wait(&self, round: &Round<S>) -> Option<OwnedNotified> {
        let notified = self.wakeup.notify.clone().notified_owned();
        (self.wakeup.count() == round.wakes).then_some(notified)
    }
}

impl<S> Members<S> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Round<S> {
    /// The next instance in turn that this round has not tried; those that are not ready come last.
    pub(super) fn pick(&mut self) -> Option<Instance<S>>
    where
        S: Clone,
    {
        let instances = &self.members.instances;
        let tried = &self.tried;
        let mut state = self.members.state();
        let State { turns, shares, warm_up, slow_start } = &mut *state;
        let now = slow_start.map(|time| (Instant::now(), time));
        for ((share, warm_up), instance) in shares.iter_mut().zip(warm_up).zip(instances.iter()) {
            *share = instance.weight() * SHARE;
            if let Some((now, time)) = now {
                *share = warm_up.share(*share, instance.is_available(), now, time);
            }
        }
        let had = |index: usize| tried.contains(&index);
        let ready = turns.take(|index| match (instances[index].is_ready(), had(index)) {
            (false, _) => Part::Out,
            (true, true) => Part::Had(shares[index]),
            (true, false) => Part::In(shares[index]),
        });
        let last = || turns.take(|index| if had(index) { Part::Out } else { Part::In(shares[index]) });
        let index = ready.or_else(last)?;
        drop(state);
        self.tried.push(index);
        instances.get(index).cloned()
    }

    /// Whether an attempt after the one under way is possible within this round.
    pub(super) fn has_more(&self) -> bool {
        self.tried.len() < self.members.instances.len()
    }

    /// How many of the instances would take a request now, and how many there are.
    pub(super) fn available(&self) -> (usize, usize) {
        let instances = &self.members.instances;
        (instances.iter().filter(|instance| instance.is_available()).count(), instances.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CircuitBreaker;

    fn instance(name: &str) -> Instance<()> {
        Instance::new(name, (), CircuitBreaker::builder(name).build())
    }

    fn rotation(names: &[&str]) -> Rotation<()> {
        Rotation::new(names.iter().map(|name| instance(name)).collect(), 0)
    }

    fn first(rotation: &Rotation<()>) -> String {
        rotation.round().pick().map(|instance| instance.name().to_owned()).unwrap_or_default()
    }

    fn firsts(rotation: &Rotation<()>, count: usize) -> String {
        (0..count).map(|_| first(rotation)).collect()
    }

    fn whole(mut round: Round<()>) -> String {
        std::iter::from_fn(|| round.pick().map(|instance| instance.name().to_owned())).collect()
    }

    #[test]
    fn every_pick_takes_the_next_turn() {
        assert_eq!(firsts(&rotation(&["a", "b", "c"]), 4), "abca");
    }

    #[test]
    fn weights_are_shares() {
        let rotation = rotation(&["a", "b", "c"]);
        rotation.instances()[0].set_weight(5);
        assert_eq!(firsts(&rotation, 7), "aabacaa");
    }

    #[test]
    fn a_start_may_be_anywhere() {
        for (start, order) in [(0, "abc"), (1, "bca"), (2, "cab"), (3, "abc"), (usize::MAX, "abc")] {
            let rotation = rotation(&["a", "b", "c"]);
            rotation.start_at(start);
            assert_eq!(firsts(&rotation, 3), order, "{start}");
        }
    }

    #[test]
    fn a_round_gives_each_instance_once() {
        let rotation = rotation(&["a", "b", "c"]);
        let mut round = rotation.round();
        assert!(round.has_more());
        while round.pick().is_some() {}
        assert!(!round.has_more());
        let mut picked: Vec<_> = whole(rotation.round()).chars().collect();
        picked.sort_unstable();
        assert_eq!(picked, ['a', 'b', 'c']);
    }

    #[test]
    fn one_that_is_passed_over_does_not_double_the_share_of_its_neighbour() {
        let rotation = rotation(&["a", "b", "c"]);
        rotation.instances()[1].set_ready(false);
        assert_eq!(firsts(&rotation, 6), "acacac");
    }

    #[test]
    fn one_that_is_not_ready_comes_last() {
        let rotation = rotation(&["a", "b", "c"]);
        rotation.instances()[0].set_ready(false);
        assert_eq!(whole(rotation.round()), "bca");
    }

    #[test]
    fn those_that_stay_keep_their_turn_when_others_come_and_go() {
        let rotation = rotation(&["a", "b", "c"]);
        assert_eq!(firsts(&rotation, 2), "ab");
        rotation.change(|instances| ([&instances[1..], &[instance("d")]].concat(), ()));
        assert_eq!(firsts(&rotation, 3), "cdb");
    }

    #[test]
    fn a_round_keeps_the_instances_that_it_began_with() {
        let rotation = rotation(&["a", "b"]);
        let round = rotation.round();
        rotation.change(|_| (vec![instance("c")], ()));
        assert_eq!(whole(round), "ab");
        assert_eq!(first(&rotation), "c");
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
        assert!(rotation(&[]).round().pick().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_that_comes_back_gets_its_share_by_and_by() {
        let rotation = rotation(&["a", "b"]);
        rotation.slow_start(Some(Duration::from_secs(10)));
        let share = || firsts(&rotation, 100).matches('b').count();
        assert_eq!(share(), 50);
        rotation.instances()[1].set_ready(false);
        assert_eq!(share(), 0);
        rotation.instances()[1].set_ready(true);
        let cold = share();
        tokio::time::advance(Duration::from_secs(5)).await;
        let half = share();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!((5..=12).contains(&cold) && (28..=38).contains(&half), "{cold}, {half}");
        assert_eq!(share(), 50);
    }
}

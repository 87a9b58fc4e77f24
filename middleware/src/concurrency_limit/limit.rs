//! The handle of a limit: the lock-free path while nobody waits, and the locks around the rest.
//!
//! It makes no calls and knows no protocol. Invariants: a place that is free is never kept from who waits; wakers run
//! after the locks are released. Lock order: `gradient`, then `queue`.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    task::Waker,
};

use tokio::time::Instant;

use super::{
    Acquire, AdaptiveLimit, OverflowQueue, Overloaded, Place,
    gradient::{Gradient, Sample},
    metrics::Metrics,
    queue::{Left, Queue},
    word::Word,
};
use crate::sync::{
    AtomicU64, Mutex, MutexGuard,
    Ordering::{AcqRel, Acquire as LoadAcquire, Relaxed},
    PoisonError,
};

/// A limit of calls at once, usable with or without tower. Clones are handles to the same limit.
///
/// With the feature `metrics`, one that is [`named`](Self::named) tells the recorder that is installed then, with its name as
/// `limit`: the gauges `concurrency_limit_max`, `concurrency_limit_in_flight` and `concurrency_limit_queued`, and the counter
/// `concurrency_limit_rejected_total`.
///
/// ```
/// use campanile_middleware::ConcurrencyLimit;
///
/// let limit = ConcurrencyLimit::fixed(1);
/// let place = limit.try_acquire().expect("nothing is in flight");
/// assert!(limit.try_acquire().is_err());
/// drop(place);
/// assert!(limit.try_acquire().is_ok());
/// ```
#[derive(Clone)]
pub struct ConcurrencyLimit {
    shared: Arc<Shared>,
}

struct Shared {
    word: AtomicU64,
    queue: Mutex<Queue>,
    gradient: Option<Mutex<Gradient>>,
    shed_total: AtomicU64,
    name: OnceLock<Arc<str>>,
    metrics: Metrics,
}

/// The limit is another now.
struct Change {
    /// Of those who got a place by it.
    wakers: Vec<Waker>,
    from: usize,
    to: usize,
}

/// A limit at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitSnapshot {
    /// How many calls may be in flight. Lowered, it may be less than are.
    pub limit: usize,
    /// How many places are taken.
    pub in_flight: usize,
    /// How many wait for a place.
    pub queued: usize,
    /// How many were refused, ever.
    pub shed_total: u64,
}

impl ConcurrencyLimit {
    /// At most `max` calls at once, up to 2 147 483 647.
    #[must_use]
    pub fn fixed(max: usize) -> Self {
        Self::new(Word::new(max), None)
    }

    /// As many calls at once as the latency of the service suggests.
    #[must_use]
    pub fn adaptive(settings: AdaptiveLimit) -> Self {
        let gradient = Gradient::new(settings);
        Self::new(Word::new(gradient.limit()), Some(gradient))
    }

    fn new(word: Word, gradient: Option<Gradient>) -> Self {
        let (word, queue, shed_total) = (AtomicU64::new(word.0), Mutex::default(), AtomicU64::new(0));
        let (gradient, name, metrics) = (gradient.map(Mutex::new), OnceLock::new(), Metrics::default());
        Self { shared: Arc::new(Shared { word, queue, gradient, shed_total, name, metrics }) }
    }

    /// The name by which events and metrics tell of it. Give it before it is in use; the first one stays. Default: none, and
    /// no metrics.
    #[must_use]
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        let name = self.shared.name.get_or_init(|| name.into());
        let word = self.word();
        self.shared.metrics.named(name, word.limit(), word.in_flight());
        self
    }

    /// Takes a place, if there is one now.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] when all places are taken, or others wait for the next.
    #[inline]
    pub fn try_acquire(&self) -> Result<Place, Overloaded> {
        if self.take() { Ok(Place::new(self.clone())) } else { Err(self.shed()) }
    }

    /// Takes a place, or waits for one in `queue`. Its turn counts from this call, not from the first poll.
    ///
    /// The future fails with [`Overloaded`] when the queue is full already, or the wait too long.
    ///
    /// # Cancel safety
    /// Dropped early, it leaves the queue; a place that it has been given goes to the next.
    pub fn acquire(&self, queue: OverflowQueue) -> Acquire {
        Acquire::new(self, queue)
    }

    /// Changes the limit. An adaptive one goes on from there, within its bounds. What is in flight stays so.
    pub fn set_limit(&self, limit: usize) {
        let gradient = self.lock_gradient();
        let change = match gradient {
            Some(mut gradient) => {
                gradient.set_limit(limit);
                self.apply(gradient.limit())
            }
            None => self.apply(limit),
        };
        self.tell(change);
    }

    /// How many calls may be in flight, how many are, how many wait.
    #[must_use]
    pub fn snapshot(&self) -> LimitSnapshot {
        let queue = self.lock_queue();
        let word = self.word();
        LimitSnapshot {
            limit: word.limit(),
            in_flight: word.in_flight(),
            queued: queue.len(),
            shed_total: self.shared.shed_total.load(Relaxed),
        }
    }

    /// Somebody is refused.
    #[cold]
    pub(super) fn shed(&self) -> Overloaded {
        self.shared.shed_total.fetch_add(1, Relaxed);
        self.shared.metrics.rejected();
        Overloaded
    }

    #[inline]
    pub(super) fn is_adaptive(&self) -> bool {
        self.shared.gradient.is_some()
    }

    /// Takes a place for who just came.
    #[inline]
    pub(super) fn take(&self) -> bool {
        self.update(Word::take)
    }

    /// Takes a place, or gets in line unless `len` wait already. `Ok(None)`: it has a place.
    pub(super) fn take_or_join(&self, len: usize) -> Result<Option<u64>, Overloaded> {
        let mut queue = self.lock_queue();
        let is_full = queue.len() >= len;
        let mut word = self.word();
        loop {
            // A place that was given back before the mark is set is seen here; one after that comes to the lock.
            let taken = word.take();
            let next = match taken {
                Some(next) => next,
                None if is_full => {
                    drop(queue);
                    return Err(self.shed());
                }
                None => word.with_waiting(true),
            };
            match self.exchange(word, next) {
                Ok(()) if taken.is_some() => return Ok(None),
                Ok(()) => return Ok(Some(queue.join())),
                Err(current) => word = current,
            }
        }
    }

    /// Whether the place of `number` has come; else `waker` is called when it does.
    pub(super) fn collect(&self, number: u64, waker: &Waker) -> bool {
        // Cloned before the lock is taken, and the one from before dropped after: both may run code of anybody's.
        let mut waker = Some(waker.clone());
        self.lock_queue().collect(number, &mut waker)
    }

    /// `number` waits no longer. A place that it was granted and has not collected goes to the next.
    pub(super) fn leave(&self, number: u64) {
        let mut queue = self.lock_queue();
        match queue.leave(number) {
            Left::Waiting(waker) => {
                self.unmark_if_empty(&queue);
                drop(queue);
                drop(waker);
            }
            Left::Granted => {
                self.update(|word| Some(word.give()));
                let wakers = self.hand_on(&mut queue);
                drop(queue);
                wake(wakers);
            }
            Left::Before => {}
        }
    }

    /// A place is free again.
    #[inline]
    pub(super) fn give_back(&self) {
        if !self.update(|word| (!word.is_waiting()).then(|| word.give())) {
            self.give_to_queue();
        }
    }

    #[cold]
    fn give_to_queue(&self) {
        let mut queue = self.lock_queue();
        self.update(|word| Some(word.give()));
        let wakers = self.hand_on(&mut queue);
        drop(queue);
        wake(wakers);
    }

    /// A call that began then ended so.
    pub(super) fn sample(&self, sample: Sample, begun: Instant) {
        let Some(mut gradient) = self.lock_gradient() else { return };
        let now = Instant::now();
        let in_flight = self.word().in_flight();
        let Some(limit) = gradient.sample(sample, now.saturating_duration_since(begun), in_flight, now) else { return };
        let change = self.apply(limit);
        drop(gradient);
        self.tell(change);
    }

    fn apply(&self, limit: usize) -> Change {
        let mut queue = self.lock_queue();
        let from = self.word().limit();
        self.update(|word| Some(word.with_limit(limit)));
        let to = self.word().limit();
        self.shared.metrics.limited(to);
        Change { wakers: self.hand_on(&mut queue), from, to }
    }

    /// Once the locks are released.
    fn tell(&self, Change { wakers, from, to }: Change) {
        #[cfg(feature = "tracing")]
        if from != to {
            let limit = self.shared.name.get().map(tracing::field::display);
            tracing::debug!(limit, from, to, "concurrency limit changed");
        }
        #[cfg(not(feature = "tracing"))]
        let _ = (from, to);
        wake(wakers);
    }

    #[inline]
    pub(super) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Gives the places that are free to those who wait, in their order.
    fn hand_on(&self, queue: &mut Queue) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while !queue.is_empty() && self.update(Word::take_waited_for) {
            wakers.extend(queue.grant());
        }
        self.unmark_if_empty(queue);
        wakers
    }

    fn unmark_if_empty(&self, queue: &Queue) {
        if queue.is_empty() {
            self.update(|word| Some(word.with_waiting(false)));
        }
    }

    /// Whether there was a `next` word.
    #[inline]
    fn update(&self, next: impl Fn(Word) -> Option<Word>) -> bool {
        let mut word = self.word();
        while let Some(next) = next(word) {
            match self.exchange(word, next) {
                Ok(()) => return true,
                Err(current) => word = current,
            }
        }
        false
    }

    #[inline]
    fn exchange(&self, current: Word, next: Word) -> Result<(), Word> {
        let exchanged = self.shared.word.compare_exchange_weak(current.0, next.0, AcqRel, LoadAcquire);
        exchanged.map(|_| ()).map_err(Word)
    }

    #[inline]
    fn word(&self) -> Word {
        Word(self.shared.word.load(LoadAcquire))
    }

    fn lock_queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing under these locks can panic half way through a change.
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_gradient(&self) -> Option<MutexGuard<'_, Gradient>> {
        let gradient = self.shared.gradient.as_ref()?;
        Some(gradient.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn wake(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

impl fmt::Debug for ConcurrencyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word();
        f.debug_struct("ConcurrencyLimit")
            .field("limit", &word.limit())
            .field("in_flight", &word.in_flight())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(campanile_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_became_free_on_the_way_to_the_queue_is_taken_and_not_waited_for() {
        let limit = ConcurrencyLimit::fixed(1);
        assert_eq!(limit.take_or_join(1), Ok(None));
        let LimitSnapshot { in_flight, queued, .. } = limit.snapshot();
        assert_eq!((in_flight, queued), (1, 0));
        assert!(matches!(limit.take_or_join(1), Ok(Some(_))), "the next one waits");
        assert_eq!(limit.take_or_join(1), Err(Overloaded), "and there is no room for a third");
    }
}

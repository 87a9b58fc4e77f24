//! Round robin over services that know nothing of HTTP: any request, any response.
//!
//! Invariants: always ready; a request is copied only when its policy says how, and only while another attempt may follow.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tower_service::Service;

use super::{
    Failover, GenericRoundRobinFuture, Instance, RoundRobinError, RoundRobinSnapshot, exchange::Itself,
    failover::Policy, metrics::RoundMetrics, rotation::Rotation,
};
use crate::{ErrorIsFailure, Judge};

type CloneRequest<Req> = dyn Fn(&Req) -> Option<Req> + Send + Sync;

/// Sends each request of any kind to the next instance in turn: what [`RoundRobin`](crate::RoundRobin) is to HTTP. Clones
/// share the instances and the turn.
///
/// `S` is the service of an instance (it is cloned for every attempt), or what it is reached by: see
/// [`GenericRoundRobinLayer`](crate::GenericRoundRobinLayer). Rotation, circuits, panic mode, slow start, waiting and the
/// budget of repeats are those of `RoundRobin`, and so are the metrics and [`Failover`], except for its `replay_limit`.
///
/// What becomes of the outcome of an attempt:
///
/// | outcome | then |
/// |---|---|
/// | an error that is [`never_sent`](Self::never_sent), a response that is [`refused`](Self::refused), a service that does not become ready | the next instance is tried, for any request |
/// | what the [`judge`](Self::judge) calls a failure, or none within [`Failover::per_try`] | the next instance is tried, if the request is [`idempotent`](Self::idempotent), and attempts and budget are left |
/// | any other | it is the answer |
///
/// A request can be sent a second time only if [`clone_request`](Self::clone_request) tells how to copy it. Until then,
/// only an instance that does not become ready is followed by the next, as it was not given the request.
///
/// ```
/// use campanile_middleware::{CircuitBreaker, GenericRoundRobin, Instance};
/// use tower::{ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// // Two replicas of a store, one of which is down.
/// let instances = [("a", false), ("b", true)].map(|(name, is_up)| {
///     let look_up = move |key: u32| async move { if is_up { Ok(key * 2) } else { Err("down") } };
///     Instance::new(name, service_fn(look_up), CircuitBreaker::builder(name).build())
/// });
/// let store = GenericRoundRobin::new(instances)
///     // Looking up a key twice does no harm.
///     .idempotent(|_key| true)
///     .clone_request(|key: &u32| Some(*key));
/// for key in 0..4 {
///     assert_eq!(store.clone().oneshot(key).await, Ok(key * 2));
/// }
/// # });
/// ```
pub struct GenericRoundRobin<S, Req, Res, E, J = ErrorIsFailure> {
    pub(super) rotation: Arc<Rotation<S>>,
    pub(super) policy: Arc<Policy<Req, Res, E>>,
    pub(super) clone_request: Option<Arc<CloneRequest<Req>>>,
    pub(super) judge: J,
}

impl<S, Req, Res, E> GenericRoundRobin<S, Req, Res, E> {
    /// Over these instances, starting with a random one, with [`ErrorIsFailure`].
    #[must_use]
    pub fn new(instances: impl IntoIterator<Item = Instance<S>>) -> Self {
        Self {
            rotation: Arc::new(Rotation::at_random(instances.into_iter().collect())),
            policy: Arc::new(Policy::new(|_| false)),
            clone_request: None,
            judge: ErrorIsFailure,
        }
    }
}

impl<S, Req, Res, E, J> GenericRoundRobin<S, Req, Res, E, J> {
    /// What an outcome says about its instance, to the instance's breaker: a failure may be repeated elsewhere, anything
    /// else is the answer. Default: [`ErrorIsFailure`].
    #[must_use]
    pub fn judge<K>(self, judge: K) -> GenericRoundRobin<S, Req, Res, E, K> {
        let Self { rotation, policy, clone_request, judge: _ } = self;
        GenericRoundRobin { rotation, policy, clone_request, judge }
    }

    /// How a request is copied to be sent again, if it can be. Called only while another attempt may follow: not for the
    /// last instance, and not for a request that would not be repeated whatever the outcome. Default: not at all.
    #[must_use]
    pub fn clone_request(self, clone_request: impl Fn(&Req) -> Option<Req> + Send + Sync + 'static) -> Self {
        Self { clone_request: Some(Arc::new(clone_request)), ..self }
    }

    /// Which requests may be processed twice. Default: none.
    #[must_use]
    pub fn idempotent(self, idempotent: impl Fn(&Req) -> bool + Send + Sync + 'static) -> Self {
        self.with(|policy| policy.idempotent = Arc::new(idempotent))
    }

    /// Which errors of an instance's service prove that the request was never sent. The instance's breaker is told what
    /// the judge says of them. Default: none.
    #[must_use]
    pub fn never_sent(self, never_sent: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        self.with(|policy| policy.never_sent = Some(Arc::new(never_sent)))
    }

    /// Which responses say that the instance did nothing: "not the leader", say. They count neither for nor against its
    /// breaker. Default: none.
    #[must_use]
    pub fn refused(self, refused: impl Fn(&Res) -> bool + Send + Sync + 'static) -> Self {
        self.with(|policy| policy.refused = Some(Arc::new(refused)))
    }

    /// Starts with the instance at this index instead.
    #[must_use]
    pub fn start(self, index: usize) -> Self {
        self.rotation.start_at(index);
        self
    }

    /// The name by which metrics tell of it. Default: none, and no metrics but those of the instances.
    #[must_use]
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        self.with(|policy| policy.rules().metrics = RoundMetrics::named(&name))
    }

    /// What is done when an attempt fails.
    #[must_use]
    pub fn failover(self, failover: Failover) -> Self {
        self.with(|policy| policy.rules().set_failover(failover))
    }

    /// See [`RoundRobin::panic_below`](crate::RoundRobin::panic_below). Default: 0.
    #[must_use]
    pub fn panic_below(self, part: f64) -> Self {
        self.with(|policy| policy.rules().panic_below = part)
    }

    /// See [`RoundRobin::slow_start`](crate::RoundRobin::slow_start). Default: none.
    #[must_use]
    pub fn slow_start(self, time: impl Into<Option<Duration>>) -> Self {
        self.rotation.slow_start(time.into().filter(|time| !time.is_zero()));
        self
    }

    /// The instances as they are now.
    #[must_use]
    pub fn instances(&self) -> Arc<[Instance<S>]> {
        self.rotation.instances()
    }

    /// Replaces the instances, and wakes the requests that wait for one. Requests under way end on those they are on.
    pub fn set_instances(&self, instances: impl IntoIterator<Item = Instance<S>>) {
        self.rotation.set(instances.into_iter().collect());
    }

    /// Adds an instance, or puts it in the place of the one that has its name.
    pub fn add(&self, instance: Instance<S>)
    where
        S: Clone,
    {
        self.rotation.add(instance);
    }

    /// Takes out the instance of this name, and tells whether it was there. Requests under way end on it.
    pub fn remove(&self, name: &str) -> bool
    where
        S: Clone,
    {
        self.rotation.remove(name)
    }

    /// What there is to tell about it and its instances.
    #[must_use]
    pub fn snapshot(&self) -> RoundRobinSnapshot {
        RoundRobinSnapshot::new(&self.instances(), &self.policy.rules)
    }

    fn with(mut self, change: impl FnOnce(&mut Policy<Req, Res, E>)) -> Self {
        change(Arc::make_mut(&mut self.policy));
        self
    }
}

impl<S, Req, Res, E, J: Clone> Clone for GenericRoundRobin<S, Req, Res, E, J> {
    fn clone(&self) -> Self {
        Self {
            rotation: self.rotation.clone(),
            policy: self.policy.clone(),
            clone_request: self.clone_request.clone(),
            judge: self.judge.clone(),
        }
    }
}

impl<S, Req, Res, E, J> fmt::Debug for GenericRoundRobin<S, Req, Res, E, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GenericRoundRobin")
            .field("instances", &self.instances())
            .field("failover", &self.policy)
            .finish_non_exhaustive()
    }
}

impl<S, Req, E, J> Service<Req> for GenericRoundRobin<S, Req, S::Response, E, J>
where
    S: Service<Req, Error = E> + Clone,
    J: Judge<S::Response, E> + Clone,
{
    type Response = S::Response;
    type Error = RoundRobinError<E>;
    type Future = GenericRoundRobinFuture<Itself<S>, S::Future, Req, S::Response, E, J>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        GenericRoundRobinFuture::new(self, Itself::NEW, request)
    }
}

//! The service over the instances, and the handle to change them while it runs.
//!
//! It resolves no names and checks no health by itself: others tell it which instances there are and which are ready.
//! Invariants: always ready, never an error; every failure is an answer.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body::Body;
use tower_service::Service;

use super::{
    Failover, Instance, RoundRobinFuture, RoundRobinSnapshot,
    exchange::Itself,
    failover::{Policy, is_idempotent},
    metrics::RoundMetrics,
    replayed::Answer,
    rotation::Rotation,
};
use crate::ReplayBody;

/// Sends each request to the next instance in turn, by weight. Clones share the instances and the turn.
///
/// `S` is the service of an instance, `E` its error and `B` the body of its responses. An instance's service is cloned for
/// every attempt, and must take requests with a [`ReplayBody`]. Where one client serves all instances, `S` is an instance's
/// address, and a [`RoundRobinLayer`](crate::RoundRobinLayer) puts it in front of the client. For services that are no HTTP,
/// take [`GenericRoundRobin`](crate::GenericRoundRobin).
///
/// - An instance whose circuit is open is skipped, and the log says `Instance NAME circuit OPEN; skipping`.
/// - An instance that is not ready is asked last.
/// - An attempt that failed before it was sent ([`never_sent`](Self::never_sent)), or that was refused before it was
///   started ([`refused`](Self::refused)), is made on the next instance. One that may have been processed is repeated only
///   if the request is [`idempotent`](Self::idempotent); then 502, 503, 504 and UNAVAILABLE are such failures as well.
/// - An instance is tried at most once per round. There are further rounds only with
///   [`Failover::wait_for_ready`], and only as long as nothing may have been processed.
///
/// When nothing worked, the answer is the last instance's own, or one of these rejections:
///
/// | code | status | meaning |
/// |---|---|---|
/// | `no_instance` | 503 / UNAVAILABLE | no instance could be asked; nothing was done |
/// | `unavailable` | 503 / UNAVAILABLE | no instance could be reached; nothing was done |
/// | `outcome_unknown` | 502 / UNAVAILABLE | it may or may not have been done |
/// | `request_body` | 400 / INVALID_ARGUMENT | the request's own body broke off |
///
/// With the feature `metrics`, an instance tells the recorder that is installed when it is made, with its name as `instance`:
/// the counter `round_robin_attempts_total` and the gauge `round_robin_instance_ready`, 0 or 1; its circuit is told by its
/// breaker. A round robin that is [`named`](Self::named) tells, with its name as `round_robin`: the counters
/// `round_robin_repeats_total`, and `round_robin_repeats_refused_total` for those that the budget did not pay for.
pub struct RoundRobin<S, E, B> {
    pub(super) rotation: Arc<Rotation<S>>,
    pub(super) policy: Arc<Policy<Parts, Response<B>, E>>,
}

impl<S, E, B> RoundRobin<S, E, B> {
    /// Over these instances, starting with a random one.
    #[must_use]
    pub fn new(instances: impl IntoIterator<Item = Instance<S>>) -> Self {
        Self {
            rotation: Arc::new(Rotation::at_random(instances.into_iter().collect())),
            policy: Arc::new(Policy::new(is_idempotent)),
        }
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

    /// Which errors of an instance's service prove that the request was never sent: a refused connection, say. Default:
    /// none.
    #[must_use]
    pub fn never_sent(self, never_sent: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        self.with(|policy| policy.never_sent = Some(Arc::new(never_sent)))
    }

    /// Which responses say that the instance did nothing: "not active", say. They count neither for nor against its
    /// breaker. Default: none.
    #[must_use]
    pub fn refused(self, refused: impl Fn(&Response<B>) -> bool + Send + Sync + 'static) -> Self {
        self.with(|policy| policy.refused = Some(Arc::new(refused)))
    }

    /// Which requests may be processed twice. Default: GET, HEAD, PUT, DELETE, OPTIONS, TRACE, and those with an
    /// `Idempotency-Key`. Must be overridden where a GET changes something.
    #[must_use]
    pub fn idempotent(self, idempotent: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.with(|policy| policy.idempotent = Arc::new(idempotent))
    }

    /// While a smaller part of the instances than this is available, open circuits are ignored: so few could not carry the
    /// load of all, and a circuit that opened for another reason than its instance must not shut out everybody. Isolated
    /// ones are still left alone. From 0 (never) to 1; half is a good beginning for five instances and more. Default: 0.
    #[must_use]
    pub fn panic_below(self, part: f64) -> Self {
        self.with(|policy| policy.rules().panic_below = part)
    }

    /// How long an instance that is added, becomes ready, or whose circuit closes, takes from a tenth of its share to the
    /// whole of it: caches and connections are cold. Default: none, which is at once.
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

    fn with(mut self, change: impl FnOnce(&mut Policy<Parts, Response<B>, E>)) -> Self {
        change(Arc::make_mut(&mut self.policy));
        self
    }
}

impl<S, E, B> Clone for RoundRobin<S, E, B> {
    fn clone(&self) -> Self {
        Self { rotation: self.rotation.clone(), policy: self.policy.clone() }
    }
}

impl<S, E, B> fmt::Debug for RoundRobin<S, E, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoundRobin").field("instances", &self.instances()).field("failover", &self.policy).finish()
    }
}

impl<S, E, ReqB, ResB> Service<Request<ReqB>> for RoundRobin<S, E, ResB>
where
    S: Service<Request<ReplayBody<ReqB>>, Response = Response<ResB>, Error = E> + Clone,
    ReqB: Body<Data = Bytes> + Unpin,
    ReqB::Error: Into<Box<dyn Error + Send + Sync>>,
    ResB: Body<Data = Bytes>,
{
    type Response = Answer<ResB>;
    type Error = Infallible;
    type Future = RoundRobinFuture<Itself<S>, S::Future, E, ReqB, ResB>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        RoundRobinFuture::new(self, Itself::NEW, request)
    }
}

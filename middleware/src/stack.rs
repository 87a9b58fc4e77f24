//! The layers in the order that they are meant to be stacked in, for a server and for a client.
//!
//! Not here: what a layer does. Nothing forbids another order; this one is tested, and each place has its reason.
//! Invariant: a stack owns the state of its layers, so all services made from it and its clones share one limit and one
//! set of circuits.

use std::time::Duration;

use tower_layer::{Identity, Layer, Stack};

#[cfg(feature = "tracing")]
use crate::AccessLogLayer;
use crate::{CatchPanicLayer, ConcurrencyLimitLayer, DeadlineLayer, HopLimitLayer, RequestIdLayer};

/// Default number of requests in flight at once. With bodies of 64 KiB that is 64 MiB of requests.
const IN_FLIGHT_MAX: usize = 1024;

/// Default number of times that a request may have been forwarded.
const HOPS_MAX: u32 = 3;

/// Default time to the head of a response.
const DEADLINE: Duration = Duration::from_secs(30);

#[cfg(feature = "tracing")]
type Log = AccessLogLayer;
#[cfg(not(feature = "tracing"))]
type Log = Identity;

/// What names a request and writes it down.
type Named = Stack<Log, RequestIdLayer>;

/// The outer part of a [`ServerStack`], as [`ServerStack::front`] gives it.
pub type ServerFront = Stack<HopLimitLayer, Stack<CatchPanicLayer, Named>>;

/// The inner part of both stacks, as [`ServerStack::guards`] gives it.
pub type Guards<B, L> = Stack<DeadlineLayer, Stack<B, L>>;

/// What a server puts in front of its service. A request meets the layers in this order, its response in the reverse:
///
/// | part | layer | default | why there |
/// |---|---|---|---|
/// | front | [`RequestIdLayer`] | | outermost: whatever happens further in carries the id |
/// | front | [`AccessLogLayer`](crate::AccessLogLayer) | feature `tracing` | outside all that refuses or breaks, so that this is logged too |
/// | front | [`CatchPanicLayer`] | logs | what it answers is logged; the layers below cannot take the connection down |
/// | front | [`HopLimitLayer`] | 3 hops | first of those that refuse: a request that goes in circles takes no place from others |
/// | guards | [`ConcurrencyLimitLayer`] | 1024 in flight | bounds what all below hold; before the breaker, so that what is shed says nothing about the service |
/// | guards | the breaker | none | outside the deadline, so that being too slow counts as a failure |
/// | guards | [`DeadlineLayer`] | 30 s | innermost: around all attempts of a [`RoundRobin`](crate::RoundRobin) together |
///
/// Build one, and apply it to everything that the process serves. Health checks and metrics belong between
/// [`front`](Self::front) and [`guards`](Self::guards): overload must stay observable.
///
/// ```
/// use std::time::Duration;
/// use axum::{Router, routing::get};
/// use campanile_middleware::{CircuitBreaker, CircuitBreakerLayer, ServerStack};
///
/// let breaker = CircuitBreaker::builder("orders").consecutive_failures(5).build();
/// let stack = ServerStack::new().deadline(Duration::from_secs(5)).breaker(CircuitBreakerLayer::new(breaker));
/// let orders = Router::new().route("/orders", get(|| async { "none" })).layer(stack.guards());
/// let health = Router::new().route("/health", get(|| async { "ok" }));
/// let app: Router = orders.merge(health).layer(stack.front());
/// # let _ = app;
/// ```
#[derive(Debug, Clone)]
pub struct ServerStack<B = Identity, L = ConcurrencyLimitLayer> {
    request_id: RequestIdLayer,
    access_log: Log,
    catch_panic: CatchPanicLayer,
    hop_limit: HopLimitLayer,
    concurrency_limit: L,
    breaker: B,
    deadline: DeadlineLayer,
}

impl ServerStack {
    /// With the defaults above, and no breaker.
    #[must_use]
    pub fn new() -> Self {
        Self {
            request_id: RequestIdLayer::new(),
            access_log: Log::default(),
            catch_panic: CatchPanicLayer::new(),
            hop_limit: HopLimitLayer::new(HOPS_MAX),
            concurrency_limit: ConcurrencyLimitLayer::fixed(IN_FLIGHT_MAX),
            breaker: Identity::new(),
            deadline: DeadlineLayer::new(DEADLINE),
        }
    }
}

impl Default for ServerStack {
    fn default() -> Self {
        Self::new()
    }
}

impl<B, L> ServerStack<B, L> {
    /// How ids are made.
    #[must_use]
    pub fn request_id(self, request_id: RequestIdLayer) -> Self {
        Self { request_id, ..self }
    }

    /// Where the log finds peer and route.
    #[cfg(feature = "tracing")]
    #[must_use]
    pub fn access_log(self, access_log: AccessLogLayer) -> Self {
        Self { access_log, ..self }
    }

    /// What is done with panics.
    #[must_use]
    pub fn catch_panic(self, catch_panic: CatchPanicLayer) -> Self {
        Self { catch_panic, ..self }
    }

    /// How often a request may have been forwarded. Default: 3 times.
    #[must_use]
    pub fn hop_limit(self, hop_limit: HopLimitLayer) -> Self {
        Self { hop_limit, ..self }
    }

    /// The limit; with [`Identity`] there is none. Default: 1024 requests in flight.
    #[must_use]
    pub fn concurrency_limit<M>(self, concurrency_limit: M) -> ServerStack<B, M> {
        let Self { request_id, access_log, catch_panic, hop_limit, concurrency_limit: _, breaker, deadline } = self;
        ServerStack { request_id, access_log, catch_panic, hop_limit, concurrency_limit, breaker, deadline }
    }

    /// A [`CircuitBreakerLayer`](crate::CircuitBreakerLayer) or
    /// [`KeyedCircuitBreakerLayer`](crate::KeyedCircuitBreakerLayer). Default: none.
    #[must_use]
    pub fn breaker<C>(self, breaker: C) -> ServerStack<C, L> {
        let Self { request_id, access_log, catch_panic, hop_limit, concurrency_limit, breaker: _, deadline } = self;
        ServerStack { request_id, access_log, catch_panic, hop_limit, concurrency_limit, breaker, deadline }
    }

    /// The longest time to the head of a response. Default: 30 s.
    #[must_use]
    pub fn deadline(self, max: Duration) -> Self {
        Self { deadline: DeadlineLayer::new(max), ..self }
    }
}

impl<B: Clone, L: Clone> ServerStack<B, L> {
    /// The part that every request passes, health checks included.
    #[must_use]
    pub fn front(&self) -> ServerFront {
        Stack::new(
            self.hop_limit.clone(),
            Stack::new(self.catch_panic.clone(), Stack::new(Clone::clone(&self.access_log), self.request_id.clone())),
        )
    }

    /// The part that refuses when there is too much, or when the service is broken.
    #[must_use]
    pub fn guards(&self) -> Guards<B, L> {
        Stack::new(self.deadline, Stack::new(self.breaker.clone(), self.concurrency_limit.clone()))
    }
}

impl<S, B, L> Layer<S> for ServerStack<B, L>
where
    B: Clone,
    L: Clone,
    Guards<B, L>: Layer<S>,
    ServerFront: Layer<<Guards<B, L> as Layer<S>>::Service>,
{
    type Service = <ServerFront as Layer<<Guards<B, L> as Layer<S>>::Service>>::Service;

    fn layer(&self, service: S) -> Self::Service {
        self.front().layer(self.guards().layer(service))
    }
}

/// What a client puts in front of the service that it calls: a channel, or a [`RoundRobin`](crate::RoundRobin) over
/// several. A request meets the layers in this order, its response in the reverse:
///
/// | layer | default | why there |
/// |---|---|---|
/// | [`RequestIdLayer`] | | outermost: all attempts at one request carry one id, and the caller can name it |
/// | [`AccessLogLayer`](crate::AccessLogLayer) | feature `tracing` | logs one event for a request, with what was refused here |
/// | [`ConcurrencyLimitLayer`] | 1024 in flight | a slow server must not fill the client; what is shed here says nothing about the server |
/// | the breaker | none | outside the deadline, so that being too slow counts as a failure. Over a round robin none is needed: each instance has its own |
/// | [`DeadlineLayer`] | 30 s | around all attempts together; [`Failover::per_try`](crate::Failover::per_try) bounds each of them |
///
/// A client catches no panics: they are its own. It also counts no hops, unless it sends on what came in: then
/// [`Hops::forward`](crate::Hops::forward) marks the request.
///
/// ```
/// # use std::convert::Infallible;
/// use std::time::Duration;
/// use axum::{Router, body::Body};
/// use campanile_middleware::{CircuitBreaker, ClientStack, Instance, RoundRobin};
/// use tower::Layer;
///
/// // Two routers stand in for two channels.
/// let instances = ["a", "b"].map(|name| Instance::new(name, Router::<()>::new(), CircuitBreaker::builder(name).build()));
/// let client =
///     ClientStack::new().deadline(Duration::from_secs(2)).layer(RoundRobin::<_, Infallible, Body>::new(instances));
/// # let _ = client;
/// ```
#[derive(Debug, Clone)]
pub struct ClientStack<B = Identity, L = ConcurrencyLimitLayer, A = Log> {
    request_id: RequestIdLayer,
    access_log: A,
    concurrency_limit: L,
    breaker: B,
    deadline: DeadlineLayer,
}

impl ClientStack {
    /// With the defaults above, and no breaker.
    #[must_use]
    pub fn new() -> Self {
        Self {
            request_id: RequestIdLayer::new(),
            access_log: Log::default(),
            concurrency_limit: ConcurrencyLimitLayer::fixed(IN_FLIGHT_MAX),
            breaker: Identity::new(),
            deadline: DeadlineLayer::new(DEADLINE),
        }
    }
}

impl Default for ClientStack {
    fn default() -> Self {
        Self::new()
    }
}

impl<B, L, A> ClientStack<B, L, A> {
    /// How ids are made.
    #[must_use]
    pub fn request_id(self, request_id: RequestIdLayer) -> Self {
        Self { request_id, ..self }
    }

    /// The log; with [`Identity`] there is none, as in a library whose callers log what they are told. Default: an
    /// [`AccessLogLayer`](crate::AccessLogLayer), with the feature `tracing`.
    #[must_use]
    pub fn access_log<M>(self, access_log: M) -> ClientStack<B, L, M> {
        let Self { request_id, access_log: _, concurrency_limit, breaker, deadline } = self;
        ClientStack { request_id, access_log, concurrency_limit, breaker, deadline }
    }

    /// The limit; with [`Identity`] there is none. Default: 1024 requests in flight.
    #[must_use]
    pub fn concurrency_limit<M>(self, concurrency_limit: M) -> ClientStack<B, M, A> {
        let Self { request_id, access_log, concurrency_limit: _, breaker, deadline } = self;
        ClientStack { request_id, access_log, concurrency_limit, breaker, deadline }
    }

    /// A breaker for a client of one instance. Default: none.
    #[must_use]
    pub fn breaker<C>(self, breaker: C) -> ClientStack<C, L, A> {
        let Self { request_id, access_log, concurrency_limit, breaker: _, deadline } = self;
        ClientStack { request_id, access_log, concurrency_limit, breaker, deadline }
    }

    /// The longest time to the head of a response, over all attempts. Default: 30 s.
    #[must_use]
    pub fn deadline(self, max: Duration) -> Self {
        Self { deadline: DeadlineLayer::new(max), ..self }
    }
}

impl<S, B, L, A> Layer<S> for ClientStack<B, L, A>
where
    B: Clone,
    L: Clone,
    A: Clone,
    Guards<B, L>: Layer<S>,
    Stack<A, RequestIdLayer>: Layer<<Guards<B, L> as Layer<S>>::Service>,
{
    type Service = <Stack<A, RequestIdLayer> as Layer<<Guards<B, L> as Layer<S>>::Service>>::Service;

    fn layer(&self, service: S) -> Self::Service {
        let guards = Guards::new(self.deadline, Stack::new(self.breaker.clone(), self.concurrency_limit.clone()));
        Stack::new(self.access_log.clone(), self.request_id.clone()).layer(guards.layer(service))
    }
}

//! One client for all the instances, that knows nothing of HTTP.
//!
//! Invariant: the rotation, the circuits and the budget are the round robin's, never minted in `layer()`.

use std::{
    fmt,
    task::{Context, Poll},
};

use tower_layer::Layer;
use tower_service::Service;

use super::{
    GenericRoundRobin, GenericRoundRobinFuture, RoundRobinError,
    direct::{Direct, Through},
};
use crate::{ErrorIsFailure, Judge};

/// [`RoundRobinLayer`](crate::RoundRobinLayer) for services that know nothing of HTTP: one client for all the instances of a
/// [`GenericRoundRobin`].
///
/// ```
/// use campanile_middleware::{CircuitBreaker, GenericRoundRobin, GenericRoundRobinLayer, Instance};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// // A client that is told with each query which shard it is for.
/// let client = service_fn(async |(shard, query): (u32, &'static str)| Ok::<_, String>(format!("{query} of {shard}")));
/// let shards = [7, 9].map(|shard| {
///     let name = format!("shard {shard}");
///     Instance::new(name.as_str(), shard, CircuitBreaker::builder(name.as_str()).build())
/// });
/// let layer = GenericRoundRobinLayer::new(GenericRoundRobin::new(shards).start(0), |query, shard: &u32| (*shard, query));
/// let client = layer.layer(client);
/// assert_eq!(client.clone().oneshot("sum").await.unwrap(), "sum of 7");
/// assert_eq!(client.clone().oneshot("sum").await.unwrap(), "sum of 9");
/// # });
/// ```
pub struct GenericRoundRobinLayer<T, Req, Res, E, D, J = ErrorIsFailure> {
    round: GenericRoundRobin<T, Req, Res, E, J>,
    direct: D,
}

impl<T, Req, Res, E, D, J> GenericRoundRobinLayer<T, Req, Res, E, D, J> {
    /// Over the instances of `round`; `direct` tells the client which of them a request is for.
    #[must_use]
    pub fn new(round: GenericRoundRobin<T, Req, Res, E, J>, direct: D) -> Self {
        Self { round, direct }
    }

    /// The round robin, to change its instances and to see how it stands.
    #[must_use]
    pub fn round_robin(&self) -> &GenericRoundRobin<T, Req, Res, E, J> {
        &self.round
    }
}

impl<T, Req, Res, E, D: Clone, J: Clone> Clone for GenericRoundRobinLayer<T, Req, Res, E, D, J> {
    fn clone(&self) -> Self {
        Self { round: self.round.clone(), direct: self.direct.clone() }
    }
}

impl<S, T, Req, Res, E, D: Clone, J: Clone> Layer<S> for GenericRoundRobinLayer<T, Req, Res, E, D, J> {
    type Service = GenericRoundRobinService<S, T, Req, Res, E, D, J>;

    fn layer(&self, inner: S) -> Self::Service {
        GenericRoundRobinService { inner, layer: self.clone() }
    }
}

/// A client behind a [`GenericRoundRobinLayer`]. It is cloned for every attempt.
pub struct GenericRoundRobinService<S, T, Req, Res, E, D, J = ErrorIsFailure> {
    inner: S,
    layer: GenericRoundRobinLayer<T, Req, Res, E, D, J>,
}

impl<S: Clone, T, Req, Res, E, D: Clone, J: Clone> Clone for GenericRoundRobinService<S, T, Req, Res, E, D, J> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S, T, Req, E, D, J> Service<Req> for GenericRoundRobinService<S, T, Req, S::Response, E, D, J>
where
    S: Service<D::Directed, Error = E> + Clone,
    D: Direct<T, Req> + Clone,
    T: Clone,
    J: Judge<S::Response, E> + Clone,
{
    type Response = S::Response;
    type Error = RoundRobinError<E>;
    type Future = GenericRoundRobinFuture<Through<S, T, D>, S::Future, Req, S::Response, E, J>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let through = Through::new(&self.inner, &self.layer.direct);
        GenericRoundRobinFuture::new(&self.layer.round, through, request)
    }
}

impl<T, Req, Res, E, D, J> fmt::Debug for GenericRoundRobinLayer<T, Req, Res, E, D, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GenericRoundRobinLayer").field(&self.round).finish()
    }
}

impl<S, T, Req, Res, E, D, J> fmt::Debug for GenericRoundRobinService<S, T, Req, Res, E, D, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GenericRoundRobinService").field(&self.layer.round).finish()
    }
}

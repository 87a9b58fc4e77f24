//! One client for all the instances: a round robin over addresses, put in front of it.
//!
//! An HTTP client that is told by a request where to send it keeps the connections to all instances, and needs no service
//! for each of them. Invariant: the rotation, the circuits and the budget are the round robin's, never minted in `layer()`.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    RoundRobin, RoundRobinFuture,
    direct::{Direct, Through, ToAddress},
    replayed::Answer,
};
use crate::ReplayBody;

/// Puts a [`RoundRobin`] over addresses in front of a client; everything that the layer and its clones are applied to shares
/// its turn, its circuits and its budget.
///
/// Take it where one client serves all instances, as hyper's does: it keeps the connections and is told by the request's
/// URI where to go. Where each instance has a service of its own (a tonic channel, a router), a `RoundRobin` over these is
/// a service by itself, and needs no layer.
///
/// ```
/// use std::convert::Infallible;
/// use bytes::Bytes;
/// use campanile_middleware::{CircuitBreaker, ClientStack, Instance, ReplayBody, RoundRobin, RoundRobinLayer};
/// use http::{Request, Response, Uri};
/// use http_body_util::Empty;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let instances = ["http://a:8080", "http://b:8080"].map(|address| {
///     Instance::new(address, Uri::from_static(address), CircuitBreaker::builder(address).build())
/// });
/// let round = RoundRobin::new(instances).start(0);
/// // Stands in for a `hyper_util::client::legacy::Client`.
/// let client = service_fn(async |request: Request<ReplayBody<Empty<Bytes>>>| {
///     Ok::<_, Infallible>(Response::new(request.uri().to_string()))
/// });
/// let client = ServiceBuilder::new()
///     .layer(ClientStack::new())
///     .layer(RoundRobinLayer::new(round.clone()))
///     .map_response(|response: Response<String>| response.map(http_body_util::Full::<Bytes>::from))
///     .service(client);
///
/// let response = client.oneshot(Request::get("/orders").body(Empty::new()).unwrap()).await.unwrap();
/// # use http_body_util::BodyExt;
/// assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "http://a:8080/orders");
/// // The instances can change while it runs.
/// round.remove("http://a:8080");
/// # });
/// ```
pub struct RoundRobinLayer<T, E, B, D = ToAddress> {
    round: RoundRobin<T, E, B>,
    direct: D,
}

impl<T, E, B> RoundRobinLayer<T, E, B> {
    /// Over the instances of `round`, reached as [`ToAddress`] says.
    #[must_use]
    pub fn new(round: RoundRobin<T, E, B>) -> Self {
        Self { round, direct: ToAddress }
    }
}

impl<T, E, B, D> RoundRobinLayer<T, E, B, D> {
    /// How the client is told which instance a request is for.
    #[must_use]
    pub fn direct<C>(self, direct: C) -> RoundRobinLayer<T, E, B, C> {
        RoundRobinLayer { round: self.round, direct }
    }

    /// The round robin, to change its instances and to see how it stands.
    #[must_use]
    pub fn round_robin(&self) -> &RoundRobin<T, E, B> {
        &self.round
    }
}

impl<T, E, B, D: Clone> Clone for RoundRobinLayer<T, E, B, D> {
    fn clone(&self) -> Self {
        Self { round: self.round.clone(), direct: self.direct.clone() }
    }
}

impl<S, T, E, B, D: Clone> Layer<S> for RoundRobinLayer<T, E, B, D> {
    type Service = RoundRobinService<S, T, E, B, D>;

    fn layer(&self, inner: S) -> Self::Service {
        RoundRobinService { inner, layer: self.clone() }
    }
}

/// A client behind a [`RoundRobinLayer`]. It is cloned for every attempt.
pub struct RoundRobinService<S, T, E, B, D = ToAddress> {
    inner: S,
    layer: RoundRobinLayer<T, E, B, D>,
}

impl<S: Clone, T, E, B, D: Clone> Clone for RoundRobinService<S, T, E, B, D> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S, T, E, D, ReqB, ResB> Service<Request<ReqB>> for RoundRobinService<S, T, E, ResB, D>
where
    S: Service<D::Directed, Response = Response<ResB>, Error = E> + Clone,
    D: Direct<T, Request<ReplayBody<ReqB>>> + Clone,
    T: Clone,
    ReqB: Body<Data = Bytes> + Unpin,
    ReqB::Error: Into<Box<dyn Error + Send + Sync>>,
    ResB: Body<Data = Bytes>,
{
    type Response = Answer<ResB>;
    type Error = Infallible;
    type Future = RoundRobinFuture<Through<S, T, D>, S::Future, E, ReqB, ResB>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let through = Through::new(&self.inner, &self.layer.direct);
        RoundRobinFuture::new(&self.layer.round, through, request)
    }
}

impl<T, E, B, D> fmt::Debug for RoundRobinLayer<T, E, B, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RoundRobinLayer").field(&self.round).finish()
    }
}

impl<S, T, E, B, D> fmt::Debug for RoundRobinService<S, T, E, B, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RoundRobinService").field(&self.layer.round).finish()
    }
}

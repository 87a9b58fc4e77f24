//! The layer: begins an entry if anyone listens, and hands it on to the response's body.

use std::{
    fmt,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Extensions, Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{Entry, Route};
use crate::{BodyGuard, GuardedBody, unwind::dropping_on_unwind};

/// The target of the events.
pub(super) const TARGET: &str = "access";

/// Logs every request as one event of the target `access`: `warn` for 5xx, for gRPC statuses that blame the server and
/// for what broke off; `debug` for the rest. No query, no header but the request's id, and nothing of a body is logged.
///
/// | field | is |
/// |---|---|
/// | `method`, `path`, `protocol` | of the request; `protocol` is `rest` or `grpc` |
/// | `route` | the path's pattern, if anyone told: see [`Route`] |
/// | `peer` | the address of the client, if [`peer`](Self::peer) finds it |
/// | `request_id` | as a [`RequestIdLayer`](crate::RequestIdLayer) further out gave it, or as the client sent it |
/// | `status`, `grpc_status` | of the response; a gRPC status from the trailers, too |
/// | `head_ms`, `total_ms` | time to the head of the response, its first byte, and to its end; milliseconds with microseconds behind the point |
/// | `body_bytes` | of the response's body, as far as it was handed out |
/// | `outcome` | `ok`, `error` or `cancelled`: what became of it for the caller |
/// | `verdict` | what it said about the service, as [`AutoClassify`](crate::AutoClassify) judges: `success`, `failure`, `throttled`, `ignore`, `cancelled` |
/// | `refused` | the code of the layer's rejection, as `circuit_open`, if it was one |
/// | `instance`, `attempts`, `circuit` | behind a [`RoundRobin`](crate::RoundRobin): see [`AnsweredBy`](crate::AnsweredBy) |
///
/// A field whose value is not known is left out.
///
/// ```
/// use std::net::SocketAddr;
/// use axum::{Router, body::Body, extract::{ConnectInfo, MatchedPath}, routing::get};
/// use campanile_middleware::{AccessLogLayer, Route};
///
/// let log = AccessLogLayer::new()
///     .peer(|extensions| extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0))
///     .route(|extensions| extensions.get::<MatchedPath>().map(|path| Route::from(path.as_str())));
/// let app: Router = Router::new().route("/orders/{id}", get(|| async { "an order" })).layer(log);
/// # let _ = app;
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct AccessLogLayer {
    lookup: Lookup,
}

/// What can only be known by who knows the server.
#[derive(Clone, Copy, Default)]
pub(super) struct Lookup {
    pub(super) peer: Option<fn(&Extensions) -> Option<SocketAddr>>,
    pub(super) route: Option<fn(&Extensions) -> Option<Route>>,
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup").field("peer", &self.peer.is_some()).field("route", &self.route.is_some()).finish()
    }
}

impl AccessLogLayer {
    /// Logs what the subscriber wants of the target `access`. When that is not even warnings, a request costs one check.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the address of the client stands in a request's extensions. Default: nowhere.
    #[must_use]
    pub fn peer(mut self, peer: fn(&Extensions) -> Option<SocketAddr>) -> Self {
        self.lookup.peer = Some(peer);
        self
    }

    /// Where the route stands in a request's extensions. One in the response's extensions wins. Default: nowhere.
    #[must_use]
    pub fn route(mut self, route: fn(&Extensions) -> Option<Route>) -> Self {
        self.lookup.route = Some(route);
        self
    }
}

impl<S> Layer<S> for AccessLogLayer {
    type Service = AccessLogService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AccessLogService { inner, lookup: self.lookup }
    }
}

/// A service behind an [`AccessLogLayer`].
#[derive(Debug, Clone)]
pub struct AccessLogService<S> {
    inner: S,
    lookup: Lookup,
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for AccessLogService<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    ResB: Body<Data = Bytes>,
{
    type Response = Response<GuardedBody<ResB, Entry>>;
    type Error = S::Error;
    type Future = AccessLogFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let entry = tracing::enabled!(target: TARGET, tracing::Level::WARN).then(|| Entry::new(&request, self.lookup));
        AccessLogFuture { future: self.inner.call(request), entry }
    }
}

pin_project! {
    /// The response of a service, logged at its end.
    #[derive(Debug)]
    pub struct AccessLogFuture<F> {
        #[pin]
        future: F,
        entry: Option<Entry>,
    }
}

impl<F, B, E> Future for AccessLogFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<GuardedBody<B, Entry>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = ready!(dropping_on_unwind(this.entry, || this.future.poll(cx)));
        Poll::Ready(match (outcome, this.entry.take()) {
            (Ok(response), Some(mut entry)) => {
                entry.responded(&response);
                Ok(response.map(|body| GuardedBody::new(body, entry)))
            }
            (Ok(response), None) => Ok(response.map(GuardedBody::unguarded)),
            (Err(error), entry) => {
                if let Some(entry) = entry {
                    entry.error();
                }
                Err(error)
            }
        })
    }
}

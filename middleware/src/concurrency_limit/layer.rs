//! A limit in front of an HTTP service.
//!
//! The state is the limit's, never minted in `layer()`: however often a framework applies the layer, it is one limit.
//! Invariants: readiness and errors of the service pass through untouched; a refusal is a response.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    AdaptiveLimit, ConcurrencyLimit, ConcurrencyLimitFuture, Hold, OverflowQueue, OverflowReject, Place, Turn,
    admission::Admission,
};
use crate::{AutoReject, GuardedBody, Protocol, RejectResponse};

/// Limits the number of requests in flight. Refuses with `overloaded`, 503 / UNAVAILABLE, retry after 1 s.
///
/// ```
/// use std::time::Duration;
/// use campanile_middleware::{AdaptiveLimit, ConcurrencyLimitLayer, Hold, OverflowQueue};
///
/// let at_most_a_thousand = ConcurrencyLimitLayer::fixed(1000);
/// let as_many_as_it_bears = ConcurrencyLimitLayer::adaptive(AdaptiveLimit { max: 500, ..AdaptiveLimit::default() })
///     .overflow(OverflowQueue { len: 100, timeout: Duration::from_millis(250) })
///     .hold(Hold::ResponseHead);
/// assert_eq!(as_many_as_it_bears.limit().snapshot().limit, 20);
/// ```
#[derive(Debug, Clone)]
pub struct ConcurrencyLimitLayer<R = AutoReject, O = OverflowReject> {
    limit: ConcurrencyLimit,
    hold: Hold,
    overflow: O,
    reject: R,
}

impl ConcurrencyLimitLayer {
    /// At most `max` requests at once; see [`ConcurrencyLimit::fixed`].
    #[must_use]
    pub fn fixed(max: usize) -> Self {
        Self::new(ConcurrencyLimit::fixed(max))
    }

    /// As many requests at once as the latency of the service suggests.
    #[must_use]
    pub fn adaptive(settings: AdaptiveLimit) -> Self {
        Self::new(ConcurrencyLimit::adaptive(settings))
    }

    /// Shares this limit, with [`OverflowReject`] and [`AutoReject`].
    #[must_use]
    pub fn new(limit: ConcurrencyLimit) -> Self {
        Self { limit, hold: Hold::default(), overflow: OverflowReject, reject: AutoReject }
    }
}

impl<R, O> ConcurrencyLimitLayer<R, O> {
    /// For how long a request holds its place. Default: [`Hold::ResponseBody`].
    #[must_use]
    pub fn hold(self, hold: Hold) -> Self {
        Self { hold, ..self }
    }

    /// What becomes of a request when all places are taken: [`OverflowReject`] or [`OverflowQueue`]. Default:
    /// [`OverflowReject`].
    #[must_use]
    pub fn overflow<P>(self, overflow: P) -> ConcurrencyLimitLayer<R, P> {
        ConcurrencyLimitLayer { limit: self.limit, hold: self.hold, overflow, reject: self.reject }
    }

    /// How a refusal is written.
    #[must_use]
    pub fn on_reject<Q: RejectResponse>(self, reject: Q) -> ConcurrencyLimitLayer<Q, O> {
        ConcurrencyLimitLayer { limit: self.limit, hold: self.hold, overflow: self.overflow, reject }
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> &ConcurrencyLimit {
        &self.limit
    }

    /// How many places are taken now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.limit.snapshot().in_flight
    }
}

impl<S, R: Clone, O: Clone> Layer<S> for ConcurrencyLimitLayer<R, O> {
    type Service = ConcurrencyLimitService<S, R, O>;

    fn layer(&self, inner: S) -> Self::Service {
        ConcurrencyLimitService {
            inner,
            limit: self.limit.clone(),
            hold: self.hold,
            overflow: self.overflow.clone(),
            reject: self.reject.clone(),
        }
    }
}

/// A service behind a [`ConcurrencyLimitLayer`].
#[derive(Debug, Clone)]
pub struct ConcurrencyLimitService<S, R = AutoReject, O = OverflowReject> {
    inner: S,
    limit: ConcurrencyLimit,
    hold: Hold,
    overflow: O,
    reject: R,
}

impl<S, R, ReqB, ResB> Service<Request<ReqB>> for ConcurrencyLimitService<S, R, OverflowReject>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    R: RejectResponse + Clone,
    ResB: Body<Data = Bytes>,
{
    type Response = Response<GuardedBody<ResB, Place>>;
    type Error = S::Error;
    type Future = ConcurrencyLimitFuture<S::Future, R>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let protocol = Protocol::of(request.headers());
        let admission = Admission::at_once(&self.limit, || self.inner.call(request));
        ConcurrencyLimitFuture::new(admission, protocol, self.hold, self.reject.clone())
    }
}

impl<S, R, ReqB, ResB> Service<Request<ReqB>> for ConcurrencyLimitService<S, R, OverflowQueue>
where
    S: Service<Request<ReqB>, Response = Response<ResB>> + Clone,
    R: RejectResponse + Clone,
    ResB: Body<Data = Bytes>,
{
    type Response = Response<GuardedBody<ResB, Place>>;
    type Error = S::Error;
    type Future = ConcurrencyLimitFuture<S::Future, R, Turn<S, Request<ReqB>>>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let protocol = Protocol::of(request.headers());
        let admission = Admission::in_turn(&self.limit, self.overflow, &mut self.inner, request);
        ConcurrencyLimitFuture::new(admission, protocol, self.hold, self.reject.clone())
    }
}

//! Stops requests that services forward to each other in a circle.
//!
//! It trusts the header: strip it where requests come in from strangers, who could otherwise have themselves refused
//! (no more than that). Invariant: a hop count that cannot be read is one hop too many.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use crate::{GrpcCode, GuardedBody, Protocol, Rejection, answer::AnswerFuture};

/// How often a request was forwarded before it came here. In the extensions of every request past a [`HopLimitLayer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hops(pub u32);

impl Hops {
    /// The header that counts, unless another is chosen.
    pub const HEADER: HeaderName = HeaderName::from_static("x-campanile-hop");

    /// Marks an outgoing request as this one forwarded: sets the header `name` to one more than this.
    pub fn forward(self, name: HeaderName, headers: &mut HeaderMap) {
        headers.insert(name, HeaderValue::from(self.0.saturating_add(1)));
    }
}

/// Refuses requests that were forwarded more than `max` times: `loop_detected`, 508 / FAILED_PRECONDITION.
///
/// ```
/// use std::convert::Infallible;
/// use bytes::Bytes;
/// use campanile_middleware::{HopLimitLayer, Hops};
/// use http::{Request, Response};
/// use http_body_util::Empty;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let service = HopLimitLayer::new(1).layer(service_fn(|request: Request<()>| async move {
///     let hops = request.extensions().get::<Hops>().copied().unwrap_or_default();
///     // Before it is sent on: hops.forward(Hops::HEADER, headers).
///     Ok::<_, Infallible>(Response::builder().header("was-forwarded", hops.0).body(Empty::<Bytes>::new()).unwrap())
/// }));
/// let mut request = Request::new(());
/// Hops(0).forward(Hops::HEADER, request.headers_mut());
/// assert_eq!(service.clone().oneshot(request).await.unwrap().headers()["was-forwarded"], "1");
/// let mut request = Request::new(());
/// Hops(1).forward(Hops::HEADER, request.headers_mut());
/// assert_eq!(service.oneshot(request).await.unwrap().status(), 508);
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct HopLimitLayer {
    max: u32,
    header: HeaderName,
}

impl HopLimitLayer {
    /// At most `max` hops; 0 takes requests from clients only.
    #[must_use]
    pub fn new(max: u32) -> Self {
        Self { max, header: Hops::HEADER }
    }

    /// The header that counts. Default: [`Hops::HEADER`], `x-campanile-hop`.
    #[must_use]
    pub fn header(self, header: HeaderName) -> Self {
        Self { header, ..self }
    }

    /// [`Hops::forward`] with this layer's header.
    pub fn forward(&self, hops: Hops, headers: &mut HeaderMap) {
        hops.forward(self.header.clone(), headers);
    }
}

impl<S> Layer<S> for HopLimitLayer {
    type Service = HopLimitService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        HopLimitService { inner, max: self.max, header: self.header.clone() }
    }
}

/// A service behind a [`HopLimitLayer`].
#[derive(Debug, Clone)]
pub struct HopLimitService<S> {
    inner: S,
    max: u32,
    header: HeaderName,
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for HopLimitService<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    ResB: Body<Data = Bytes>,
{
    type Response = Response<GuardedBody<ResB>>;
    type Error = S::Error;
    type Future = AnswerFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Request<ReqB>) -> Self::Future {
        let hops = hops(request.headers(), &self.header);
        if hops.0 > self.max {
            return AnswerFuture::refused(loop_detected(), Protocol::of(request.headers()));
        }
        request.extensions_mut().insert(hops);
        AnswerFuture::call(self.inner.call(request))
    }
}

fn hops(headers: &HeaderMap, name: &HeaderName) -> Hops {
    let Some(value) = headers.get(name) else { return Hops(0) };
    let count = value.to_str().ok().and_then(|text| text.parse().ok());
    Hops(count.unwrap_or(u32::MAX))
}

fn loop_detected() -> Rejection {
    Rejection::new(
        StatusCode::LOOP_DETECTED,
        GrpcCode::FailedPrecondition,
        "loop_detected",
        "the request was forwarded too often",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_are_read_and_counted_on() {
        let mut headers = HeaderMap::new();
        assert_eq!(hops(&headers, &Hops::HEADER), Hops(0));
        Hops(0).forward(Hops::HEADER, &mut headers);
        assert_eq!(hops(&headers, &Hops::HEADER), Hops(1));
        HopLimitLayer::new(1).forward(Hops(1), &mut headers);
        assert_eq!(headers["x-campanile-hop"], "2");
        headers.insert(Hops::HEADER, HeaderValue::from_static("-1"));
        assert_eq!(hops(&headers, &Hops::HEADER), Hops(u32::MAX));
    }
}

//! Where a response is over for those who watch it: servers do not poll a body again that says it is over, nor one that
//! has filled its content length.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use campanile_middleware::{
    AccessLogLayer, CircuitBreaker, CircuitBreakerLayer, CircuitState, Classify, ClassifyResponse,
    ConcurrencyLimitLayer, Verdict,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use tower::{Layer, ServiceExt, service_fn};
use tracing::Level;

use crate::support::{get, grpc, logged, record_log};

/// A body of a known length that does not know that it is over until it is asked for more.
struct Counted(VecDeque<&'static str>);

impl Body for Counted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes())))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|chunk| chunk.len() as u64).sum())
    }
}

async fn counted(_: Request<Empty<Bytes>>) -> Result<Response<Counted>, Infallible> {
    Ok(Response::new(Counted(["one", "two"].into())))
}

/// Fine, whatever comes; says no word about trailers.
#[derive(Clone)]
struct Fine;

impl Classify for Fine {
    type Response = Self;

    fn request<B>(&self, _: &Request<B>) -> Self {
        Self
    }
}

impl ClassifyResponse for Fine {
    fn head<B>(&mut self, _: &Response<B>) -> Option<Verdict> {
        None
    }

    fn end(self, _: Option<&HeaderMap>) -> Verdict {
        Verdict::Success
    }
}

#[tokio::test]
async fn a_call_has_its_verdict_with_the_last_byte_of_the_content_length() {
    async fn failures_after_each_frame<C: Classify + Clone>(classify: C) -> [u32; 3] {
        let breaker = CircuitBreaker::builder("test").consecutive_failures(2).build();
        breaker.try_acquire().expect("closed").complete(Verdict::Failure);
        let service = CircuitBreakerLayer::new(breaker.clone()).classify(classify).layer(service_fn(counted));
        let mut body = service.oneshot(get("/")).await.expect("infallible").into_body();
        let mut failures = [breaker.snapshot().consecutive_failures, 0, 0];
        for after in &mut failures[1..] {
            body.frame().await.expect("a frame").expect("data");
            *after = breaker.snapshot().consecutive_failures;
        }
        failures
    }
    assert_eq!(failures_after_each_frame(campanile_middleware::AutoClassify).await, [1, 1, 0]);
    assert_eq!(failures_after_each_frame(Fine).await, [1, 1, 0]);
}

#[tokio::test]
async fn a_place_is_free_with_the_last_byte_of_the_content_length() {
    let limit = ConcurrencyLimitLayer::fixed(1);
    let response = limit.layer(service_fn(counted)).oneshot(get("/")).await.expect("infallible");
    let mut body = response.into_body();
    body.frame().await.expect("a frame").expect("data");
    assert_eq!(limit.in_flight(), 1);
    body.frame().await.expect("a frame").expect("data");
    assert_eq!(limit.in_flight(), 0, "nobody asks for a third");
}

#[tokio::test]
async fn a_grpc_response_that_is_over_with_its_head_is_judged_there() {
    let breaker = CircuitBreaker::builder("test").consecutive_failures(1).build();
    let service = CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(|_: Request<Empty<Bytes>>| async {
        Response::builder().header("content-type", "application/grpc").body(Empty::<Bytes>::new())
    }));
    drop(service.oneshot(grpc("/s/m")).await.expect("valid"));
    assert_eq!(breaker.state(), CircuitState::Open, "no status, and none to come");
}

#[tokio::test]
async fn a_request_is_logged_with_the_last_byte_of_the_content_length() {
    record_log(Level::DEBUG);
    let response = AccessLogLayer::new().layer(service_fn(counted)).oneshot(get("/")).await.expect("infallible");
    let mut body = response.into_body();
    body.frame().await.expect("a frame").expect("data");
    assert_eq!(logged("access").len(), 0);
    body.frame().await.expect("a frame").expect("data");
    let told = logged("access");
    assert_eq!((told.len(), told[0].field("body_bytes")), (1, "6"));
}

#[tokio::test]
async fn a_grpc_request_is_logged_with_the_status_that_follows_its_last_byte() {
    record_log(Level::DEBUG);
    let service = AccessLogLayer::new().layer(service_fn(|_: Request<Empty<Bytes>>| async {
        let status = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("5"))]);
        let body = Counted(["message"].into()).with_trailers(async { Some(Ok(status)) });
        Response::builder().header("content-type", "application/grpc").body(body)
    }));
    let response = service.oneshot(grpc("/s/m")).await.expect("valid");
    response.into_body().collect().await.expect("a whole body");
    let told = logged("access");
    assert_eq!((told.len(), told[0].field("grpc_status")), (1, "5"));
}

//! An instance as a service: this process, or another one over the network.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{body::Body, routing::future::RouteFuture};
use campanile_middleware::{Protocol, ReplayBody, Verdict, is_never_sent};
use http::{
    Request, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
    response::Parts,
};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Limited, combinators::Collect};
use hyper_util::client::legacy;
use pin_project_lite::pin_project;
use tower::{BoxError, Service};

use super::{
    dispatch::Dispatch,
    forward::{Answer, Forward},
    operation::is_stream,
};

/// Longest answer of another instance: the 16 MiB of payloads that a receive hands out at most, several times that when
/// a payload is written with escapes, and what travels beside them.
const ANSWER_BYTES_MAX: usize = 128 << 20;

#[derive(Debug, Clone)]
pub(super) enum Member {
    ThisProcess(Dispatch),
    Other(Arc<Forward>),
}

impl Service<Request<ReplayBody<Body>>> for Member {
    type Response = Response<Body>;
    type Error = MemberError;
    type Future = MemberFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), MemberError>> {
        // Both are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReplayBody<Body>>) -> MemberFuture {
        let request = request.map(Body::new);
        match self {
            Self::ThisProcess(dispatch) => MemberFuture::ThisProcess { future: dispatch.call(request) },
            Self::Other(forward) => {
                let is_stream = is_stream(request.uri().path());
                MemberFuture::Head { future: forward.send(request), is_stream }
            }
        }
    }
}

/// Whether the instance declined, saying when to come back: it is overloaded, or one of its own circuits is open. That
/// is no reason to open the circuit to the whole instance, which has a longer time to go.
fn is_declined<B>(response: &Response<B>) -> bool {
    let headers = response.headers();
    match Protocol::of(headers) {
        Protocol::Rest => response.status() == StatusCode::SERVICE_UNAVAILABLE && headers.contains_key(RETRY_AFTER),
        Protocol::Grpc => headers.contains_key("grpc-retry-pushback-ms"),
    }
}

/// Whether the answer has no body: a refusal over gRPC.
fn is_ended(response: &Response<Body>) -> bool {
    response.body().is_end_stream()
}

/// Whether the answer goes on for as long as there are messages. It is passed on as it comes.
fn is_event_stream<B>(response: &Response<B>) -> bool {
    response.headers().get(CONTENT_TYPE).is_some_and(|value| value == "text/event-stream")
}

/// What an instance did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum MemberError {
    #[error("no answer")]
    Send(#[from] legacy::Error),
    #[error("the answer broke off")]
    Body(#[source] BoxError),
}

impl MemberError {
    /// Whether the other instance provably did not begin with the request.
    pub(super) fn is_never_sent(&self) -> bool {
        matches!(self, Self::Send(error) if is_never_sent(error))
    }
}

pin_project! {
    /// The answer of an instance. Of another one it is complete, unless it is a stream that goes on for as long as its client
    /// wants: if it broke off half way, the client would be told so with the head of a success, and the request could not be
    /// repeated any more.
    #[project = MemberProj]
    pub(super) enum MemberFuture {
        ThisProcess { #[pin] future: RouteFuture<std::convert::Infallible> },
        Head { #[pin] future: Answer, is_stream: bool },
        Body { head: Option<Parts>, #[pin] body: Collect<Limited<Body>> },
    }
}

impl Future for MemberFuture {
    type Output = Result<Response<Body>, MemberError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.as_mut().project() {
                MemberProj::ThisProcess { future } => return future.poll(cx).map(|Ok(response)| Ok(response)),
                MemberProj::Head { future, is_stream } => {
                    let response = ready!(future.poll(cx))?;
                    if (*is_stream || is_event_stream(&response)) && !is_ended(&response) {
                        return Poll::Ready(Ok(response));
                    }
                    let (head, body) = response.into_parts();
                    let body = Limited::new(body, ANSWER_BYTES_MAX).collect();
                    self.set(Self::Body { head: Some(head), body });
                }
                MemberProj::Body { head, body } => {
                    let body = ready!(body.poll(cx)).map_err(MemberError::Body)?;
                    let head = head.take().expect("a future is not polled after it was ready");
                    let mut response = Response::from_parts(head, Body::new(body));
                    if is_declined(&response) {
                        response.extensions_mut().insert(Verdict::Ignore);
                    }
                    return Poll::Ready(Ok(response));
                }
            }
        }
    }
}

//! An instance as a service: this process, or another one over the network.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{body::Body, routing::future::RouteFuture};
use campanile_middleware::{Protocol, ReplayBody, Verdict};
use http::{Request, Response, StatusCode, header::RETRY_AFTER};
use hyper_util::client::legacy::{Error, ResponseFuture};
use pin_project_lite::pin_project;
use tower::Service;

use super::{dispatch::Dispatch, forward::Forward};

#[derive(Debug, Clone)]
pub(super) enum Member {
    ThisProcess(Dispatch),
    Other(Arc<Forward>),
}

impl Service<Request<ReplayBody<Body>>> for Member {
    type Response = Response<Body>;
    type Error = Error;
    type Future = MemberFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // Both are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReplayBody<Body>>) -> MemberFuture {
        let request = request.map(Body::new);
        match self {
            Self::ThisProcess(dispatch) => MemberFuture::ThisProcess { future: dispatch.call(request) },
            Self::Other(forward) => MemberFuture::Other { future: forward.send(request) },
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

pin_project! {
    #[project = MemberProj]
    pub(super) enum MemberFuture {
        ThisProcess { #[pin] future: RouteFuture<std::convert::Infallible> },
        Other { #[pin] future: ResponseFuture },
    }
}

impl Future for MemberFuture {
    type Output = Result<Response<Body>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            MemberProj::ThisProcess { future } => future.poll(cx).map(|Ok(response)| Ok(response)),
            MemberProj::Other { future } => future.poll(cx).map_ok(|mut response| {
                if is_declined(&response) {
                    response.extensions_mut().insert(Verdict::Ignore);
                }
                response.map(Body::new)
            }),
        }
    }
}

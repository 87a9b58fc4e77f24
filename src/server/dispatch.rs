//! REST or gRPC: by the request's content type, on either port.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use axum::{Router, body::Body, routing::future::RouteFuture};
use campanile_middleware::Protocol;
use http::{Request, Response};
use tower::Service;

/// One router for each protocol. Each answers what it does not know in its own way: 404 or UNIMPLEMENTED.
#[derive(Debug, Clone)]
pub(super) struct Dispatch {
    pub(super) rest: Router,
    pub(super) grpc: Router,
}

impl Service<Request<Body>> for Dispatch {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A router is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match Protocol::of(request.headers()) {
            Protocol::Rest => self.rest.call(request),
            Protocol::Grpc => self.grpc.call(request),
        }
    }
}

//! Two ways to the same service: those who wait for messages have a limit of their own, so that thousands of them leave
//! room for everybody else.

use std::{
    convert::Infallible,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use http::Request;
use tower::Service;

use super::operation::Operation;

/// Sends receives and streams of deliveries one way, everything else the other.
#[derive(Debug, Clone)]
pub(super) struct Fork<S> {
    pub(super) receives: S,
    pub(super) others: S,
}

impl<S: Service<Request<Body>, Error = Infallible>> Service<Request<Body>> for Fork<S> {
    type Response = S::Response;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Which way it will be is not known yet.
        match ready!(self.receives.poll_ready(cx)) {
            Ok(()) => self.others.poll_ready(cx),
            Err(never) => Poll::Ready(Err(never)),
        }
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        match Operation::of_path(request.uri().path()) {
            Operation::Receive => self.receives.call(request),
            Operation::Publish | Operation::Settle | Operation::Manage => self.others.call(request),
        }
    }
}

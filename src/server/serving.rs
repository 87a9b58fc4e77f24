//! The innermost service: a request is served here, or goes round the instances.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{body::Body, routing::future::RouteFuture};
use campanile_middleware::Hops;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::Service;

use super::{dispatch::Dispatch, peers::Round};

/// Where requests are served.
#[derive(Debug, Clone)]
pub(super) struct Serving {
    here: Dispatch,
    /// `None` when there is no other instance.
    round: Option<Round>,
}

impl Serving {
    pub(super) fn new(here: Dispatch, round: Option<Round>) -> Self {
        Self { here, round }
    }
}

impl Service<Request<Body>> for Serving {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ServingFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Both ways are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> ServingFuture {
        let is_from_client = request.extensions().get::<Hops>().is_none_or(|hops| *hops == Hops(0));
        match &mut self.round {
            Some(round) if is_from_client => {
                let answer = round.call(request);
                let future = Box::pin(async { answer.await.map(|response| response.map(Body::new)) });
                ServingFuture::Round { future }
            }
            // Whoever sent it here chose this instance; sending it on could go in circles.
            _ => ServingFuture::Here { future: self.here.call(request) },
        }
    }
}

type BoxedAnswer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

pin_project! {
    /// The answer, from here or from an instance.
    #[project = ServingProj]
    pub(super) enum ServingFuture {
        Here { #[pin] future: RouteFuture<Infallible> },
        // Named, its type would fill a line; and next to the network a box costs nothing.
        Round { future: BoxedAnswer },
    }
}

impl Future for ServingFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            ServingProj::Here { future } => future.poll(cx),
            ServingProj::Round { future } => future.as_mut().poll(cx),
        }
    }
}

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
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use tower::Service;

use super::{dispatch::Dispatch, operation::Operation, peers::Round};

/// Where requests are served. Clones share one state.
#[derive(Debug, Clone)]
pub(super) struct Serving {
    here: Dispatch,
    /// `None` when there is no other instance.
    round: Option<Round>,
    /// The requests under way, less those that may be waiting for messages: these end when the store closes.
    under_way: TaskTracker,
}

impl Serving {
    pub(super) fn new(here: Dispatch, round: Option<Round>) -> Self {
        Self { here, round, under_way: TaskTracker::new() }
    }

    /// Completes when [`TaskTracker::close`] was called and no request is under way any more.
    pub(super) fn under_way(&self) -> TaskTracker {
        self.under_way.clone()
    }

    fn track(&self, path: &str) -> Option<TaskTrackerToken> {
        match Operation::of_path(path) {
            Operation::Receive => None,
            Operation::Publish | Operation::Settle | Operation::Manage => Some(self.under_way.token()),
        }
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
        let token = self.track(request.uri().path());
        let is_from_client = request.extensions().get::<Hops>().is_none_or(|hops| *hops == Hops(0));
        match &mut self.round {
            Some(round) if is_from_client => {
                let answer = round.call(request);
                let future = Box::pin(async { answer.await.map(|response| response.map(Body::new)) });
                ServingFuture { way: Way::Round { future }, _token: token }
            }
            // Whoever sent it here chose this instance; sending it on could go in circles.
            _ => ServingFuture { way: Way::Here { future: self.here.call(request) }, _token: token },
        }
    }
}

type BoxedAnswer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

pin_project! {
    /// The answer, from here or from an instance.
    pub(super) struct ServingFuture {
        #[pin]
        way: Way,
        _token: Option<TaskTrackerToken>,
    }
}

pin_project! {
    #[project = WayProj]
    enum Way {
        Here { #[pin] future: RouteFuture<Infallible> },
        // Named, its type would fill a line; and next to the network a box costs nothing.
        Round { future: BoxedAnswer },
    }
}

impl Future for ServingFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().way.project() {
            WayProj::Here { future } => future.poll(cx),
            WayProj::Round { future } => future.as_mut().poll(cx),
        }
    }
}

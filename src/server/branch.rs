//! The fork in the stack: what shows the state of the process is not held up by what bounds its use.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use http::{Request, Response};
use http_body_util::Either;
use pin_project_lite::pin_project;
use tower::Service;

use super::{dispatch::Dispatch, operation::is_observability};

/// Sends health, readiness, reflection and the instance's report to `observability`, everything else to `use_`.
#[derive(Debug, Clone)]
pub(super) struct Branch<U> {
    pub(super) observability: Dispatch,
    pub(super) use_: U,
}

impl<U, B> Service<Request<Body>> for Branch<U>
where
    U: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<Either<Body, B>>;
    type Error = Infallible;
    type Future = BranchFuture<<Dispatch as Service<Request<Body>>>::Future, U::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The other way is always ready.
        self.use_.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if is_observability(request.uri().path()) {
            BranchFuture::Observability { future: self.observability.call(request) }
        } else {
            BranchFuture::Use { future: self.use_.call(request) }
        }
    }
}

pin_project! {
    /// The answer of one of the two ways.
    #[project = BranchProj]
    pub(super) enum BranchFuture<O, U> {
        Observability { #[pin] future: O },
        Use { #[pin] future: U },
    }
}

impl<O, U, B> Future for BranchFuture<O, U>
where
    O: Future<Output = Result<Response<Body>, Infallible>>,
    U: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<Either<Body, B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(response) = match self.project() {
            BranchProj::Observability { future } => ready!(future.poll(cx)).map(|r| r.map(Either::Left)),
            BranchProj::Use { future } => ready!(future.poll(cx)).map(|r| r.map(Either::Right)),
        };
        Poll::Ready(Ok(response))
    }
}

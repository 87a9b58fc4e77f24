//! The future shared by the small layers: the service's response with its body passed on, or a rejection at once.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;

use crate::{GuardedBody, Protocol, Rejection};

pin_project! {
    /// The response of a service, or the rejection of the layer in front of it.
    pub struct AnswerFuture<F> {
        #[pin]
        step: Step<F>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<F> {
        Call { #[pin] future: F },
        Refused { rejection: Option<(Rejection, Protocol)> },
    }
}

impl<F> AnswerFuture<F> {
    pub(crate) fn call(future: F) -> Self {
        Self { step: Step::Call { future } }
    }

    pub(crate) fn refused(rejection: Rejection, protocol: Protocol) -> Self {
        Self { step: Step::Refused { rejection: Some((rejection, protocol)) } }
    }
}

impl<F, B, E> Future for AnswerFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<GuardedBody<B>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().step.project() {
            StepProj::Call { future } => Poll::Ready(Ok(ready!(future.poll(cx))?.map(GuardedBody::unguarded))),
            StepProj::Refused { rejection } => {
                let (rejection, protocol) = rejection.take().expect("a future is not polled after it was ready");
                Poll::Ready(Ok(rejection.into_response(protocol)))
            }
        }
    }
}

impl<F> fmt::Debug for AnswerFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerFuture").finish_non_exhaustive()
    }
}

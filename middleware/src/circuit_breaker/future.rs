//! One call through a breaker: admitted with a guard, let through without one, or refused.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Body;
use pin_project_lite::pin_project;

use super::{RejectReason, Rejected, VerdictGuard};
use crate::{
    ClassifyResponse, GrpcCode, GuardedBody, Protocol, RejectResponse, Rejection, reject::rejected,
    unwind::dropping_on_unwind,
};

pin_project! {
    /// The response of a service behind a breaker, or the breaker's own.
    pub struct CircuitBreakerFuture<F, R> {
        #[pin]
        step: Step<F, R>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<F, R> {
        Call { #[pin] future: F, guard: Option<VerdictGuard<R>> },
        Refused { response: Option<Response<Bytes>>, rejection: Rejection },
    }
}

impl<F, R> CircuitBreakerFuture<F, R> {
    pub(super) fn call(future: F, guard: Option<VerdictGuard<R>>) -> Self {
        Self { step: Step::Call { future, guard } }
    }

    pub(super) fn refused(reject: &impl RejectResponse, protocol: Protocol, refused: Rejected) -> Self {
        let rejection = circuit_open(refused);
        Self { step: Step::Refused { response: Some(reject.reject(protocol, &rejection)), rejection } }
    }
}

/// `circuit_open`, 503 / UNAVAILABLE, with the remaining open time.
fn circuit_open(refused: Rejected) -> Rejection {
    let message = match refused.reason {
        RejectReason::Open | RejectReason::HalfOpenFull => "the circuit is open: recent calls failed",
        RejectReason::Isolated => "the circuit is isolated by an operator",
    };
    Rejection::new(StatusCode::SERVICE_UNAVAILABLE, GrpcCode::Unavailable, "circuit_open", message)
        .with_retry_after(refused.retry_after)
}

impl<F, R, B, E> Future for CircuitBreakerFuture<F, R>
where
    F: Future<Output = Result<Response<B>, E>>,
    R: ClassifyResponse,
    B: Body,
{
    type Output = Result<Response<GuardedBody<B, VerdictGuard<R>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (future, slot) = match self.project().step.project() {
            StepProj::Call { future, guard } => (future, guard),
            StepProj::Refused { response, rejection } => {
                let response = response.take().expect("a future is not polled after it was ready");
                return Poll::Ready(Ok(rejected(response, rejection)));
            }
        };
        let outcome = ready!(dropping_on_unwind(slot, || future.poll(cx)));
        let Some(mut guard) = slot.take() else {
            return Poll::Ready(outcome.map(|response| response.map(GuardedBody::unguarded)));
        };
        Poll::Ready(match outcome {
            Ok(response) => {
                let verdict = guard.head(&response);
                Ok(guard.watch(verdict, response))
            }
            Err(error) => {
                guard.failed();
                Err(error)
            }
        })
    }
}

impl<F, R> fmt::Debug for CircuitBreakerFuture<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerFuture").finish_non_exhaustive()
    }
}

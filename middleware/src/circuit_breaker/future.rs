//! One call through a breaker: admitted with a guard, let through without one, or refused.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Response, StatusCode};
use http_body::Body;
use pin_project_lite::pin_project;

use super::{RejectReason, Rejected, VerdictGuard};
use crate::{
    ClassifyResponse, GrpcCode, GuardedBody, Protocol, RejectResponse, Rejection, reject::rejected,
    unwind::dropping_on_unwind,
};

pin_project! {
    /// The response of a service behind a breaker, or the breaker's own. `C` watches the call, `R` writes a refusal.
    pub struct CircuitBreakerFuture<F, C, R = crate::AutoReject> {
        #[pin]
        step: Step<F, C, R>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<F, C, R> {
        Call { #[pin] future: F, guard: Option<VerdictGuard<C>> },
        Refused { refused: Rejected, protocol: Protocol, reject: R },
    }
}

impl<F, C, R> CircuitBreakerFuture<F, C, R> {
    #[inline]
    pub(super) fn call(future: F, guard: Option<VerdictGuard<C>>) -> Self {
        Self { step: Step::Call { future, guard } }
    }

    #[inline]
    pub(super) fn refused(refused: Rejected, protocol: Protocol, reject: R) -> Self {
        Self { step: Step::Refused { refused, protocol, reject } }
    }
}

/// `circuit_open`, 503 / UNAVAILABLE, with the remaining open time.
fn circuit_open(refused: &Rejected) -> Rejection {
    let message = match refused.reason {
        RejectReason::Open | RejectReason::HalfOpenFull => "the circuit is open: recent calls failed",
        RejectReason::Isolated => "the circuit is isolated by an operator",
    };
    Rejection::new(StatusCode::SERVICE_UNAVAILABLE, GrpcCode::Unavailable, "circuit_open", message)
        .with_retry_after(refused.retry_after)
}

impl<F, C, R, B, E> Future for CircuitBreakerFuture<F, C, R>
where
    F: Future<Output = Result<Response<B>, E>>,
    C: ClassifyResponse,
    R: RejectResponse,
    B: Body,
{
    type Output = Result<Response<GuardedBody<B, VerdictGuard<C>>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (future, slot) = match self.project().step.project() {
            StepProj::Call { future, guard } => (future, guard),
            StepProj::Refused { refused, protocol, reject } => {
                let rejection = circuit_open(refused);
                return Poll::Ready(Ok(rejected(reject.reject(*protocol, &rejection), &rejection)));
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

impl<F, C, R> fmt::Debug for CircuitBreakerFuture<F, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerFuture").finish_non_exhaustive()
    }
}

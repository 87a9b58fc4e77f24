//! A breaker in front of a service that does not speak HTTP: any request, any response.
//!
//! A refusal is an error, as there is no response that every service has. Readiness passes through untouched: what is
//! refused is refused by the call, so that a `Buffer` or a balancer around it is not ended by an open circuit.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{CircuitBreaker, Permit, Rejected};
use crate::{Verdict, unwind::dropping_on_unwind};

/// Decides what the outcome of a call says about the service. Closures do.
pub trait Judge<Res, E> {
    /// What this outcome says.
    fn verdict(&self, outcome: &Result<Res, E>) -> Verdict;
}

impl<F: Fn(&Result<Res, E>) -> Verdict, Res, E> Judge<Res, E> for F {
    fn verdict(&self, outcome: &Result<Res, E>) -> Verdict {
        self(outcome)
    }
}

/// The default [`Judge`]: an error is a failure, any response a success.
#[derive(Debug, Clone, Copy, Default)]
pub struct ErrorIsFailure;

impl<Res, E> Judge<Res, E> for ErrorIsFailure {
    fn verdict(&self, outcome: &Result<Res, E>) -> Verdict {
        if outcome.is_ok() { Verdict::Success } else { Verdict::Failure }
    }
}

/// Puts a [`CircuitBreaker`] in front of services of any kind; all of them share it. For HTTP take
/// [`CircuitBreakerLayer`](super::CircuitBreakerLayer), which watches bodies and answers in the caller's protocol.
///
/// ```
/// use campanile_middleware::{CircuitBreaker, CircuitBreakerError, GenericCircuitBreakerLayer, Verdict};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let breaker = CircuitBreaker::builder("parser").consecutive_failures(1).build();
/// let layer = GenericCircuitBreakerLayer::new(breaker).judge(|outcome: &Result<u32, std::num::ParseIntError>| {
///     if outcome.is_ok() { Verdict::Success } else { Verdict::Failure }
/// });
/// let parse = layer.layer(service_fn(|text: &'static str| async move { text.parse::<u32>() }));
/// assert_eq!(parse.clone().oneshot("7").await.ok(), Some(7));
/// assert!(matches!(parse.clone().oneshot("seven").await, Err(CircuitBreakerError::Service(_))));
/// assert!(matches!(parse.clone().oneshot("8").await, Err(CircuitBreakerError::Rejected(_))));
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct GenericCircuitBreakerLayer<J = ErrorIsFailure> {
    breaker: CircuitBreaker,
    judge: J,
}

impl GenericCircuitBreakerLayer {
    /// With [`ErrorIsFailure`].
    #[must_use]
    pub fn new(breaker: CircuitBreaker) -> Self {
        Self { breaker, judge: ErrorIsFailure }
    }
}

impl<J> GenericCircuitBreakerLayer<J> {
    /// What counts as a failure.
    #[must_use]
    pub fn judge<K>(self, judge: K) -> GenericCircuitBreakerLayer<K> {
        GenericCircuitBreakerLayer { breaker: self.breaker, judge }
    }

    /// The breaker.
    #[must_use]
    pub fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }
}

impl<S, J: Clone> Layer<S> for GenericCircuitBreakerLayer<J> {
    type Service = GenericCircuitBreakerService<S, J>;

    fn layer(&self, inner: S) -> Self::Service {
        GenericCircuitBreakerService { inner, breaker: self.breaker.clone(), judge: self.judge.clone() }
    }
}

/// A service behind a [`GenericCircuitBreakerLayer`].
#[derive(Debug, Clone)]
pub struct GenericCircuitBreakerService<S, J = ErrorIsFailure> {
    inner: S,
    breaker: CircuitBreaker,
    judge: J,
}

impl<S, J, Req> Service<Req> for GenericCircuitBreakerService<S, J>
where
    S: Service<Req>,
    J: Judge<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = CircuitBreakerError<S::Error>;
    type Future = GenericCircuitBreakerFuture<S::Future, J>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(CircuitBreakerError::Service)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let step = match self.breaker.try_acquire() {
            Ok(permit) => {
                let guard = Some(Guard { permit, judge: self.judge.clone() });
                Step::Call { future: self.inner.call(request), guard }
            }
            Err(rejected) => Step::Refused { rejected },
        };
        GenericCircuitBreakerFuture { step }
    }
}

#[derive(Debug)]
struct Guard<J> {
    permit: Permit,
    judge: J,
}

pin_project! {
    /// The outcome of a service behind a breaker, or its refusal.
    #[derive(Debug)]
    pub struct GenericCircuitBreakerFuture<F, J> {
        #[pin]
        step: Step<F, J>,
    }
}

pin_project! {
    #[project = StepProj]
    #[derive(Debug)]
    enum Step<F, J> {
        Call { #[pin] future: F, guard: Option<Guard<J>> },
        Refused { rejected: Rejected },
    }
}

impl<F, J, Res, E> Future for GenericCircuitBreakerFuture<F, J>
where
    F: Future<Output = Result<Res, E>>,
    J: Judge<Res, E>,
{
    type Output = Result<Res, CircuitBreakerError<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (future, slot) = match self.project().step.project() {
            StepProj::Call { future, guard } => (future, guard),
            StepProj::Refused { rejected } => return Poll::Ready(Err(CircuitBreakerError::Rejected(*rejected))),
        };
        let outcome = ready!(dropping_on_unwind(slot, || future.poll(cx)));
        if let Some(Guard { permit, judge }) = slot {
            permit.settle(judge.verdict(&outcome));
        }
        *slot = None;
        Poll::Ready(outcome.map_err(CircuitBreakerError::Service))
    }
}

/// Why a call behind a [`GenericCircuitBreakerLayer`] has no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CircuitBreakerError<E> {
    /// It was not made.
    Rejected(Rejected),
    /// The service's own error.
    Service(E),
}

impl<E: fmt::Display> fmt::Display for CircuitBreakerError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejected) => rejected.fmt(f),
            Self::Service(error) => error.fmt(f),
        }
    }
}

/// Also for a boxed error, which is what most of tower has and is no `Error` itself; so it names no source.
impl<E: fmt::Debug + fmt::Display> Error for CircuitBreakerError<E> {}

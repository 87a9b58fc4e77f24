//! One breaker in front of a service.
//!
//! The state is the breaker's, never minted in `layer()`: however often a framework applies the layer, it is one circuit.
//! Invariants: readiness and errors of the service pass through untouched; a refusal is a response.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::{CircuitBreaker, CircuitBreakerFuture, VerdictGuard};
use crate::{AutoClassify, AutoReject, Classify, GuardedBody, Protocol, RejectResponse};

/// Puts a [`CircuitBreaker`] in front of services; all of them share it.
#[derive(Debug, Clone)]
pub struct CircuitBreakerLayer<C = AutoClassify, R = AutoReject> {
    breaker: CircuitBreaker,
    classify: C,
    reject: R,
}

impl CircuitBreakerLayer {
    /// With [`AutoClassify`] and [`AutoReject`].
    #[must_use]
    pub fn new(breaker: CircuitBreaker) -> Self {
        Self { breaker, classify: AutoClassify, reject: AutoReject }
    }
}

impl<C, R> CircuitBreakerLayer<C, R> {
    /// What counts as a failure.
    #[must_use]
    pub fn classify<D: Classify>(self, classify: D) -> CircuitBreakerLayer<D, R> {
        CircuitBreakerLayer { breaker: self.breaker, classify, reject: self.reject }
    }

    /// How a refusal is written.
    #[must_use]
    pub fn on_reject<Q: RejectResponse>(self, reject: Q) -> CircuitBreakerLayer<C, Q> {
        CircuitBreakerLayer { breaker: self.breaker, classify: self.classify, reject }
    }

    /// The breaker.
    #[must_use]
    pub fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }
}

impl<S, C: Clone, R: Clone> Layer<S> for CircuitBreakerLayer<C, R> {
    type Service = CircuitBreakerService<S, C, R>;

    fn layer(&self, inner: S) -> Self::Service {
        CircuitBreakerService {
            inner,
            breaker: self.breaker.clone(),
            classify: self.classify.clone(),
            reject: self.reject.clone(),
        }
    }
}

/// A service behind a [`CircuitBreakerLayer`].
#[derive(Debug, Clone)]
pub struct CircuitBreakerService<S, C = AutoClassify, R = AutoReject> {
    inner: S,
    breaker: CircuitBreaker,
    classify: C,
    reject: R,
}

impl<S, C, R, ReqB, ResB> Service<Request<ReqB>> for CircuitBreakerService<S, C, R>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    C: Classify,
    R: RejectResponse + Clone,
    ResB: Body<Data = Bytes>,
{
    type Response = Response<GuardedBody<ResB, VerdictGuard<C::Response>>>;
    type Error = S::Error;
    type Future = CircuitBreakerFuture<S::Future, C::Response, R>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        match self.breaker.try_acquire() {
            Ok(permit) => {
                let guard = VerdictGuard::new(permit, self.classify.request(&request));
                CircuitBreakerFuture::call(self.inner.call(request), Some(guard))
            }
            Err(refused) => {
                CircuitBreakerFuture::refused(refused, Protocol::of(request.headers()), self.reject.clone())
            }
        }
    }
}

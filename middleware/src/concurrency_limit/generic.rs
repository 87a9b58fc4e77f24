//! A limit in front of a service that does not speak HTTP: any request, any response. A refusal is an error of the
//! call, as there is no response that every service has; readiness passes through untouched.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    ConcurrencyLimit, OverflowQueue, OverflowReject, Overloaded, Turn,
    admission::{Admission, Begun, NoTurn},
};

/// Puts a [`ConcurrencyLimit`] in front of services of any kind; all of them share it. A place is held until the
/// outcome of the call. For HTTP take [`ConcurrencyLimitLayer`](super::ConcurrencyLimitLayer).
///
/// An adaptive limit takes every outcome, errors too, as an answer in so much time.
#[derive(Debug, Clone)]
pub struct GenericConcurrencyLimitLayer<O = OverflowReject> {
    limit: ConcurrencyLimit,
    overflow: O,
}

impl GenericConcurrencyLimitLayer {
    /// With [`OverflowReject`].
    #[must_use]
    pub fn new(limit: ConcurrencyLimit) -> Self {
        Self { limit, overflow: OverflowReject }
    }
}

impl<O> GenericConcurrencyLimitLayer<O> {
    /// What becomes of a call when all places are taken: [`OverflowReject`] or [`OverflowQueue`].
    #[must_use]
    pub fn overflow<P>(self, overflow: P) -> GenericConcurrencyLimitLayer<P> {
        GenericConcurrencyLimitLayer { limit: self.limit, overflow }
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> &ConcurrencyLimit {
        &self.limit
    }
}

impl<S, O: Clone> Layer<S> for GenericConcurrencyLimitLayer<O> {
    type Service = GenericConcurrencyLimitService<S, O>;

    fn layer(&self, inner: S) -> Self::Service {
        GenericConcurrencyLimitService { inner, limit: self.limit.clone(), overflow: self.overflow.clone() }
    }
}

/// A service behind a [`GenericConcurrencyLimitLayer`].
#[derive(Debug, Clone)]
pub struct GenericConcurrencyLimitService<S, O = OverflowReject> {
    inner: S,
    limit: ConcurrencyLimit,
    overflow: O,
}

impl<S: Service<Req>, Req> Service<Req> for GenericConcurrencyLimitService<S, OverflowReject> {
    type Response = S::Response;
    type Error = ConcurrencyLimitError<S::Error>;
    type Future = GenericConcurrencyLimitFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(ConcurrencyLimitError::Service)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let admission = Admission::at_once(&self.limit, || self.inner.call(request));
        GenericConcurrencyLimitFuture { admission }
    }
}

impl<S: Service<Req> + Clone, Req> Service<Req> for GenericConcurrencyLimitService<S, OverflowQueue> {
    type Response = S::Response;
    type Error = ConcurrencyLimitError<S::Error>;
    type Future = GenericConcurrencyLimitFuture<S::Future, Turn<S, Req>>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(ConcurrencyLimitError::Service)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let admission = Admission::in_turn(&self.limit, self.overflow, &mut self.inner, request);
        GenericConcurrencyLimitFuture { admission }
    }
}

pin_project! {
    /// The outcome of a service behind a limit, or its refusal. `W` waits for a place.
    pub struct GenericConcurrencyLimitFuture<F, W = NoTurn<F>> {
        #[pin]
        admission: Admission<F, W>,
    }
}

impl<F, W, Res, E> Future for GenericConcurrencyLimitFuture<F, W>
where
    F: Future<Output = Result<Res, E>>,
    W: Future<Output = Result<Begun<F>, Overloaded>>,
{
    type Output = Result<Res, ConcurrencyLimitError<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let called = ready!(self.project().admission.poll_outcome(cx));
        let (outcome, place) = called.map_err(ConcurrencyLimitError::Overloaded)?;
        if let Some(place) = place {
            place.answered();
        }
        *place = None;
        Poll::Ready(outcome.map_err(ConcurrencyLimitError::Service))
    }
}

impl<F, W> fmt::Debug for GenericConcurrencyLimitFuture<F, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GenericConcurrencyLimitFuture").finish_non_exhaustive()
    }
}

/// Why a call behind a [`GenericConcurrencyLimitLayer`] has no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConcurrencyLimitError<E> {
    /// It was not made.
    Overloaded(Overloaded),
    /// The service's own error.
    Service(E),
}

impl<E: fmt::Display> fmt::Display for ConcurrencyLimitError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overloaded(overloaded) => overloaded.fmt(f),
            Self::Service(error) => error.fmt(f),
        }
    }
}

/// Also for a boxed error, which is what most of tower has and is no `Error` itself; so it names no source.
impl<E: fmt::Debug + fmt::Display> Error for ConcurrencyLimitError<E> {}

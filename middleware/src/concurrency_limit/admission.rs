//! From the wish to call a service to its outcome, with the place held meanwhile. The layers for HTTP and for any
//! service make of it what their callers want.
//!
//! A [`Turn`] keeps the service that was ready, and calls that one and no other.

use std::{
    fmt,
    future::Pending,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::{Acquire, ConcurrencyLimit, OverflowQueue, Overloaded, Place};

/// A call that has its place.
pub(super) type Begun<F> = (F, Place);

/// What follows when there is no waiting.
pub(super) type NoTurn<F> = Pending<Result<Begun<F>, Overloaded>>;

pin_project! {
    /// `F` is the service's future, `W` what waits for a place to make one.
    #[project = AdmissionProj]
    pub(super) enum Admission<F, W> {
        Called { #[pin] future: F, place: Option<Place> },
        Waiting { #[pin] turn: W },
        Refused { overloaded: Overloaded },
    }
}

impl<F> Admission<F, NoTurn<F>> {
    #[inline]
    pub(super) fn at_once(limit: &ConcurrencyLimit, call: impl FnOnce() -> F) -> Self {
        match limit.try_acquire() {
            Ok(place) => Self::Called { future: call(), place: Some(place) },
            Err(overloaded) => Self::Refused { overloaded },
        }
    }
}

impl<S: Service<Req> + Clone, Req> Admission<S::Future, Turn<S, Req>> {
    /// `service` must be ready.
    pub(super) fn in_turn(limit: &ConcurrencyLimit, queue: OverflowQueue, service: &mut S, request: Req) -> Self {
        if limit.take() {
            let place = Some(Place::new(limit.clone()));
            return Self::Called { future: service.call(request), place };
        }
        // The clone stays behind, to become ready for the next request.
        let clone = service.clone();
        let call = Some((std::mem::replace(service, clone), request));
        Self::Waiting { turn: Turn { acquire: limit.acquire(queue), call } }
    }
}

impl<F, W> Admission<F, W>
where
    F: Future,
    W: Future<Output = Result<Begun<F>, Overloaded>>,
{
    /// The outcome of the service, and the place that it holds: to be taken, or told and left.
    #[inline]
    #[expect(clippy::type_complexity, reason = "it is taken apart at once, in two places")]
    pub(super) fn poll_outcome(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(F::Output, &mut Option<Place>), Overloaded>> {
        if let AdmissionProj::Waiting { turn } = self.as_mut().project() {
            let (future, place) = ready!(turn.poll(cx))?;
            self.set(Self::Called { future, place: Some(place) });
        }
        match self.project() {
            AdmissionProj::Called { future, place } => Poll::Ready(Ok((ready!(future.poll(cx)), place))),
            AdmissionProj::Refused { overloaded } => Poll::Ready(Err(*overloaded)),
            AdmissionProj::Waiting { .. } => unreachable!("who waited has just been called"),
        }
    }
}

pin_project! {
    /// A request that waits for its place, with the service that was ready for it.
    pub struct Turn<S, Req> {
        #[pin]
        acquire: Acquire,
        call: Option<(S, Req)>,
    }
}

impl<S: Service<Req>, Req> Future for Turn<S, Req> {
    type Output = Result<Begun<S::Future>, Overloaded>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let place = ready!(this.acquire.poll(cx))?;
        let (mut service, request) = this.call.take().expect("a future is not polled after it was ready");
        Poll::Ready(Ok((service.call(request), place)))
    }
}

impl<S, Req> fmt::Debug for Turn<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").finish_non_exhaustive()
    }
}

//! At most so many requests at once; the next one is refused, not queued.
//!
//! It is not a rate limit and knows no priorities. Invariants: one limit over everything that the layer and its clones
//! are applied to; a place is taken in `call` (readiness reserves nothing, so idle clones starve nobody) and comes back
//! by drop.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_layer::Layer;
use tower_service::Service;

use crate::{AutoReject, BodyGuard, GuardedBody, Protocol, RejectResponse, Rejection, reject::rejected};

/// What a refused caller is told to wait: how long a place takes to become free is not known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// For how long a request holds its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hold {
    /// Until the head of the response. Then any number of bodies may be streaming.
    ResponseHead,
    /// Until the end of the response's body, or its drop.
    #[default]
    ResponseBody,
}

/// Limits the number of requests in flight. Refuses with `overloaded`, 503 / UNAVAILABLE, retry after 1 s.
#[derive(Debug, Clone)]
pub struct ConcurrencyLimitLayer<R = AutoReject> {
    places: Arc<Semaphore>,
    max: usize,
    hold: Hold,
    reject: R,
}

impl ConcurrencyLimitLayer {
    /// At most `max` requests at once; `max` is capped at [`Semaphore::MAX_PERMITS`].
    #[must_use]
    pub fn fixed(max: usize) -> Self {
        let max = max.min(Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(max)), max, hold: Hold::default(), reject: AutoReject }
    }
}

impl<R> ConcurrencyLimitLayer<R> {
    /// For how long a request holds its place. Default: [`Hold::ResponseBody`].
    #[must_use]
    pub fn hold(self, hold: Hold) -> Self {
        Self { hold, ..self }
    }

    /// How a refusal is written.
    #[must_use]
    pub fn on_reject<Q: RejectResponse>(self, reject: Q) -> ConcurrencyLimitLayer<Q> {
        ConcurrencyLimitLayer { places: self.places, max: self.max, hold: self.hold, reject }
    }

    /// How many places are taken now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.max - self.places.available_permits()
    }
}

impl<S, R: Clone> Layer<S> for ConcurrencyLimitLayer<R> {
    type Service = ConcurrencyLimitService<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        ConcurrencyLimitService { inner, places: self.places.clone(), hold: self.hold, reject: self.reject.clone() }
    }
}

/// A service behind a [`ConcurrencyLimitLayer`].
#[derive(Debug, Clone)]
pub struct ConcurrencyLimitService<S, R = AutoReject> {
    inner: S,
    places: Arc<Semaphore>,
    hold: Hold,
    reject: R,
}

impl<S, R, ReqB, ResB> Service<Request<ReqB>> for ConcurrencyLimitService<S, R>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    R: RejectResponse,
    ResB: Body<Data = Bytes>,
{
    type Response = Response<GuardedBody<ResB, Place>>;
    type Error = S::Error;
    type Future = ConcurrencyLimitFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let step = match self.places.clone().try_acquire_owned() {
            Ok(permit) => {
                let place = Some(Place { _permit: permit });
                Step::Call { future: self.inner.call(request), place, hold: self.hold }
            }
            Err(_) => {
                let rejection = overloaded();
                let response = self.reject.reject(Protocol::of(request.headers()), &rejection);
                Step::Refused { response: Some(response), rejection }
            }
        };
        ConcurrencyLimitFuture { step }
    }
}

fn overloaded() -> Rejection {
    Rejection::unavailable("overloaded", "too many requests at once").with_retry_after(RETRY_AFTER)
}

/// One of the places: the guard on a response's body. Its drop gives it back, however the body ends.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

impl BodyGuard for Place {
    fn end(self, _: Option<&HeaderMap>) {}
    fn error(self) {}
}

pin_project! {
    /// The response of a service behind a limit, or the limit's own.
    pub struct ConcurrencyLimitFuture<F> {
        #[pin]
        step: Step<F>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<F> {
        Call { #[pin] future: F, place: Option<Place>, hold: Hold },
        Refused { response: Option<Response<Bytes>>, rejection: Rejection },
    }
}

impl<F, B, E> Future for ConcurrencyLimitFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<GuardedBody<B, Place>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().step.project() {
            StepProj::Call { future, place, hold } => {
                let result = ready!(future.poll(cx));
                let place = place.take();
                Poll::Ready(Ok(match (result?, place, *hold) {
                    (response, Some(place), Hold::ResponseBody) => response.map(|body| GuardedBody::new(body, place)),
                    (response, _, _) => response.map(GuardedBody::unguarded),
                }))
            }
            StepProj::Refused { response, rejection } => {
                let response = response.take().expect("a future is not polled after it was ready");
                Poll::Ready(Ok(rejected(response, rejection)))
            }
        }
    }
}

impl<F> fmt::Debug for ConcurrencyLimitFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConcurrencyLimitFuture").finish_non_exhaustive()
    }
}

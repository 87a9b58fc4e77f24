//! A panic in the service becomes an answer instead of a broken connection.
//!
//! It catches panics in `call` and in the future that it returns; not in `poll_ready` (there is no request to answer) and
//! not in a response's body (its head is out already). Invariant: a service's future that panicked is never polled again.

use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{GrpcCode, GuardedBody, Protocol, Rejection, Verdict};

type Hook = dyn Fn(&str) + Send + Sync;

/// Answers `internal`, 500 / INTERNAL, when the service panics. The answer does not tell what the panic said.
#[derive(Clone)]
pub struct CatchPanicLayer {
    /// `None` logs.
    hook: Option<Arc<Hook>>,
}

impl CatchPanicLayer {
    /// Logs panics as errors (with the feature `tracing`).
    #[must_use]
    pub fn new() -> Self {
        Self { hook: None }
    }

    /// Calls `hook` with each panic's message instead of logging it.
    #[must_use]
    pub fn on_panic(self, hook: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { hook: Some(Arc::new(hook)) }
    }
}

impl Default for CatchPanicLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CatchPanicLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatchPanicLayer").finish_non_exhaustive()
    }
}

fn log(message: &str) {
    #[cfg(feature = "tracing")]
    tracing::error!(panic = message, "request handler panicked");
    #[cfg(not(feature = "tracing"))]
    let _ = message;
}

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanicService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CatchPanicService { inner, hook: self.hook.clone() }
    }
}

/// A service behind a [`CatchPanicLayer`].
#[derive(Clone)]
pub struct CatchPanicService<S> {
    inner: S,
    hook: Option<Arc<Hook>>,
}

impl<S: fmt::Debug> fmt::Debug for CatchPanicService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatchPanicService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for CatchPanicService<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    ResB: Body<Data = Bytes>,
{
    type Response = Response<GuardedBody<ResB>>;
    type Error = S::Error;
    type Future = CatchPanicFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let protocol = Protocol::of(request.headers());
        let (future, panic) = match catch_unwind(AssertUnwindSafe(|| self.inner.call(request))) {
            Ok(future) => (Some(future), None),
            Err(panic) => (None, Some(panic)),
        };
        CatchPanicFuture { future, panic: panic.map(Payload), protocol, hook: self.hook.clone() }
    }
}

/// What was thrown.
struct Payload(Box<dyn Any + Send>);

impl Payload {
    fn message(&self) -> &str {
        if let Some(text) = self.0.downcast_ref::<&'static str>() {
            text
        } else if let Some(text) = self.0.downcast_ref::<String>() {
            text
        } else {
            "a value that is not text"
        }
    }
}

pin_project! {
    /// The response of a service, or the rejection when it panicked.
    pub struct CatchPanicFuture<F> {
        #[pin]
        future: Option<F>,
        // Of a panic in `call`: told at the first poll, as all answers are.
        panic: Option<Payload>,
        protocol: Protocol,
        hook: Option<Arc<Hook>>,
    }
}

impl<F, B, E> Future for CatchPanicFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<GuardedBody<B>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let payload = match this.future.as_mut().as_pin_mut() {
            Some(future) => match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
                Ok(polled) => {
                    let result = ready!(polled);
                    return Poll::Ready(result.map(|response| response.map(GuardedBody::unguarded)));
                }
                Err(panic) => Payload(panic),
            },
            None => this.panic.take().expect("a future is not polled after it was ready"),
        };
        // What is left of the service may panic once more as it is dropped.
        let _ = catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
        match this.hook {
            Some(hook) => hook(payload.message()),
            None => log(payload.message()),
        }
        Poll::Ready(Ok(internal().into_response(*this.protocol)))
    }
}

fn internal() -> Rejection {
    Rejection::new(StatusCode::INTERNAL_SERVER_ERROR, GrpcCode::Internal, "internal", "internal error")
        .with_verdict(Verdict::Failure)
}

impl<F> fmt::Debug for CatchPanicFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatchPanicFuture").finish_non_exhaustive()
    }
}

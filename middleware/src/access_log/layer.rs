//! The layer: begins an entry if anyone listens, and hands it on to the response's body.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::Entry;
use crate::{BodyGuard, GuardedBody, unwind::dropping_on_unwind};

/// The target of the events.
pub(super) const TARGET: &str = "access";

/// Logs every request as one event of the target `access`: `warn` for 5xx, for gRPC statuses that blame the server and
/// for what broke off; `debug` for the rest.
///
/// Fields: `method`, `path`, `protocol`, `status`, `grpc_status`, `request_id`, `head_ms` (to the head of the response),
/// `total_ms`, `body_bytes` (of the response), `outcome` (`ok`, `error`, `cancelled`).
#[derive(Debug, Clone, Copy, Default)]
pub struct AccessLogLayer {
    _private: (),
}

impl AccessLogLayer {
    /// Logs what the subscriber wants of the target `access`. When that is not even warnings, a request costs one check.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl<S> Layer<S> for AccessLogLayer {
    type Service = AccessLogService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AccessLogService { inner }
    }
}

/// A service behind an [`AccessLogLayer`].
#[derive(Debug, Clone)]
pub struct AccessLogService<S> {
    inner: S,
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for AccessLogService<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    ResB: Body<Data = Bytes>,
{
    type Response = Response<GuardedBody<ResB, Entry>>;
    type Error = S::Error;
    type Future = AccessLogFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let entry = tracing::enabled!(target: TARGET, tracing::Level::WARN).then(|| Entry::new(&request));
        AccessLogFuture { future: self.inner.call(request), entry }
    }
}

pin_project! {
    /// The response of a service, logged at its end.
    #[derive(Debug)]
    pub struct AccessLogFuture<F> {
        #[pin]
        future: F,
        entry: Option<Entry>,
    }
}

impl<F, B, E> Future for AccessLogFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<GuardedBody<B, Entry>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = ready!(dropping_on_unwind(this.entry, || this.future.poll(cx)));
        Poll::Ready(match (outcome, this.entry.take()) {
            (Ok(response), Some(mut entry)) => {
                entry.responded(&response);
                Ok(response.map(|body| GuardedBody::new(body, entry)))
            }
            (Ok(response), None) => Ok(response.map(GuardedBody::unguarded)),
            (Err(error), entry) => {
                if let Some(entry) = entry {
                    entry.error();
                }
                Err(error)
            }
        })
    }
}

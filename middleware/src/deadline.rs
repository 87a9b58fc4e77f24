//! An end to waiting: the server's maximum, or the shorter time that a gRPC client gave.
//!
//! It bounds the time to the head of the response, not the streaming of its body. Invariant: what is too late is dropped
//! before the answer goes out, so nothing runs on for a caller who was told that it is over.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_layer::Layer;
use tower_service::Service;

use crate::{GrpcCode, GuardedBody, Protocol, Rejection, Verdict, grpc_code::GRPC_TIMEOUT};

/// Ten years: what can be added to any clock.
const TIME_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Answers `deadline_exceeded`, 504 / DEADLINE_EXCEEDED, when the response's head takes too long. The verdict is
/// [`Verdict::Ignore`] if the client had shortened the time, else [`Verdict::Failure`].
///
/// ```
/// use std::{convert::Infallible, time::Duration};
/// use bytes::Bytes;
/// use campanile_middleware::DeadlineLayer;
/// use http::{Request, Response};
/// use http_body_util::Empty;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let hangs = service_fn(|_: Request<()>| std::future::pending::<Result<Response<Empty<Bytes>>, Infallible>>());
/// let service = DeadlineLayer::new(Duration::from_secs(5)).layer(hangs);
/// assert_eq!(service.oneshot(Request::new(())).await.unwrap().status(), 504);
/// # });
/// ```
#[derive(Debug, Clone, Copy)]
pub struct DeadlineLayer {
    max: Duration,
}

impl DeadlineLayer {
    /// At most `max` for any request, less for a gRPC request with a shorter `grpc-timeout`. Needs a tokio runtime with
    /// its timer enabled.
    #[must_use]
    pub fn new(max: Duration) -> Self {
        Self { max: max.min(TIME_MAX) }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadlineService { inner, max: self.max }
    }
}

/// A service behind a [`DeadlineLayer`].
#[derive(Debug, Clone)]
pub struct DeadlineService<S> {
    inner: S,
    max: Duration,
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for DeadlineService<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    ResB: Body<Data = Bytes>,
{
    type Response = Response<GuardedBody<ResB>>;
    type Error = S::Error;
    type Future = DeadlineFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let protocol = Protocol::of(request.headers());
        let asked = match protocol {
            Protocol::Grpc => grpc_timeout(request.headers()).filter(|asked| *asked < self.max),
            Protocol::Rest => None,
        };
        DeadlineFuture {
            // The clock first: the time that the call itself takes counts.
            end: Instant::now() + asked.unwrap_or(self.max),
            future: Some(self.inner.call(request)),
            sleep: None,
            protocol,
            verdict: if asked.is_some() { Verdict::Ignore } else { Verdict::Failure },
        }
    }
}

/// The time in a `grpc-timeout` header: up to eight digits and a unit. `None` for anything else.
fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(&GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

pin_project! {
    /// The response of a service, or the rejection when it is too late.
    pub struct DeadlineFuture<F> {
        #[pin]
        future: Option<F>,
        end: Instant,
        // Made when there is something to wait for.
        #[pin]
        sleep: Option<Sleep>,
        protocol: Protocol,
        verdict: Verdict,
    }
}

impl<F, B, E> Future for DeadlineFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<GuardedBody<B>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let future = this.future.as_mut().as_pin_mut().expect("a future is not polled after it was ready");
        // The response first: one that is ready at once never touches the timer.
        if let Poll::Ready(result) = future.poll(cx) {
            return Poll::Ready(result.map(|response| response.map(GuardedBody::unguarded)));
        }
        if this.sleep.is_none() {
            this.sleep.set(Some(sleep_until(*this.end)));
        }
        let sleep = this.sleep.as_mut().as_pin_mut().expect("it was made just now, or earlier");
        ready!(sleep.poll(cx));
        this.future.set(None);
        Poll::Ready(Ok(deadline_exceeded(*this.verdict).into_response(*this.protocol)))
    }
}

fn deadline_exceeded(verdict: Verdict) -> Rejection {
    Rejection::new(
        StatusCode::GATEWAY_TIMEOUT,
        GrpcCode::DeadlineExceeded,
        "deadline_exceeded",
        "the request took too long; it may or may not have been done",
    )
    .with_verdict(verdict)
}

impl<F> fmt::Debug for DeadlineFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadlineFuture").field("end", &self.end).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn grpc_timeouts_are_read_strictly() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_static(text));
            grpc_timeout(&headers)
        };
        assert_eq!(read("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(read("2M"), Some(Duration::from_secs(120)));
        assert_eq!(read("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(read("15m"), Some(Duration::from_millis(15)));
        assert_eq!(read("15u"), Some(Duration::from_micros(15)));
        assert_eq!(read("1n"), Some(Duration::from_nanos(1)));
        for bad in ["", "S", "1", "1s", "+1S", "-1S", "1.5S", "123456789S", "1 S"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}

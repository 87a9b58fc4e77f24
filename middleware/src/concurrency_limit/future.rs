//! The response of a service behind a limit, its body guarded by the place, or the limit's own.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Response, StatusCode};
use http_body::Body;
use pin_project_lite::pin_project;

use super::{
    Hold, Overloaded, Place,
    admission::{Admission, Begun, NoTurn},
};
use crate::{GrpcCode, GuardedBody, Protocol, RejectResponse, reject::rejected};

pin_project! {
    /// The response of a service behind a limit, or the limit's own. `W` waits for a place.
    pub struct ConcurrencyLimitFuture<F, R = crate::AutoReject, W = NoTurn<F>> {
        #[pin]
        admission: Admission<F, W>,
        protocol: Protocol,
        hold: Hold,
        reject: R,
    }
}

impl<F, R, W> ConcurrencyLimitFuture<F, R, W> {
    #[inline]
    pub(super) fn new(admission: Admission<F, W>, protocol: Protocol, hold: Hold, reject: R) -> Self {
        Self { admission, protocol, hold, reject }
    }
}

impl<F, R, W, B, E> Future for ConcurrencyLimitFuture<F, R, W>
where
    F: Future<Output = Result<Response<B>, E>>,
    W: Future<Output = Result<Begun<F>, Overloaded>>,
    R: RejectResponse,
    B: Body,
{
    type Output = Result<Response<GuardedBody<B, Place>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (outcome, place) = match ready!(this.admission.poll_outcome(cx)) {
            Ok((outcome, place)) => (outcome, place.take()),
            Err(overloaded) => {
                let rejection = overloaded.rejection();
                return Poll::Ready(Ok(rejected(this.reject.reject(*this.protocol, &rejection), &rejection)));
            }
        };
        let response = outcome?;
        let Some(mut place) = place else {
            return Poll::Ready(Ok(response.map(GuardedBody::unguarded)));
        };
        if place.is_measured() {
            if says_overloaded(&response) { place.overloaded() } else { place.answered() }
        }
        Poll::Ready(Ok(match *this.hold {
            Hold::ResponseHead => response.map(GuardedBody::unguarded),
            Hold::ResponseBody => response.map(|body| GuardedBody::new(body, place)),
        }))
    }
}

/// 429, 503, 504, and what is the same in gRPC, if it is in the head.
fn says_overloaded<B>(response: &Response<B>) -> bool {
    match response.status() {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => true,
        StatusCode::OK => matches!(
            GrpcCode::of(response.headers()),
            Some(GrpcCode::ResourceExhausted | GrpcCode::Unavailable | GrpcCode::DeadlineExceeded)
        ),
        _ => false,
    }
}

impl<F, R, W> fmt::Debug for ConcurrencyLimitFuture<F, R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConcurrencyLimitFuture").finish_non_exhaustive()
    }
}

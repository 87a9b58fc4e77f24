//! Carries a permit from the call to the end of the response's body, and settles it with the classification.
//!
//! Dropped before the end, it is the permit's drop that speaks: cancelled, or failed when unwinding.

use http::{HeaderMap, Response};
use http_body::Body;

use super::Permit;
use crate::{BodyGuard, ClassifyResponse, GuardedBody, Verdict};

/// The guard that a circuit breaker puts on a response body.
#[derive(Debug)]
pub struct VerdictGuard<R> {
    permit: Permit,
    call: R,
}

impl<R: ClassifyResponse> VerdictGuard<R> {
    #[inline]
    pub(crate) fn new(permit: Permit, call: R) -> Self {
        Self { permit, call }
    }

    /// The service failed without a response.
    pub(crate) fn failed(self) {
        let verdict = self.call.error();
        self.permit.complete(verdict);
    }

    /// The verdict is known by other means.
    pub(crate) fn complete(self, verdict: Verdict) {
        self.permit.complete(verdict);
    }

    /// What the head of the response says, if anything.
    #[inline]
    pub(crate) fn head<B>(&mut self, response: &Response<B>) -> Option<Verdict> {
        self.permit.answered();
        self.call.head(response)
    }

    /// Settles with the verdict, or watches the body until there is one.
    #[inline]
    pub(crate) fn watch<B: Body>(
        self,
        verdict: Option<Verdict>,
        response: Response<B>,
    ) -> Response<GuardedBody<B, Self>> {
        match verdict {
            Some(verdict) => {
                self.permit.complete(verdict);
                response.map(GuardedBody::unguarded)
            }
            None => response.map(|body| GuardedBody::new(body, self)),
        }
    }
}

impl<R: ClassifyResponse> BodyGuard for VerdictGuard<R> {
    #[inline]
    fn wants_trailers(&self) -> bool {
        self.call.wants_trailers()
    }

    #[inline]
    fn end(self, trailers: Option<&HeaderMap>) {
        let verdict = self.call.end(trailers);
        self.permit.complete(verdict);
    }

    fn error(self) {
        self.failed();
    }
}

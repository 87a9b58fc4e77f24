//! What a rejection says, for both protocols at once. How it is written is the next file's business.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http::{Response, StatusCode};

use crate::{AutoReject, GrpcCode, GuardedBody, Protocol, RejectResponse, Verdict};

/// An answer that stands in for the service's own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejection {
    /// The status for REST.
    pub status: StatusCode,
    /// The status for gRPC.
    pub grpc_code: GrpcCode,
    /// What it is, for programs: lower case with underscores, as `circuit_open`.
    pub code: &'static str,
    /// What it is, for people. May hold any text; it is encoded where the protocol wants it.
    pub message: Cow<'static, str>,
    /// When to try again. `None` says nothing over REST, and "do not" over gRPC with UNAVAILABLE (which clients would
    /// retry of their own accord). Default: `None`.
    pub retry_after: Option<Duration>,
    /// What breakers further out are to make of it. Default: [`Verdict::Ignore`].
    pub verdict: Verdict,
}

impl Rejection {
    /// A rejection without a time to retry after, which says nothing about the service's health.
    #[must_use]
    #[inline]
    pub fn new(
        status: StatusCode,
        grpc_code: GrpcCode,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, grpc_code, code, message: message.into(), retry_after: None, verdict: Verdict::Ignore }
    }

    /// Nothing was done, because nothing can be done now: 503 / UNAVAILABLE.
    #[must_use]
    #[inline]
    pub fn unavailable(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, GrpcCode::Unavailable, code, message)
    }

    /// Tells the caller when to try again.
    #[must_use]
    #[inline]
    pub fn with_retry_after(self, retry_after: impl Into<Option<Duration>>) -> Self {
        Self { retry_after: retry_after.into(), ..self }
    }

    /// Tells breakers further out what to make of it.
    #[must_use]
    #[inline]
    pub fn with_verdict(self, verdict: Verdict) -> Self {
        Self { verdict, ..self }
    }

    /// The response to a request of `protocol`, as [`AutoReject`] writes it, with verdict and code in its extensions. For
    /// applications whose own refusals are to look like those of the layers.
    ///
    /// ```
    /// use campanile_middleware::{GrpcCode, Protocol, Rejection};
    /// use http::StatusCode;
    ///
    /// # type Body = http_body_util::Empty<bytes::Bytes>;
    /// let full = Rejection::new(StatusCode::TOO_MANY_REQUESTS, GrpcCode::ResourceExhausted, "queue_full", "full");
    /// let response = full.into_response::<Body>(Protocol::Rest);
    /// assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    /// ```
    #[must_use]
    pub fn into_response<B>(self, protocol: Protocol) -> Response<GuardedBody<B>> {
        rejected(AutoReject.reject(protocol, &self), &self)
    }
}

/// The code of a rejection, in the extensions of its response: for a layer further out that counts rejections, or
/// writes the code where its clients look for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RejectionCode(pub &'static str);

/// A written rejection as a layer's response.
pub(crate) fn rejected<B, G>(response: Response<Bytes>, rejection: &Rejection) -> Response<GuardedBody<B, G>> {
    let mut response = response.map(GuardedBody::rejection);
    response.extensions_mut().insert(rejection.verdict);
    response.extensions_mut().insert(RejectionCode(rejection.code));
    response
}

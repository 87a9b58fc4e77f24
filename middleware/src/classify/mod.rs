//! From a request and its response to a [`Verdict`]: what counts as a failure.
//!
//! It does not act on verdicts; breakers do. The order is request head, response head, end of the body; a verdict may
//! fall at any point from the response head on.

mod auto;
#[cfg(feature = "tower-http")]
mod tower_http;

use http::{HeaderMap, Request, Response};

pub use auto::{AutoClassify, AutoResponse};
#[cfg(feature = "tower-http")]
pub use tower_http::{TowerHttpClassify, TowerHttpResponse};

use crate::Verdict;

/// Decides what the calls of a service say about its health.
pub trait Classify {
    /// Watches one call.
    type Response: ClassifyResponse;

    /// A call begins.
    fn request<B>(&self, request: &Request<B>) -> Self::Response;
}

/// Decides what one call says.
pub trait ClassifyResponse {
    /// The verdict, if it falls with the response's head; `None` to wait for the end of its body.
    fn head<B>(&mut self, response: &Response<B>) -> Option<Verdict>;

    /// The verdict at the end of the body.
    fn end(self, trailers: Option<&HeaderMap>) -> Verdict;

    /// The verdict when the service failed without a response, or broke off in the middle of the body. Default:
    /// [`Verdict::Failure`].
    fn error(self) -> Verdict
    where
        Self: Sized,
    {
        Verdict::Failure
    }

    /// Whether the verdict may be in the trailers. Default: false.
    fn wants_trailers(&self) -> bool {
        false
    }
}

//! Asking a target who it is.

use std::time::Duration;

use axum::body::Body;
use campanile_middleware::{CircuitBreaker, Verdict};
use http::{Request, StatusCode, uri::InvalidUri};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::client::legacy;
use tokio::time::timeout;
use tower::BoxError;

use super::{
    forward::Forward,
    identity::{PATH, Report},
};
use crate::config::Address;

/// Longest wait for an answer, the connection included.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Longest answer. A report has about 130 bytes.
const ANSWER_BYTES_MAX: usize = 4096;

/// Why it is not known who a target is.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    #[error("no answer within {TIMEOUT:?}")]
    Timeout(#[from] tokio::time::error::Elapsed),
    #[error("no connection")]
    Network(#[from] legacy::Error),
    #[error("the answer broke off")]
    Body(#[source] BoxError),
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the answer is no report of an instance")]
    Report(#[from] serde_json::Error),
}

#[derive(Debug)]
pub(super) struct Probe {
    forward: Forward,
}

impl Probe {
    /// # Errors
    /// The address is no authority of a URI.
    pub(super) fn new(target: &Address) -> Result<Self, InvalidUri> {
        // A connection of its own: a probe must not wait behind the requests.
        Ok(Self { forward: Forward::new(target, TIMEOUT)? })
    }

    /// Asks once. No answer counts as a failure for the target's breaker, so that its circuit opens without clients'
    /// requests having to find out. An answer counts as nothing: it must not hide that the requests fail.
    pub(super) async fn ask(&self, breaker: &CircuitBreaker) -> Result<Report, ProbeError> {
        // An open circuit keeps requests away, not questions.
        let permit = breaker.try_acquire().ok();
        let answer = timeout(TIMEOUT, self.exchange()).await.map_err(ProbeError::from).flatten();
        if let Some(permit) = permit {
            permit.complete(if answer.is_ok() { Verdict::Ignore } else { Verdict::Failure });
        }
        answer
    }

    async fn exchange(&self) -> Result<Report, ProbeError> {
        let request = Request::get(PATH).body(Body::empty()).expect("a constant path makes a request");
        let response = self.forward.send(request).await?;
        if response.status() != StatusCode::OK {
            return Err(ProbeError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(ProbeError::Body)?;
        Ok(serde_json::from_slice(&body.to_bytes())?)
    }
}

//! What a REST caller is told when a request is not carried out: problem details (RFC 9457) with a stable `code`.

use std::borrow::Cow;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use campanile_middleware::Verdict;
use serde::Serialize;
use utoipa::ToSchema;

use crate::broker::BrokerError;

/// Names the refusal when nothing at all was done, so that the request may go to another instance.
const REFUSAL: &str = "campanile-refusal";

/// When a refused caller may come again, in seconds. Refusals last as long as a burst or a fail-over, a second or two.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// A request that was not carried out.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    field: Option<Cow<'static, str>>,
    progress: Progress,
}

/// How far the broker got with the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// It was not begun, for a reason that lies with this instance.
    Refused,
    /// It was looked at.
    Begun,
    /// It was looked at, and may be carried out when others have done something; no instance can do it before.
    Full,
    /// It was carried out, and nobody has answered the message that it published.
    Unanswered,
}

impl Problem {
    /// No call has this path.
    pub(super) fn unknown_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "no call has this path".into())
    }

    /// The call has this path, but another method.
    pub(super) fn method_not_allowed() -> Self {
        let detail = "the call does not take this method; the header Allow says which it takes".into();
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }

    /// The body is of a type that the call does not take.
    pub(super) fn unsupported_media_type() -> Self {
        let detail = "the call takes application/json, or no content type at all".into();
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    }

    /// What tells the cases of one status apart.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// The request has a longer body than is read.
    pub(super) fn body_too_large(max: usize) -> Self {
        let detail = format!("body: has more than the {max} bytes that are allowed");
        let problem = Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail);
        Self { field: Some("body".into()), ..problem }
    }

    fn new(status: StatusCode, code: &'static str, detail: String) -> Self {
        Self { status, code, detail, field: None, progress: Progress::Begun }
    }
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Self {
        use BrokerError as E;
        use Progress::{Begun, Full, Refused, Unanswered};
        let detail = error.to_string();
        // The same order as in the gRPC mapping, line by line.
        let (status, code, field, progress) = match error {
            E::InvalidArgument { field, .. } => (StatusCode::BAD_REQUEST, "invalid_argument", Some(field), Begun),
            E::TooLarge { field, .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large", Some(field), Begun),
            E::NotFound { .. } => (StatusCode::NOT_FOUND, "not_found", None, Begun),
            E::NameConflict { .. } => (StatusCode::CONFLICT, "name_conflict", None, Begun),
            E::QueueFull { .. } => (StatusCode::TOO_MANY_REQUESTS, "queue_full", None, Full),
            E::StaleAck { field } => (StatusCode::CONFLICT, "stale_ack", Some(field), Begun),
            E::DedupMismatch { field, .. } => (StatusCode::UNPROCESSABLE_ENTITY, "dedup_mismatch", Some(field), Begun),
            E::Overloaded { .. } => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", None, Refused),
            E::NoReply { .. } => (StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded", None, Unanswered),
            E::NotInDevMode => (StatusCode::CONFLICT, "not_in_dev_mode", None, Begun),
            E::NotActive => (StatusCode::SERVICE_UNAVAILABLE, "not_active", None, Refused),
            E::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining", None, Refused),
            E::OutcomeUnknown => (StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown", None, Begun),
            E::StorageFull { .. } => (StatusCode::INSUFFICIENT_STORAGE, "storage_full", None, Refused),
            E::Unreadable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unreadable", None, Begun),
        };
        Self { status, code, detail, field, progress }
    }
}

/// Why a request was not carried out, as RFC 9457 has it.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Document<'a> {
    /// `about:blank`: it is the status alone.
    r#type: &'static str,
    /// The status in words.
    title: &'static str,
    status: u16,
    /// What is wrong, for people.
    detail: &'a str,
    /// What is wrong, for programs: tells the cases of one status apart.
    code: &'static str,
    /// The field that is wrong, if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            field: self.field.as_deref(),
        };
        let body = serde_json::to_vec(&document).expect("texts and numbers can be written as JSON");
        let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))];
        let mut response = (self.status, content_type, body).into_response();
        let is_for_now =
            [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS, StatusCode::INSUFFICIENT_STORAGE]
                .contains(&self.status);
        if is_for_now {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        match self.progress {
            Progress::Refused => mark_refused(&mut response, self.code),
            // It says nothing about the broker.
            Progress::Full | Progress::Unanswered => drop(response.extensions_mut().insert(Verdict::Ignore)),
            Progress::Begun => {}
        }
        response
    }
}

/// Says to the layers outside that the request was not begun.
fn mark_refused(response: &mut Response, code: &'static str) {
    response.headers_mut().insert(REFUSAL, HeaderValue::from_static(code));
    response.extensions_mut().insert(Verdict::Ignore);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_not_begun_is_marked_as_refused() {
        let marked = |error: BrokerError| {
            let response = Problem::from(error).into_response();
            let ignored = response.extensions().get() == Some(&Verdict::Ignore);
            assert_eq!(ignored, response.headers().contains_key(REFUSAL), "the breaker and the round robin agree");
            response.headers().get(REFUSAL).map(|v| v.to_str().expect("ASCII").to_owned())
        };
        assert_eq!(marked(BrokerError::NotActive).as_deref(), Some("not_active"));
        assert_eq!(marked(BrokerError::Draining).as_deref(), Some("draining"));
        assert_eq!(marked(BrokerError::Overloaded { what: "x" }).as_deref(), Some("overloaded"));
        assert_eq!(marked(BrokerError::OutcomeUnknown), None);
        assert_eq!(marked(BrokerError::invalid("topic", "x")), None);
    }
}

//! What a caller learns when a call brings no answer.
//!
//! Not here: what is repeated. Invariant: every status becomes exactly one of three: nobody was there, nobody knows, or
//! the broker said no.

use std::{fmt, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::config::BadAddress;

/// The metadata that carries the stable code.
const CODE: &str = "campanile-code";

/// Names the refusal when nothing at all was done.
const REFUSAL: &str = "campanile-refusal";

/// When a call may come again, in milliseconds; negative: not by itself.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Codes of layers, here and in front of the broker, that let nothing through.
const NOTHING_DONE: [&str; 4] = [NO_INSTANCE, UNAVAILABLE, "overloaded", "circuit_open"];
const NO_INSTANCE: &str = "no_instance";
const UNAVAILABLE: &str = "unavailable";

/// Codes of calls that may have been carried out.
const UNKNOWN: [&str; 3] = ["outcome_unknown", "deadline_exceeded", "unreadable"];

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// A client needs a broker.
    #[error("no address of a broker was given")]
    NoAddress,
    /// What was given is no address.
    #[error("{address:?}: it {problem}")]
    Address {
        /// As it was given.
        address: String,
        /// What is wrong with it.
        problem: BadAddress,
    },
    /// No instance could be reached. Nothing was done.
    #[error("{0}")]
    Unreachable(Problem),
    /// The connection broke, or the time was over. The call may or may not have been carried out.
    #[error("{0}")]
    Unknown(Problem),
    /// The broker said no.
    #[error("{0}")]
    Refused(Problem),
    /// The stream has ended.
    #[error("the stream has ended")]
    Ended,
}

/// What was said about a call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// Stable, the same as in REST: `queue_full`, `not_found`, `stale_ack`, …. When whoever answered has none, the name of
    /// the gRPC code, as `unimplemented`.
    pub code: String,
    /// The field of the request that is wrong, if one is.
    pub field: Option<String>,
    /// For people.
    pub message: String,
    /// After how long the call may come again; none: that does not help, or nothing is known.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, message, .. } = self;
        if message.is_empty() { f.write_str(code) } else { write!(f, "{message} ({code})") }
    }
}

impl ClientError {
    /// What was said about it.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Unreachable(problem) | Self::Unknown(problem) | Self::Refused(problem) => Some(problem),
            Self::NoAddress | Self::Address { .. } | Self::Ended => None,
        }
    }

    /// The stable code, if there is one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.problem().map(|problem| problem.code.as_str())
    }

    /// After how long the call may come again, if that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.problem()?.retry_after
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let problem = Problem {
            code: code_of(&status),
            field: field_of(&status),
            message: status.message().to_owned(),
            retry_after: pushback_of(&status),
        };
        let is_unnamed_break = metadata(&status, CODE).is_none() && is_break(status.code());
        match problem.code.as_str() {
            NO_INSTANCE | UNAVAILABLE if !is_unnamed_break => Self::Unreachable(problem),
            code if is_unnamed_break || UNKNOWN.contains(&code) => Self::Unknown(problem),
            _ => Self::Refused(problem),
        }
    }
}

/// How long to wait before a call is repeated that failed so: none if it must not be repeated without more knowledge.
pub(super) fn pause_before_repetition(status: &Status) -> Option<Duration> {
    let code = code_of(status);
    let has_code = metadata(status, CODE).is_some();
    let is_nothing_done = metadata(status, REFUSAL).is_some() || has_code && NOTHING_DONE.contains(&code.as_str());
    if is_nothing_done { pushback_of(status) } else { None }
}

/// Whether an answer's head says that the instance did nothing, so that another one may be asked at once.
pub(super) fn is_refused<B>(response: &http::Response<B>) -> bool {
    let headers = response.headers();
    let code = headers.get(CODE).and_then(|code| code.to_str().ok());
    headers.contains_key(REFUSAL) || code.is_some_and(|code| NOTHING_DONE.contains(&code))
}

/// The header under which a layer's own refusal is known by its code, as the broker's are.
pub(super) fn name_code<B>(mut response: http::Response<B>) -> http::Response<B> {
    if let Some(campanile_middleware::RejectionCode(code)) = response.extensions().get().copied() {
        response.headers_mut().insert(CODE, http::HeaderValue::from_static(code));
    }
    response
}

fn code_of(status: &Status) -> String {
    match (status.get_details_error_info(), metadata(status, CODE)) {
        (Some(error_info), _) => error_info.reason,
        (None, Some(code)) => code.to_owned(),
        (None, None) => name_of(status.code()).to_owned(),
    }
}

fn field_of(status: &Status) -> Option<String> {
    status.get_details_error_info()?.metadata.remove("field")
}

fn pushback_of(status: &Status) -> Option<Duration> {
    metadata(status, PUSHBACK)?.parse().ok().map(Duration::from_millis)
}

fn metadata<'a>(status: &'a Status, name: &str) -> Option<&'a str> {
    status.metadata().get(name).and_then(|value| value.to_str().ok())
}

/// Codes that tonic gives to a connection that broke, among others.
fn is_break(code: Code) -> bool {
    use Code::{Cancelled, DataLoss, DeadlineExceeded, Internal, Unavailable, Unknown};
    matches!(code, Cancelled | DataLoss | DeadlineExceeded | Internal | Unavailable | Unknown)
}

fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => UNAVAILABLE,
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataMap;
    use tonic_types::ErrorDetails;

    use super::*;

    fn status(code: Code, pairs: &[(&'static str, &'static str)]) -> Status {
        let mut metadata = MetadataMap::new();
        for (name, value) in pairs {
            metadata.insert(*name, tonic::metadata::MetadataValue::from_static(value));
        }
        Status::with_metadata(code, "words", metadata)
    }

    #[test]
    fn a_refusal_is_known_by_its_reason_and_field() {
        let details =
            ErrorDetails::with_error_info("invalid_argument", "campanile", [("field".into(), "topic".into())]);
        let error = ClientError::from(Status::with_error_details(Code::InvalidArgument, "topic: is empty", details));
        let ClientError::Refused(problem) = &error else { panic!("{error:?}") };
        assert_eq!((problem.code.as_str(), problem.field.as_deref()), ("invalid_argument", Some("topic")));
        assert_eq!(error.to_string(), "topic: is empty (invalid_argument)");
    }

    #[test]
    fn nobody_there_nobody_knows_and_no_are_three_things() {
        let of = |code, pairs: &[_]| ClientError::from(status(code, pairs));
        for code in ["no_instance", "unavailable"] {
            assert!(matches!(of(Code::Unavailable, &[(CODE, code)]), ClientError::Unreachable(_)), "{code}");
        }
        assert!(matches!(of(Code::Unavailable, &[(CODE, "outcome_unknown")]), ClientError::Unknown(_)));
        // What tonic makes of a connection that broke has no code of ours: the call may have been carried out.
        assert!(matches!(of(Code::Unavailable, &[]), ClientError::Unknown(_)));
        assert!(matches!(of(Code::Unavailable, &[(CODE, "draining")]), ClientError::Refused(_)));
        assert!(matches!(of(Code::Unimplemented, &[]), ClientError::Refused(_)));
    }

    #[test]
    fn only_a_call_that_did_nothing_is_repeated_and_only_when_it_is_told_when() {
        let pause = |pairs: &[_]| pause_before_repetition(&status(Code::Unavailable, pairs));
        let second = Some(Duration::from_secs(1));
        assert_eq!(pause(&[(CODE, "draining"), (REFUSAL, "draining"), (PUSHBACK, "1000")]), second);
        assert_eq!(pause(&[(CODE, "overloaded"), (PUSHBACK, "1000")]), second);
        assert_eq!(pause(&[(CODE, "queue_full"), (PUSHBACK, "1000")]), None, "others have to act first");
        assert_eq!(pause(&[(CODE, "outcome_unknown"), (PUSHBACK, "-1")]), None);
        assert_eq!(pause(&[(CODE, "circuit_open"), (PUSHBACK, "-1")]), None, "isolated until somebody acts");
        assert_eq!(pause(&[(PUSHBACK, "1000")]), None, "nobody says that nothing was done");
    }
}

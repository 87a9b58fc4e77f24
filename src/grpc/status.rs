//! What a gRPC caller is told when a call is not carried out.

use std::collections::HashMap;

use axum::{http::HeaderValue, response::Response};
use campanile_middleware::Verdict;
use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::proto::v1 as proto;
use crate::broker::BrokerError;

/// The metadata that carries the stable code, the same as in REST.
const CODE: &str = "campanile-code";

/// Of whose reasons an ErrorInfo speaks.
const DOMAIN: &str = "campanile";

/// Names the refusal when nothing at all was done, so that the call may go to another instance.
const REFUSAL: &str = "campanile-refusal";

/// The code of a request that nobody has answered, which says nothing about the broker.
const UNANSWERED: &str = "deadline_exceeded";
/// What gRPC clients with a retry policy go by.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// When a refused caller may come again, in milliseconds; the same as in REST.
const PUSHBACK_REFUSED: &str = "1000";

/// Tells a client not to repeat a call by itself: it may have been carried out.
const PUSHBACK_NEVER: &str = "-1";

/// What kind of refusal an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The call itself is wrong.
    Request,
    /// The call was not begun, for a reason that lies with this instance.
    Refused,
    /// The call may be carried out when others have done something; no instance can do it before.
    Full,
    /// The call may or may not have been carried out.
    Unknown,
    /// The call was carried out, and nobody has answered the message that it published.
    Unanswered,
}

fn outcome_of(error: &BrokerError) -> (Code, &'static str, Kind) {
    use BrokerError as E;
    use Kind::{Full, Refused, Request, Unanswered, Unknown};
    // The same order as in the REST mapping, line by line.
    match error {
        E::InvalidArgument { .. } => (Code::InvalidArgument, "invalid_argument", Request),
        E::TooLarge { .. } => (Code::OutOfRange, "too_large", Request),
        E::NotFound { .. } => (Code::NotFound, "not_found", Request),
        E::NameConflict { .. } => (Code::AlreadyExists, "name_conflict", Request),
        E::QueueFull { .. } => (Code::ResourceExhausted, "queue_full", Full),
        E::StaleAck { .. } => (Code::FailedPrecondition, "stale_ack", Request),
        E::DedupMismatch { .. } => (Code::FailedPrecondition, "dedup_mismatch", Request),
        E::Overloaded { .. } => (Code::Unavailable, "overloaded", Refused),
        E::NoReply { .. } => (Code::DeadlineExceeded, UNANSWERED, Unanswered),
        E::NotInDevMode => (Code::FailedPrecondition, "not_in_dev_mode", Request),
        E::NotActive => (Code::Unavailable, "not_active", Refused),
        E::Draining => (Code::Unavailable, "draining", Refused),
        E::OutcomeUnknown => (Code::Unavailable, "outcome_unknown", Unknown),
        E::StorageFull { .. } => (Code::ResourceExhausted, "storage_full", Refused),
        E::Unreadable { .. } => (Code::Unavailable, "unreadable", Unknown),
    }
}

/// The error as the status of a call of `campanile.v1`: with a `google.rpc.ErrorInfo`, and fields named as in the proto.
pub(super) fn v1_status_of(error: &BrokerError) -> Status {
    let error = with_proto_names(error);
    let (code, text, kind) = outcome_of(&error);
    let mut metadata = HashMap::new();
    if let Some(field) = error.field() {
        metadata.insert("field".to_owned(), field.to_owned());
    }
    let details = ErrorDetails::with_error_info(text, DOMAIN, metadata);
    Status::with_error_details_and_metadata(code, error.to_string(), details, metadata_of(text, kind))
}

/// The error as what a stream that goes on says of one message.
pub(super) fn problem_of(error: &BrokerError) -> proto::Problem {
    let error = with_proto_names(error);
    let (_, code, kind) = outcome_of(&error);
    let retry_after = match kind {
        Kind::Refused | Kind::Full => Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        Kind::Request | Kind::Unknown | Kind::Unanswered => None,
    };
    let field = error.field().unwrap_or_default().to_owned();
    proto::Problem { code: code.to_owned(), detail: error.to_string(), field, retry_after }
}

/// Durations are numbers of seconds in REST and are called so; here they are durations.
fn with_proto_names(error: &BrokerError) -> BrokerError {
    match error {
        BrokerError::InvalidArgument { field, problem } => {
            let field = field.strip_suffix("_seconds").unwrap_or(field).to_owned();
            BrokerError::invalid(field, problem.replace("_seconds", ""))
        }
        other => other.clone(),
    }
}

/// The error as the status of the call.
pub(super) fn status_of(error: &BrokerError) -> Status {
    let (code, text, kind) = outcome_of(error);
    Status::with_metadata(code, error.to_string(), metadata_of(text, kind))
}

fn metadata_of(text: &'static str, kind: Kind) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    metadata.insert(CODE, MetadataValue::from_static(text));
    match kind {
        Kind::Request => {}
        Kind::Refused => {
            metadata.insert(REFUSAL, MetadataValue::from_static(text));
            metadata.insert(PUSHBACK, MetadataValue::from_static(PUSHBACK_REFUSED));
        }
        Kind::Full => drop(metadata.insert(PUSHBACK, MetadataValue::from_static(PUSHBACK_REFUSED))),
        Kind::Unknown | Kind::Unanswered => {
            metadata.insert(PUSHBACK, MetadataValue::from_static(PUSHBACK_NEVER));
        }
    }
    metadata
}

/// What a `SendMessageResponse` says of an error of the call itself; other errors are the status of the call.
///
/// # Errors
/// The status, when the error is not the call's.
pub(super) fn error_message_of(error: &BrokerError) -> Result<String, Status> {
    match outcome_of(error) {
        (_, code, Kind::Request) => Ok(format!("{code}: {error}")),
        (_, _, Kind::Refused | Kind::Full | Kind::Unknown | Kind::Unanswered) => Err(status_of(error)),
    }
}

/// Says to the layers outside what the status alone does not.
pub(super) fn mark(response: &mut Response) {
    let headers = response.headers();
    let is_for_now = headers.get(PUSHBACK).is_some_and(|pushback| pushback != PUSHBACK_NEVER);
    let is_unanswered = headers.get(CODE).is_some_and(|code| code == UNANSWERED);
    if headers.contains_key(REFUSAL) || is_for_now || is_unanswered {
        response.extensions_mut().insert(Verdict::Ignore);
    } else if !headers.contains_key(CODE) {
        mark_unread(response);
    }
}

/// A status without a code of ours comes from tonic, which could not read the request. Most of these are INTERNAL there;
/// to leave it so would let any client look like a failure of the broker.
fn mark_unread(response: &mut Response) {
    let Some(status) = response.extensions().get::<Status>().map(Status::code) else { return };
    response.extensions_mut().insert(Verdict::Ignore);
    let (code, text) = match status {
        Code::OutOfRange => (Code::OutOfRange, "too_large"),
        Code::Internal | Code::Unknown => (Code::InvalidArgument, "invalid_argument"),
        // Unknown calls, unknown compressions, clients that went away.
        _ => return,
    };
    let headers = response.headers_mut();
    headers.insert(Status::GRPC_STATUS, HeaderValue::from(code as i32));
    headers.insert(CODE, HeaderValue::from_static(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<BrokerError> {
        vec![
            BrokerError::invalid("topic", "must not be empty"),
            BrokerError::TooLarge { field: "message".into(), bytes: 2, max: 1 },
            BrokerError::NotFound { what: "queue 'q'".into(), hint: String::new() },
            BrokerError::NameConflict { problem: "two things".into() },
            BrokerError::QueueFull { queue: "q".into() },
            BrokerError::StaleAck { field: "settlements[1].ack_id".into() },
            BrokerError::DedupMismatch { field: "dedup_id".into(), dedup_id: "d".into() },
            BrokerError::Overloaded { what: "full" },
            BrokerError::NotActive,
            BrokerError::Draining,
            BrokerError::OutcomeUnknown,
            BrokerError::StorageFull { free_bytes: 1, reserve_bytes: 2 },
            BrokerError::Unreadable { problem: "the disk is ill".into() },
        ]
    }

    #[test]
    fn what_is_wrong_with_a_call_is_in_the_contracts_own_channel_and_the_rest_is_unavailable() {
        let messages: Vec<_> = all().iter().filter_map(|e| error_message_of(e).ok()).collect();
        assert_eq!(messages[0], "invalid_argument: topic: must not be empty");
        assert_eq!(messages.len(), 6);
        for status in all().iter().filter_map(|e| error_message_of(e).err()) {
            assert!([Code::Unavailable, Code::ResourceExhausted].contains(&status.code()), "{status:?}");
        }
    }

    #[test]
    fn only_a_call_that_was_not_begun_is_marked_as_refused() {
        let header = |e: &BrokerError, name| {
            status_of(e).metadata().get(name).map(|value| value.to_str().expect("ASCII").to_owned())
        };
        let refused: Vec<_> = all().iter().filter_map(|e| header(e, REFUSAL)).collect();
        assert_eq!(refused, ["overloaded", "not_active", "draining", "storage_full"]);
        assert_eq!(header(&BrokerError::OutcomeUnknown, PUSHBACK).as_deref(), Some("-1"));
    }
}

//! A successful answer as JSON.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;

/// What the answers of the original contract end with.
const SIGNATURE: &[u8] = br#","load_balancing":"fair_dispatch","broker":"custom_durable_file_backed"}"#;

/// The fields of `fields`, which must be a struct with at least one, and the two that the original contract adds to
/// every answer.
pub(super) fn signed(status: StatusCode, fields: &impl Serialize) -> Response {
    let mut body = bytes_of(fields);
    sign(&mut body);
    json(status, body)
}

/// The fields alone.
pub(super) fn plain(fields: &impl Serialize) -> Response {
    with_status(StatusCode::OK, fields)
}

/// The same with another status of success.
pub(super) fn with_status(status: StatusCode, fields: &impl Serialize) -> Response {
    json(status, bytes_of(fields))
}

/// A body that is written already.
pub(super) fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        // A stored answer to a consume would be handed out a second time.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, body).into_response()
}

/// Puts the two fields of the original contract at the end of the JSON object that `body` holds.
pub(super) fn sign(body: &mut Vec<u8>) {
    let brace = body.pop();
    debug_assert_eq!(brace, Some(b'}'), "only an object is signed");
    body.extend_from_slice(SIGNATURE);
}

fn bytes_of(fields: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(fields).expect("structs of texts, numbers and lists can be written as JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_object_is_valid_json_with_both_fields() {
        let mut body = br#"{"status":"ok"}"#.to_vec();
        sign(&mut body);
        let value: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(value["status"], "ok");
        assert_eq!(value["load_balancing"], "fair_dispatch");
        assert_eq!(value["broker"], "custom_durable_file_backed");
    }
}

//! Reads a request's body into memory, up to its limit.

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::error::Problem;
use crate::broker::BrokerError;

/// How much of a body over the limit is read and thrown away, so that a client that sends all of it before it looks for
/// an answer gets to see the answer instead of a broken connection.
const DISCARD_BYTES_MAX: usize = 64 << 20;

/// The whole body, at most `bytes_max` of it.
pub(super) async fn read(headers: &HeaderMap, mut body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    let announced = body.size_hint().lower();
    if usize::try_from(announced).is_ok_and(|bytes| bytes <= bytes_max) {
        let error = match Limited::new(&mut body, bytes_max).collect().await {
            Ok(collected) => return Ok(collected.to_bytes()),
            Err(error) => error,
        };
        if !error.is::<LengthLimitError>() {
            return Err(BrokerError::invalid("body", format!("cannot be read: {error}")).into());
        }
    }
    // A client that waits to be told to go on has not sent it yet, and need not.
    if !headers.contains_key(header::EXPECT) {
        discard(body).await;
    }
    Err(Problem::body_too_large(bytes_max))
}

async fn discard(mut body: Body) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > DISCARD_BYTES_MAX {
            return;
        }
    }
}

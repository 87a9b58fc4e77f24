//! `GET /consume/{queue}`: hands out the next messages of a queue.

use axum::{
    extract::{Path, State, rejection::PathRejection},
    http::{StatusCode, Uri},
    response::Response,
};

use super::{
    answer, delivery,
    error::Problem,
    query::Query,
    router::{Calls, queue_of},
};
use crate::broker::{AckWhen, BrokerError, Receive};

/// What a message takes beside its payload, as a guess.
const FIELDS_BYTES: usize = 256;

pub(super) async fn consume(
    State(calls): State<Calls>,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Problem> {
    let deliveries = calls.broker.receive(request_of(path, &uri)?).await?;
    let bytes = deliveries.iter().map(|delivery| delivery.message.payload.len() + FIELDS_BYTES).sum();
    let mut body = Vec::with_capacity(bytes);
    body.extend_from_slice(br#"{"messages":["#);
    for (at, delivery) in deliveries.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        let ack_id = delivery.lease.as_ref().map(|lease| calls.broker.seal(lease.ack_id)).transpose()?;
        delivery::write(&mut body, delivery, ack_id.as_deref());
    }
    body.extend_from_slice(b"]}");
    answer::sign(&mut body);
    Ok(answer::json(StatusCode::OK, body))
}

fn request_of(path: Result<Path<String>, PathRejection>, uri: &Uri) -> Result<Receive, BrokerError> {
    let queue = queue_of(path)?;
    let query = Query::parse(uri)?;
    Ok(Receive {
        service: query.name("service")?,
        max_messages: query.number("max_messages", "a whole number")?.unwrap_or(1),
        wait_seconds: query.number("wait_seconds", "a number of seconds")?.unwrap_or(0.0),
        ack: AckWhen::of(query.number("ack_deadline_seconds", "a number of seconds")?),
        ..Receive::now(queue)
    })
}

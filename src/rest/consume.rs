//! `GET /consume/{queue}`: hands out the next messages of a queue.

use axum::{
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
};
use campanile_middleware::GuardedBody;
use utoipa::{IntoParams, ToSchema};

use super::{
    answer, asked, delivery,
    error::Problem,
    held::Held,
    problems::Receiving,
    query::Query,
    router::{Calls, queue_of},
};
use crate::broker::{AckWhen, BrokerError, Receive};

/// What a message takes beside its payload, as a guess.
const FIELDS_BYTES: usize = 256;

/// What is asked for.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only describes the query")]
struct ConsumeQuery {
    /// The service whose queue on the topic is meant, if `queue` is the name of a topic.
    service: Option<String>,
    /// Default 1.
    #[param(minimum = 1, maximum = 1000)]
    max_messages: Option<i64>,
    /// How long to wait for the first message, in seconds, at most 60. Default 0.
    #[param(minimum = 0, maximum = 60)]
    wait_seconds: Option<f64>,
    /// How long the consumer may take to settle, 10 s to 12 h: each message carries an `ack_id` and waits for its ack. If it
    /// is absent, the messages count as acked when they are handed out.
    #[param(minimum = 10, maximum = 43_200)]
    ack_deadline_seconds: Option<f64>,
    /// Who asks, for people who look at the queue, at most 255 bytes. Default: how the user agent begins.
    #[param(max_length = 255)]
    consumer: Option<String>,
}

/// What is handed out.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "only describes the answer")]
struct Consumed {
    messages: Vec<ConsumedMessage>,
}

/// A message, as the original contract has it, with what its publisher and its lease add.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "only describes the answer")]
struct ConsumedMessage {
    #[schema(format = "uuid")]
    id: String,
    topic: String,
    /// The payload: any JSON value. What is not JSON comes as a text, and what is no text as base64.
    payload: serde_json::Value,
    /// With `ack_deadline_seconds`: names this delivery for its ack.
    #[schema(nullable = false)]
    ack_id: Option<String>,
}

/// Hands out the next messages of a queue. One that does not exist yet comes into being.
#[utoipa::path(get, path = "/consume/{queue}", tag = "original",
    params(("queue" = String, Path, description = "a queue, or a topic"), ConsumeQuery),
    responses((status = 200, body = Consumed, description = "the messages; none is fine"), Receiving))]
pub(super) async fn consume(
    State(calls): State<Calls>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let deliveries = calls.broker.receive(request_of(path, &headers, &uri)?).await?;
    let held = Held(calls.broker.hold(&deliveries)?);
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
    Ok(answer::json(StatusCode::OK, body).map(|body| Body::new(GuardedBody::new(body, held))))
}

fn request_of(
    path: Result<Path<String>, PathRejection>,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<Receive, BrokerError> {
    let queue = queue_of(path)?;
    let query = Query::parse(uri)?;
    Ok(Receive {
        service: query.name("service")?,
        max_messages: query.number("max_messages", "a whole number")?.unwrap_or(1),
        wait_seconds: query.number("wait_seconds", "a number of seconds")?.unwrap_or(0.0),
        ack: AckWhen::of(query.number("ack_deadline_seconds", "a number of seconds")?),
        consumer: asked::consumer(query.text("consumer")?, headers),
        ..Receive::now(queue)
    })
}

//! `POST /publish`: stores one message.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use super::{answer, body, draft, error::Problem, fields::Fields, problems::Original, router::Calls};
use crate::{
    broker::{BrokerError, Publish},
    model::Name,
};

/// A message to publish. What is not known here is passed over.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body")]
struct PublishBody {
    topic: String,
    /// The payload: any JSON value.
    message: serde_json::Value,
    /// Free texts, at most 100; names up to 256 bytes, values up to 1024.
    attributes: Option<std::collections::BTreeMap<String, String>>,
    /// Messages of one key are delivered one at a time, in publish order. At most 1024 bytes.
    #[schema(max_length = 1024)]
    ordering_key: Option<String>,
    /// Within the topic's window a second message with the same id and payload is a duplicate; the header
    /// `Idempotency-Key` does as well. At most 255 bytes.
    #[schema(max_length = 255)]
    dedup_id: Option<String>,
    /// How long after its publish it becomes visible, in seconds, at most 366 days.
    #[schema(minimum = 0, maximum = 31_622_400)]
    delay_seconds: Option<f64>,
    /// When it becomes visible: RFC 3339. Not together with `delay_seconds`.
    #[schema(format = "date-time")]
    deliver_at: Option<String>,
    /// How long after its publish it may be delivered, in seconds: more than 0, at most 366 days. Default: for ever.
    #[schema(exclusive_minimum = 0, maximum = 31_622_400)]
    ttl_seconds: Option<f64>,
    /// Where an answer is expected. At most 1024 bytes.
    #[schema(max_length = 1024)]
    reply_to: Option<String>,
    /// What an answer has to repeat. At most 1024 bytes.
    #[schema(max_length = 1024)]
    correlation_id: Option<String>,
    /// Media type of the payload, at most 255 bytes of visible ASCII. Default: application/json.
    #[schema(max_length = 255)]
    content_type: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Published)]
pub(super) struct Answer<'a> {
    status: &'static str,
    delivered_to: usize,
    message_id: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    duplicate: bool,
    queues: Vec<&'a str>,
}

/// Stores one message. A topic that does not exist yet comes into being.
#[utoipa::path(post, path = "/publish", tag = "original", request_body = PublishBody,
    responses((status = 200, body = Answer<'_>, description = "it is on disk"), Original))]
pub(super) async fn publish(State(calls): State<Calls>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let body = body::read(&headers, body, calls.publish_bytes_max).await?;
    let published = calls.broker.publish(request_of(&headers, &body)?).await.map_err(BrokerError::of_the_message)?;
    let message = published.messages.first().expect("one message was published");
    Ok(answer::signed(
        StatusCode::OK,
        &Answer {
            status: "ok",
            delivered_to: published.delivered_to(),
            message_id: message.id.to_string(),
            duplicate: message.duplicate,
            queues: published.queues.iter().map(Name::as_str).collect(),
        },
    ))
}

fn request_of(headers: &HeaderMap, body: &Bytes) -> Result<Publish, BrokerError> {
    let fields = Fields::parse(body, draft::FIELDS)?;
    let topic = fields.required_name("topic")?;
    let draft = draft::draft_of(headers, body, &fields)?;
    Ok(Publish { topic, drafts: vec![draft] })
}

//! Messages and deliveries as JSON objects.
//!
//! Invariant: a payload comes back in the form that its content type allows: `json` as the very bytes that came in, `text`,
//! or else `data_base64`; never in two.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::read::is_json;
use crate::{
    broker::{Broker, BrokerError, Published, Settled},
    model,
    rest::delivery::as_object,
};

/// A message as it was published. Exactly one of `json`, `text` and `data_base64` is its payload.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Message<'a> {
    /// Its id.
    #[schema(format = "uuid")]
    id: String,
    /// The topic that it was published to.
    topic: &'a str,
    /// The payload, if its content type is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    json: Option<&'a RawValue>,
    /// The payload, if its content type is a text's.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    /// The payload in base64, if it is neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    /// Media type of the payload; absent: application/json.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    /// Free texts.
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "as_object")]
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>)]
    attributes: &'a [(String, String)],
    /// Messages of one key are delivered one at a time, in publish order.
    #[serde(skip_serializing_if = "Option::is_none")]
    ordering_key: Option<&'a str>,
    /// Where an answer is expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<&'a str>,
    /// What an answer has to repeat.
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    /// W3C Trace Context.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    /// W3C Trace Context.
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<&'a str>,
    /// When it was published.
    #[schema(format = "date-time")]
    published_at: String,
    /// After this time it is not delivered any more; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    expires_at: Option<String>,
}

/// A message that is handed out.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Delivery<'a> {
    #[serde(flatten)]
    message: Message<'a>,
    /// Names this delivery for settling it; absent if it was acked as it was handed out.
    #[serde(skip_serializing_if = "Option::is_none")]
    ack_id: Option<String>,
    /// Which delivery of the message to this queue it is, of those that count: 1 is the first.
    delivery_attempt: u32,
    /// When the message goes back to its queue unless it is settled before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    ack_deadline: Option<String>,
}

/// What became of a publish.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PublishAnswer {
    /// One for each message, in order.
    messages: Vec<PublishedMessage>,
    /// How many queues get them, at least 1: a topic without a queue keeps its messages for the first one.
    delivered_to: usize,
    /// The queues that get them.
    queues: Vec<String>,
}

/// What became of a message.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PublishedMessage {
    /// Its id; of a duplicate, that of the first one.
    #[schema(format = "uuid")]
    message_id: String,
    /// Its dedup id was used for the same message before: nothing was stored now.
    duplicate: bool,
}

/// What became of settlements.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SettleResult {
    ack_id: String,
    /// `ok`; `stale_ack`: the lease had ended; `not_found`: no ack id of this broker, or of another queue than was named.
    code: &'static str,
}

impl<'a> Message<'a> {
    pub(super) fn of(message: &'a model::Message) -> Self {
        let properties = &message.properties;
        let content_type = properties.content_type.as_deref();
        let payload = &message.payload[..];
        let is_of_json = content_type.is_none_or(is_json);
        let json = is_of_json.then(|| serde_json::from_slice(payload).ok()).flatten();
        let is_of_text =
            content_type.is_some_and(|text| text.get(..5).is_some_and(|t| t.eq_ignore_ascii_case("text/")));
        let text = is_of_text.then(|| std::str::from_utf8(payload).ok()).flatten();
        let data_base64 = (json.is_none() && text.is_none()).then(|| STANDARD.encode(payload));
        Self {
            id: message.id.to_string(),
            topic: message.topic.as_str(),
            json,
            text,
            data_base64,
            content_type,
            attributes: &properties.attributes,
            ordering_key: properties.ordering_key.as_deref(),
            reply_to: properties.reply_to.as_deref(),
            correlation_id: properties.correlation_id.as_deref(),
            traceparent: properties.traceparent.as_deref(),
            tracestate: properties.tracestate.as_deref(),
            published_at: message.published_at.to_string(),
            expires_at: message.expires_at.map(|at| at.to_string()),
        }
    }
}

impl<'a> Delivery<'a> {
    pub(super) fn of(delivery: &'a model::Delivery, broker: &Broker) -> Result<Self, BrokerError> {
        let lease = delivery.lease.as_ref();
        Ok(Self {
            message: Message::of(&delivery.message),
            ack_id: lease.map(|lease| broker.seal(lease.ack_id)).transpose()?,
            delivery_attempt: delivery.attempt.0,
            ack_deadline: lease.map(|lease| lease.ack_deadline.to_string()),
        })
    }
}

impl PublishAnswer {
    pub(super) fn of(published: &Published) -> Self {
        let messages = published.messages.iter();
        Self {
            messages: messages
                .map(|m| PublishedMessage { message_id: m.id.to_string(), duplicate: m.duplicate })
                .collect(),
            delivered_to: published.delivered_to(),
            queues: published.queues.iter().map(ToString::to_string).collect(),
        }
    }
}

impl SettleResult {
    pub(super) fn all(ack_ids: Vec<String>, settled: &[Settled]) -> Vec<Self> {
        ack_ids.into_iter().zip(settled).map(|(ack_id, settled)| Self { ack_id, code: settled.word() }).collect()
    }
}

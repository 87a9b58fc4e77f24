//! A message as a publisher writes it in JSON.

use axum::http::HeaderMap;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::read::{self, Pairs};
use crate::{
    broker::{BrokerError, Limits, reading},
    model::{Draft, Due, Properties},
    rest::draft::{TRACEPARENT, TRACESTATE, due_at, header_text, payload_of},
};

/// Content types of payloads that came as `text` and as `data_base64` and do not say theirs.
const TEXT: &str = "text/plain";
const BYTES: &str = "application/octet-stream";

/// A message to publish. Exactly one of `json`, `text` and `data_base64` is its payload; every other field is optional.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMessage<'a> {
    /// The payload as a JSON value, kept byte for byte. `null` is a value.
    #[serde(borrow, default, deserialize_with = "read::given")]
    #[schema(value_type = Option<serde_json::Value>)]
    json: Option<&'a RawValue>,
    /// The payload as a text.
    text: Option<String>,
    /// The payload in base64.
    data_base64: Option<String>,
    /// Media type of the payload, at most 255 bytes of visible ASCII. Default: application/json, text/plain or
    /// application/octet-stream, by the form of the payload. As application/json it has to be JSON.
    #[schema(max_length = 255)]
    content_type: Option<String>,
    /// Free texts, at most 100; names up to 256 bytes, values up to 1024.
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>)]
    attributes: Option<Pairs>,
    /// Messages of one key are delivered one at a time, in publish order. At most 1024 bytes.
    #[schema(max_length = 1024)]
    ordering_key: Option<String>,
    /// Within the topic's window a second message with the same id and payload is a duplicate. At most 255 bytes.
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
    /// W3C Trace Context, kept with the message. Default: the request's headers. At most 255 bytes.
    #[schema(max_length = 255)]
    traceparent: Option<String>,
    /// What belongs to `traceparent`. At most 1024 bytes.
    #[schema(max_length = 1024)]
    tracestate: Option<String>,
}

impl NewMessage<'_> {
    /// The message as the broker takes it. `body` is the whole of what it was read from.
    pub(super) fn draft(self, headers: &HeaderMap, body: &Bytes) -> Result<Draft, BrokerError> {
        let due = due_of(self.delay_seconds, self.deliver_at.as_deref())?;
        let ttl = self.ttl_seconds.map(ttl_of).transpose()?;
        let (form, payload, content_type) = match (self.json, self.text, self.data_base64) {
            (Some(json), None, None) => ("json", payload_of(body, json), None),
            (None, Some(text), None) => ("text", Bytes::from(text), Some(TEXT)),
            (None, None, Some(text)) => ("data_base64", bytes_of(&text)?, Some(BYTES)),
            (None, None, None) => {
                return Err(BrokerError::invalid("json", "is missing, and so are text and data_base64"));
            }
            _ => return Err(BrokerError::invalid("json", "only one of json, text and data_base64 can be given")),
        };
        let content_type = given(self.content_type).or_else(|| content_type.map(str::to_owned));
        // Both or none: a state belongs to its parent.
        let (traceparent, tracestate) = match given(self.traceparent) {
            Some(parent) => (Some(parent), given(self.tracestate)),
            None => (header_text(headers, TRACEPARENT), header_text(headers, TRACESTATE)),
        };
        let properties = Properties {
            content_type: kept_type(form, content_type, &payload)?,
            attributes: self.attributes.unwrap_or_default().0,
            ordering_key: given(self.ordering_key),
            reply_to: given(self.reply_to),
            correlation_id: given(self.correlation_id),
            traceparent,
            tracestate,
        };
        Ok(Draft { payload, properties, dedup_id: given(self.dedup_id), due, ttl })
    }
}

/// A text; an empty one counts as absent.
fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// The content type as it is kept; `field` has the payload.
pub(super) fn kept_type(
    field: &'static str,
    content_type: Option<String>,
    payload: &[u8],
) -> Result<Option<String>, BrokerError> {
    reading::kept_content_type(content_type, payload)
        .map_err(|e| BrokerError::invalid(field, format!("is not JSON, and no other content type is given: {e}")))
}

pub(super) fn due_of(delay_seconds: Option<f64>, deliver_at: Option<&str>) -> Result<Due, BrokerError> {
    match (delay_seconds, deliver_at) {
        (None, None) => Ok(Due::Now),
        (Some(seconds), None) => Limits::duration("delay_seconds", seconds).map(Due::After),
        (None, Some(text)) => due_at(text),
        (Some(_), Some(_)) => Err(BrokerError::invalid("deliver_at", "cannot be given together with delay_seconds")),
    }
}

pub(super) fn ttl_of(seconds: f64) -> Result<std::time::Duration, BrokerError> {
    reading::ttl(Limits::duration("ttl_seconds", seconds)?)
}

fn bytes_of(text: &str) -> Result<Bytes, BrokerError> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let bytes = STANDARD.decode(text).map(Bytes::from);
    bytes.map_err(|e| BrokerError::invalid("data_base64", format!("is not base64: {e}")))
}

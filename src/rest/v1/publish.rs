//! Messages in: a batch in JSON, or one message that is the body.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, header},
    response::Response,
};
use bytes::Bytes;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    TopicPath,
    message::PublishAnswer,
    new_message::{self, NewMessage},
    read::{self, Object},
};
use crate::{
    broker::{BrokerError, Publish},
    model::{Draft, Properties},
    rest::{
        answer,
        asked::Asked,
        body,
        draft::{IDEMPOTENCY_KEY, TRACEPARENT, TRACESTATE, header_text},
        error::Problem,
        problems::{Storing, StoringRaw},
        router::Calls,
    },
};

/// What the headers begin with that say something of a raw message.
const OURS: &str = "campanile-";
const FIELDS: [&str; 7] =
    ["ordering-key", "dedup-id", "delay-seconds", "deliver-at", "ttl-seconds", "reply-to", "correlation-id"];
const ATTRIBUTE: &str = "campanile-attribute-";
const DEDUP_ID: &str = "campanile-dedup-id";

/// Messages to publish, all or none.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch<'a> {
    /// 1 to 1000.
    #[serde(borrow)]
    #[schema(value_type = Vec<NewMessage>, required = true, min_items = 1, max_items = 1000)]
    messages: Option<Vec<Object<NewMessage<'a>>>>,
}

/// What the headers may say of a message that is the body.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only describes the headers")]
struct RawHeaders {
    /// Messages of one key are delivered one at a time, in publish order. At most 1024 bytes.
    #[param(rename = "campanile-ordering-key")]
    ordering_key: Option<String>,
    /// The dedup id; `Idempotency-Key` does as well. At most 255 bytes.
    #[param(rename = "campanile-dedup-id")]
    dedup_id: Option<String>,
    /// How long after its publish it becomes visible, in seconds, at most 366 days.
    #[param(rename = "campanile-delay-seconds", minimum = 0, maximum = 31_622_400)]
    delay_seconds: Option<f64>,
    /// When it becomes visible: RFC 3339.
    #[param(rename = "campanile-deliver-at", format = "date-time")]
    deliver_at: Option<String>,
    /// How long after its publish it may be delivered, in seconds, more than 0, at most 366 days.
    #[param(rename = "campanile-ttl-seconds", exclusive_minimum = 0, maximum = 31_622_400)]
    ttl_seconds: Option<f64>,
    /// Where an answer is expected. At most 1024 bytes.
    #[param(rename = "campanile-reply-to")]
    reply_to: Option<String>,
    /// What an answer has to repeat. At most 1024 bytes.
    #[param(rename = "campanile-correlation-id")]
    correlation_id: Option<String>,
    /// W3C Trace Context.
    traceparent: Option<String>,
    /// W3C Trace Context.
    tracestate: Option<String>,
}

/// Stores messages in a topic, all or none. A topic that does not exist yet comes into being, unless the broker is set up
/// not to declare names by itself.
#[utoipa::path(post, path = "/v1/topics/{topic}/publish", tag = "messages", params(TopicPath), request_body = Batch<'_>,
    responses((status = 200, body = PublishAnswer, description = "they are on disk"), Storing))]
pub(super) async fn publish_batch(State(calls): State<Calls>, asked: Asked, body: Body) -> Result<Response, Problem> {
    let body = read::json_body(&asked.headers, body, calls.publish_bytes_max).await?;
    let topic = asked.name("topic")?;
    let Batch { messages } = read::strict(&body)?;
    let drafts = drafts_of(read::required("messages", messages)?, &asked.headers, &body)?;
    let published = calls.broker.publish(Publish { topic, drafts }).await?;
    Ok(answer::plain(&PublishAnswer::of(&published)))
}

/// Stores the body as one message, byte for byte, with its content type. Attributes come in headers
/// `campanile-attribute-NAME`, whose names are taken in lower case.
#[utoipa::path(post, path = "/v1/topics/{topic}/messages", tag = "messages", params(TopicPath, RawHeaders),
    request_body(content((Vec<u8> = "application/octet-stream"), (String = "text/plain"), (serde_json::Value = "application/json")),
        description = "Any type is taken. Without one, or as application/json, it has to be JSON."),
    responses((status = 200, body = PublishAnswer, description = "it is on disk"), StoringRaw))]
pub(super) async fn publish_raw(State(calls): State<Calls>, asked: Asked, body: Body) -> Result<Response, Problem> {
    let payload = body::read(&asked.headers, body, calls.publish_bytes_max).await?;
    let topic = asked.name("topic")?;
    let drafts = vec![raw_draft(&asked.headers, payload)?];
    let published = calls.broker.publish(Publish { topic, drafts }).await.map_err(of_the_headers)?;
    Ok(answer::plain(&PublishAnswer::of(&published)))
}

/// The messages of a batch, as the broker takes them.
pub(super) fn drafts_of(
    messages: Vec<Object<NewMessage<'_>>>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Vec<Draft>, BrokerError> {
    let draft = |(at, Object(message)): (usize, Object<NewMessage<'_>>)| {
        message.draft(headers, body).map_err(|error| error.at("messages", at))
    };
    messages.into_iter().enumerate().map(draft).collect()
}

/// What is wrong with the message, said of the body and of the headers that it came in.
fn of_the_headers(error: BrokerError) -> BrokerError {
    error.of_the_message().renamed(|field| match field {
        "message" => "body".to_owned(),
        "attributes" | "content_type" | "traceparent" | "tracestate" => field.to_owned(),
        _ => format!("campanile-{}", field.replace('_', "-")),
    })
}

fn raw_draft(headers: &HeaderMap, payload: Bytes) -> Result<Draft, BrokerError> {
    let is_unknown = |name: &&str| {
        name.strip_prefix(OURS).is_some_and(|rest| !rest.starts_with("attribute-") && !FIELDS.contains(&rest))
    };
    if let Some(name) = headers.keys().map(HeaderName::as_str).find(is_unknown) {
        return Err(BrokerError::invalid(name.to_owned(), "is no header of this call"));
    }
    let delay = seconds(headers, "campanile-delay-seconds")?;
    let deliver_at = only(headers, "campanile-deliver-at")?;
    let ttl = seconds(headers, "campanile-ttl-seconds")?;
    let content_type = new_message::kept_type("body", text(headers, header::CONTENT_TYPE.as_str())?, &payload)?;
    let properties = Properties {
        content_type,
        attributes: attributes_of(headers)?,
        ordering_key: text(headers, "campanile-ordering-key")?,
        reply_to: text(headers, "campanile-reply-to")?,
        correlation_id: text(headers, "campanile-correlation-id")?,
        traceparent: header_text(headers, TRACEPARENT),
        tracestate: header_text(headers, TRACESTATE),
    };
    Ok(Draft {
        payload,
        properties,
        dedup_id: dedup_id_of(headers)?,
        due: new_message::due_of(delay, deliver_at).map_err(of_the_headers)?,
        ttl: ttl.map(new_message::ttl_of).transpose().map_err(of_the_headers)?,
    })
}

fn dedup_id_of(headers: &HeaderMap) -> Result<Option<String>, BrokerError> {
    match (text(headers, DEDUP_ID)?, text(headers, IDEMPOTENCY_KEY)?) {
        (Some(id), Some(key)) if id != key => {
            Err(BrokerError::invalid(DEDUP_ID, format!("is {id:?}, but the Idempotency-Key is {key:?}")))
        }
        (id, key) => Ok(id.or(key)),
    }
}

fn attributes_of(headers: &HeaderMap) -> Result<Vec<(String, String)>, BrokerError> {
    let named = |name: &HeaderName| name.as_str().strip_prefix(ATTRIBUTE).map(str::to_owned);
    let attribute = |name: &HeaderName| {
        let short = named(name)?;
        Some(only(headers, name.as_str()).map(|value| (short, value.unwrap_or_default().to_owned())))
    };
    headers.keys().filter_map(attribute).collect()
}

/// A header that is a text; an empty one counts as absent.
fn text(headers: &HeaderMap, name: &str) -> Result<Option<String>, BrokerError> {
    Ok(only(headers, name)?.filter(|text| !text.is_empty()).map(str::to_owned))
}

fn seconds(headers: &HeaderMap, name: &'static str) -> Result<Option<f64>, BrokerError> {
    let read = |text: &str| {
        text.parse().map_err(|_| BrokerError::invalid(name, format!("is {text:?}; it must be a number of seconds")))
    };
    only(headers, name)?.map(read).transpose()
}

fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, BrokerError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(BrokerError::invalid(name.to_owned(), "is given more than once")),
        (None, None) => Ok(None),
        // Header values are bytes; most are UTF-8.
        (Some(value), None) => std::str::from_utf8(value.as_bytes())
            .map(Some)
            .map_err(|_| BrokerError::invalid(name.to_owned(), "must be UTF-8")),
    }
}

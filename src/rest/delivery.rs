//! A delivery as a JSON object.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::model::{Delivery, Message};

/// What every message has, as in the original contract.
#[derive(Serialize)]
struct Head<'a> {
    id: String,
    topic: &'a str,
}

/// What a message has when its publisher set it, or when it is handed out under a lease.
#[derive(Serialize)]
struct Extras<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "as_object")]
    attributes: &'a [(String, String)],
    #[serde(skip_serializing_if = "Option::is_none")]
    ordering_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    published_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ack_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ack_deadline: Option<String>,
}

/// Appends the delivery to `out`. `ack_id` is the sealed id of its lease, if it has one.
pub(super) fn write(out: &mut Vec<u8>, delivery: &Delivery, ack_id: Option<&str>) {
    let message = &*delivery.message;
    append(out, &Head { id: message.id.to_string(), topic: message.topic.as_str() });
    out.pop();
    out.extend_from_slice(br#","payload":"#);
    out.extend_from_slice(&payload_json(message));
    let at = out.len();
    append(out, &extras_of(delivery, ack_id));
    if out[at..] == *b"{}" {
        out.remove(at);
    } else {
        out[at] = b',';
    }
}

fn extras_of<'a>(delivery: &'a Delivery, ack_id: Option<&'a str>) -> Extras<'a> {
    let (message, lease) = (&*delivery.message, delivery.lease.as_ref());
    Extras {
        content_type: message.properties.content_type.as_deref(),
        attributes: &message.properties.attributes,
        ordering_key: message.properties.ordering_key.as_deref(),
        reply_to: message.properties.reply_to.as_deref(),
        correlation_id: message.properties.correlation_id.as_deref(),
        traceparent: message.properties.traceparent.as_deref(),
        tracestate: message.properties.tracestate.as_deref(),
        published_at: lease.map(|_| message.published_at.to_string()),
        ack_id,
        delivery_attempt: lease.map(|_| delivery.attempt.0),
        ack_deadline: lease.map(|lease| lease.ack_deadline.to_string()),
    }
}

/// The payload as a JSON value: its own bytes if it is one, else its text, or base64 of what is no text.
fn payload_json(message: &Message) -> Cow<'_, [u8]> {
    let payload = &message.payload[..];
    // Without a content type it was checked to be JSON when it was published.
    if message.properties.content_type.is_none() || serde_json::from_slice::<&RawValue>(payload).is_ok() {
        return Cow::Borrowed(payload);
    }
    let text = std::str::from_utf8(payload).map_or_else(|_| Cow::Owned(STANDARD.encode(payload)), Cow::Borrowed);
    let mut json = Vec::with_capacity(text.len() + 2);
    append(&mut json, &text);
    Cow::Owned(json)
}

/// Writes pairs as an object, in their order.
pub(super) fn as_object<S: Serializer>(pairs: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

fn append(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value).expect("texts and numbers can be written as JSON");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::model::{AckId, Attempt, Lease, LeaseNumber, MessageId, Name, Properties, QueueId, Seq, Timestamp};

    fn delivery(payload: &'static [u8], properties: Properties, lease: Option<Lease>) -> Delivery {
        let message = Message {
            id: MessageId(Uuid::nil()),
            topic: Name::parse("t").expect("valid"),
            payload: Bytes::from_static(payload),
            properties,
            published_at: Timestamp::EPOCH,
            expires_at: None,
        };
        Delivery { message: Arc::new(message), attempt: Attempt(2), lease }
    }

    fn written(delivery: &Delivery, ack_id: Option<&str>) -> String {
        let mut out = Vec::new();
        write(&mut out, delivery, ack_id);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn a_plain_message_has_the_three_fields_of_the_original() {
        let text = written(&delivery(br#"{"b" : 1.0,"a":[]}"#, Properties::default(), None), None);
        let expected = r#"{"id":"00000000-0000-0000-0000-000000000000","topic":"t","payload":{"b" : 1.0,"a":[]}}"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_set_comes_as_extra_fields() {
        let properties = Properties {
            attributes: vec![("z".into(), "\"".into()), ("a".into(), String::new())],
            reply_to: Some("r".into()),
            ..Properties::default()
        };
        let ack_id = AckId { queue: QueueId(1), seq: Seq(1), lease: LeaseNumber(2) };
        let lease = Lease { ack_id, ack_deadline: Timestamp::from_millis(1500) };
        let text = written(&delivery(b"1", properties, Some(lease)), Some("sealed"));
        assert_eq!(
            text,
            concat!(
                r#"{"id":"00000000-0000-0000-0000-000000000000","topic":"t","payload":1,"#,
                r#""attributes":{"z":"\"","a":""},"reply_to":"r","published_at":"1970-01-01T00:00:00.000Z","#,
                r#""ack_id":"sealed","delivery_attempt":2,"ack_deadline":"1970-01-01T00:00:01.500Z"}"#
            )
        );
    }

    #[test]
    fn a_payload_that_is_not_json_comes_as_a_json_string() {
        let payload = |bytes: &'static [u8]| {
            let properties = Properties { content_type: Some("x/y".into()), ..Properties::default() };
            let text = written(&delivery(bytes, properties, None), None);
            serde_json::from_str::<serde_json::Value>(&text).expect("JSON")["payload"].clone()
        };
        assert_eq!(payload(b"{\"a\": 1}"), serde_json::json!({"a": 1}));
        assert_eq!(payload(b"say \"hi\""), "say \"hi\"");
        assert_eq!(payload(b""), "");
        assert_eq!(payload(b"\xff\x00"), "/wA=");
    }
}

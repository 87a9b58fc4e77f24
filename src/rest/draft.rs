//! The message that a `/publish` brings.

use axum::http::HeaderMap;
use bytes::Bytes;
use serde_json::value::RawValue;

use super::fields::Fields;
use crate::{
    broker::{BrokerError, reading},
    model::{Draft, Due, Properties, Timestamp},
};

/// Every field that a `/publish` knows.
pub(super) const FIELDS: &[&str] = &[
    "topic",
    "message",
    "attributes",
    "ordering_key",
    "dedup_id",
    "delay_seconds",
    "deliver_at",
    "ttl_seconds",
    "reply_to",
    "correlation_id",
    "content_type",
];

/// The header that may carry the dedup id.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The headers of W3C Trace Context.
pub(super) const TRACEPARENT: &str = "traceparent";
pub(super) const TRACESTATE: &str = "tracestate";

/// Up to here a payload is copied: less than the read buffer that a slice of it would keep in memory.
const COPY_BYTES_MAX: usize = 4 << 10;

/// Reads everything but the topic.
pub(super) fn draft_of(headers: &HeaderMap, body: &Bytes, fields: &Fields<'_>) -> Result<Draft, BrokerError> {
    let payload = payload_of(body, fields.required("message")?);
    let properties = Properties {
        content_type: fields.text("content_type")?,
        attributes: fields.text_pairs("attributes")?,
        ordering_key: fields.text("ordering_key")?,
        reply_to: fields.text("reply_to")?,
        correlation_id: fields.text("correlation_id")?,
        traceparent: header_text(headers, TRACEPARENT),
        tracestate: header_text(headers, TRACESTATE),
    };
    let ttl = fields.seconds("ttl_seconds")?.map(reading::ttl).transpose()?;
    Ok(Draft { payload, properties, dedup_id: dedup_id_of(headers, fields)?, due: due_of(fields)?, ttl })
}

/// A header that is a text; one that is none, or empty, says nothing.
pub(super) fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// The bytes of `message` within `body`, without a copy unless that would keep much more in memory than the payload.
pub(super) fn payload_of(body: &Bytes, message: &RawValue) -> Bytes {
    let payload = message.get().as_bytes();
    if payload.len() <= COPY_BYTES_MAX || payload.len() < body.len() / 2 {
        return Bytes::copy_from_slice(payload);
    }
    body.slice_ref(payload)
}

fn due_of(fields: &Fields<'_>) -> Result<Due, BrokerError> {
    match (fields.seconds("delay_seconds")?, fields.text("deliver_at")?) {
        (None, None) => Ok(Due::Now),
        (Some(delay), None) => Ok(Due::After(delay)),
        (None, Some(text)) => due_at(&text),
        (Some(_), Some(_)) => Err(BrokerError::invalid("deliver_at", "cannot be given together with delay_seconds")),
    }
}

/// At the moment that `deliver_at` says.
pub(super) fn due_at(text: &str) -> Result<Due, BrokerError> {
    Timestamp::parse_rfc3339(text).map(Due::At).ok_or_else(|| {
        let problem = format!("is {text:?}; it must be a time as in RFC 3339, such as 2026-11-23T17:12:48Z");
        BrokerError::invalid("deliver_at", problem)
    })
}

fn dedup_id_of(headers: &HeaderMap, fields: &Fields<'_>) -> Result<Option<String>, BrokerError> {
    let mut dedup_id = fields.text("dedup_id")?;
    for value in headers.get_all(IDEMPOTENCY_KEY) {
        let Ok(key) = value.to_str() else {
            return Err(BrokerError::invalid("Idempotency-Key", "must be visible ASCII"));
        };
        match &dedup_id {
            _ if key.is_empty() => {}
            Some(id) if id != key => {
                return Err(BrokerError::invalid("dedup_id", format!("is {id:?}, but the Idempotency-Key is {key:?}")));
            }
            _ => dedup_id = Some(key.to_owned()),
        }
    }
    Ok(dedup_id)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::HeaderValue;

    use super::*;

    fn draft(body: &str, keys: &[&'static str]) -> Result<Draft, String> {
        let mut headers = HeaderMap::new();
        for key in keys {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_static(key));
        }
        let body = Bytes::copy_from_slice(body.as_bytes());
        let fields = Fields::parse(&body, FIELDS).expect("an object");
        draft_of(&headers, &body, &fields).map_err(|e| e.to_string())
    }

    #[test]
    fn a_payload_keeps_its_bytes_whatever_its_size() {
        let payload = draft(r#"{"message":  {"a" : 1.00, "a":"\u00e9"} }"#, &[]).expect("valid").payload;
        assert_eq!(payload, r#"{"a" : 1.00, "a":"\u00e9"}"#);
        let text = format!("\"{}\"", "x".repeat(COPY_BYTES_MAX));
        let body = Bytes::from(format!("{{\"message\": {text}}}"));
        let fields = Fields::parse(&body, FIELDS).expect("an object");
        let payload = draft_of(&HeaderMap::new(), &body, &fields).expect("valid").payload;
        assert_eq!(payload, text);
        assert!(body.as_ptr_range().contains(&payload.as_ptr()), "a large one is not copied");
    }

    #[test]
    fn every_addition_is_read() {
        let draft = draft(
            r#"{"message": null, "attributes": {"k": "v"}, "ordering_key": "o", "dedup_id": "d", "delay_seconds": 2,
                "ttl_seconds": 0.5, "reply_to": "r", "correlation_id": "c", "content_type": "application/x+json"}"#,
            &["d"],
        );
        let properties = Properties {
            content_type: Some("application/x+json".into()),
            attributes: vec![("k".into(), "v".into())],
            ordering_key: Some("o".into()),
            reply_to: Some("r".into()),
            correlation_id: Some("c".into()),
            ..Properties::default()
        };
        let expected = Draft {
            payload: Bytes::from_static(b"null"),
            properties,
            dedup_id: Some("d".into()),
            due: Due::After(Duration::from_secs(2)),
            ttl: Some(Duration::from_millis(500)),
        };
        assert_eq!(draft, Ok(expected));
    }

    #[test]
    fn absent_null_and_empty_are_the_same() {
        let plain = draft(r#"{"message": 1}"#, &[]);
        let nulls = r#"{"message": 1, "attributes": null, "dedup_id": null, "delay_seconds": null, "reply_to": null}"#;
        assert_eq!(draft(nulls, &[]), plain);
        let empties = r#"{"message": 1, "attributes": {}, "dedup_id": "", "deliver_at": "", "reply_to": ""}"#;
        assert_eq!(draft(empties, &[""]), plain);
    }

    #[test]
    fn contradictions_are_refused() {
        let refused = |body: &str, keys: &[&'static str]| draft(body, keys).expect_err("must be refused");
        let both = r#"{"message": 1, "delay_seconds": 1, "deliver_at": "2026-11-23T17:12:48Z"}"#;
        assert_eq!(refused(both, &[]), "deliver_at: cannot be given together with delay_seconds");
        let id = r#"{"message": 1, "dedup_id": "a"}"#;
        assert_eq!(refused(id, &["b"]), r#"dedup_id: is "a", but the Idempotency-Key is "b""#);
        assert!(refused(r#"{"message": 1}"#, &["a", "b"]).starts_with("dedup_id: "));
        assert!(refused(r#"{"message": 1, "deliver_at": "tomorrow"}"#, &[]).starts_with("deliver_at: "));
        assert_eq!(refused(r#"{"message": 1, "ttl_seconds": 0}"#, &[]), "ttl_seconds: is 0; it must be more");
    }
}

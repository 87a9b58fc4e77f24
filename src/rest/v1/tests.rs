//! What is wrong with a request is named, before anything is done; and the description has what there is. What the calls do
//! is tested over real servers, in `tests/`.

use axum::{
    body::{Body, to_bytes},
    http::{Method, Request, header},
};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::{
    broker::{Broker, Limits},
    rest::{Options, router},
};

/// A standby checks a request and then refuses it, so no store is needed to see what is wrong with one.
async fn ask(method: Method, uri: &str, content_type: &str, body: impl Into<Body>) -> (u16, Value) {
    let router = router(Broker::standby(Limits::default()), Options { message_bytes_max: 1000 });
    let mut request = Request::builder().method(method).uri(uri);
    if !content_type.is_empty() {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    let response = router.oneshot(request.body(body.into()).expect("a valid request")).await.expect("infallible");
    let status = response.status().as_u16();
    let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("readable");
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

fn refused(answer: &(u16, Value)) -> (u16, &str, &str) {
    let text = |key: &str| answer.1[key].as_str().unwrap_or_default();
    (answer.0, text("code"), text("field"))
}

#[tokio::test]
async fn what_is_wrong_with_a_body_is_named_by_its_path() {
    for (call, body, field) in [
        ("POST /v1/topics/t/publish", "", "messages"),
        ("POST /v1/topics/t/publish", "[]", "body"),
        ("POST /v1/topics/t/publish", r#"{"messages": []}"#, "messages"),
        ("POST /v1/topics/t/publish", r#"{"messages": [{}]}"#, "messages[0].json"),
        ("POST /v1/topics/t/publish", r#"{"messages": [[1]]}"#, "messages[0]"),
        ("POST /v1/topics/t/publish", r#"{"messages": [{"json": 1, "text": ""}]}"#, "messages[0].json"),
        ("POST /v1/topics/t/publish", r#"{"messages": [{"json": 1}, {"json": 1, "x": 1}]}"#, "messages[1].x"),
        ("POST /v1/topics/t/publish", r#"{"messages": [{"data_base64": "?"}]}"#, "messages[0].data_base64"),
        ("POST /v1/topics/t/publish", r#"{"messages": [{"json": 1, "ttl_seconds": 0}]}"#, "messages[0].ttl_seconds"),
        (
            "POST /v1/topics/t/publish",
            r#"{"messages": [{"json": 1, "delay_seconds": -1}]}"#,
            "messages[0].delay_seconds",
        ),
        ("POST /v1/topics/t/publish", r#"{"messages": [{"json": 1, "deliver_at": "soon"}]}"#, "messages[0].deliver_at"),
        (
            "POST /v1/topics/t/publish",
            r#"{"messages": [{"text": "x", "content_type": "application/json"}]}"#,
            "messages[0].text",
        ),
        ("POST /v1/topics/a..b/publish", r#"{"messages": [{"json": 1}]}"#, "topic"),
        ("POST /v1/request/t", "{}", "message"),
        ("POST /v1/request/t", r#"{"message": {"json": 1}, "timeout_seconds": 61}"#, "timeout_seconds"),
        ("POST /v1/request/t", r#"{"message": {"json": 1, "reply_to": "x"}}"#, "message.reply_to"),
        ("POST /v1/queues/q/pull", r#"{"max_messages": 0}"#, "max_messages"),
        ("POST /v1/queues/q/pull", r#"{"max_messages": 1.5}"#, "max_messages"),
        ("POST /v1/queues/q/pull", r#"{"wait_seconds": 61}"#, "wait_seconds"),
        ("POST /v1/queues/q/pull", r#"{"auto_ack": true, "ack_deadline_seconds": 30}"#, "ack_deadline_seconds"),
        ("POST /v1/queues/q/pull", r#"{"max_message": 1}"#, "max_message"),
        ("POST /v1/queues/q/ack", "{}", "ack_ids"),
        ("POST /v1/queues/q/ack", r#"{"ack_ids": [1]}"#, "ack_ids[0]"),
        ("POST /v1/queues/q/nack", r#"{"ack_ids": ["a"], "outcome": "retry"}"#, "outcome"),
        ("POST /v1/queues/q/modify-ack-deadline", r#"{"ack_ids": ["a"]}"#, "ack_deadline_seconds"),
        ("POST /v1/settle", r#"{"nack": [{"outcome": "RETRY"}]}"#, "nack[0].ack_id"),
        ("POST /v1/settle", r#"{"publish": [{"messages": []}]}"#, "publish[0].topic"),
        ("POST /v1/settle", r#"{"publish": [{"topic": "t", "messages": [{}]}]}"#, "publish[0].messages[0].json"),
        ("PUT /v1/topics/t", r#"{"dedup_window_seconds": 0.5}"#, "dedup_window_seconds"),
        ("PUT /v1/topics/t", r#"{"limits": {"max_messages": 0}}"#, "limits.max_messages"),
        ("PUT /v1/topics/t", r#"{"limits": {"overflow": "DROP"}}"#, "limits.overflow"),
        ("PUT /v1/topics/t/subscriptions/s", r#"{"ack_deadline_seconds": 9}"#, "ack_deadline_seconds"),
        ("PATCH /v1/queues/q", r#"{"max_delivery_attempts": 1001}"#, "max_delivery_attempts"),
        ("PATCH /v1/queues/q", r#"{"limits": {"max_age_seconds": 0}}"#, "limits.max_age_seconds"),
        ("POST /v1/queues/q/purge", r#"{"states": ["delayed"]}"#, "states"),
        ("POST /v1/queues/q/purge", r#"{"states": ["READY"]}"#, "states[0]"),
        ("POST /v1/queues/q/redrive", r#"{"message_ids": ["x"]}"#, "message_ids[0]"),
        ("POST /v1/queues/q/redrive", r#"{"max_per_second": -1}"#, "max_per_second"),
    ] {
        let (method, uri) = call.split_once(' ').expect("a method and a path");
        let method = method.parse().expect("a method");
        let answer = ask(method, uri, "application/json", body).await;
        // What the broker looks at behind its own state is refused as such by a standby.
        if refused(&answer) == (503, "not_active", "") {
            panic!("{call} {body} was taken");
        }
        assert_eq!(refused(&answer), (400, "invalid_argument", field), "{call} {body}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_path_or_a_query_is_named() {
    for (uri, field) in [
        ("/v1/topics/..", "topic"),
        ("/v1/topics/%ff", "path"),
        ("/v1/topics?page_size=0", "page_size"),
        ("/v1/topics?page_token=x", "page_token"),
        ("/v1/queues/q/messages?state=gone", "state"),
        ("/v1/queues/q/messages/x", "message_id"),
        ("/v1/messages/x", "message_id"),
        ("/v1/queues/q/stream?max_outstanding_messages=0", "max_outstanding_messages"),
        ("/v1/queues/q/stream?max_outstanding_bytes=0", "max_outstanding_bytes"),
        ("/v1/queues/q/stream?ack_deadline_seconds=1", "ack_deadline_seconds"),
        ("/v1/queues/q/stream?service=a/b", "service"),
    ] {
        assert_eq!(refused(&ask(Method::GET, uri, "", "").await), (400, "invalid_argument", field), "{uri}");
    }
}

#[tokio::test]
async fn calls_in_json_take_json_or_no_type_at_all() {
    let status = async |content_type| {
        let answer = ask(Method::POST, "/v1/queues/q/pull", content_type, "{}").await;
        (answer.0, answer.1["code"].as_str().unwrap_or_default().to_owned())
    };
    for content_type in ["", "application/json", "application/vnd.x+json", "application/json; charset=utf-8"] {
        assert_eq!(status(content_type).await, (503, "not_active".into()), "{content_type}");
    }
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "json"] {
        assert_eq!(status(content_type).await, (415, "unsupported_media_type".into()), "{content_type}");
    }
}

#[tokio::test]
async fn head_opens_no_stream() {
    assert_eq!(ask(Method::HEAD, "/v1/queues/q/stream", "", "").await.0, 405);
    assert_eq!(ask(Method::HEAD, "/v1/queues/q/pull", "", "").await.0, 405);
}

#[tokio::test]
async fn the_description_names_every_call_and_resolves_within_itself() {
    let (status, api) = ask(Method::GET, "/openapi.json", "", "").await;
    assert_eq!((status, &api["openapi"]), (200, &Value::from("3.1.0")));
    let calls: usize =
        api["paths"].as_object().expect("paths").values().map(|p| p.as_object().map_or(0, |p| p.len())).sum();
    assert_eq!(calls, 37, "calls are described; a new one belongs here, too");
    let text = api.to_string();
    let mut references = 0;
    for (at, start) in text.match_indices(r##""$ref":"#"##) {
        let rest = &text[at + start.len()..];
        let pointer = &rest[..rest.find('"').expect("an end")];
        assert!(api.pointer(pointer).is_some(), "{pointer} is nowhere");
        references += 1;
    }
    assert!(references > 50, "references were found");
    for strict in ["Batch", "NewMessage", "NewQueuePolicy", "NewLimits", "Pull", "Nacks", "NewSettle"] {
        let schema = &api["components"]["schemas"][strict];
        assert_eq!(schema["additionalProperties"], false, "{strict}: {schema}");
    }
}

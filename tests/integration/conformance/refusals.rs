//! What is out of bounds is refused by the name of its field, the same over both protocols.

use serde_json::{Value, json};

use super::{Case, Cases, Run};

/// Each: the claim, the call, its arguments (`NAME` stands for the case's own name), and the field.
fn table() -> Vec<(&'static str, &'static str, Value, &'static str)> {
    let message = |message: Value| json!({"topic": "NAME", "messages": [message]});
    let pull = |field: &str, value: Value| json!({"queue": "NAME", field: value});
    let policy = |policy: Value| json!({"topic": "NAME", "service": "s", "policy": policy});
    let many: serde_json::Map<_, _> = (0..101).map(|n| (n.to_string(), json!("v"))).collect();
    vec![
        ("a topic with a slash", "publish", json!({"topic": "a/b", "messages": [{"json": 1}]}), "topic"),
        ("a topic with an empty part", "publish", json!({"topic": "a..b", "messages": [{"json": 1}]}), "topic"),
        ("a topic that is too long", "publish", json!({"topic": "a".repeat(256), "messages": [{"json": 1}]}), "topic"),
        ("a publish of nothing", "publish", json!({"topic": "NAME", "messages": []}), "messages"),
        (
            "a publish of too many",
            "publish",
            json!({"topic": "NAME", "messages": vec![json!({"json": 1}); 1001]}),
            "messages",
        ),
        (
            "an ordering key that is too long",
            "publish",
            message(json!({"json": 1, "ordering_key": "k".repeat(1025)})),
            "ordering_key",
        ),
        (
            "a dedup id that is too long",
            "publish",
            message(json!({"json": 1, "dedup_id": "k".repeat(256)})),
            "dedup_id",
        ),
        (
            "a reply_to that is too long",
            "publish",
            message(json!({"json": 1, "reply_to": "k".repeat(1025)})),
            "reply_to",
        ),
        (
            "a correlation id that is too long",
            "publish",
            message(json!({"json": 1, "correlation_id": "k".repeat(1025)})),
            "correlation_id",
        ),
        (
            "a content type that is too long",
            "publish",
            message(json!({"text": "", "content_type": "k".repeat(256)})),
            "content_type",
        ),
        (
            "a content type that is not ASCII",
            "publish",
            message(json!({"text": "", "content_type": "text/ü"})),
            "content_type",
        ),
        ("too many attributes", "publish", message(json!({"json": 1, "attributes": many})), "attributes"),
        (
            "an attribute name that is too long",
            "publish",
            message(json!({"json": 1, "attributes": {"k".repeat(257): "v"}})),
            "attributes",
        ),
        (
            "an attribute value that is too long",
            "publish",
            message(json!({"json": 1, "attributes": {"k": "v".repeat(1025)}})),
            "attributes",
        ),
        ("a delay that is too long", "publish", message(json!({"json": 1, "delay_seconds": 31_622_401})), "delay"),
        ("a negative delay", "publish", message(json!({"json": 1, "delay_seconds": -1})), "delay"),
        ("a time to live that is too long", "publish", message(json!({"json": 1, "ttl_seconds": 31_622_401})), "ttl"),
        ("a time to live of nothing", "publish", message(json!({"json": 1, "ttl_seconds": 0})), "ttl"),
        ("a pull of nothing", "pull", pull("max_messages", json!(0)), "max_messages"),
        ("a pull of too many", "pull", pull("max_messages", json!(1001)), "max_messages"),
        ("a wait that is too long", "pull", pull("wait_seconds", json!(61)), "wait"),
        ("a negative wait", "pull", pull("wait_seconds", json!(-1)), "wait"),
        ("an ack deadline that is too short", "pull", pull("ack_deadline_seconds", json!(9)), "ack_deadline"),
        ("an ack deadline that is too long", "pull", pull("ack_deadline_seconds", json!(43_201)), "ack_deadline"),
        ("a consumer name that is too long", "pull", pull("consumer", json!("c".repeat(256))), "consumer"),
        ("a service with a slash", "pull", pull("service", json!("a/b")), "service"),
        ("a queue with a space", "pull", json!({"queue": "a b"}), "queue"),
        ("an ack of nothing", "ack", json!({"queue": "NAME", "ack_ids": []}), "ack_ids"),
        ("an ack of too many", "ack", json!({"queue": "NAME", "ack_ids": vec!["x"; 1001]}), "ack_ids"),
        (
            "a nack with a delay that is too long",
            "nack",
            json!({"queue": "NAME", "ack_ids": ["x"], "outcome": "RETRY", "delay_seconds": 43_201}),
            "delay",
        ),
        (
            "a nack with a delay that is none",
            "nack",
            json!({"queue": "NAME", "ack_ids": ["x"], "outcome": "RELEASE", "delay_seconds": 1}),
            "delay",
        ),
        (
            "a nack with a reason that is too long",
            "nack",
            json!({"queue": "NAME", "ack_ids": ["x"], "outcome": "RETRY", "reason": "r".repeat(1025)}),
            "reason",
        ),
        (
            "an attempt limit that is too high",
            "put_subscription",
            policy(json!({"max_delivery_attempts": 1001})),
            "max_delivery_attempts",
        ),
        (
            "a policy with an ack deadline that is too short",
            "put_subscription",
            policy(json!({"ack_deadline_seconds": 1})),
            "ack_deadline",
        ),
        (
            "a policy with a backoff that is too long",
            "put_subscription",
            policy(json!({"maximum_backoff_seconds": 43_201})),
            "maximum_backoff",
        ),
        (
            "a policy whose backoffs cross",
            "put_subscription",
            policy(json!({"minimum_backoff_seconds": 9, "maximum_backoff_seconds": 3})),
            "maximum_backoff",
        ),
        ("a limit of no messages", "put_subscription", policy(json!({"limits": {"max_messages": 0}})), "max_messages"),
        ("a limit of no bytes", "put_subscription", policy(json!({"limits": {"max_bytes": 0}})), "max_bytes"),
        ("a limit of no age", "put_subscription", policy(json!({"limits": {"max_age_seconds": 0}})), "max_age"),
        (
            "a dedup window that is too long",
            "put_topic",
            json!({"topic": "NAME", "policy": {"dedup_window_seconds": 86_401}}),
            "dedup_window",
        ),
        ("a page of nothing", "list_topics", json!({"page_size": 0}), "page_size"),
        ("a page that is too long", "list_queues", json!({"page_size": 1001}), "page_size"),
        ("a page token that is none", "list_topics", json!({"page_token": "zzz"}), "page_token"),
        ("a message id that is none", "get_story", json!({"message_id": "nonsense"}), "message_id"),
        (
            "a request that waits too long",
            "request",
            json!({"topic": "NAME", "message": {"json": 1}, "timeout_seconds": 61}),
            "timeout",
        ),
        ("a clock that does not move", "advance_clock", json!({"by_seconds": 0}), "by"),
        ("a clock that moves too far", "advance_clock", json!({"by_seconds": 31_622_401}), "by"),
    ]
}

pub(super) fn cases() -> Cases {
    let case = |(claim, call, args, field): (&'static str, &'static str, Value, &'static str)| {
        let run: Run = Box::new(move |case: Case| {
            let args = named(args.clone(), &case.name);
            Box::pin(async move {
                let refused = case.refused(call, args).await;
                assert_eq!(refused, ("invalid_argument".to_owned(), field.to_owned()));
            })
        });
        (format!("{claim} is refused by name"), run)
    };
    table().into_iter().map(case).collect()
}

fn named(args: Value, name: &str) -> Value {
    match args {
        Value::String(text) if text == "NAME" => json!(name),
        Value::Array(items) => items.into_iter().map(|item| named(item, name)).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, named(value, name))).collect(),
        other => other,
    }
}

//! What the contract shows as JSON, for scripts: the same names; times as RFC 3339, durations as numbers of seconds.
//!
//! Fields are added to these objects, none ever changes its meaning.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::span::timestamp;
use crate::grpc::proto::v1::{
    BrowsedMessage, Consumer, DeadLetter, Delivery, Event, Explanation, HeldKey, Limits, Message, MessageState,
    Obstacle, Queue, QueuePolicy, Service, Story, Topic, dead_letter::Cause, limits::Overflow,
};

pub(super) fn topic(topic: &Topic) -> Value {
    let policy = topic.policy.unwrap_or_default();
    json!({
        "name": topic.name,
        "messages": topic.messages,
        "delayed": topic.delayed,
        "queues": topic.queues,
        "is_inbox": topic.is_inbox,
        "policy": {
            "dedup_window_seconds": seconds(policy.dedup_window),
            "limits": limits(policy.limits),
        },
    })
}

pub(super) fn service(service: &Service) -> Value {
    json!({ "name": service.name, "topics": service.topics })
}

pub(super) fn queue(queue: &Queue) -> Value {
    let (counters, rates) = (queue.counters.unwrap_or_default(), queue.rates.unwrap_or_default());
    json!({
        "name": queue.name,
        "topic": queue.topic,
        "service": given(&queue.service),
        "paused": queue.paused,
        "ready": queue.ready,
        "retrying": queue.retrying,
        "leased": queue.leased,
        "delayed": queue.delayed,
        "dead": queue.dead,
        "bytes": queue.bytes,
        "oldest_published_at": time(queue.oldest_published_at),
        "policy": policy(&queue.policy.unwrap_or_default()),
        "counters": {
            "published": counters.published,
            "delivered": counters.delivered,
            "acked": counters.acked,
            "failed": counters.failed,
            "dead_lettered": counters.dead_lettered,
            "dropped": counters.dropped,
        },
        "rates": {
            "published_per_second": rates.published_per_second,
            "delivered_per_second": rates.delivered_per_second,
            "acked_per_second": rates.acked_per_second,
        },
        "consumers": queue.consumers.iter().map(consumer).collect::<Vec<_>>(),
    })
}

fn policy(policy: &QueuePolicy) -> Value {
    json!({
        "ack_deadline_seconds": seconds(policy.ack_deadline),
        "max_delivery_attempts": policy.max_delivery_attempts,
        "minimum_backoff_seconds": seconds(policy.minimum_backoff),
        "maximum_backoff_seconds": seconds(policy.maximum_backoff),
        "limits": limits(policy.limits),
    })
}

fn limits(limits: Option<Limits>) -> Value {
    let limits = limits.unwrap_or_default();
    json!({
        "max_messages": limits.max_messages,
        "max_bytes": limits.max_bytes,
        "max_age_seconds": seconds(limits.max_age),
        "overflow": match limits.overflow() {
            Overflow::Unspecified => None,
            Overflow::Reject => Some("reject"),
            Overflow::DropOldest => Some("drop_oldest"),
        },
    })
}

fn consumer(consumer: &Consumer) -> Value {
    json!({
        "name": consumer.name,
        "kind": consumer.kind,
        "last_seen_at": time(consumer.last_seen_at),
        "outstanding_messages": consumer.outstanding_messages,
        "outstanding_bytes": consumer.outstanding_bytes,
        "has_credit": consumer.has_credit,
        "is_waiting": consumer.is_waiting,
    })
}

/// A message and what belongs to its delivery, in one object.
pub(super) fn delivery(delivery: &Delivery) -> Value {
    let mut object = delivery.message.as_ref().map(message).unwrap_or_default();
    object.insert("ack_id".into(), given(&delivery.ack_id));
    object.insert("delivery_attempt".into(), delivery.delivery_attempt.into());
    object.insert("ack_deadline".into(), time(delivery.ack_deadline));
    Value::Object(object)
}

/// A message and its state in a queue, in one object.
pub(super) fn browsed(browsed: &BrowsedMessage) -> Value {
    let mut object = browsed.message.as_ref().map(message).unwrap_or_default();
    object.insert("is_damaged".into(), browsed.message.is_none().into());
    object.insert("state".into(), state(browsed.state()).into());
    object.insert("delivery_attempts".into(), browsed.delivery_attempts.into());
    object.insert("retry_at".into(), time(browsed.retry_at));
    object.insert("ack_deadline".into(), time(browsed.ack_deadline));
    object.insert("deliver_at".into(), time(browsed.deliver_at));
    let dead_letter = browsed.dead_letter.as_ref().map(|dead| {
        json!({
            "cause": cause(dead),
            "reason": dead.reason,
            "first_failed_at": time(dead.first_failed_at),
            "dead_lettered_at": time(dead.dead_lettered_at),
        })
    });
    object.insert("dead_letter".into(), dead_letter.into());
    Value::Object(object)
}

pub(super) fn story(story: &Story) -> Value {
    let queues = story.queues.iter().map(
        |queue| json!({ "queue": queue.queue, "state": queue.state.as_ref().map(|browsed| state(browsed.state())) }),
    );
    json!({
        "topic": story.topic,
        "message": story.message.as_ref().map(message),
        "deliver_at": time(story.deliver_at),
        "queues": queues.collect::<Vec<_>>(),
        "events": story.events.iter().map(event).collect::<Vec<_>>(),
    })
}

fn event(event: &Event) -> Value {
    json!({
        "at": time(event.at),
        "queue": given(&event.queue),
        "kind": event.kind,
        "reason": given(&event.reason),
        "delivery_attempt": (event.delivery_attempt > 0).then_some(event.delivery_attempt),
        "until": time(event.until),
    })
}

pub(super) fn explanation(explanation: &Explanation) -> Value {
    json!({
        "queue": explanation.queue.as_ref().map(queue),
        "deliverable": explanation.deliverable,
        "obstacles": explanation.obstacles.iter().map(obstacle).collect::<Vec<_>>(),
    })
}

fn obstacle(obstacle: &Obstacle) -> Value {
    json!({
        "kind": obstacle.kind,
        "detail": obstacle.detail,
        "messages": obstacle.messages,
        "until": time(obstacle.until),
        "keys": obstacle.keys.iter().map(held_key).collect::<Vec<_>>(),
    })
}

fn held_key(key: &HeldKey) -> Value {
    json!({
        "ordering_key": key.ordering_key,
        "message_id": key.message_id,
        "delivery_attempt": key.delivery_attempt,
        "until": time(key.until),
        "behind": key.behind,
    })
}

pub(super) fn state(state: MessageState) -> &'static str {
    match state {
        MessageState::Unspecified => "unknown",
        MessageState::Ready => "ready",
        MessageState::Leased => "leased",
        MessageState::Delayed => "delayed",
        MessageState::Dead => "dead",
    }
}

pub(super) fn cause(dead: &DeadLetter) -> &'static str {
    match dead.cause() {
        Cause::Unspecified => "unknown",
        Cause::AckDeadlineExceeded => "ack_deadline_exceeded",
        Cause::Failed => "failed",
        Cause::Rejected => "rejected",
    }
}

fn message(message: &Message) -> Map<String, Value> {
    let mut object = Map::new();
    let mut add = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    add("id", message.id.as_str().into());
    add("topic", message.topic.as_str().into());
    let (name, payload) = payload(&message.data);
    add(name, payload);
    add("content_type", given(&message.content_type));
    add("attributes", json!(message.attributes));
    add("ordering_key", given(&message.ordering_key));
    add("reply_to", given(&message.reply_to));
    add("correlation_id", given(&message.correlation_id));
    add("traceparent", given(&message.traceparent));
    add("published_at", time(message.published_at));
    add("expires_at", time(message.expires_at));
    object
}

/// The payload as the JSON value it is, else as a text; what is no text stands under another name, in base64.
fn payload(bytes: &[u8]) -> (&'static str, Value) {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return ("payload", value);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => ("payload", text.into()),
        Err(_) => ("payload_base64", STANDARD.encode(bytes).into()),
    }
}

fn given(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

fn time(time: Option<prost_types::Timestamp>) -> Value {
    timestamp(time).map_or(Value::Null, |time| time.to_string().into())
}

fn seconds(duration: Option<prost_types::Duration>) -> Value {
    let duration = duration.and_then(|duration| std::time::Duration::try_from(duration).ok());
    duration.map_or(Value::Null, |duration| duration.as_secs_f64().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_its_json_or_its_text_or_base64() {
        assert_eq!(payload(br#"{"a": 1}"#), ("payload", json!({ "a": 1 })));
        assert_eq!(payload(b"say hi"), ("payload", json!("say hi")));
        assert_eq!(payload(b"\xff\x00"), ("payload_base64", json!("/wA=")));
    }

    #[test]
    fn what_is_not_set_is_null() {
        let object = delivery(&Delivery { message: Some(Message::default()), ..Delivery::default() });
        for name in ["ack_id", "ack_deadline", "content_type", "ordering_key", "expires_at"] {
            assert_eq!(object[name], Value::Null, "{name}");
        }
        let ack_deadline = Some(prost_types::Timestamp { seconds: 1, nanos: 500_000_000 });
        let object = delivery(&Delivery { ack_deadline, ..Delivery::default() });
        assert_eq!(object["ack_deadline"], "1970-01-01T00:00:01.500Z");
    }

    #[test]
    fn durations_are_seconds() {
        assert_eq!(seconds(Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 })), json!(1.5));
        assert_eq!(seconds(None), Value::Null);
    }
}

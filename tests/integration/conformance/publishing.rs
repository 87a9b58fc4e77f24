//! Publish: payloads, what travels beside them, batches, dedup, delay, time to live.

use serde_json::json;

use super::{Case, Cases, cases, list, number, payloads, text};

pub(super) fn cases() -> Cases {
    cases![
        "a payload comes back as it was published" => json_payload,
        "a text payload comes back as text" => text_payload,
        "a binary payload comes back byte for byte" => binary_payload,
        "a payload of another JSON type comes back as JSON" => other_json,
        "an empty text is a payload" => empty_text,
        "attributes come back, whatever they are called" => attributes,
        "reply_to and correlation_id come back" => reply_fields,
        "a trace comes back" => trace,
        "an ordering key comes back" => ordering_key,
        "a batch is stored in its order" => batch_order,
        "a batch with one bad message stores none" => batch_all_or_none,
        "what is wrong in a batch is named with its place" => batch_place,
        "a payload that is not what its type says is named with its place" => payload_place,
        "of a batch the message is named whose dedup id was used otherwise" => dedup_mismatch_place,
        "a batch of a thousand is stored" => batch_of_a_thousand,
        "a publish says which queues get it" => queues_named,
        "a publish to a topic without a queue is kept for the first one" => kept_for_the_first,
        "each service gets every message" => fan_out,
        "a message id is a UUID, and they sort in publish order" => ids_sort,
        "the same dedup id is the same message" => dedup_same,
        "the same dedup id with another payload is refused" => dedup_mismatch,
        "a dedup id counts per topic" => dedup_per_topic,
        "a dedup id is remembered after the ack" => dedup_after_ack,
        "a dedup id is forgotten after the window" => dedup_window_over,
        "a topic may remember dedup ids for longer" => dedup_window_of_topic,
        "a duplicate inside a batch is told as one" => dedup_in_batch,
        "a delayed message comes when it is due" => delay,
        "deliver_at is as good as a delay" => deliver_at,
        "deliver_at in the past is now" => deliver_at_past,
        "a delayed message can be taken back" => cancel_delayed,
        "a delayed message does not hold up others" => delay_overtaken,
        "a message that has expired is not delivered" => ttl,
        "a message is delivered before it expires" => ttl_not_over,
        "the time to live counts from the publish, not from the delivery time" => ttl_and_delay,
        "a message says when it was published and when it expires" => times_shown,
    ]
}

async fn json_payload(case: Case) {
    let payload = json!({"b": 1.5, "a": [null, true, {"x": "ü"}]});
    let id = case.publish(&case.name, payload.clone()).await;
    let message = case.take(&case.name).await;
    assert_eq!(message["json"], payload);
    assert_eq!((text(&message["id"]), text(&message["topic"])), (id, case.name.clone()));
}

async fn text_payload(case: Case) {
    case.publish_as(&case.name, json!({"text": "say \"hi\"\n", "content_type": "text/csv"})).await;
    let message = case.take(&case.name).await;
    assert_eq!((text(&message["text"]), text(&message["content_type"])), ("say \"hi\"\n".into(), "text/csv".into()));
}

async fn binary_payload(case: Case) {
    let message = json!({"data_base64": "/wAB/g==", "content_type": "application/x-thing"});
    case.publish_as(&case.name, message).await;
    let message = case.take(&case.name).await;
    assert_eq!(text(&message["data_base64"]), "/wAB/g==");
    assert_eq!(text(&message["content_type"]), "application/x-thing");
}

async fn other_json(case: Case) {
    let content_type = "application/cloudevents+json";
    case.publish_as(&case.name, json!({"json": {"a": 1}, "content_type": content_type})).await;
    let message = case.take(&case.name).await;
    assert_eq!((&message["json"], text(&message["content_type"])), (&json!({"a": 1}), content_type.into()));
}

async fn empty_text(case: Case) {
    case.publish_as(&case.name, json!({"text": "", "content_type": "text/plain"})).await;
    assert_eq!(case.take(&case.name).await["text"], "");
}

async fn attributes(case: Case) {
    let attributes = json!({"": "empty", "a.b": "", "delay_seconds": "5", "ü": "ß"});
    case.publish_as(&case.name, json!({"json": 1, "attributes": attributes})).await;
    assert_eq!(case.take(&case.name).await["attributes"], attributes);
}

async fn reply_fields(case: Case) {
    case.publish_as(&case.name, json!({"json": 1, "reply_to": "answers", "correlation_id": "c-1"})).await;
    let message = case.take(&case.name).await;
    assert_eq!((text(&message["reply_to"]), text(&message["correlation_id"])), ("answers".into(), "c-1".into()));
}

async fn trace(case: Case) {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    case.publish_as(&case.name, json!({"json": 1, "traceparent": parent, "tracestate": "a=1"})).await;
    let message = case.take(&case.name).await;
    assert_eq!((text(&message["traceparent"]), text(&message["tracestate"])), (parent.into(), "a=1".into()));
}

async fn ordering_key(case: Case) {
    case.publish_as(&case.name, json!({"json": 1, "ordering_key": "k"})).await;
    assert_eq!(text(&case.take(&case.name).await["ordering_key"]), "k");
}

async fn batch_order(case: Case) {
    let ids = case.publish_all(&case.name, 0..50).await;
    let pulled = case.pull(&case.name, 100).await;
    assert_eq!(payloads(&pulled), (0..50).map(|n| json!(n)).collect::<Vec<_>>());
    assert_eq!(pulled.iter().map(|m| text(&m["id"])).collect::<Vec<_>>(), ids);
}

async fn batch_all_or_none(case: Case) {
    case.declare(&case.name).await;
    let messages = json!([{"json": 1}, {"json": 2, "dedup_id": "x".repeat(256)}]);
    let refused = case.refused("publish", json!({"topic": case.name, "messages": messages})).await;
    assert_eq!(refused, ("invalid_argument".into(), "dedup_id".into()));
    assert_eq!(case.counts(&case.name).await, [0; 5]);
}

async fn batch_place(case: Case) {
    let bad = json!({"json": 1, "dedup_id": "x".repeat(256)});
    for (at, messages) in [json!([bad]), json!([{"json": 1}, bad])].into_iter().enumerate() {
        let refused = case.refused_at("publish", json!({"topic": case.name, "messages": messages})).await;
        assert_eq!(refused, ("invalid_argument".into(), format!("messages[{at}].dedup_id")));
    }
    let large = json!([{"json": 1}, {"text": "x".repeat(4032 * 1024 + 1)}]);
    let refused = case.refused_at("publish", json!({"topic": case.name, "messages": large})).await;
    assert_eq!(refused, ("too_large".into(), "messages[1]".into()));
}

async fn payload_place(case: Case) {
    for form in [json!({"text": "no JSON"}), json!({"data_base64": "/wA="})] {
        let mut message = form;
        message["content_type"] = json!("application/json");
        let refused = case.refused_at("publish", json!({"topic": case.name, "messages": [{"json": 1}, message]})).await;
        assert_eq!(refused, ("invalid_argument".into(), "messages[1].data".into()));
    }
    let request = json!({"topic": case.name, "message": {"text": "no JSON", "content_type": "application/json"}});
    assert_eq!(case.refused_at("request", request).await, ("invalid_argument".into(), "message.data".into()));
}

async fn dedup_mismatch_place(case: Case) {
    case.publish_as(&case.name, json!({"json": 1, "dedup_id": "d"})).await;
    let messages = json!([{"json": 1, "dedup_id": "d"}, {"json": 1}, {"json": 2, "dedup_id": "d"}]);
    let refused = case.refused_at("publish", json!({"topic": case.name, "messages": messages})).await;
    assert_eq!(refused, ("dedup_mismatch".into(), "messages[2].dedup_id".into()));
}

async fn batch_of_a_thousand(case: Case) {
    case.publish_all(&case.name, 0..1000).await;
    assert_eq!(case.drain(&case.name, 1000).await.len(), 1000);
}

async fn queues_named(case: Case) {
    let (a, b) = (format!("{}.a", case.name), format!("{}.b", case.name));
    for service in ["a", "b"] {
        case.ok("put_subscription", json!({"topic": case.name, "service": service})).await;
    }
    let answer = case.ok("publish", json!({"topic": case.name, "messages": [{"json": 1}]})).await;
    assert_eq!(number(&answer["delivered_to"]), 2);
    assert_eq!(list(&answer["queues"]), [json!(a), json!(b)]);
}

async fn kept_for_the_first(case: Case) {
    let answer = case.ok("publish", json!({"topic": case.name, "messages": [{"json": 7}]})).await;
    assert_eq!((number(&answer["delivered_to"]), list(&answer["queues"]).len()), (1, 0));
    case.ok("put_subscription", json!({"topic": case.name, "service": "first"})).await;
    case.ok("put_subscription", json!({"topic": case.name, "service": "second"})).await;
    assert_eq!(case.drain(&format!("{}.first", case.name), 9).await, [json!(7)]);
    assert_eq!(case.drain(&format!("{}.second", case.name), 9).await.len(), 0);
}

async fn fan_out(case: Case) {
    for service in ["a", "b"] {
        case.ok("put_subscription", json!({"topic": case.name, "service": service})).await;
    }
    case.publish_all(&case.name, 1..=3).await;
    for service in ["a", "b"] {
        let pulled = case.pull_with(json!({"queue": case.name, "service": service, "max_messages": 9})).await;
        assert_eq!(payloads(&pulled), [json!(1), json!(2), json!(3)], "{service}");
    }
}

async fn ids_sort(case: Case) {
    let mut ids = case.publish_all(&case.name, 0..20).await;
    ids.extend(case.publish_all(&case.name, 0..20).await);
    assert!(ids.iter().all(|id| uuid::Uuid::try_parse(id).is_ok()));
    assert!(ids.is_sorted(), "{ids:?}");
}

async fn dedup_same(case: Case) {
    let message = json!({"json": 1, "dedup_id": "d"});
    let publish = json!({"topic": case.name, "messages": [message]});
    let first = case.ok("publish", publish.clone()).await;
    let second = case.ok("publish", publish).await;
    assert_eq!(first["messages"][0]["message_id"], second["messages"][0]["message_id"]);
    assert_ne!(first["messages"][0]["duplicate"], json!(true));
    assert_eq!(second["messages"][0]["duplicate"], json!(true));
    assert_eq!(case.drain(&case.name, 9).await.len(), 1);
}

async fn dedup_mismatch(case: Case) {
    case.publish_as(&case.name, json!({"json": 1, "dedup_id": "d"})).await;
    let other = json!({"topic": case.name, "messages": [{"json": 2, "dedup_id": "d"}]});
    assert_eq!(case.refused("publish", other).await, ("dedup_mismatch".into(), "dedup_id".into()));
}

async fn dedup_per_topic(case: Case) {
    let other = format!("{}-other", case.name);
    let one = case.publish_as(&case.name, json!({"json": 1, "dedup_id": "d"})).await;
    let two = case.publish_as(&other, json!({"json": 1, "dedup_id": "d"})).await;
    assert_ne!(one, two);
}

async fn dedup_after_ack(case: Case) {
    let first = case.publish_as(&case.name, json!({"json": 1, "dedup_id": "d"})).await;
    let delivery = case.take(&case.name).await;
    assert_eq!(case.ack(&case.name, &delivery).await, "ok");
    assert_eq!(case.publish_as(&case.name, json!({"json": 1, "dedup_id": "d"})).await, first);
    assert_eq!(case.pull(&case.name, 9).await.len(), 0);
}

async fn dedup_window_over(case: Case) {
    let first = case.publish_as(&case.name, json!({"json": 1, "dedup_id": "d"})).await;
    case.advance(121.0).await;
    assert_ne!(case.publish_as(&case.name, json!({"json": 1, "dedup_id": "d"})).await, first);
}

async fn dedup_window_of_topic(case: Case) {
    case.ok("put_topic", json!({"topic": case.name, "policy": {"dedup_window_seconds": 3600}})).await;
    let first = case.publish_as(&case.name, json!({"json": 1, "dedup_id": "d"})).await;
    case.advance(3500.0).await;
    assert_eq!(case.publish_as(&case.name, json!({"json": 1, "dedup_id": "d"})).await, first);
    case.advance(101.0).await;
    assert_ne!(case.publish_as(&case.name, json!({"json": 1, "dedup_id": "d"})).await, first);
}

async fn dedup_in_batch(case: Case) {
    let messages = json!([{"json": 1, "dedup_id": "d"}, {"json": 1, "dedup_id": "d"}, {"json": 2}]);
    let answer = case.ok("publish", json!({"topic": case.name, "messages": messages})).await;
    assert_eq!(answer["messages"][0]["message_id"], answer["messages"][1]["message_id"]);
    assert_eq!(answer["messages"][1]["duplicate"], json!(true));
    assert_eq!(case.drain(&case.name, 9).await, [json!(1), json!(2)]);
}

async fn delay(case: Case) {
    case.declare(&case.name).await;
    case.publish_as(&case.name, json!({"json": 1, "delay_seconds": 60})).await;
    assert_eq!(case.pull(&case.name, 1).await.len(), 0);
    assert_eq!(case.counts(&case.name).await, [0, 0, 0, 1, 0]);
    case.advance(59.0).await;
    assert_eq!(case.pull(&case.name, 1).await.len(), 0);
    case.advance(1.5).await;
    assert_eq!(case.drain(&case.name, 9).await, [json!(1)]);
}

async fn deliver_at(case: Case) {
    case.declare(&case.name).await;
    let now = text(&case.ok("advance_clock", json!({"by_seconds": 1})).await["now"]);
    // A day later, to the second.
    let at = campanile::model::Timestamp::parse_rfc3339(&now).expect("a time");
    let at = at.after(std::time::Duration::from_secs(86_400)).to_string();
    case.publish_as(&case.name, json!({"json": 1, "deliver_at": at})).await;
    case.advance(86_000.0).await;
    assert_eq!(case.pull(&case.name, 1).await.len(), 0);
    case.advance(401.0).await;
    assert_eq!(case.drain(&case.name, 9).await, [json!(1)]);
}

async fn deliver_at_past(case: Case) {
    case.publish_as(&case.name, json!({"json": 1, "deliver_at": "2001-01-01T00:00:00Z"})).await;
    assert_eq!(case.drain(&case.name, 9).await, [json!(1)]);
}

async fn cancel_delayed(case: Case) {
    case.declare(&case.name).await;
    let id = case.publish_as(&case.name, json!({"json": 1, "delay_seconds": 60})).await;
    case.ok("delete_message", json!({"queue": case.name, "message_id": id})).await;
    case.advance(61.0).await;
    assert_eq!(case.pull(&case.name, 1).await.len(), 0);
    assert_eq!(case.events(&id).await, ["delayed", "cancelled"]);
}

async fn delay_overtaken(case: Case) {
    case.publish_as(&case.name, json!({"json": 1, "delay_seconds": 60})).await;
    case.publish(&case.name, 2).await;
    assert_eq!(case.drain(&case.name, 9).await, [json!(2)]);
    case.advance(61.0).await;
    assert_eq!(case.drain(&case.name, 9).await, [json!(1)]);
}

async fn ttl(case: Case) {
    case.publish_as(&case.name, json!({"json": 1, "ttl_seconds": 10})).await;
    case.publish(&case.name, 2).await;
    case.advance(11.0).await;
    assert_eq!(case.drain(&case.name, 9).await, [json!(2)]);
}

async fn ttl_not_over(case: Case) {
    case.publish_as(&case.name, json!({"json": 1, "ttl_seconds": 10})).await;
    case.advance(8.0).await;
    assert_eq!(case.drain(&case.name, 9).await, [json!(1)]);
}

async fn ttl_and_delay(case: Case) {
    case.declare(&case.name).await;
    case.publish_as(&case.name, json!({"json": 1, "ttl_seconds": 10, "delay_seconds": 20})).await;
    case.advance(21.0).await;
    assert_eq!(case.drain(&case.name, 9).await.len(), 0);
}

async fn times_shown(case: Case) {
    case.publish_as(&case.name, json!({"json": 1, "ttl_seconds": 3600})).await;
    let message = case.take(&case.name).await;
    let time = |field: &str| campanile::model::Timestamp::parse_rfc3339(&text(&message[field])).expect(field);
    let (published, deadline) = (time("published_at"), time("ack_deadline"));
    assert!(published < deadline, "{message}");
    assert!(deadline.since(published).as_secs() >= 30, "{message}");
    let shown = case.ok("get_message", json!({"queue": case.name, "message_id": message["id"]})).await;
    let expires = campanile::model::Timestamp::parse_rfc3339(&text(&shown["expires_at"])).expect("expires_at");
    assert_eq!(expires.since(published).as_secs(), 3600);
}

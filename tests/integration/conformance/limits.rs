//! How much may wait in a queue, and what happens beyond.

use serde_json::json;

use super::{Case, Cases, cases};

pub(super) fn cases() -> Cases {
    cases![
        "a full queue refuses a publish" => full,
        "a full queue takes messages again when some are acked" => full_then_acked,
        "messages under a lease count as waiting" => leased_counts,
        "dead letters do not count" => dead_do_not_count,
        "a publish that one queue refuses is stored for none" => full_for_all,
        "a batch that does not fit whole is refused whole" => batch_too_many,
        "a duplicate is told even when the queue is full" => duplicate_when_full,
        "a queue may drop its oldest for new ones" => drop_oldest,
        "what a consumer holds is not dropped" => drop_not_leased,
        "a queue may be limited in bytes" => bytes,
        "a topic's limits count for its queues" => topic_limits,
        "a queue's own limit counts before its topic's" => own_before_topic,
        "messages that are too old are dropped" => too_old,
        "a limit can be taken away" => cleared,
        "what has expired takes no room" => expired_takes_no_room,
        "what is too old takes no room" => too_old_takes_no_room,
        "what has expired takes no room where nobody has ever received" => expired_before_the_first_queue,
        "a step that would overfill a queue settles nothing" => settle_full,
    ]
}

async fn limit(case: &Case, limits: serde_json::Value) {
    case.declare(&case.name).await;
    case.policy(&case.name, json!({"limits": limits})).await;
}

async fn publish_code(case: &Case, payload: i64) -> String {
    match case.call("publish", json!({"topic": case.name, "messages": [{"json": payload}]})).await {
        Ok(_) => "ok".to_owned(),
        Err(refused) => refused.code,
    }
}

async fn full(case: Case) {
    limit(&case, json!({"max_messages": 2})).await;
    case.publish_all(&case.name, 1..=2).await;
    assert_eq!(publish_code(&case, 3).await, "queue_full");
    assert_eq!(case.drain(&case.name, 9).await, [json!(1), json!(2)]);
}

async fn full_then_acked(case: Case) {
    limit(&case, json!({"max_messages": 1})).await;
    case.publish(&case.name, 1).await;
    assert_eq!(publish_code(&case, 2).await, "queue_full");
    assert_eq!(case.drain(&case.name, 1).await, [json!(1)]);
    assert_eq!(publish_code(&case, 3).await, "ok");
}

async fn leased_counts(case: Case) {
    limit(&case, json!({"max_messages": 1})).await;
    case.publish(&case.name, 1).await;
    let delivery = case.take(&case.name).await;
    assert_eq!(publish_code(&case, 2).await, "queue_full");
    case.ack(&case.name, &delivery).await;
    assert_eq!(publish_code(&case, 3).await, "ok");
}

async fn dead_do_not_count(case: Case) {
    limit(&case, json!({"max_messages": 1})).await;
    case.publish(&case.name, 1).await;
    let delivery = case.take(&case.name).await;
    case.nack(&case.name, &delivery, json!({"outcome": "DEAD_LETTER"})).await;
    assert_eq!(publish_code(&case, 2).await, "ok");
}

async fn full_for_all(case: Case) {
    for service in ["a", "b"] {
        case.ok("put_subscription", json!({"topic": case.name, "service": service})).await;
    }
    case.policy(&format!("{}.a", case.name), json!({"limits": {"max_messages": 1}})).await;
    case.publish(&case.name, 1).await;
    assert_eq!(publish_code(&case, 2).await, "queue_full");
    assert_eq!(case.counts(&format!("{}.b", case.name)).await, [1, 0, 0, 0, 0]);
}

async fn batch_too_many(case: Case) {
    limit(&case, json!({"max_messages": 2})).await;
    let messages = json!([{"json": 1}, {"json": 2}, {"json": 3}]);
    assert_eq!(case.code("publish", json!({"topic": case.name, "messages": messages})).await, "queue_full");
    assert_eq!(case.counts(&case.name).await, [0; 5]);
}

async fn duplicate_when_full(case: Case) {
    limit(&case, json!({"max_messages": 1})).await;
    let message = json!({"json": 1, "dedup_id": "d"});
    let id = case.publish_as(&case.name, message.clone()).await;
    assert_eq!(case.publish_as(&case.name, message).await, id);
}

async fn drop_oldest(case: Case) {
    limit(&case, json!({"max_messages": 2, "overflow": "DROP_OLDEST"})).await;
    let ids = case.publish_all(&case.name, 1..=2).await;
    case.publish_all(&case.name, 3..=3).await;
    assert_eq!(case.events(&ids[0]).await, ["published", "dropped"]);
    assert_eq!(case.drain(&case.name, 9).await, [json!(2), json!(3)]);
}

async fn drop_not_leased(case: Case) {
    limit(&case, json!({"max_messages": 2, "overflow": "DROP_OLDEST"})).await;
    case.publish_all(&case.name, 1..=2).await;
    let held = case.take(&case.name).await;
    case.publish(&case.name, 3).await;
    assert_eq!(case.ack(&case.name, &held).await, "ok");
    assert_eq!(case.drain(&case.name, 9).await, [json!(3)]);
}

async fn bytes(case: Case) {
    limit(&case, json!({"max_bytes": 3000})).await;
    let large = "x".repeat(1000);
    for _ in 0..2 {
        case.publish(&case.name, large.clone()).await;
    }
    let third = json!({"topic": case.name, "messages": [{"json": large.repeat(2)}]});
    assert_eq!(case.code("publish", third).await, "queue_full");
}

async fn topic_limits(case: Case) {
    case.ok("put_topic", json!({"topic": case.name, "policy": {"limits": {"max_messages": 1}}})).await;
    case.ok("put_subscription", json!({"topic": case.name, "service": "s"})).await;
    case.publish(&case.name, 1).await;
    assert_eq!(publish_code(&case, 2).await, "queue_full");
}

async fn own_before_topic(case: Case) {
    case.ok("put_topic", json!({"topic": case.name, "policy": {"limits": {"max_messages": 1}}})).await;
    case.ok("put_subscription", json!({"topic": case.name, "service": "s", "policy": {"limits": {"max_messages": 2}}}))
        .await;
    case.publish(&case.name, 1).await;
    assert_eq!(publish_code(&case, 2).await, "ok");
    assert_eq!(publish_code(&case, 3).await, "queue_full");
}

async fn too_old(case: Case) {
    limit(&case, json!({"max_age_seconds": 60})).await;
    case.publish(&case.name, 1).await;
    case.advance(50.0).await;
    case.publish(&case.name, 2).await;
    case.advance(11.0).await;
    assert_eq!(case.drain(&case.name, 9).await, [json!(2)]);
}

async fn cleared(case: Case) {
    limit(&case, json!({"max_messages": 1})).await;
    case.publish(&case.name, 1).await;
    assert_eq!(publish_code(&case, 2).await, "queue_full");
    let clear = match case.peer {
        super::Peer::Rest(_) => json!({"queue": case.name, "policy": {"limits": {"max_messages": null}}}),
        super::Peer::Grpc(_) => json!({"queue": case.name, "clear_limits": ["max_messages"]}),
    };
    case.ok("update_queue", clear).await;
    assert_eq!(publish_code(&case, 2).await, "ok");
}

async fn expired_takes_no_room(case: Case) {
    limit(&case, json!({"max_messages": 2})).await;
    let id = case.publish_as(&case.name, json!({"json": 1, "ttl_seconds": 10})).await;
    case.publish_as(&case.name, json!({"json": 2, "ttl_seconds": 10})).await;
    assert_eq!(publish_code(&case, 3).await, "queue_full");
    case.advance(11.0).await;
    assert_eq!(publish_code(&case, 4).await, "ok");
    assert_eq!(case.counts(&case.name).await, [1, 0, 0, 0, 0]);
    assert_eq!(case.events(&id).await, ["published", "expired"]);
    assert_eq!(case.drain(&case.name, 9).await, [json!(4)]);
}

async fn too_old_takes_no_room(case: Case) {
    limit(&case, json!({"max_messages": 2, "max_age_seconds": 60})).await;
    case.publish_all(&case.name, 1..=2).await;
    let held = case.take(&case.name).await;
    case.extend(&case.name, &held, 600).await;
    case.advance(61.0).await;
    assert_eq!(publish_code(&case, 3).await, "ok", "the one that waits has gone");
    assert_eq!(publish_code(&case, 4).await, "queue_full", "what a consumer holds stays");
    assert_eq!(case.ack(&case.name, &held).await, "ok");
    assert_eq!(case.drain(&case.name, 9).await, [json!(3)]);
}

async fn expired_before_the_first_queue(case: Case) {
    case.ok("put_topic", json!({"topic": case.name, "policy": {"limits": {"max_messages": 1}}})).await;
    case.publish_as(&case.name, json!({"json": 1, "ttl_seconds": 10})).await;
    assert_eq!(publish_code(&case, 2).await, "queue_full");
    case.advance(11.0).await;
    assert_eq!(publish_code(&case, 3).await, "ok");
    assert_eq!(case.drain(&case.name, 9).await, [json!(3)]);
}

async fn settle_full(case: Case) {
    limit(&case, json!({"max_messages": 1})).await;
    let from = format!("{}-from", case.name);
    case.publish(&case.name, 1).await;
    case.publish(&from, 2).await;
    let delivery = case.take(&from).await;
    let step = json!({"ack": [delivery["ack_id"]], "publish": [{"topic": case.name, "messages": [{"json": 3}]}]});
    assert_eq!(case.code("settle", step).await, "queue_full");
    assert_eq!(case.ack(&from, &delivery).await, "ok", "it was not acked before");
}

//! Acks, nacks and publishes in one durable step.

use serde_json::json;

use super::{Case, Cases, cases};

pub(super) fn cases() -> Cases {
    cases![
        "an ack, a nack and a publish are one step" => together,
        "a stale ack refuses all of a step" => refused_whole,
        "a step may only publish" => only_publishes,
        "what is wrong in a step is named with its place" => place,
        "a dedup id is found used within a step" => dedup_place,
        "a step of nothing is refused" => nothing,
    ]
}

async fn together(case: Case) {
    let next = format!("{}-next", case.name);
    case.publish_all(&case.name, 1..=2).await;
    let pulled = case.pull(&case.name, 2).await;
    let step = json!({
        "ack": [pulled[0]["ack_id"]],
        "nack": [{"ack_id": pulled[1]["ack_id"], "outcome": "DEAD_LETTER", "reason": "no"}],
        "publish": [{"topic": next, "messages": [{"json": 3}, {"json": 4}]}],
    });
    case.ok("settle", step).await;
    assert_eq!(case.counts(&case.name).await, [0, 0, 0, 0, 1]);
    assert_eq!(case.drain(&next, 9).await, [json!(3), json!(4)]);
}

async fn refused_whole(case: Case) {
    let next = format!("{}-next", case.name);
    case.declare(&next).await;
    case.publish_all(&case.name, 1..=2).await;
    let pulled = case.pull(&case.name, 2).await;
    assert_eq!(case.ack(&case.name, &pulled[0]).await, "ok");
    let step = json!({
        "ack": [pulled[1]["ack_id"], pulled[0]["ack_id"]],
        "publish": [{"topic": next, "messages": [{"json": 3}]}],
    });
    assert_eq!(case.code("settle", step).await, "stale_ack");
    assert_eq!(case.counts(&next).await, [0; 5]);
    assert_eq!(case.ack(&case.name, &pulled[1]).await, "ok", "it was not acked before");
}

async fn place(case: Case) {
    case.publish_all(&case.name, 0..2).await;
    let pulled = case.pull(&case.name, 2).await;
    let [one, other] = [&pulled[0]["ack_id"], &pulled[1]["ack_id"]];
    assert_eq!(case.ack(&case.name, &pulled[1]).await, "ok");
    let publish = |message: serde_json::Value| json!([{"topic": case.name, "messages": [{"json": 1}, message]}]);
    let steps = [
        (json!({"ack": [one, other]}), "stale_ack", "ack[1]"),
        (json!({"ack": [one], "nack": [{"ack_id": other}]}), "stale_ack", "nack[0].ack_id"),
        (json!({"ack": [one, "nonsense"]}), "invalid_argument", "ack[1]"),
        (json!({"nack": [{"ack_id": one, "reason": "r".repeat(1025)}]}), "invalid_argument", "nack[0].reason"),
        (
            json!({"ack": [other], "nack": [{"ack_id": one, "outcome": "RELEASE", "delay_seconds": 1}]}),
            "invalid_argument",
            "nack[0].delay",
        ),
        (
            json!({"publish": publish(json!({"json": 1, "delay_seconds": -1}))}),
            "invalid_argument",
            "publish[0].messages[1].delay",
        ),
        (
            json!({"publish": publish(json!({"json": 1, "reply_to": "r".repeat(1025)}))}),
            "invalid_argument",
            "publish[0].messages[1].reply_to",
        ),
    ];
    for (step, code, path) in steps {
        assert_eq!(case.refused_at("settle", step).await, (code.to_owned(), path.to_owned()));
    }
    assert_eq!(case.ack(&case.name, &pulled[0]).await, "ok", "nothing was done");
}

async fn dedup_place(case: Case) {
    let (first, other) = (format!("{}-1", case.name), format!("{}-2", case.name));
    let message = |payload: u32| json!({"json": payload, "dedup_id": "d"});
    let step = json!({"publish": [
        {"topic": first, "messages": [message(1), {"json": 2}]},
        {"topic": other, "messages": [message(3)]},
        {"topic": first, "messages": [{"json": 4}, message(5)]},
    ]});
    let refused = case.refused_at("settle", step).await;
    assert_eq!(refused, ("dedup_mismatch".into(), "publish[2].messages[1].dedup_id".into()));
}

async fn nothing(case: Case) {
    assert_eq!(case.code("settle", json!({})).await, "invalid_argument");
    assert_eq!(case.code("settle", json!({"ack": [], "publish": []})).await, "invalid_argument");
}

async fn only_publishes(case: Case) {
    let other = format!("{}-other", case.name);
    let publish = |topic: &str| json!({"topic": topic, "messages": [{"json": 1}]});
    case.ok("settle", json!({"publish": [publish(&case.name), publish(&other)]})).await;
    assert_eq!(case.drain(&case.name, 9).await, case.drain(&other, 9).await);
}

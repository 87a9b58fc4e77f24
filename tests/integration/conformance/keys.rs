//! Ordering keys: one in flight for each, in order; others flow, and take turns.

use serde_json::{Value, json};

use super::{Case, Cases, cases, payloads};

pub(super) fn cases() -> Cases {
    cases![
        "one message of a key is in flight at a time" => one_in_flight,
        "the next of a key comes when the one before is acked" => next_after_ack,
        "the messages of a key come in publish order" => in_order,
        "other keys flow while one is held" => others_flow,
        "messages without a key flow while a key is held" => keyless_flow,
        "a key whose head failed waits for its retry, and nothing else does" => failed_head,
        "a failed head comes again before what is behind it" => failed_head_first,
        "a key whose head is rejected goes on" => rejected_head,
        "a key whose head's deadline passed delivers it again first" => late_head,
        "a released head comes again first" => released_head,
        "keys take turns in one batch" => turns,
        "a key with many messages does not starve others" => no_starvation,
        "a batch brings each key once" => batch_has_each_once,
        "acks at once don't wait for keys" => auto_ack_passes,
        "keys count per queue" => keys_per_queue,
        "a redriven head comes before what is behind it" => redriven_head,
        "a deleted head lets its key go on" => deleted_head,
    ]
}

/// Publishes `key:n` texts in order.
async fn publish(case: &Case, keys: &[&str]) {
    let messages: Vec<Value> =
        keys.iter().enumerate().map(|(at, key)| json!({"json": format!("{key}{at}"), "ordering_key": key})).collect();
    case.ok("publish", json!({"topic": case.name, "messages": messages})).await;
}

async fn pulled(case: &Case, max: u64) -> Vec<Value> {
    case.pull(&case.name, max).await
}

async fn one_in_flight(case: Case) {
    publish(&case, &["a", "a", "a"]).await;
    assert_eq!(payloads(&pulled(&case, 9).await), [json!("a0")]);
    assert_eq!(pulled(&case, 9).await.len(), 0);
}

async fn next_after_ack(case: Case) {
    publish(&case, &["a", "a"]).await;
    let first = pulled(&case, 9).await;
    case.ack(&case.name, &first[0]).await;
    assert_eq!(payloads(&pulled(&case, 9).await), [json!("a1")]);
}

async fn in_order(case: Case) {
    publish(&case, &["a"; 8]).await;
    for n in 0..8 {
        let delivery = case.take(&case.name).await;
        assert_eq!(delivery["json"], format!("a{n}"));
        case.ack(&case.name, &delivery).await;
    }
}

async fn others_flow(case: Case) {
    publish(&case, &["a", "a", "b", "b", "c"]).await;
    assert_eq!(payloads(&pulled(&case, 9).await), [json!("a0"), json!("b2"), json!("c4")]);
}

async fn keyless_flow(case: Case) {
    publish(&case, &["a", "a"]).await;
    case.publish_all(&case.name, 1..=2).await;
    assert_eq!(payloads(&pulled(&case, 9).await), [json!("a0"), json!(1), json!(2)]);
}

async fn failed_head(case: Case) {
    publish(&case, &["a", "a", "b", "b"]).await;
    let head = case.take(&case.name).await;
    assert_eq!(head["json"], "a0");
    case.nack(&case.name, &head, json!({"outcome": "RETRY", "delay_seconds": 60})).await;
    for n in [2, 3] {
        let delivery = case.take(&case.name).await;
        assert_eq!(delivery["json"], format!("b{n}"));
        case.ack(&case.name, &delivery).await;
    }
    assert_eq!(pulled(&case, 9).await.len(), 0, "a waits");
    case.advance(61.0).await;
    assert_eq!(payloads(&pulled(&case, 9).await), [json!("a0")]);
}

async fn failed_head_first(case: Case) {
    publish(&case, &["a", "a"]).await;
    let head = case.take(&case.name).await;
    case.nack(&case.name, &head, json!({"outcome": "RETRY"})).await;
    let again = case.take(&case.name).await;
    assert_eq!((&again["json"], &again["delivery_attempt"]), (&json!("a0"), &json!(2)));
}

async fn rejected_head(case: Case) {
    publish(&case, &["a", "a"]).await;
    let head = case.take(&case.name).await;
    case.nack(&case.name, &head, json!({"outcome": "DEAD_LETTER"})).await;
    assert_eq!(payloads(&pulled(&case, 9).await), [json!("a1")]);
}

async fn late_head(case: Case) {
    publish(&case, &["a", "a"]).await;
    case.take(&case.name).await;
    case.advance(31.0).await;
    assert_eq!(payloads(&pulled(&case, 9).await), [json!("a0")]);
}

async fn released_head(case: Case) {
    publish(&case, &["a", "a"]).await;
    let head = case.take(&case.name).await;
    case.nack(&case.name, &head, json!({"outcome": "RELEASE"})).await;
    assert_eq!(payloads(&pulled(&case, 9).await), [json!("a0")]);
}

async fn turns(case: Case) {
    publish(&case, &["a", "a", "a", "b", "b", "c"]).await;
    let mut seen = Vec::new();
    for _ in 0..6 {
        let delivery = case.take(&case.name).await;
        seen.push(delivery["json"].as_str().unwrap_or_default().to_owned());
        case.ack(&case.name, &delivery).await;
    }
    let first_three: Vec<_> = seen[..3].iter().map(|text| &text[..1]).collect();
    assert_eq!(first_three, ["a", "b", "c"], "{seen:?}");
    let of_a: Vec<_> = seen.iter().filter(|text| text.starts_with('a')).collect();
    assert_eq!(of_a, ["a0", "a1", "a2"]);
}

async fn no_starvation(case: Case) {
    for _ in 0..3 {
        publish(&case, &["a"; 500]).await;
    }
    publish(&case, &["b"]).await;
    // The first thousand are passed over in one look, the rest in the next.
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.extend(payloads(&pulled(&case, 10).await));
    }
    assert_eq!(seen, [json!("a0"), json!("b0")]);
}

async fn batch_has_each_once(case: Case) {
    publish(&case, &["a", "b", "a", "b", "c", "c"]).await;
    assert_eq!(payloads(&pulled(&case, 99).await), [json!("a0"), json!("b1"), json!("c4")]);
}

async fn auto_ack_passes(case: Case) {
    publish(&case, &["a", "a", "b"]).await;
    assert_eq!(case.drain(&case.name, 9).await, [json!("a0"), json!("a1"), json!("b2")]);
}

async fn keys_per_queue(case: Case) {
    for service in ["x", "y"] {
        case.ok("put_subscription", json!({"topic": case.name, "service": service})).await;
    }
    publish(&case, &["a", "a"]).await;
    for service in ["x", "y"] {
        let queue = format!("{}.{service}", case.name);
        assert_eq!(payloads(&case.pull(&queue, 9).await), [json!("a0")], "{service}");
    }
}

async fn redriven_head(case: Case) {
    publish(&case, &["a", "a", "a"]).await;
    let head = case.take(&case.name).await;
    case.nack(&case.name, &head, json!({"outcome": "DEAD_LETTER"})).await;
    let second = case.take(&case.name).await;
    assert_eq!(second["json"], "a1");
    case.ok("redrive", json!({"queue": case.name})).await;
    case.ack(&case.name, &second).await;
    assert_eq!(payloads(&pulled(&case, 9).await), [json!("a0")]);
}

async fn deleted_head(case: Case) {
    publish(&case, &["a", "a"]).await;
    let head = case.take(&case.name).await;
    case.ok("delete_message", json!({"queue": case.name, "message_id": head["id"]})).await;
    assert_eq!(payloads(&pulled(&case, 9).await), [json!("a1")]);
    assert_eq!(case.ack(&case.name, &head).await, "stale_ack");
}

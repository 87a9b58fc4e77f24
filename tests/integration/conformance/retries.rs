//! What becomes of deliveries that fail: attempts, backoff, dead letters, redrive.

use serde_json::{Value, json};

use super::{Case, Cases, cases, list, number, payloads, text};

pub(super) fn cases() -> Cases {
    cases![
        "a nacked message is back at once where there is no backoff" => nack_at_once,
        "a nack counts the delivery" => nack_counts,
        "a nack may say when the message is to come again" => nack_delay,
        "a message that waits for its retry does not hold up others" => retry_overtaken,
        "the backoff doubles from delivery to delivery" => backoff_doubles,
        "the backoff ends at the maximum" => backoff_max,
        "a deadline that passes counts as a failure and backs off" => deadline_backs_off,
        "after the last attempt a message is a dead letter" => dead_after_last,
        "after the last deadline a message is a dead letter" => dead_after_deadline,
        "a queue may let messages fail for ever" => never_dead,
        "a consumer may reject a message for good" => rejected,
        "a dead letter says why, how often and when" => dead_letter_told,
        "a dead letter is not delivered" => dead_not_delivered,
        "a dead letter of one queue is alive in another" => dead_per_queue,
        "receives that ack at once don't count as attempts" => auto_ack_not_counted,
        "released deliveries don't bring a message closer to its end" => released_never_dead,
        "redrive brings dead letters back to their places" => redrive_all,
        "redrive counts attempts anew" => redrive_counts_anew,
        "redrive by id brings back only those" => redrive_by_id,
        "redrive of what is not dead does nothing" => redrive_not_dead,
        "redrive of an empty queue does nothing" => redrive_nothing,
        "redrive at a pace lets so many through per second" => redrive_pace,
        "a redriven message can die again" => redrive_dies_again,
        "a lower limit of attempts counts from the next failure on" => lowered_attempts,
        "nacks of one batch are answered one by one" => nack_batch,
        "a nack with a reason is told in the message's story" => reason_in_story,
    ]
}

/// Fails the next message; the delivery.
async fn fail(case: &Case) -> Value {
    let delivery = case.take(&case.name).await;
    assert_eq!(case.nack(&case.name, &delivery, json!({"outcome": "RETRY"})).await, "ok");
    delivery
}

/// Makes a dead letter of the next message.
async fn bury(case: &Case) -> String {
    let delivery = case.take(&case.name).await;
    let nack = json!({"outcome": "DEAD_LETTER", "reason": "no good"});
    assert_eq!(case.nack(&case.name, &delivery, nack).await, "ok");
    text(&delivery["id"])
}

async fn nack_at_once(case: Case) {
    case.publish_all(&case.name, 1..=2).await;
    fail(&case).await;
    assert_eq!(case.drain(&case.name, 9).await, [json!(1), json!(2)]);
}

async fn nack_counts(case: Case) {
    case.publish(&case.name, 1).await;
    for attempt in 1..=4 {
        assert_eq!(fail(&case).await["delivery_attempt"], attempt);
    }
}

async fn nack_delay(case: Case) {
    case.publish(&case.name, 1).await;
    let delivery = case.take(&case.name).await;
    let nack = json!({"outcome": "RETRY", "delay_seconds": 100});
    assert_eq!(case.nack(&case.name, &delivery, nack).await, "ok");
    assert_eq!(case.counts(&case.name).await, [0, 1, 0, 0, 0]);
    case.advance(99.0).await;
    assert_eq!(case.pull(&case.name, 1).await.len(), 0);
    case.advance(1.5).await;
    assert_eq!(case.take(&case.name).await["delivery_attempt"], 2);
}

async fn retry_overtaken(case: Case) {
    case.publish_all(&case.name, 1..=3).await;
    let delivery = case.take(&case.name).await;
    case.nack(&case.name, &delivery, json!({"outcome": "RETRY", "delay_seconds": 100})).await;
    assert_eq!(case.drain(&case.name, 9).await, [json!(2), json!(3)]);
    case.advance(101.0).await;
    assert_eq!(case.drain(&case.name, 9).await, [json!(1)]);
}

async fn backoff_doubles(case: Case) {
    case.publish(&case.name, 1).await;
    case.policy(&case.name, json!({"minimum_backoff_seconds": 10, "maximum_backoff_seconds": 1000})).await;
    // Chance takes up to a half.
    for (at_least, at_most) in [(5.0, 10.0), (10.0, 20.0), (20.0, 40.0)] {
        fail(&case).await;
        case.advance(at_least - 0.5).await;
        assert_eq!(case.pull(&case.name, 1).await.len(), 0, "{at_least}");
        case.advance(at_most - at_least + 1.0).await;
    }
    assert_eq!(case.pull(&case.name, 1).await.len(), 1);
}

async fn backoff_max(case: Case) {
    case.publish(&case.name, 1).await;
    case.policy(&case.name, json!({"minimum_backoff_seconds": 10, "maximum_backoff_seconds": 12})).await;
    for _ in 0..4 {
        fail(&case).await;
        case.advance(12.5).await;
    }
    assert_eq!(case.take(&case.name).await["delivery_attempt"], 5);
}

async fn deadline_backs_off(case: Case) {
    case.publish(&case.name, 1).await;
    case.policy(&case.name, json!({"minimum_backoff_seconds": 60, "maximum_backoff_seconds": 60})).await;
    case.take(&case.name).await;
    case.advance(30.5).await;
    assert_eq!(case.counts(&case.name).await, [0, 1, 0, 0, 0]);
    case.advance(60.5).await;
    assert_eq!(case.take(&case.name).await["delivery_attempt"], 2);
}

async fn dead_after_last(case: Case) {
    case.publish(&case.name, 1).await;
    for _ in 0..5 {
        fail(&case).await;
    }
    assert_eq!(case.counts(&case.name).await, [0, 0, 0, 0, 1]);
    assert_eq!(case.pull(&case.name, 1).await.len(), 0);
}

async fn dead_after_deadline(case: Case) {
    case.publish(&case.name, 1).await;
    case.policy(&case.name, json!({"max_delivery_attempts": 2})).await;
    for _ in 0..2 {
        case.take(&case.name).await;
        case.advance(31.0).await;
    }
    assert_eq!(case.counts(&case.name).await, [0, 0, 0, 0, 1]);
    let dead = case.browse(&case.name, "dead").await;
    assert_eq!(text(&dead[0]["dead_letter"]["cause"]).to_lowercase(), "ack_deadline_exceeded");
}

async fn never_dead(case: Case) {
    case.publish(&case.name, 1).await;
    case.policy(&case.name, json!({"max_delivery_attempts": 0})).await;
    for attempt in 1..=20 {
        assert_eq!(fail(&case).await["delivery_attempt"], attempt);
    }
    assert_eq!(case.counts(&case.name).await, [1, 0, 0, 0, 0]);
}

async fn rejected(case: Case) {
    case.publish(&case.name, 1).await;
    bury(&case).await;
    assert_eq!(case.counts(&case.name).await, [0, 0, 0, 0, 1]);
}

async fn dead_letter_told(case: Case) {
    case.publish(&case.name, 1).await;
    case.policy(&case.name, json!({"max_delivery_attempts": 2})).await;
    fail(&case).await;
    case.advance(10.0).await;
    let delivery = case.take(&case.name).await;
    case.nack(&case.name, &delivery, json!({"outcome": "RETRY", "reason": "still no good"})).await;
    let dead = case.browse(&case.name, "dead").await;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0]["delivery_attempts"], 2);
    let letter = &dead[0]["dead_letter"];
    assert_eq!(
        (text(&letter["cause"]).to_lowercase(), text(&letter["reason"])),
        ("failed".into(), "still no good".into())
    );
    let time = |field: &str| campanile::model::Timestamp::parse_rfc3339(&text(&letter[field])).expect(field);
    let between = time("dead_lettered_at").since(time("first_failed_at"));
    assert!((10..12).contains(&between.as_secs()), "{letter}");
}

async fn dead_not_delivered(case: Case) {
    case.publish_all(&case.name, 1..=2).await;
    bury(&case).await;
    assert_eq!(case.drain(&case.name, 9).await, [json!(2)]);
}

async fn dead_per_queue(case: Case) {
    for service in ["a", "b"] {
        case.ok("put_subscription", json!({"topic": case.name, "service": service})).await;
    }
    case.publish(&case.name, 1).await;
    let (a, b) = (format!("{}.a", case.name), format!("{}.b", case.name));
    let delivery = case.take(&a).await;
    case.nack(&a, &delivery, json!({"outcome": "DEAD_LETTER"})).await;
    assert_eq!(case.drain(&b, 9).await, [json!(1)]);
    assert_eq!(case.counts(&a).await, [0, 0, 0, 0, 1]);
}

async fn auto_ack_not_counted(case: Case) {
    case.publish(&case.name, 1).await;
    case.policy(&case.name, json!({"max_delivery_attempts": 1})).await;
    assert_eq!(case.drain(&case.name, 1).await, [json!(1)]);
    assert_eq!(case.counts(&case.name).await, [0; 5]);
}

async fn released_never_dead(case: Case) {
    case.publish(&case.name, 1).await;
    case.policy(&case.name, json!({"max_delivery_attempts": 1})).await;
    for _ in 0..5 {
        let delivery = case.take(&case.name).await;
        case.nack(&case.name, &delivery, json!({"outcome": "RELEASE"})).await;
    }
    assert_eq!(case.counts(&case.name).await, [1, 0, 0, 0, 0]);
    fail(&case).await;
    assert_eq!(case.counts(&case.name).await, [0, 0, 0, 0, 1]);
}

async fn redrive_all(case: Case) {
    case.publish_all(&case.name, 1..=3).await;
    bury(&case).await;
    bury(&case).await;
    assert_eq!(number(&case.ok("redrive", json!({"queue": case.name})).await["messages"]), 2);
    assert_eq!(case.drain(&case.name, 9).await, [json!(1), json!(2), json!(3)]);
}

async fn redrive_counts_anew(case: Case) {
    case.publish(&case.name, 1).await;
    for _ in 0..5 {
        fail(&case).await;
    }
    case.ok("redrive", json!({"queue": case.name})).await;
    assert_eq!(case.take(&case.name).await["delivery_attempt"], 1);
}

async fn redrive_by_id(case: Case) {
    case.publish_all(&case.name, 1..=3).await;
    bury(&case).await;
    let second = bury(&case).await;
    bury(&case).await;
    let answer = case.ok("redrive", json!({"queue": case.name, "message_ids": [second]})).await;
    assert_eq!(number(&answer["messages"]), 1);
    assert_eq!(case.drain(&case.name, 9).await, [json!(2)]);
    assert_eq!(case.counts(&case.name).await, [0, 0, 0, 0, 2]);
}

async fn redrive_not_dead(case: Case) {
    let id = case.publish(&case.name, 1).await;
    case.declare(&format!("{}-x", case.name)).await;
    let delivery = case.take(&case.name).await;
    let answer = case.ok("redrive", json!({"queue": case.name, "message_ids": [id]})).await;
    assert_eq!(number(&answer["messages"]), 0);
    assert_eq!(case.ack(&case.name, &delivery).await, "ok");
}

async fn redrive_nothing(case: Case) {
    case.declare(&case.name).await;
    assert_eq!(number(&case.ok("redrive", json!({"queue": case.name})).await["messages"]), 0);
}

async fn redrive_pace(case: Case) {
    case.publish_all(&case.name, 1..=10).await;
    for _ in 0..10 {
        bury(&case).await;
    }
    let answer = case.ok("redrive", json!({"queue": case.name, "max_per_second": 1})).await;
    assert_eq!(number(&answer["messages"]), 10);
    // Real time passes, too: at most a few seconds of it.
    let first = case.drain(&case.name, 99).await.len();
    assert!((1..5).contains(&first), "{first} at once");
    case.advance(20.0).await;
    assert_eq!(case.drain(&case.name, 99).await.len(), 10 - first);
}

async fn redrive_dies_again(case: Case) {
    case.publish(&case.name, 1).await;
    bury(&case).await;
    case.ok("redrive", json!({"queue": case.name})).await;
    bury(&case).await;
    assert_eq!(case.counts(&case.name).await, [0, 0, 0, 0, 1]);
}

async fn lowered_attempts(case: Case) {
    case.publish(&case.name, 1).await;
    for _ in 0..3 {
        fail(&case).await;
    }
    case.policy(&case.name, json!({"max_delivery_attempts": 2})).await;
    assert_eq!(case.counts(&case.name).await, [1, 0, 0, 0, 0], "it is not given up without another try");
    fail(&case).await;
    assert_eq!(case.counts(&case.name).await, [0, 0, 0, 0, 1]);
}

async fn nack_batch(case: Case) {
    case.publish_all(&case.name, 1..=2).await;
    let pulled = case.pull(&case.name, 2).await;
    assert_eq!(case.ack(&case.name, &pulled[0]).await, "ok");
    let ids: Vec<_> = pulled.iter().map(|d| d["ack_id"].clone()).collect();
    let answer = case.ok("nack", json!({"queue": case.name, "ack_ids": ids, "outcome": "RETRY"})).await;
    let codes: Vec<_> = list(&answer["results"]).iter().map(|r| text(&r["code"])).collect();
    assert_eq!(codes, ["stale_ack", "ok"]);
    assert_eq!(payloads(&case.pull(&case.name, 9).await), [json!(2)]);
}

async fn reason_in_story(case: Case) {
    let id = case.publish(&case.name, 1).await;
    let delivery = case.take(&case.name).await;
    case.nack(&case.name, &delivery, json!({"outcome": "RETRY", "reason": "the bank said no"})).await;
    let story = case.ok("get_story", json!({"message_id": id})).await;
    let nacked = list(&story["events"]).into_iter().find(|event| event["kind"] == "nacked").expect("nacked");
    assert_eq!((text(&nacked["reason"]), text(&nacked["queue"])), ("the bank said no".into(), case.name.clone()));
}

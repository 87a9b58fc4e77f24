//! Receive and settle: leases, acks, extensions, long polling.

use serde_json::json;

use super::{Case, Cases, cases, list, payloads, text};

pub(super) fn cases() -> Cases {
    cases![
        "an empty queue answers with an empty list" => empty,
        "a message is leased to one consumer at a time" => leased_once,
        "messages come in publish order" => fifo,
        "an acked message is gone" => acked,
        "a batch of acks is answered one by one" => acks_each,
        "an ack is answered once as done, then as stale" => acked_twice,
        "an ack id of nobody is not found" => unknown_ack,
        "an ack after the deadline is stale when somebody else holds the message" => late_ack_fenced,
        "an ack after the deadline is stale when nobody has asked again" => late_ack,
        "a message that is not acked in time comes back to its place" => back_in_place,
        "the ack deadline of a pull counts" => own_deadline,
        "the ack deadline of the policy counts where the pull says none" => policy_deadline,
        "an extension moves the deadline" => extended,
        "an extension to zero gives the message back" => extended_to_zero,
        "an extension of a stale lease is stale" => extended_stale,
        "messages acked at once carry no ack id" => auto_ack,
        "a delivery says which one it is" => attempt_counted,
        "a released message counts no delivery" => release_not_counted,
        "a released message is back in its place" => release_in_place,
        "a waiting pull gets a message as it comes" => long_poll,
        "a waiting pull is answered with nothing when its time is over" => long_poll_over,
        "waiting pulls are served in the order they came" => long_poll_fair,
        "a waiting pull gets a message whose lease ends" => long_poll_lease,
        "a waiting pull gets a message that falls due" => long_poll_due,
        "a waiting pull is told when its queue is removed" => long_poll_removed,
        "a waiting pull is told when its topic is removed" => long_poll_topic_removed,
        "a waiting pull of a paused queue is served when that is resumed" => long_poll_paused,
        "a pull by topic and service is a pull of the service's queue" => by_service,
        "a pull declares the queue it names" => declares,
        "the queues of a topic are independent" => independent,
        "acks of one queue do nothing to another" => acks_per_queue,
        "a lease survives another consumer's pull" => lease_kept,
        "a large answer is cut, not refused" => large_answer,
        "a consumer that hangs up before its answer loses nothing" => hang_up,
    ]
}

async fn empty(case: Case) {
    assert_eq!(list(&case.ok("pull", json!({"queue": case.name})).await["messages"]).len(), 0);
}

async fn leased_once(case: Case) {
    case.publish(&case.name, 1).await;
    case.take(&case.name).await;
    assert_eq!(case.pull(&case.name, 9).await.len(), 0);
    assert_eq!(case.counts(&case.name).await, [0, 0, 1, 0, 0]);
}

async fn fifo(case: Case) {
    for n in 0..10 {
        case.publish(&case.name, n).await;
    }
    let mut seen = payloads(&case.pull(&case.name, 3).await);
    seen.extend(payloads(&case.pull(&case.name, 100).await));
    assert_eq!(seen, (0..10).map(|n| json!(n)).collect::<Vec<_>>());
}

async fn acked(case: Case) {
    case.publish(&case.name, 1).await;
    let delivery = case.take(&case.name).await;
    assert_eq!(case.ack(&case.name, &delivery).await, "ok");
    case.advance(31.0).await;
    assert_eq!(case.counts(&case.name).await, [0; 5]);
}

async fn acks_each(case: Case) {
    case.publish_all(&case.name, 0..3).await;
    let pulled = case.pull(&case.name, 3).await;
    assert_eq!(case.ack(&case.name, &pulled[1]).await, "ok");
    let ids: Vec<_> = pulled.iter().map(|d| d["ack_id"].clone()).chain([json!("nonsense")]).collect();
    let answer = case.ok("ack", json!({"queue": case.name, "ack_ids": ids})).await;
    let codes: Vec<_> = list(&answer["results"]).iter().map(|r| text(&r["code"])).collect();
    assert_eq!(codes, ["ok", "stale_ack", "ok", "not_found"]);
    let named: Vec<_> = list(&answer["results"]).iter().map(|r| r["ack_id"].clone()).collect();
    assert_eq!(named, ids);
}

async fn acked_twice(case: Case) {
    case.publish(&case.name, 1).await;
    let delivery = case.take(&case.name).await;
    assert_eq!(case.ack(&case.name, &delivery).await, "ok");
    assert_eq!(case.ack(&case.name, &delivery).await, "stale_ack");
}

async fn unknown_ack(case: Case) {
    case.declare(&case.name).await;
    for id in ["", "x", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        assert_eq!(case.ack(&case.name, &json!({"ack_id": id})).await, "not_found", "{id}");
    }
}

async fn late_ack_fenced(case: Case) {
    case.publish(&case.name, 1).await;
    let first = case.take(&case.name).await;
    case.advance(31.0).await;
    let second = case.take(&case.name).await;
    assert_eq!(case.ack(&case.name, &first).await, "stale_ack");
    assert_eq!(case.nack(&case.name, &first, json!({"outcome": "DEAD_LETTER"})).await, "stale_ack");
    assert_eq!(case.counts(&case.name).await, [0, 0, 1, 0, 0], "it is still the second consumer's");
    assert_eq!(case.ack(&case.name, &second).await, "ok");
    let all = json!({"ack": [first["ack_id"]]});
    assert_eq!(case.code("settle", all).await, "stale_ack");
}

async fn late_ack(case: Case) {
    case.publish(&case.name, 1).await;
    let delivery = case.take(&case.name).await;
    case.advance(31.0).await;
    assert_eq!(case.ack(&case.name, &delivery).await, "stale_ack");
    assert_eq!(case.drain(&case.name, 9).await, [json!(1)]);
}

async fn back_in_place(case: Case) {
    case.publish_all(&case.name, 1..=3).await;
    case.take(&case.name).await;
    case.advance(31.0).await;
    assert_eq!(case.drain(&case.name, 9).await, [json!(1), json!(2), json!(3)]);
}

async fn own_deadline(case: Case) {
    case.publish(&case.name, 1).await;
    let pull = json!({"queue": case.name, "ack_deadline_seconds": 600});
    assert_eq!(case.pull_with(pull).await.len(), 1);
    case.advance(599.0).await;
    assert_eq!(case.pull(&case.name, 1).await.len(), 0);
    case.advance(2.0).await;
    assert_eq!(case.pull(&case.name, 1).await.len(), 1);
}

async fn policy_deadline(case: Case) {
    case.publish(&case.name, 1).await;
    case.policy(&case.name, json!({"ack_deadline_seconds": 120})).await;
    case.take(&case.name).await;
    case.advance(119.0).await;
    assert_eq!(case.pull(&case.name, 1).await.len(), 0);
    case.advance(2.0).await;
    assert_eq!(case.pull(&case.name, 1).await.len(), 1);
}

async fn extended(case: Case) {
    case.publish(&case.name, 1).await;
    let delivery = case.take(&case.name).await;
    case.advance(20.0).await;
    assert_eq!(case.extend(&case.name, &delivery, 60).await, "ok");
    case.advance(59.0).await;
    assert_eq!(case.pull(&case.name, 1).await.len(), 0);
    assert_eq!(case.ack(&case.name, &delivery).await, "ok");
}

async fn extended_to_zero(case: Case) {
    case.publish(&case.name, 1).await;
    let delivery = case.take(&case.name).await;
    assert_eq!(case.extend(&case.name, &delivery, 0).await, "ok");
    assert_eq!(case.take(&case.name).await["delivery_attempt"], 1);
}

async fn extended_stale(case: Case) {
    case.publish(&case.name, 1).await;
    let delivery = case.take(&case.name).await;
    case.advance(31.0).await;
    assert_eq!(case.extend(&case.name, &delivery, 60).await, "stale_ack");
}

async fn auto_ack(case: Case) {
    case.publish(&case.name, 1).await;
    let pulled = case.pull_with(json!({"queue": case.name, "auto_ack": true})).await;
    assert_eq!(text(&pulled[0]["ack_id"]), "");
    assert_eq!(case.counts(&case.name).await, [0; 5]);
}

async fn attempt_counted(case: Case) {
    case.publish(&case.name, 1).await;
    for attempt in 1..=3 {
        assert_eq!(case.take(&case.name).await["delivery_attempt"], attempt);
        case.advance(31.0).await;
    }
}

async fn release_not_counted(case: Case) {
    case.publish(&case.name, 1).await;
    for _ in 0..10 {
        let delivery = case.take(&case.name).await;
        assert_eq!(delivery["delivery_attempt"], 1);
        assert_eq!(case.nack(&case.name, &delivery, json!({"outcome": "RELEASE"})).await, "ok");
    }
    assert_eq!(case.counts(&case.name).await, [1, 0, 0, 0, 0]);
}

async fn release_in_place(case: Case) {
    case.publish_all(&case.name, 1..=3).await;
    let delivery = case.take(&case.name).await;
    assert_eq!(case.nack(&case.name, &delivery, json!({"outcome": "RELEASE"})).await, "ok");
    assert_eq!(case.drain(&case.name, 9).await, [json!(1), json!(2), json!(3)]);
}

/// Starts a pull that waits, and returns when the broker shows it waiting.
async fn waiting(case: &Case, consumer: &str, count: usize) -> tokio::task::JoinHandle<Vec<serde_json::Value>> {
    asked(case, consumer, count, |answer| list(&answer.expect("an answer")["messages"])).await
}

/// The same, for what is made of the answer.
async fn asked<T: Send + 'static>(
    case: &Case,
    consumer: &str,
    count: usize,
    of: impl FnOnce(super::Answer) -> T + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let (waiter, watcher, consumer) = (case.aside(), case.aside(), consumer.to_owned());
    let pull = tokio::spawn(async move {
        of(waiter.call("pull", json!({"queue": waiter.name, "wait_seconds": 50, "consumer": consumer})).await)
    });
    crate::stage::eventually("a pull that waits", async || {
        let consumers = list(&watcher.queue(&watcher.name).await["consumers"]);
        let waiting = consumers.iter().filter(|consumer| consumer["is_waiting"] == json!(true)).count();
        (waiting == count).then_some(())
    })
    .await;
    pull
}

async fn long_poll(case: Case) {
    case.declare(&case.name).await;
    let pull = waiting(&case, "a", 1).await;
    case.publish(&case.name, 7).await;
    assert_eq!(payloads(&pull.await.expect("answered")), [json!(7)]);
}

async fn long_poll_over(case: Case) {
    case.declare(&case.name).await;
    let pull = waiting(&case, "a", 1).await;
    case.advance(51.0).await;
    assert_eq!(pull.await.expect("answered").len(), 0);
}

async fn long_poll_fair(case: Case) {
    case.declare(&case.name).await;
    let first = waiting(&case, "a", 1).await;
    let second = waiting(&case, "b", 2).await;
    case.publish_all(&case.name, 1..=2).await;
    assert_eq!(payloads(&first.await.expect("answered")), [json!(1)]);
    assert_eq!(payloads(&second.await.expect("answered")), [json!(2)]);
}

async fn long_poll_lease(case: Case) {
    case.publish(&case.name, 1).await;
    case.take(&case.name).await;
    let pull = waiting(&case, "a", 1).await;
    case.advance(31.0).await;
    assert_eq!(payloads(&pull.await.expect("answered")), [json!(1)]);
}

async fn long_poll_due(case: Case) {
    case.declare(&case.name).await;
    case.publish_as(&case.name, json!({"json": 1, "delay_seconds": 20})).await;
    let pull = waiting(&case, "a", 1).await;
    case.advance(21.0).await;
    assert_eq!(payloads(&pull.await.expect("answered")), [json!(1)]);
}

fn code_of(answer: super::Answer) -> String {
    answer.map_or_else(|refused| refused.code, |_| "ok".to_owned())
}

async fn long_poll_removed(case: Case) {
    case.declare(&case.name).await;
    let pull = asked(&case, "a", 1, code_of).await;
    case.ok("delete_queue", json!({"queue": case.name})).await;
    assert_eq!(pull.await.expect("answered"), "not_found");
}

async fn long_poll_topic_removed(case: Case) {
    case.declare(&case.name).await;
    let pull = asked(&case, "a", 1, code_of).await;
    case.ok("delete_topic", json!({"topic": case.name})).await;
    assert_eq!(pull.await.expect("answered"), "not_found");
    case.publish(&case.name, 1).await;
    assert_eq!(case.drain(&case.name, 9).await, [json!(1)], "it has come again");
}

async fn long_poll_paused(case: Case) {
    case.declare(&case.name).await;
    let pull = waiting(&case, "a", 1).await;
    case.ok("pause", json!({"queue": case.name})).await;
    case.publish(&case.name, 1).await;
    assert_eq!(case.counts(&case.name).await, [1, 0, 0, 0, 0]);
    case.ok("resume", json!({"queue": case.name})).await;
    assert_eq!(payloads(&pull.await.expect("answered")), [json!(1)]);
}

async fn by_service(case: Case) {
    case.ok("put_subscription", json!({"topic": case.name, "service": "s"})).await;
    case.publish(&case.name, 1).await;
    let pulled = case.pull_with(json!({"queue": case.name, "service": "s"})).await;
    assert_eq!(case.ack(&format!("{}.s", case.name), &pulled[0]).await, "ok");
}

async fn declares(case: Case) {
    case.declare(&case.name).await;
    assert_eq!(text(&case.queue(&case.name).await["topic"]), case.name);
}

async fn independent(case: Case) {
    for service in ["a", "b"] {
        case.ok("put_subscription", json!({"topic": case.name, "service": service})).await;
    }
    case.publish_all(&case.name, 1..=2).await;
    let (a, b) = (format!("{}.a", case.name), format!("{}.b", case.name));
    assert_eq!(case.drain(&a, 9).await.len(), 2);
    assert_eq!(case.counts(&b).await, [2, 0, 0, 0, 0]);
}

async fn acks_per_queue(case: Case) {
    for service in ["a", "b"] {
        case.ok("put_subscription", json!({"topic": case.name, "service": service})).await;
    }
    case.publish(&case.name, 1).await;
    let (a, b) = (format!("{}.a", case.name), format!("{}.b", case.name));
    let delivery = case.take(&a).await;
    case.take(&b).await;
    assert_eq!(case.ack(&a, &delivery).await, "ok");
    assert_eq!(case.counts(&b).await, [0, 0, 1, 0, 0]);
}

async fn lease_kept(case: Case) {
    case.publish_all(&case.name, 1..=2).await;
    let first = case.take(&case.name).await;
    case.take(&case.name).await;
    assert_eq!(case.ack(&case.name, &first).await, "ok");
}

async fn large_answer(case: Case) {
    let large = "x".repeat(1 << 20);
    for _ in 0..20 {
        case.publish(&case.name, large.clone()).await;
    }
    let mut count = 0;
    // How much comes at once is each protocol's own.
    while count < 20 {
        let pulled = case.aside().pull(&case.name, 100).await;
        assert!(!pulled.is_empty(), "{count} so far");
        count += pulled.len();
    }
}

async fn hang_up(case: Case) {
    case.declare(&case.name).await;
    for round in 0..5 {
        let pull = waiting(&case, &format!("round {round}"), 1).await;
        pull.abort();
        let _ = pull.await;
        case.publish(&case.name, round).await;
        // Whether or not the broker has noticed yet: the message is soon to be had, and that delivery is the first.
        let delivery = crate::stage::eventually("the message of a consumer that has gone", async || {
            case.aside().pull(&case.name, 1).await.pop()
        })
        .await;
        assert_eq!((&delivery["json"], &delivery["delivery_attempt"]), (&json!(round), &json!(1)));
        assert_eq!(case.ack(&case.name, &delivery).await, "ok");
    }
}

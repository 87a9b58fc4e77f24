//! Many consumers, many keys: nobody gets much more, and nobody waits for somebody else's backlog.

use std::collections::HashMap;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Case, Peer, payloads, text};
use crate::stage::Stage;

const CONSUMERS: usize = 100;
const PER_CONSUMER: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_consumers_get_shares_within_ten_per_cent() {
    let stage = Stage::alone().await;
    let broker = stage.broker().start().await;
    for peer in [Peer::rest(broker.rest), Peer::grpc(broker.grpc)] {
        let name = format!("shares.{}", peer.name().to_lowercase());
        let case = Case::new(peer, name);
        case.declare(&case.name).await;
        let mut consumers = JoinSet::new();
        for consumer in 0..CONSUMERS {
            let case = case.clone();
            consumers.spawn(async move {
                let mut count = 0;
                loop {
                    let name = format!("consumer {consumer}");
                    let pull = json!({"queue": case.name, "wait_seconds": 60, "consumer": name, "auto_ack": true});
                    match payloads(&case.pull_with(pull).await).first() {
                        Some(payload) if payload == "end" => return count,
                        Some(_) => count += 1,
                        None => panic!("{name} waited for nothing"),
                    }
                }
            });
        }
        // One after the other, as a service publishes: whoever has waited longest is next.
        for n in 0..CONSUMERS * PER_CONSUMER {
            case.publish(&case.name, n as i64).await;
        }
        for _ in 0..CONSUMERS {
            case.publish(&case.name, "end").await;
        }
        let mut shares = Vec::new();
        while let Some(share) = consumers.join_next().await {
            shares.push(share.expect("no panic"));
        }
        shares.sort_unstable();
        let (least, most) = (shares[0], shares[CONSUMERS - 1]);
        println!("{}: {least} to {most} of {PER_CONSUMER} on average", case.peer.name());
        assert_eq!(shares.iter().sum::<usize>(), CONSUMERS * PER_CONSUMER);
        let (low, high) = (PER_CONSUMER - PER_CONSUMER / 10, PER_CONSUMER + PER_CONSUMER / 10);
        assert!(low <= least && most <= high, "{least} to {most}");
    }
}

/// How many messages the heavy key has: as many as a queue passes over at most. Behind more of them no further key is looked
/// for.
const HEAVY: usize = 20_000;

/// Ten keys, of which one has far more than is looked at ahead: how many pulls of ten it takes until the messages of the
/// other nine have been delivered.
async fn pulls_until_the_light_keys_are_done(case: &Case, heavy: usize) -> usize {
    let message = |key: &str, n: usize| json!({"json": n, "ordering_key": key});
    for _ in 0..heavy.div_ceil(1000) {
        let messages: Vec<_> = (0..1000).map(|n| message("heavy", n)).collect();
        case.ok("publish", json!({"topic": case.name, "messages": messages})).await;
    }
    let mut left = 0;
    for light in 0..9 {
        let key = format!("light {light}");
        let messages: Vec<_> = (0..5).map(|n| message(&key, n)).collect();
        left += messages.len();
        case.ok("publish", json!({"topic": case.name, "messages": messages})).await;
    }
    let mut pulls = 0;
    let mut last = HashMap::<String, u64>::new();
    while left > 0 {
        let deliveries = case.pull(&case.name, 10).await;
        pulls += 1;
        assert!(pulls < 1000, "{left} messages of the light keys have not come");
        for delivery in &deliveries {
            let (key, n) = (text(&delivery["ordering_key"]), delivery["json"].as_u64().unwrap_or_default());
            if key != "heavy" {
                left -= 1;
                assert!(last.insert(key, n).is_none_or(|before| before < n), "in order");
            }
        }
        let ids: Vec<Value> = deliveries.iter().map(|delivery| delivery["ack_id"].clone()).collect();
        if !ids.is_empty() {
            case.ok("ack", json!({"queue": case.name, "ack_ids": ids})).await;
        }
    }
    pulls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_with_a_great_backlog_holds_up_no_other_key() {
    let stage = Stage::alone().await;
    let broker = stage.broker().start().await;
    let case = |name: &str| Case::new(Peer::grpc(broker.grpc), name.to_owned());
    let without = pulls_until_the_light_keys_are_done(&case("without"), 0).await;
    let with = pulls_until_the_light_keys_are_done(&case("with"), HEAVY).await;
    // The first looks find out what is behind the backlog: a thousand messages each.
    println!("{without} pulls without the backlog, {with} with it");
    assert!(with <= without + HEAVY.div_ceil(1000) + 1, "{with} pulls instead of {without}");
}

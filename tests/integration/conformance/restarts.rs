//! What was answered holds after kill -9, over both protocols.

use serde_json::{Value, json};

use super::{Case, Peer, list, number, payloads, text};
use crate::{process::Broker, stage::Stage};

/// How many dead letters a redrive has to bring back that is killed on the way: several of its steps.
const DEAD_LETTERS: usize = 20_000;

fn peers(broker: &Broker) -> [Peer; 2] {
    [Peer::rest(broker.rest), Peer::grpc(broker.grpc)]
}

/// What a case left before the kill, and looks for after it.
struct Left {
    /// Where each message stood.
    ids: Vec<String>,
    held: Value,
    duplicate: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_forgets_nothing_that_was_answered() {
    let stage = Stage::shared().await;
    let launch = stage.broker();
    let mut broker = launch.start().await;
    let mut left = Vec::new();
    for peer in peers(&broker) {
        let name = format!("kill.{}", peer.name().to_lowercase());
        left.push(leave(&Case::new(peer, name)).await);
    }
    broker.process.kill();
    let broker = launch.start().await;
    for (peer, left) in peers(&broker).into_iter().zip(left) {
        let name = format!("kill.{}", peer.name().to_lowercase());
        find(&Case::new(peer, name), left).await;
    }
}

/// One message of each fate.
async fn leave(case: &Case) -> Left {
    let put = json!({"topic": case.name, "service": "s", "policy": {
        "max_delivery_attempts": 3, "ack_deadline_seconds": 3600, "limits": {"max_messages": 100},
    }});
    case.ok("put_subscription", put).await;
    let queue = format!("{}.s", case.name);
    let ids = case.publish_all(&case.name, 0..6).await;
    let pulled = case.pull(&queue, 5).await;
    assert_eq!(case.ack(&queue, &pulled[0]).await, "ok");
    assert_eq!(case.nack(&queue, &pulled[1], json!({"outcome": "RETRY"})).await, "ok");
    let buried = json!({"outcome": "DEAD_LETTER", "reason": "for good"});
    assert_eq!(case.nack(&queue, &pulled[2], buried).await, "ok");
    let later = json!({"outcome": "RETRY", "delay_seconds": 3600});
    assert_eq!(case.nack(&queue, &pulled[3], later).await, "ok");
    let duplicate = case.publish_as(&case.name, json!({"json": "d", "dedup_id": "d"})).await;
    case.publish_as(&case.name, json!({"json": "later", "delay_seconds": 3600})).await;
    case.ok("pause", json!({"queue": queue})).await;
    Left { ids, held: pulled[4].clone(), duplicate }
}

async fn find(case: &Case, left: Left) {
    let queue = format!("{}.s", case.name);
    let shown = case.queue(&queue).await;
    assert_eq!(shown["paused"], json!(true));
    assert_eq!(number(&shown["policy"]["max_delivery_attempts"]), 3);
    assert_eq!(number(&shown["policy"]["limits"]["max_messages"]), 100);
    assert_eq!(case.counts(&queue).await, [3, 1, 1, 1, 1], "{}", case.peer.name());
    let dead = case.browse(&queue, "dead").await;
    assert_eq!(
        (text(&dead[0]["id"]), text(&dead[0]["dead_letter"]["reason"])),
        (left.ids[2].clone(), "for good".into())
    );
    assert_eq!(case.publish_as(&case.name, json!({"json": "d", "dedup_id": "d"})).await, left.duplicate, "still known");
    assert_eq!(case.ack(&queue, &left.held).await, "ok", "the lease has survived");
    case.ok("resume", json!({"queue": queue})).await;
    let rest = case.pull(&queue, 9).await;
    assert_eq!(payloads(&rest), [json!(1), json!(5), json!("d")]);
    let attempts: Vec<_> = rest.iter().map(|delivery| number(&delivery["delivery_attempt"])).collect();
    assert_eq!(attempts, [2, 1, 1], "the nack counted before the kill");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redrive_that_is_killed_leaves_each_message_dead_or_back() {
    let stage = Stage::alone().await;
    let launch = stage.broker();
    let mut broker = launch.start().await;
    let case = |broker: &Broker, at: usize| Case::new(peers(broker)[at].clone(), "redrive".into());
    let first = case(&broker, 1);
    for _ in 0..DEAD_LETTERS / 1000 {
        first.publish_all("redrive", 0..1000).await;
        let pulled = first.pull("redrive", 1000).await;
        let ids: Vec<_> = pulled.iter().map(|delivery| delivery["ack_id"].clone()).collect();
        first.ok("nack", json!({"queue": "redrive", "ack_ids": ids, "outcome": "DEAD_LETTER"})).await;
    }
    assert_eq!(first.counts("redrive").await, [0, 0, 0, 0, DEAD_LETTERS as u64]);
    for at in [1, 0] {
        let asker = case(&broker, at);
        let asked = tokio::spawn(async move { asker.call("redrive", json!({"queue": "redrive"})).await.ok() });
        // As soon as the first step is seen.
        let watcher = case(&broker, 1);
        let seen = crate::stage::eventually("the first step of a redrive", async || {
            Some(watcher.counts("redrive").await[4]).filter(|dead| *dead < DEAD_LETTERS as u64)
        })
        .await;
        broker.process.kill();
        // It was answered, or the connection broke.
        let _ = asked.await;
        broker = launch.start().await;
        let [ready, retrying, leased, delayed, dead] = case(&broker, 1).counts("redrive").await;
        assert_eq!(ready + dead, DEAD_LETTERS as u64, "{ready} back, {dead} dead");
        assert_eq!((retrying, leased, delayed), (0, 0, 0));
        assert!(dead <= seen, "{seen} dead were shown, now there are {dead}");
        assert_eq!(ready % 10_000, 0, "a step is done whole or not at all");
        let again = case(&broker, at);
        assert_eq!(number(&again.ok("redrive", json!({"queue": "redrive"})).await["messages"]), dead);
        // What was answered is there after the next kill, too.
        broker.process.kill();
        broker = launch.start().await;
        let again = case(&broker, at);
        assert_eq!(again.counts("redrive").await, [DEAD_LETTERS as u64, 0, 0, 0, 0]);
        bury_all(&again).await;
    }
}

async fn bury_all(case: &Case) {
    loop {
        let pulled = case.pull("redrive", 1000).await;
        if pulled.is_empty() {
            return;
        }
        let ids: Vec<_> = pulled.iter().map(|delivery| delivery["ack_id"].clone()).collect();
        let answer = case.ok("nack", json!({"queue": "redrive", "ack_ids": ids, "outcome": "DEAD_LETTER"})).await;
        assert!(list(&answer["results"]).iter().all(|result| result["code"] == "ok"));
    }
}

//! What is over its time goes with the next publish, also where nobody consumes.

use std::time::Duration;

use super::{Bench, draft, name};
use crate::{
    engine::Manage,
    model::{Draft, QueueLimitsPatch, QueuePolicyPatch, TopicPolicyPatch},
};

const SECOND: Duration = Duration::from_secs(1);

/// A bench whose messages are soon in segments: journal files of eight pages.
async fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.options.journal_file_bytes = 32 << 10;
    bench.restart().await;
    bench
}

/// Publishes messages that live for ten seconds, in pieces; far more than the journal keeps.
async fn publish_expiring(bench: &Bench, topic: &str, count: usize) {
    for _ in 0..count {
        let draft = Draft { ttl: Some(10 * SECOND), ..draft(&"x".repeat(2000)) };
        bench.publish_one(topic, draft).await.expect("stored");
    }
}

async fn ready(bench: &Bench, queue: &str) -> u64 {
    bench.engine().queue(name(queue)).await.expect("there").ready
}

#[tokio::test]
async fn what_has_expired_in_segments_goes_without_being_read() {
    let mut bench = bench().await;
    bench.register("s", &["t"]).await.expect("registered");
    publish_expiring(&bench, "t", 200).await;
    bench.restart().await;
    assert_eq!(ready(&bench, "t.s").await, 200);
    bench.advance(11 * SECOND);
    bench.publish("t", &["new"]).await;
    assert_eq!(ready(&bench, "t.s").await, 1, "only the new one is left");
    assert_eq!(bench.pop("t.s", 9).await, ["new"]);
}

#[tokio::test]
async fn what_is_too_old_goes_from_each_queue_by_its_own_limit() {
    let bench = bench().await;
    bench.register("a", &["t"]).await.expect("registered");
    bench.register("b", &["t"]).await.expect("registered");
    let limits = QueueLimitsPatch { age_max: Some(Some(10 * SECOND)), ..QueueLimitsPatch::default() };
    let policy = QueuePolicyPatch { limits, ..QueuePolicyPatch::default() };
    bench.engine().manage(Manage::SetQueuePolicy { queue: name("t.a"), policy }).await.expect("set");
    bench.publish("t", &["1", "2"]).await;
    bench.advance(6 * SECOND);
    bench.publish("t", &["3"]).await;
    bench.advance(5 * SECOND);
    bench.publish("t", &["4"]).await;
    assert_eq!((ready(&bench, "t.a").await, ready(&bench, "t.b").await), (2, 4));
    assert_eq!(bench.pop("t.a", 9).await, ["3", "4"]);
}

#[tokio::test]
async fn what_is_held_or_stands_behind_what_is_not_over_its_time_stays() {
    let bench = bench().await;
    publish_expiring(&bench, "t", 1).await;
    let held = bench.lease("t").await.expect("a message");
    bench.publish("t", &["for ever"]).await;
    publish_expiring(&bench, "t", 1).await;
    bench.advance(11 * SECOND);
    bench.publish("t", &["new"]).await;
    assert_eq!(ready(&bench, "t").await, 3, "nothing is looked for behind the first one that stays");
    assert_eq!(bench.ack("t", super::ack_id(&held)).await, super::Settled::Done);
    assert_eq!(bench.pop("t", 9).await, ["for ever", "new"]);
}

#[tokio::test]
async fn a_topic_without_a_queue_lets_go_of_what_is_over_its_time() {
    let mut bench = bench().await;
    publish_expiring(&bench, "t", 200).await;
    bench.restart().await;
    bench.advance(11 * SECOND);
    let kept = async |bench: &Bench| bench.engine().topic(name("t")).await.expect("there").messages;
    assert_eq!(kept(&bench).await, 200);
    bench.publish("t", &["new"]).await;
    assert_eq!(kept(&bench).await, 1);
    let limits = QueueLimitsPatch { age_max: Some(Some(10 * SECOND)), ..QueueLimitsPatch::default() };
    let policy = TopicPolicyPatch { limits, ..TopicPolicyPatch::default() };
    let base = crate::engine::Base::Current;
    bench.engine().manage(Manage::PutTopic { topic: name("t"), policy, base }).await.expect("set");
    bench.advance(11 * SECOND);
    bench.publish("t", &["newer"]).await;
    assert_eq!(bench.pop("t", 9).await, ["newer"]);
}

//! What the clock decides: delay, time to live, the dedup window. It is moved, never waited for.

use std::time::Duration;

use super::{AckMode, Bench, draft, texts};
use crate::{
    engine::EngineError,
    model::{Draft, Due, Timestamp},
};

const MINUTE: Duration = Duration::from_secs(60);

fn with_dedup(text: &str, id: &str) -> Draft {
    Draft { dedup_id: Some(id.into()), ..draft(text) }
}

#[tokio::test]
async fn a_delayed_message_is_invisible_until_it_is_due() {
    let mut bench = Bench::new();
    let later = Draft { due: Due::After(MINUTE), ..draft("later") };
    bench.publish_one("t", later).await.expect("stored");
    bench.publish("t", &["now"]).await;
    assert_eq!(bench.pop("t", 9).await, ["now"]);
    bench.restart().await;
    bench.advance(MINUTE - Duration::from_secs(5));
    assert!(bench.pop("t", 9).await.is_empty());
    bench.advance(Duration::from_secs(5));
    assert_eq!(bench.pop("t", 9).await, ["later"]);
    bench.restart().await;
    assert!(bench.pop("t", 9).await.is_empty());
}

#[tokio::test]
async fn delayed_messages_come_in_the_order_in_which_they_are_due() {
    let bench = Bench::new();
    let at = |text: &str, s: u64| Draft { due: Due::After(Duration::from_secs(s)), ..draft(text) };
    for (text, seconds) in [("c", 30), ("a", 10), ("b", 20)] {
        bench.publish_one("t", at(text, seconds)).await.expect("stored");
    }
    bench.advance(MINUTE);
    assert_eq!(bench.pop("t", 9).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_moment_in_the_past_is_now() {
    let bench = Bench::new();
    let past = Draft { due: Due::At(Timestamp::from_millis(5)), ..draft("x") };
    bench.publish_one("t", past).await.expect("stored");
    assert_eq!(bench.pop("t", 9).await, ["x"]);
}

#[tokio::test]
async fn a_due_message_wakes_who_waits() {
    let bench = Bench::new();
    bench.publish_one("t", Draft { due: Due::After(MINUTE), ..draft("x") }).await.expect("stored");
    let wait = bench.receive("t", 1, 2 * MINUTE, AckMode::AtOnce);
    let advance = async {
        while bench.engine().statistics().await.expect("counted").waiting < 1 {
            tokio::task::yield_now().await;
        }
        bench.advance(MINUTE);
    };
    let (deliveries, ()) = tokio::join!(biased; wait, advance);
    assert_eq!(texts(&deliveries), ["x"]);
}

#[tokio::test]
async fn an_expired_message_is_passed_over() {
    let mut bench = Bench::new();
    bench.publish_one("t", Draft { ttl: Some(MINUTE), ..draft("short") }).await.expect("stored");
    bench.publish("t", &["long"]).await;
    bench.advance(MINUTE);
    assert_eq!(bench.pop("t", 9).await, ["long"]);
    bench.restart().await;
    assert_eq!(bench.engine().statistics().await.expect("counted").messages, 0);
}

#[tokio::test]
async fn a_duplicate_within_the_window_is_the_first_message_also_after_it_is_gone_and_after_a_restart() {
    let mut bench = Bench::new();
    let first = bench.publish_one("t", with_dedup("x", "id")).await.expect("stored").messages[0];
    assert!(!first.duplicate);
    assert_eq!(bench.pop("t", 9).await, ["x"]);
    bench.restart().await;
    let again = bench.publish_one("t", with_dedup("x", "id")).await.expect("answered").messages[0];
    assert_eq!((again.id, again.duplicate), (first.id, true));
    assert!(bench.pop("t", 9).await.is_empty());
    // The id belongs to its topic.
    assert!(!bench.publish_one("u", with_dedup("x", "id")).await.expect("stored").messages[0].duplicate);
    bench.advance(bench.options.dedup_window);
    assert!(!bench.publish_one("t", with_dedup("y", "id")).await.expect("stored").messages[0].duplicate);
    assert_eq!(bench.pop("t", 9).await, ["y"]);
}

#[tokio::test]
async fn a_dedup_id_with_another_content_refuses_the_whole_batch() {
    let bench = Bench::new();
    let mismatch = Err(EngineError::DedupMismatch { dedup_id: "id".into() });
    let batch = vec![with_dedup("x", "id"), draft("between"), with_dedup("y", "id")];
    assert_eq!(bench.engine().publish(super::name("t"), batch).await, mismatch);
    assert!(bench.pop("t", 9).await.is_empty());
    let batch = vec![with_dedup("x", "id"), with_dedup("x", "id")];
    let published = bench.engine().publish(super::name("t"), batch).await.expect("stored");
    assert_eq!(published.messages.iter().map(|m| m.duplicate).collect::<Vec<_>>(), [false, true]);
    assert_eq!(bench.publish_one("t", with_dedup("y", "id")).await, mismatch);
    assert_eq!(bench.pop("t", 9).await, ["x"]);
}

#[tokio::test]
async fn the_number_of_remembered_dedup_ids_is_bounded() {
    let mut bench = Bench::new();
    bench.options.dedup_ids_max = 2;
    bench.restart().await;
    for id in ["a", "b"] {
        bench.publish_one("t", with_dedup("x", id)).await.expect("stored");
    }
    let full = bench.publish_one("t", with_dedup("x", "c")).await;
    assert!(matches!(full, Err(EngineError::Full { .. })), "{full:?}");
    bench.advance(bench.options.dedup_window);
    bench.publish_one("t", with_dedup("x", "c")).await.expect("there is room again");
}

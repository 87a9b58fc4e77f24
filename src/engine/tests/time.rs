//! What the clock decides: delay, time to live, the dedup window. It is moved, never waited for.

use std::time::Duration;

use super::{AckMode, Bench, LEASE, ack_id, draft, name, one_of, texts};
use crate::{
    engine::{EngineError, Manage, Nack, NackOutcome, Settlement},
    model::{Draft, Due, Timestamp},
};

const MINUTE: Duration = Duration::from_secs(60);

fn with_dedup(text: &str, id: &str) -> Draft {
    Draft { dedup_id: Some(id.into()), ..draft(text) }
}

over_both! {
    a_delayed_message_is_invisible_until_it_is_due,
    delayed_messages_come_in_the_order_in_which_they_are_due,
    a_moment_in_the_past_is_now,
    a_due_message_wakes_who_waits,
    a_message_whose_retry_is_due_wakes_who_waits,
    an_expired_message_is_passed_over,
    a_duplicate_within_the_window_is_the_first_message_also_after_it_is_gone_and_after_a_restart,
    a_dedup_id_with_another_content_refuses_the_whole_batch,
    the_number_of_remembered_dedup_ids_is_bounded,
    a_topic_that_is_deleted_takes_its_dedup_ids_with_it_and_no_others,
    the_numbers_of_leases_and_of_delayed_messages_are_bounded,
}

async fn a_delayed_message_is_invisible_until_it_is_due(mut bench: Bench) {
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

async fn delayed_messages_come_in_the_order_in_which_they_are_due(bench: Bench) {
    let at = |text: &str, s: u64| Draft { due: Due::After(Duration::from_secs(s)), ..draft(text) };
    for (text, seconds) in [("c", 30), ("a", 10), ("b", 20)] {
        bench.publish_one("t", at(text, seconds)).await.expect("stored");
    }
    bench.advance(MINUTE);
    assert_eq!(bench.pop("t", 9).await, ["a", "b", "c"]);
}

async fn a_moment_in_the_past_is_now(bench: Bench) {
    let past = Draft { due: Due::At(Timestamp::from_millis(5)), ..draft("x") };
    bench.publish_one("t", past).await.expect("stored");
    assert_eq!(bench.pop("t", 9).await, ["x"]);
}

async fn a_due_message_wakes_who_waits(bench: Bench) {
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

async fn a_message_whose_retry_is_due_wakes_who_waits(bench: Bench) {
    bench.publish("t", &["x"]).await;
    let held = bench.lease("t").await.expect("x");
    let nack = Nack { outcome: NackOutcome::Retry, delay: Some(MINUTE), reason: String::new() };
    let nacked = bench.engine().settle_each(None, vec![(Some(ack_id(&held)), Settlement::Nack(nack))]).await;
    nacked.expect("answered");
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

async fn an_expired_message_is_passed_over(mut bench: Bench) {
    bench.publish_one("t", Draft { ttl: Some(MINUTE), ..draft("short") }).await.expect("stored");
    bench.publish("t", &["long"]).await;
    bench.advance(MINUTE);
    assert_eq!(bench.pop("t", 9).await, ["long"]);
    bench.restart().await;
    assert_eq!(bench.engine().statistics().await.expect("counted").messages, 0);
}

async fn a_duplicate_within_the_window_is_the_first_message_also_after_it_is_gone_and_after_a_restart(
    mut bench: Bench,
) {
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

async fn a_dedup_id_with_another_content_refuses_the_whole_batch(bench: Bench) {
    let mismatch = |index| Err(EngineError::DedupMismatch { publication: 0, index, dedup_id: "id".into() });
    let batch = vec![with_dedup("x", "id"), draft("between"), with_dedup("y", "id")];
    assert_eq!(bench.engine().publish(super::name("t"), batch).await, mismatch(2));
    assert!(bench.pop("t", 9).await.is_empty());
    let batch = vec![with_dedup("x", "id"), with_dedup("x", "id")];
    let published = bench.engine().publish(super::name("t"), batch).await.expect("stored");
    assert_eq!(published.messages.iter().map(|m| m.duplicate).collect::<Vec<_>>(), [false, true]);
    assert_eq!(bench.publish_one("t", with_dedup("y", "id")).await, mismatch(0));
    assert_eq!(bench.pop("t", 9).await, ["x"]);
}

async fn the_number_of_remembered_dedup_ids_is_bounded(mut bench: Bench) {
    bench.options.limits.dedup_ids_max = 2;
    bench.restart().await;
    for id in ["a", "b"] {
        bench.publish_one("t", with_dedup("x", id)).await.expect("stored");
    }
    let full = bench.publish_one("t", with_dedup("x", "c")).await;
    assert!(matches!(full, Err(EngineError::Full { .. })), "{full:?}");
    bench.advance(bench.options.dedup_window);
    bench.publish_one("t", with_dedup("x", "c")).await.expect("there is room again");
}

async fn a_topic_that_is_deleted_takes_its_dedup_ids_with_it_and_no_others(mut bench: Bench) {
    bench.options.limits.dedup_ids_max = 3;
    bench.restart().await;
    bench.publish_one("u", with_dedup("x", "kept")).await.expect("stored");
    for id in ["a", "b"] {
        bench.publish_one("t", with_dedup("x", id)).await.expect("stored");
    }
    let delete = Manage::DeleteTopic { topic: name("t") };
    bench.engine().manage(delete).await.expect("deleted");
    assert!(bench.publish_one("u", with_dedup("x", "kept")).await.expect("answered").messages[0].duplicate);
    for id in ["c", "d"] {
        bench.publish_one("u", with_dedup("x", id)).await.expect("there is room for two");
    }
    let full = bench.publish_one("u", with_dedup("x", "e")).await;
    assert!(matches!(full, Err(EngineError::Full { .. })), "{full:?}");
    bench.advance(bench.options.dedup_window);
    for id in ["e", "f", "g"] {
        bench.publish_one("u", with_dedup("x", id)).await.expect("all windows are over");
    }
}

async fn the_numbers_of_leases_and_of_delayed_messages_are_bounded(mut bench: Bench) {
    (bench.options.limits.leases_max, bench.options.limits.delayed_max) = (1, 1);
    bench.restart().await;
    bench.publish("t", &["a", "b"]).await;
    let held = bench.lease("t").await.expect("the first");
    let receive = one_of("t", AckMode::Lease(LEASE));
    let refused = bench.engine().receive(receive).await;
    assert!(matches!(refused, Err(EngineError::Full { .. })), "{refused:?}");
    bench.ack("t", ack_id(&held)).await;
    assert!(bench.lease("t").await.is_some());

    let later = Draft { due: Due::After(Duration::from_secs(9)), ..draft("later") };
    bench.publish_one("t", later.clone()).await.expect("there is room for one");
    let refused = bench.publish_one("t", later.clone()).await;
    assert!(matches!(refused, Err(EngineError::Full { .. })), "{refused:?}");
    bench.publish("t", &["now"]).await;
    bench.advance(Duration::from_secs(9));
    bench.publish_one("t", later).await.expect("the first has become visible");
}

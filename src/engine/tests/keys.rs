//! Ordering keys: one message of a key is out at a time, in order; other keys flow, and keys take turns.

use std::time::Duration;

use super::{AckMode, Bench, LEASE, Settled, Settlement, ack_id, draft, name, texts};
use crate::{
    engine::{Manage, Nack, NackOutcome, Obstacle, PurgeScope, Redrive},
    model::{Delivery, Draft, Properties},
};

over_both! {
    a_key_has_one_message_out_at_a_time_and_other_keys_flow,
    a_batch_has_at_most_one_message_of_a_key,
    the_next_message_of_a_key_comes_when_the_one_before_is_settled_whatever_way,
    keys_take_turns_however_long_the_backlog_of_one_is,
    a_key_whose_message_failed_waits_for_its_retry_and_nothing_else_does,
    plain_consumes_take_messages_in_publish_order_but_not_past_one_that_is_held,
    what_waits_for_its_key_is_known_after_a_restart,
    what_is_passed_over_and_handed_out_in_one_receive_holds_its_key,
    a_key_goes_on_when_its_head_is_dead_or_expired,
    a_dead_letter_that_comes_back_is_the_head_of_its_key_again,
    consumers_who_wait_get_the_next_message_of_a_key_when_its_turn_comes,
    behind_a_very_long_backlog_of_a_key_others_come_at_once,
    what_is_passed_over_takes_no_more_than_its_bound,
    a_very_long_backlog_of_a_key_keeps_no_other_from_its_share,
}

fn keyed(key: &str, text: &str) -> Draft {
    let properties = Properties { ordering_key: Some(key.to_owned()), ..Properties::default() };
    Draft { properties, ..draft(text) }
}

/// Publishes texts whose first letter is their key; those that begin with `-` have none.
async fn publish(bench: &Bench, texts: &[&str]) {
    let drafts = texts.iter().map(|text| match text.chars().next() {
        Some('-') | None => draft(text),
        Some(key) => keyed(&key.to_string(), text),
    });
    bench.engine().publish(name("t"), drafts.collect()).await.expect("stored");
}

async fn lease_all(bench: &Bench) -> Vec<Delivery> {
    bench.receive("t", 1000, Duration::ZERO, AckMode::Lease(LEASE)).await
}

async fn settle(bench: &Bench, delivery: &Delivery, settlement: Settlement) {
    let settled = bench.engine().settle_each(Some(name("t")), vec![(Some(ack_id(delivery)), settlement)]).await;
    assert_eq!(settled, Ok(vec![Settled::Done]));
}

fn nack(outcome: NackOutcome, delay: Duration) -> Settlement {
    Settlement::Nack(Nack { outcome, delay: Some(delay), reason: String::new() })
}

async fn a_key_has_one_message_out_at_a_time_and_other_keys_flow(bench: Bench) {
    publish(&bench, &["a1", "a2", "-x", "b1", "a3", "-y", "b2"]).await;
    let first = bench.lease("t").await.expect("one");
    assert_eq!(texts(std::slice::from_ref(&first)), ["a1"]);
    assert_eq!(texts(&lease_all(&bench).await), ["-x", "b1", "-y"]);
    assert!(lease_all(&bench).await.is_empty(), "the others wait for their keys");
    settle(&bench, &first, Settlement::Ack).await;
    assert_eq!(texts(&lease_all(&bench).await), ["a2"]);
}

async fn a_batch_has_at_most_one_message_of_a_key(bench: Bench) {
    publish(&bench, &["a1", "a2", "b1", "a3", "c1", "b2"]).await;
    assert_eq!(texts(&lease_all(&bench).await), ["a1", "b1", "c1"]);
}

async fn the_next_message_of_a_key_comes_when_the_one_before_is_settled_whatever_way(bench: Bench) {
    publish(&bench, &["a1", "a2"]).await;
    let once = bench.lease("t").await.expect("a1");
    settle(&bench, &once, nack(NackOutcome::Release, Duration::ZERO)).await;
    let again = bench.lease("t").await.expect("a1");
    assert_eq!((texts(std::slice::from_ref(&again)), again.attempt.0), (vec!["a1".to_owned()], 1));
    bench.advance(LEASE);
    let third = bench.lease("t").await.expect("a1");
    assert_eq!((texts(std::slice::from_ref(&third)), third.attempt.0), (vec!["a1".to_owned()], 2));
    assert!(lease_all(&bench).await.is_empty());
    settle(&bench, &third, Settlement::Ack).await;
    assert_eq!(texts(&lease_all(&bench).await), ["a2"]);
}

async fn keys_take_turns_however_long_the_backlog_of_one_is(bench: Bench) {
    let many: Vec<String> = (0..500).map(|n| format!("a{n}")).collect();
    publish(&bench, &many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    publish(&bench, &["b1", "b2", "b3", "c1"]).await;
    let mut order = Vec::new();
    for _ in 0..8 {
        let delivery = bench.lease("t").await.expect("one");
        order.extend(texts(std::slice::from_ref(&delivery)));
        settle(&bench, &delivery, Settlement::Ack).await;
    }
    assert_eq!(order, ["a0", "b1", "c1", "a1", "b2", "a2", "b3", "a3"]);
}

async fn a_key_whose_message_failed_waits_for_its_retry_and_nothing_else_does(bench: Bench) {
    publish(&bench, &["a1", "b1", "a2", "b2", "-x"]).await;
    let a1 = bench.lease("t").await.expect("a1");
    settle(&bench, &a1, nack(NackOutcome::Retry, Duration::from_secs(20))).await;
    let rest = lease_all(&bench).await;
    assert_eq!(texts(&rest), ["b1", "-x"]);
    settle(&bench, &rest[0], Settlement::Ack).await;
    assert_eq!(texts(&lease_all(&bench).await), ["b2"]);
    bench.advance(Duration::from_millis(19_999));
    assert!(lease_all(&bench).await.is_empty());
    bench.advance(Duration::from_millis(1));
    let again = lease_all(&bench).await;
    assert_eq!((texts(&again), again[0].attempt.0), (vec!["a1".to_owned()], 2));
    settle(&bench, &again[0], Settlement::Ack).await;
    assert_eq!(texts(&lease_all(&bench).await), ["a2"]);
}

async fn plain_consumes_take_messages_in_publish_order_but_not_past_one_that_is_held(bench: Bench) {
    publish(&bench, &["a1", "b1", "a2", "-x", "a3", "b2"]).await;
    let a1 = bench.lease("t").await.expect("a1");
    assert_eq!(bench.pop("t", 2).await, ["b1", "-x"]);
    assert_eq!(bench.pop("t", 9).await, ["b2"]);
    settle(&bench, &a1, Settlement::Ack).await;
    publish(&bench, &["a4", "c1"]).await;
    assert_eq!(bench.pop("t", 9).await, ["a2", "a3", "a4", "c1"]);
}

async fn what_waits_for_its_key_is_known_after_a_restart(mut bench: Bench) {
    publish(&bench, &["a1", "a2", "b1", "a3"]).await;
    let a1 = bench.lease("t").await.expect("a1");
    assert_eq!(texts(&lease_all(&bench).await), ["b1"]);
    let before = bench.digest().await;
    bench.restart().await;
    assert_eq!(bench.digest().await, before);
    assert!(lease_all(&bench).await.is_empty());
    settle(&bench, &a1, Settlement::Ack).await;
    assert_eq!(texts(&lease_all(&bench).await), ["a2"]);
}

async fn a_key_goes_on_when_its_head_is_dead_or_expired(bench: Bench) {
    let expiring = Draft { ttl: Some(Duration::from_secs(5)), ..keyed("a", "a2") };
    publish(&bench, &["a1"]).await;
    bench.publish_one("t", expiring).await.expect("stored");
    publish(&bench, &["a3", "a4"]).await;
    let a1 = lease_all(&bench).await.remove(0);
    bench.advance(Duration::from_secs(6));
    settle(&bench, &a1, nack(NackOutcome::DeadLetter, Duration::ZERO)).await;
    let a3 = lease_all(&bench).await;
    assert_eq!(texts(&a3), ["a3"]);
    settle(&bench, &a3[0], Settlement::Ack).await;
    assert_eq!(texts(&lease_all(&bench).await), ["a4"]);
}

async fn a_dead_letter_that_comes_back_is_the_head_of_its_key_again(bench: Bench) {
    publish(&bench, &["a1", "a2", "-x"]).await;
    let first = bench.lease("t").await.expect("a1");
    settle(&bench, &first, nack(NackOutcome::DeadLetter, Duration::ZERO)).await;
    let redrive = Manage::Redrive { queue: name("t"), which: Redrive::Oldest(9), pace: None };
    assert_eq!(bench.engine().manage(redrive).await.map(|managed| managed.messages), Ok(1));
    assert_eq!(texts(&lease_all(&bench).await), ["a1", "-x"], "and the one behind it waits");
}

async fn what_is_passed_over_and_handed_out_in_one_receive_holds_its_key(bench: Bench) {
    publish(&bench, &["a1"]).await;
    let first = bench.lease("t").await.expect("a1");
    settle(&bench, &first, Settlement::Ack).await;
    // It is not the turn of this key, but nothing else is there.
    publish(&bench, &["a2", "a3"]).await;
    assert_eq!(texts(&lease_all(&bench).await), ["a2"]);
    assert!(lease_all(&bench).await.is_empty());
}

async fn consumers_who_wait_get_the_next_message_of_a_key_when_its_turn_comes(bench: Bench) {
    publish(&bench, &["a1", "a2", "a3"]).await;
    let a1 = bench.lease("t").await.expect("a1");
    let wait = Duration::from_secs(3600);
    let waiting = bench.receive("t", 1, wait, AckMode::Lease(LEASE));
    let acking = settle(&bench, &a1, Settlement::Ack);
    let (a2, ()) = tokio::join!(waiting, acking);
    assert_eq!(texts(&a2), ["a2"]);
    // A retry that is due wakes them as well.
    settle(&bench, &a2[0], nack(NackOutcome::Retry, Duration::from_secs(9))).await;
    let waiting = bench.receive("t", 1, wait, AckMode::Lease(LEASE));
    let (again, ()) = tokio::join!(waiting, async { bench.advance(Duration::from_secs(9)) });
    assert_eq!(texts(&again), ["a2"]);
}

/// Also with the messages on the disk: what has one key is passed over there unread.
async fn behind_a_very_long_backlog_of_a_key_others_come_at_once(mut bench: Bench) {
    bench.options.journal_file_bytes = 1 << 20;
    bench.restart().await;
    for n in 0..100 {
        let many: Vec<Draft> = (0..100).map(|m| keyed("a", &format!("a{} {}", n * 100 + m, "x".repeat(900)))).collect();
        bench.engine().publish(name("t"), many).await.expect("stored");
    }
    publish(&bench, &["b1", "c1", "b2", "-x"]).await;
    bench.restart().await;
    let first = bench.lease("t").await.expect("a0");
    settle(&bench, &first, Settlement::Ack).await;
    let mut order = Vec::new();
    for _ in 0..6 {
        let next = bench.lease("t").await.expect("one");
        order.push(texts(std::slice::from_ref(&next))[0].chars().take(2).collect::<String>());
        settle(&bench, &next, Settlement::Ack).await;
    }
    assert_eq!(order, ["b1", "c1", "-x", "a1", "b2", "a2"]);
    // What was passed over is known after a restart, and comes in order.
    let before = bench.digest().await;
    bench.restart().await;
    assert_eq!(bench.digest().await, before);
    for n in 3..300 {
        let next = bench.lease("t").await.expect("one");
        assert!(texts(std::slice::from_ref(&next))[0].starts_with(&format!("a{n} ")), "{n}");
        settle(&bench, &next, Settlement::Ack).await;
    }
}

async fn what_is_passed_over_takes_no_more_than_its_bound(mut bench: Bench) {
    bench.options.limits.passed_over_bytes_max = 2000;
    bench.restart().await;
    let keys: Vec<String> = (0..40).flat_map(|n| [format!("{n}/1"), format!("{n}/2")]).collect();
    let of = |text: &String| keyed(text.split('/').next().expect("a key"), text);
    bench.engine().publish(name("t"), keys.iter().map(of).collect()).await.expect("stored");
    // What is handed out holds the second message of its key, which is looked at next.
    let some = lease_all(&bench).await;
    assert!((2..39).contains(&some.len()), "{}", some.len());
    assert!(lease_all(&bench).await.is_empty(), "the next key is further than may be looked");
    let is_full = async || {
        let obstacles = bench.engine().explain(name("t")).await.expect("explained").obstacles;
        obstacles.iter().any(|obstacle| matches!(obstacle, Obstacle::LookAheadFull { messages: 2.. }))
    };
    assert!(is_full().await);
    for delivery in &some {
        settle(&bench, delivery, Settlement::Ack).await;
    }
    let mut left = keys.len() - some.len();
    while left > 0 {
        let more = lease_all(&bench).await;
        assert!(!more.is_empty(), "{left} are left");
        left -= more.len();
        for delivery in &more {
            settle(&bench, delivery, Settlement::Ack).await;
        }
    }
    assert!(lease_all(&bench).await.is_empty() && !is_full().await);
}

async fn a_very_long_backlog_of_a_key_keeps_no_other_from_its_share(mut bench: Bench) {
    const OTHERS: usize = 1100;
    const KEYS: [&str; 4] = ["b", "c", "d", "e"];
    bench.options.journal_file_bytes = 1 << 20;
    // Between the messages of others, and before them.
    for between in [20, 0] {
        bench.restart().await;
        let mut many: Vec<Draft> = Vec::new();
        if between == 0 {
            many.extend((0..5000).map(|n| keyed("a", &format!("a{n}"))));
        }
        for n in 0..OTHERS {
            many.extend((0..between).map(|m| keyed("a", &format!("a{}", n * between + m))));
            many.push(keyed(KEYS[n % KEYS.len()], &format!("other {n}")));
        }
        for some in many.chunks(100) {
            bench.engine().publish(name("t"), some.to_vec()).await.expect("stored");
        }
        let (mut others, mut of_a) = (0, 0);
        while others < OTHERS {
            let next = bench.lease("t").await.expect("one");
            let is_other = texts(std::slice::from_ref(&next))[0].starts_with("other");
            (others, of_a) = if is_other { (others + 1, of_a) } else { (others, of_a + 1) };
            settle(&bench, &next, Settlement::Ack).await;
        }
        assert!(of_a <= OTHERS / KEYS.len() + 20, "{of_a}, with {between} between");
        let scope = PurgeScope { ready: true, ..PurgeScope::default() };
        bench.engine().manage(Manage::Purge { queue: name("t"), scope }).await.expect("emptied");
    }
}

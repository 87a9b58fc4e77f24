//! Deliveries that fail: nacks, retries, dead letters and the way back.

use std::{num::NonZeroU32, time::Duration};

use super::{AckMode, Bench, LEASE, Settled, Settlement, ack_id, name, texts};
use crate::{
    engine::{
        Browse, DeadCause, Manage, MessageState, Nack, NackOutcome, Pace, PurgeScope, QueueView, Redrive, StateFilter,
    },
    model::{Delivery, QueuePolicyPatch},
};

over_both! {
    a_released_message_is_back_at_once_and_its_delivery_does_not_count,
    a_late_ack_of_a_released_lease_does_nothing_to_the_next_one,
    a_message_that_failed_waits_for_as_long_as_its_consumer_or_the_policy_says,
    after_the_last_attempt_a_message_is_dead_whichever_way_it_failed,
    receives_that_ack_at_once_are_no_attempts,
    a_dead_letter_says_why_and_survives_a_restart,
    redriven_messages_are_back_in_their_places_with_all_their_attempts,
    redriving_can_be_paced_and_be_of_some,
    an_extended_lease_ends_later_or_sooner,
    no_more_are_dead_than_may_be_and_the_others_are_retried,
    settling_together_is_all_or_nothing,
    an_ack_at_the_deadline_comes_too_late,
}

async fn policy(bench: &Bench, policy: QueuePolicyPatch) {
    bench.engine().manage(Manage::SetQueuePolicy { queue: name("t"), policy }).await.expect("set");
}

fn attempts(max: u32) -> QueuePolicyPatch {
    QueuePolicyPatch { max_delivery_attempts: Some(NonZeroU32::new(max)), ..QueuePolicyPatch::default() }
}

fn nack(outcome: NackOutcome, reason: &str) -> Settlement {
    Settlement::Nack(Nack { outcome, delay: None, reason: reason.to_owned() })
}

async fn settle(bench: &Bench, delivery: &Delivery, settlement: Settlement) -> Settled {
    let settled = bench.engine().settle_each(None, vec![(Some(ack_id(delivery)), settlement)]).await;
    settled.expect("answered")[0]
}

/// Leases one; its text and its attempt.
async fn lease(bench: &Bench) -> Option<(Delivery, String, u32)> {
    let delivery = bench.lease("t").await?;
    let (text, attempt) = (texts(std::slice::from_ref(&delivery)).remove(0), delivery.attempt.0);
    Some((delivery, text, attempt))
}

async fn leased(bench: &Bench) -> (Delivery, String, u32) {
    lease(bench).await.expect("there is a message")
}

async fn queue(bench: &Bench) -> QueueView {
    bench.engine().queue(name("t")).await.expect("there is one")
}

async fn dead(bench: &Bench) -> Vec<(String, MessageState)> {
    let browse = Browse { queue: name("t"), state: StateFilter::Dead, after: None, max: 100 };
    let page = bench.engine().browse(browse).await.expect("browsed");
    let text = |message: &[u8]| String::from_utf8_lossy(message).into_owned();
    page.messages.into_iter().map(|b| (text(&b.message.expect("whole").payload), b.state)).collect()
}

async fn a_released_message_is_back_at_once_and_its_delivery_does_not_count(bench: Bench) {
    bench.publish("t", &["a", "b"]).await;
    for _ in 0..20 {
        let (delivery, text, attempt) = leased(&bench).await;
        assert_eq!((text.as_str(), attempt), ("a", 1));
        assert_eq!(settle(&bench, &delivery, nack(NackOutcome::Release, "going down")).await, Settled::Done);
    }
    assert_eq!((queue(&bench).await.counters.failed, queue(&bench).await.dead), (0, 0));
}

async fn a_late_ack_of_a_released_lease_does_nothing_to_the_next_one(bench: Bench) {
    bench.publish("t", &["a"]).await;
    let (first, ..) = leased(&bench).await;
    settle(&bench, &first, nack(NackOutcome::Release, "")).await;
    let (second, _, attempt) = leased(&bench).await;
    assert_eq!(attempt, 1, "the same attempt");
    assert_eq!(settle(&bench, &first, Settlement::Ack).await, Settled::Stale, "and another lease");
    assert_eq!(settle(&bench, &second, Settlement::Ack).await, Settled::Done);
}

async fn a_message_that_failed_waits_for_as_long_as_its_consumer_or_the_policy_says(bench: Bench) {
    bench.publish("t", &["a"]).await;
    let own = Settlement::Nack(Nack { delay: Some(Duration::from_secs(7)), ..Nack::default() });
    let (first, ..) = leased(&bench).await;
    settle(&bench, &first, own).await;
    assert_eq!((queue(&bench).await.retrying, queue(&bench).await.ready), (1, 0));
    bench.advance(Duration::from_millis(6_999));
    assert!(lease(&bench).await.is_none());
    bench.advance(Duration::from_millis(1));
    assert_eq!((queue(&bench).await.retrying, queue(&bench).await.ready), (0, 1));

    let (minimum, maximum) = (Duration::from_secs(100), Duration::from_secs(300));
    let backoff = QueuePolicyPatch { minimum_backoff: Some(minimum), maximum_backoff: Some(maximum), ..attempts(1000) };
    policy(&bench, backoff).await;
    // After the second failure twice the minimum, then the maximum, of each of which chance takes up to a half.
    for most in [200, 300, 300] {
        let (delivery, ..) = leased(&bench).await;
        settle(&bench, &delivery, nack(NackOutcome::Retry, "")).await;
        bench.advance(Duration::from_secs(most / 2) - Duration::from_millis(1));
        assert!(lease(&bench).await.is_none(), "{most}");
        bench.advance(Duration::from_secs(most / 2) + Duration::from_millis(1));
    }
    // A deadline that passes is a failure like any other.
    leased(&bench).await;
    bench.advance(LEASE);
    assert!(lease(&bench).await.is_none());
    bench.advance(maximum);
    assert_eq!(leased(&bench).await.2, 6);
}

async fn after_the_last_attempt_a_message_is_dead_whichever_way_it_failed(bench: Bench) {
    bench.publish("t", &["a", "b", "c"]).await;
    policy(&bench, attempts(2)).await;
    let lease_all = async || bench.receive("t", 9, Duration::ZERO, AckMode::Lease(LEASE)).await;
    let first = lease_all().await;
    assert_eq!(texts(&first), ["a", "b", "c"]);
    settle(&bench, &first[0], nack(NackOutcome::Retry, "no such customer")).await;
    settle(&bench, &first[2], nack(NackOutcome::Release, "")).await;
    bench.advance(LEASE);
    let second = lease_all().await;
    let attempts: Vec<_> = texts(&second).into_iter().zip(second.iter().map(|d| d.attempt.0)).collect();
    assert_eq!(attempts, [("a".to_owned(), 2), ("b".to_owned(), 2), ("c".to_owned(), 1)]);
    settle(&bench, &second[0], nack(NackOutcome::Retry, "still none")).await;
    bench.advance(LEASE);
    let told = |(text, state): (String, MessageState)| match state {
        MessageState::Dead { attempts, cause, reason, .. } => (text, attempts.0, cause, reason.to_string()),
        other => panic!("{other:?}"),
    };
    let dead: Vec<_> = dead(&bench).await.into_iter().map(told).collect();
    let failed = ("a".to_owned(), 2, DeadCause::Failed, "still none".to_owned());
    assert_eq!(dead, [failed, ("b".to_owned(), 2, DeadCause::DeadlineOver, String::new())]);
    let view = queue(&bench).await;
    assert_eq!((view.ready, view.leased, view.dead, view.counters.dead_lettered), (1, 0, 2, 2));
    assert_eq!(leased(&bench).await.2, 2, "c has one more");
}

async fn receives_that_ack_at_once_are_no_attempts(bench: Bench) {
    bench.publish("t", &["a", "b"]).await;
    policy(&bench, attempts(1)).await;
    assert_eq!(bench.pop("t", 1).await, ["a"]);
    assert_eq!(leased(&bench).await.2, 1);
}

async fn a_dead_letter_says_why_and_survives_a_restart(mut bench: Bench) {
    bench.publish("t", &["a", "b"]).await;
    let (a, ..) = leased(&bench).await;
    let begun = bench.options.clock.now();
    settle(&bench, &a, nack(NackOutcome::Retry, "first")).await;
    bench.advance(Duration::from_secs(60));
    let (a, ..) = leased(&bench).await;
    settle(&bench, &a, nack(NackOutcome::DeadLetter, "cannot be parsed")).await;
    let expected = MessageState::Dead {
        attempts: crate::model::Attempt(2),
        cause: DeadCause::Rejected,
        reason: "cannot be parsed".into(),
        first_failed: begun,
        at: begun.after(Duration::from_secs(60)),
    };
    assert_eq!(dead(&bench).await, [("a".to_owned(), expected.clone())]);
    bench.restart().await;
    assert_eq!(dead(&bench).await, [("a".to_owned(), expected)]);
    assert_eq!(bench.pop("t", 9).await, ["b"]);
}

async fn redriven_messages_are_back_in_their_places_with_all_their_attempts(mut bench: Bench) {
    bench.publish("t", &["a", "b", "c"]).await;
    let batch = bench.receive("t", 2, Duration::ZERO, AckMode::Lease(LEASE)).await;
    for delivery in &batch {
        settle(&bench, delivery, nack(NackOutcome::DeadLetter, "")).await;
    }
    let redrive = Manage::Redrive { queue: name("t"), which: Redrive::Oldest(10), pace: None };
    assert_eq!(bench.engine().manage(redrive).await.expect("done").messages, 2);
    bench.restart().await;
    let again = bench.receive("t", 9, Duration::ZERO, AckMode::Lease(LEASE)).await;
    let seen: Vec<_> = texts(&again).into_iter().zip(again.iter().map(|d| d.attempt.0)).collect();
    assert_eq!(seen, [("a".to_owned(), 1), ("b".to_owned(), 1), ("c".to_owned(), 1)]);
    assert_eq!(settle(&bench, &batch[0], Settlement::Ack).await, Settled::Stale, "of before");
    assert_eq!(settle(&bench, &again[0], Settlement::Ack).await, Settled::Done);
}

async fn redriving_can_be_paced_and_be_of_some(bench: Bench) {
    bench.publish("t", &["a", "b", "c", "d"]).await;
    let batch = bench.receive("t", 9, Duration::ZERO, AckMode::Lease(LEASE)).await;
    for delivery in &batch {
        settle(&bench, delivery, nack(NackOutcome::DeadLetter, "")).await;
    }
    let these = Redrive::These(vec![ack_id(&batch[2]).seq, ack_id(&batch[2]).seq, crate::model::Seq(99)]);
    let redrive = |which, pace| bench.engine().manage(Manage::Redrive { queue: name("t"), which, pace });
    assert_eq!(redrive(these, None).await.expect("done").messages, 1);
    assert_eq!(bench.pop("t", 9).await, ["c"]);
    let pace = Pace { begin: bench.options.clock.now(), per_second: NonZeroU32::new(2).expect("more than none") };
    assert_eq!(redrive(Redrive::Oldest(9), Some(pace)).await.expect("done").messages, 3);
    assert_eq!(bench.pop("t", 9).await, ["a"]);
    bench.advance(Duration::from_millis(499));
    assert_eq!(bench.pop("t", 9).await, [] as [&str; 0]);
    bench.advance(Duration::from_millis(1));
    assert_eq!(bench.pop("t", 9).await, ["b"]);
    bench.advance(Duration::from_millis(500));
    assert_eq!(bench.pop("t", 9).await, ["d"]);
}

async fn an_extended_lease_ends_later_or_sooner(bench: Bench) {
    bench.publish("t", &["a", "b"]).await;
    let (a, ..) = leased(&bench).await;
    let (b, ..) = leased(&bench).await;
    settle(&bench, &a, Settlement::Extend(LEASE * 2)).await;
    settle(&bench, &b, Settlement::Extend(LEASE / 2)).await;
    bench.advance(LEASE / 2);
    assert_eq!(leased(&bench).await.1, "b");
    bench.advance(LEASE);
    assert_eq!(settle(&bench, &a, Settlement::Extend(LEASE)).await, Settled::Done);
    bench.advance(LEASE);
    assert_eq!(settle(&bench, &a, Settlement::Ack).await, Settled::Stale);
    assert_eq!(leased(&bench).await.1, "a");
}

async fn no_more_are_dead_than_may_be_and_the_others_are_retried(mut bench: Bench) {
    bench.options.limits.dead_letters_max = 1;
    bench.restart().await;
    bench.publish("t", &["a", "b"]).await;
    policy(&bench, QueuePolicyPatch { maximum_backoff: Some(Duration::from_secs(50)), ..attempts(1) }).await;
    bench.receive("t", 9, Duration::ZERO, AckMode::Lease(LEASE)).await;
    bench.advance(LEASE);
    assert_eq!((queue(&bench).await.dead, queue(&bench).await.retrying), (1, 1));
    bench.advance(Duration::from_secs(50));
    let (b, text, attempt) = leased(&bench).await;
    assert_eq!((text.as_str(), attempt), ("b", 2));
    settle(&bench, &b, nack(NackOutcome::DeadLetter, "")).await;
    assert_eq!((queue(&bench).await.dead, queue(&bench).await.retrying), (1, 1), "nothing is lost for want of room");
    let scope = PurgeScope { dead: true, ..PurgeScope::default() };
    bench.engine().manage(Manage::Purge { queue: name("t"), scope }).await.expect("purged");
    bench.advance(Duration::from_secs(50));
    let (b, ..) = leased(&bench).await;
    settle(&bench, &b, nack(NackOutcome::DeadLetter, "")).await;
    assert_eq!((queue(&bench).await.dead, queue(&bench).await.retrying), (1, 0));
}

async fn settling_together_is_all_or_nothing(bench: Bench) {
    use crate::engine::EngineError;
    bench.register("s", &["t"]).await.expect("registered");
    bench.publish("t", &["a", "b"]).await;
    let held = bench.receive("t.s", 2, Duration::ZERO, AckMode::Lease(LEASE)).await;
    let own = leased(&bench).await.0;
    let (a, b, own) = (ack_id(&held[0]), ack_id(&held[1]), ack_id(&own));
    let all = |items, publications: Vec<(&str, &str)>| {
        let publications = publications.into_iter().map(|(topic, text)| (name(topic), vec![super::draft(text)]));
        bench.engine().settle_all(items, publications.collect())
    };
    let acks = vec![(Some(a), Settlement::Ack), (Some(own), Settlement::Ack), (Some(a), Settlement::Ack)];
    assert_eq!(all(acks, vec![("out", "x")]).await, Err(EngineError::StaleAck { index: 2 }));
    let unknown = vec![(Some(a), Settlement::Ack), (None, Settlement::Ack)];
    assert_eq!(all(unknown, vec![]).await, Err(EngineError::UnknownAck { index: 1 }));
    let refused = all(vec![(Some(a), Settlement::Ack)], vec![("out", "x"), ("t.s", "y")]).await;
    assert!(matches!(refused, Err(EngineError::NameConflict { .. })), "{refused:?}");
    assert!(bench.engine().topic(name("out")).await.is_err(), "nothing was done");
    assert_eq!(bench.engine().queue(name("t.s")).await.expect("there").leased, 2);

    let items =
        vec![(Some(a), Settlement::Ack), (Some(b), nack(NackOutcome::DeadLetter, "no")), (Some(own), Settlement::Ack)];
    let done = all(items, vec![("out", "x"), ("t", "c"), ("out", "y")]).await.expect("done");
    assert_eq!(done.results, [Settled::Done; 3]);
    let counts: Vec<_> = done.published.iter().map(|p| (p.messages.len(), p.delivered_to())).collect();
    assert_eq!(counts, [(1, 1), (1, 2), (1, 1)]);
    assert_eq!(bench.pop("out", 9).await, ["x", "y"]);
    assert_eq!(bench.pop("t.s", 9).await, ["c"]);
    assert_eq!(bench.engine().queue(name("t.s")).await.expect("there").dead, 1);
}

async fn an_ack_at_the_deadline_comes_too_late(bench: Bench) {
    bench.publish("t", &["a"]).await;
    let (a, ..) = leased(&bench).await;
    bench.advance(LEASE);
    assert_eq!(settle(&bench, &a, Settlement::Ack).await, Settled::Stale);
}

//! Who gets which message, and in what order.

use std::{future::Future as _, time::Duration};

use super::{AckMode, Bench, LEASE, Settled, ack_id, draft, name, texts};
use crate::{engine::EngineError, model::Attempt};

over_both! {
    a_topics_own_queue_gets_what_others_hold_or_were_given_back,
    a_queue_is_first_in_first_out_across_a_restart,
    each_service_gets_every_message_and_its_instances_compete,
    the_first_queue_gets_what_was_kept_and_later_ones_what_comes,
    the_inbox_of_a_service_takes_direct_messages,
    a_message_is_with_one_consumer_and_comes_back_in_its_place,
    what_is_ready_and_what_is_held_is_counted,
    what_one_queue_is_done_with_stays_for_the_other_that_holds_it,
    leases_and_attempts_survive_a_restart,
    acks_of_another_queue_or_of_none_do_nothing,
    a_waiting_receive_is_woken_by_the_next_message_first_come_first_served,
    a_receive_that_was_dropped_takes_nothing,
    a_leased_message_whose_client_left_comes_back_at_once,
    a_lease_that_is_given_back_ends_without_counting_and_a_later_one_does_not,
    a_wait_ends_empty_when_its_time_is_over,
    an_answer_is_bounded_in_bytes,
    a_batch_that_does_not_fit_a_frame_is_refused_whole,
    an_engine_that_is_closed_refuses_and_hangs_nobody,
}

async fn a_queue_is_first_in_first_out_across_a_restart(mut bench: Bench) {
    bench.publish("t", &["a", "b"]).await;
    bench.publish("t", &["c", "d"]).await;
    assert_eq!(bench.pop("t", 1).await, ["a"]);
    bench.restart().await;
    assert_eq!(bench.pop("t", 2).await, ["b", "c"]);
    assert_eq!(bench.pop("t", 10).await, ["d"]);
    bench.restart().await;
    assert_eq!(bench.pop("t", 10).await, [] as [&str; 0]);
}

async fn each_service_gets_every_message_and_its_instances_compete(bench: Bench) {
    bench.register("billing", &["order.created"]).await.expect("registered");
    bench.register("mail", &["order.created"]).await.expect("registered");
    let published = bench.publish("order.created", &["1", "2", "3"]).await;
    assert_eq!(published.delivered_to(), 2);
    assert_eq!(*published.queues, [name("order.created.billing"), name("order.created.mail")]);
    assert_eq!(bench.pop("order.created.billing", 2).await, ["1", "2"]);
    assert_eq!(bench.pop("order.created.billing", 2).await, ["3"]);
    assert_eq!(bench.pop("order.created.mail", 9).await, ["1", "2", "3"]);
}

async fn the_first_queue_gets_what_was_kept_and_later_ones_what_comes(bench: Bench) {
    assert_eq!(bench.publish("t", &["early"]).await.delivered_to(), 1);
    bench.register("first", &["t"]).await.expect("registered");
    bench.register("second", &["t"]).await.expect("registered");
    bench.publish("t", &["late"]).await;
    assert_eq!(bench.pop("t.second", 9).await, ["late"]);
    // The topic's own queue begins at the earliest message that is still kept.
    assert_eq!(bench.pop("t", 9).await, ["early", "late"]);
    assert_eq!(bench.pop("t.first", 9).await, ["early", "late"]);
}

async fn the_inbox_of_a_service_takes_direct_messages(bench: Bench) {
    assert_eq!(bench.register("billing", &[]).await, Ok(vec!["billing".to_owned()]));
    bench.publish("billing", &["for you"]).await;
    assert_eq!(bench.pop("billing", 9).await, ["for you"]);
}

async fn a_message_is_with_one_consumer_and_comes_back_in_its_place(bench: Bench) {
    bench.publish("t", &["a", "b", "c"]).await;
    let a = bench.lease("t").await.expect("a");
    let b = bench.lease("t").await.expect("b");
    assert_eq!(texts(&[a.clone(), b.clone()]), ["a", "b"]);
    assert_eq!(bench.ack("t", ack_id(&b)).await, Settled::Done);
    bench.advance(LEASE);
    let again = bench.lease("t").await.expect("a again");
    assert_eq!((texts(std::slice::from_ref(&again)), again.attempt), (vec!["a".to_owned()], Attempt(2)));
    // A late ack does not take it from the one who holds it now.
    assert_eq!(bench.ack("t", ack_id(&a)).await, Settled::Stale);
    assert_eq!(bench.ack("t", ack_id(&again)).await, Settled::Done);
    assert_eq!(bench.ack("t", ack_id(&again)).await, Settled::Stale);
    assert_eq!(bench.pop("t", 9).await, ["c"]);
}

async fn what_is_ready_and_what_is_held_is_counted(bench: Bench) {
    let counts = async || {
        let statistics = bench.engine().statistics().await.expect("counted");
        let queue = statistics.queues.iter().find(|queue| queue.name == name("t")).expect("it is there");
        (queue.ready, queue.leased)
    };
    assert!(bench.lease("t").await.is_none());
    assert_eq!(counts().await, (0, 0));
    bench.publish("t", &["a", "b", "c", "d", "e"]).await;
    assert_eq!(counts().await, (5, 0));
    for _ in 0..3 {
        bench.lease("t").await.expect("there is one");
    }
    assert_eq!(counts().await, (2, 3));
    // Three come back; they count beside those that were never handed out.
    bench.advance(LEASE);
    bench.lease("t").await.expect("there is one");
    assert_eq!(counts().await, (4, 1));
}

async fn what_one_queue_is_done_with_stays_for_the_other_that_holds_it(bench: Bench) {
    bench.register("a", &["t"]).await.expect("registered");
    bench.register("b", &["t"]).await.expect("registered");
    bench.publish("t", &["for both"]).await;
    bench.lease("t.a").await.expect("there is one");
    assert_eq!(bench.pop("t.b", 1).await, ["for both"]);
    bench.advance(LEASE);
    assert_eq!(bench.pop("t.a", 1).await, ["for both"]);
}

async fn leases_and_attempts_survive_a_restart(mut bench: Bench) {
    bench.publish("t", &["a"]).await;
    let first = bench.lease("t").await.expect("a");
    bench.restart().await;
    assert!(bench.lease("t").await.is_none(), "it is still held");
    bench.advance(LEASE);
    let second = bench.lease("t").await.expect("a again");
    assert_eq!(second.attempt, Attempt(2));
    bench.restart().await;
    assert_eq!(bench.ack("t", ack_id(&first)).await, Settled::Stale);
    assert_eq!(bench.ack("t", ack_id(&second)).await, Settled::Done);
    bench.restart().await;
    bench.advance(LEASE);
    assert!(bench.lease("t").await.is_none());
}

async fn acks_of_another_queue_or_of_none_do_nothing(bench: Bench) {
    bench.publish("t", &["a"]).await;
    bench.publish("other", &["b"]).await;
    let a = bench.lease("t").await.expect("a");
    let results = bench.engine().ack(name("t"), vec![None, Some(ack_id(&a)), Some(ack_id(&a))]).await;
    assert_eq!(results, Ok(vec![Settled::Unknown, Settled::Done, Settled::Stale]));
    let b = bench.lease("other").await.expect("b");
    assert_eq!(bench.ack("t", ack_id(&b)).await, Settled::Unknown);
    let missing = bench.engine().ack(name("nowhere"), vec![None]).await;
    assert_eq!(missing, Err(EngineError::NoSuchQueue { name: "nowhere".into(), others: None }));
}

async fn a_waiting_receive_is_woken_by_the_next_message_first_come_first_served(bench: Bench) {
    bench.publish("t", &["x"]).await;
    assert_eq!(bench.pop("t", 1).await, ["x"]);
    let wait = Duration::from_secs(60);
    let first = bench.receive("t", 1, wait, AckMode::AtOnce);
    let second = bench.receive("t", 9, wait, AckMode::AtOnce);
    let waiters = async { tokio::join!(biased; first, second) };
    let publish = async {
        while bench.engine().statistics().await.expect("counted").waiting < 2 {
            tokio::task::yield_now().await;
        }
        bench.publish("t", &["a", "b", "c"]).await
    };
    let ((first, second), _) = tokio::join!(biased; waiters, publish);
    assert_eq!((texts(&first), texts(&second)), (vec!["a".to_owned()], vec!["b".to_owned(), "c".to_owned()]));
}

async fn a_receive_that_was_dropped_takes_nothing(bench: Bench) {
    let waiting = bench.receive("t", 1, Duration::from_secs(60), AckMode::AtOnce);
    assert!(tokio::time::timeout(Duration::from_millis(20), waiting).await.is_err());
    bench.publish("t", &["a"]).await;
    assert_eq!(bench.pop("t", 1).await, ["a"]);
}

async fn a_leased_message_whose_client_left_comes_back_at_once(bench: Bench) {
    bench.publish("t", &["a"]).await;
    // Dropped after the request is in, before or after it is carried out.
    for _ in 0..50 {
        let mut lease = Box::pin(bench.receive("t", 1, Duration::ZERO, AckMode::Lease(LEASE)));
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(lease.as_mut().poll(cx))).await;
        if let std::task::Poll::Ready(deliveries) = polled {
            // This one was quick enough to get it: it gives the message back by hand.
            for delivery in deliveries {
                bench.ack("t", ack_id(&delivery)).await;
                bench.publish("t", &["a"]).await;
            }
        }
    }
    let wait = Duration::from_secs(60);
    let back = bench.receive("t", 1, wait, AckMode::AtOnce);
    let back = tokio::time::timeout(Duration::from_secs(20), back).await.expect("long before the lease is over");
    assert_eq!(texts(&back), ["a"]);
}

async fn a_lease_that_is_given_back_ends_without_counting_and_a_later_one_does_not(bench: Bench) {
    bench.publish("t", &["x"]).await;
    let first = bench.lease("t").await.expect("x");
    bench.engine().give_back([ack_id(&first)]);
    let second = bench.lease("t").await.expect("it is back");
    assert_eq!(second.attempt, Attempt(1));
    bench.engine().give_back([ack_id(&first)]);
    assert!(bench.lease("t").await.is_none(), "another lease is not ended by that");
    assert_eq!(bench.ack("t", ack_id(&first)).await, Settled::Stale);
    assert_eq!(bench.ack("t", ack_id(&second)).await, Settled::Done);
}

async fn a_wait_ends_empty_when_its_time_is_over(bench: Bench) {
    let wait = bench.receive("t", 1, Duration::from_secs(60), AckMode::AtOnce);
    let advance = async {
        while bench.engine().statistics().await.expect("counted").waiting < 1 {
            tokio::task::yield_now().await;
        }
        bench.advance(Duration::from_secs(60));
    };
    let (deliveries, ()) = tokio::join!(biased; wait, advance);
    assert!(deliveries.is_empty());
}

async fn an_answer_is_bounded_in_bytes(mut bench: Bench) {
    bench.options.journal_file_bytes = 64 << 20;
    bench.restart().await;
    let large = "x".repeat(6 << 20);
    for _ in 0..3 {
        bench.publish("t", &[&large]).await;
    }
    assert_eq!(bench.pop("t", 9).await.len(), 2);
    assert_eq!(bench.pop("t", 9).await.len(), 1);
}

async fn a_batch_that_does_not_fit_a_frame_is_refused_whole(bench: Bench) {
    let drafts = vec![draft(&"x".repeat(200_000)); 3];
    let refused = bench.engine().publish(name("t"), drafts).await;
    assert!(matches!(refused, Err(EngineError::MessageTooLarge { .. })), "{refused:?}");
    assert_eq!(bench.pop("t", 9).await.len(), 0);
}

async fn an_engine_that_is_closed_refuses_and_hangs_nobody(bench: Bench) {
    let waiting = bench.receive("t", 1, Duration::from_secs(60), AckMode::AtOnce);
    let close = async {
        while bench.engine().statistics().await.expect("counted").waiting < 1 {
            tokio::task::yield_now().await;
        }
        bench.engine().close().await;
    };
    let (deliveries, ()) = tokio::join!(biased; waiting, close);
    assert!(deliveries.is_empty());
    assert_eq!(bench.publish_one("t", draft("late")).await, Err(EngineError::Stopped));
}

async fn a_topics_own_queue_gets_what_others_hold_or_were_given_back(bench: Bench) {
    bench.register("s", &["t"]).await.expect("registered");
    bench.publish("t", &["held", "done", "given back", "done too", "to come"]).await;
    let held = bench.lease("t.s").await.expect("the first");
    assert_eq!(bench.pop("t.s", 1).await, ["done"]);
    bench.lease("t.s").await.expect("the third");
    assert_eq!(bench.pop("t.s", 1).await, ["done too"]);
    bench.advance(LEASE / 2);
    assert_eq!(bench.ack("t.s", ack_id(&held)).await, Settled::Done);
    bench.advance(LEASE / 2);
    let held = bench.lease("t.s").await.expect("the third again");
    assert_eq!(held.attempt, Attempt(2));
    bench.publish("t", &["new"]).await;
    assert_eq!(bench.pop("t", 9).await, ["given back", "to come", "new"]);
}

//! Topics and queues are made, changed, emptied and removed; how much may wait in them.

use std::time::Duration;

use super::{AckMode, Bench, LEASE, Settled, ack_id, draft, name, texts};
use crate::{
    engine::{Base, Browse, EngineError, Manage, Managed, MessageState, PurgeScope, Redrive, StateFilter},
    model::{Draft, Due, Overflow, QueueLimitsPatch, QueuePolicyPatch, RetryPolicy, Seq, TopicPolicyPatch},
};

over_both! {
    a_paused_queue_hands_nothing_out_and_takes_acks,
    a_purge_empties_what_it_is_told_to,
    a_queue_that_is_deleted_lets_go_of_its_messages_and_of_no_others,
    a_topic_whose_last_queue_is_deleted_keeps_what_comes_from_then_on,
    a_topic_that_is_deleted_is_gone_with_everything_in_it,
    a_message_can_be_deleted_wherever_it_is,
    a_delayed_message_can_be_cancelled,
    a_full_queue_refuses_or_drops_its_oldest,
    a_limit_in_bytes_counts_what_is_stored,
    a_limit_that_is_set_later_drops_what_is_too_much,
    what_is_acked_in_the_same_step_makes_room,
    a_full_queue_takes_duplicates_and_what_is_not_visible_yet,
    a_topic_without_a_queue_has_limits_as_well,
    what_would_change_nothing_is_not_written,
    what_is_not_there_cannot_be_deleted,
    what_is_too_old_is_dropped,
    policies_are_set_kept_and_changed_in_part,
    a_topic_may_have_a_dedup_window_of_its_own,
    names_are_declared_only_if_they_may_be,
    what_a_queue_has_in_bytes_is_counted_right,
}

async fn manage(bench: &Bench, manage: Manage) -> Managed {
    bench.engine().manage(manage).await.expect("done")
}

fn limits(limits: QueueLimitsPatch) -> QueuePolicyPatch {
    QueuePolicyPatch { limits, ..QueuePolicyPatch::default() }
}

fn at_most(messages: u64, overflow: Overflow) -> QueueLimitsPatch {
    QueueLimitsPatch {
        messages_max: Some(Some(messages)),
        overflow: Some(Some(overflow)),
        ..QueueLimitsPatch::default()
    }
}

async fn set(bench: &Bench, queue: &str, policy: QueuePolicyPatch) {
    manage(bench, Manage::SetQueuePolicy { queue: name(queue), policy }).await;
}

async fn set_topic(bench: &Bench, topic: &str, policy: TopicPolicyPatch) -> bool {
    manage(bench, Manage::PutTopic { topic: name(topic), policy, base: Base::Default }).await.is_new
}

fn all() -> PurgeScope {
    PurgeScope { ready: true, leased: true, dead: true }
}

/// Has everything so far written to segments, if the journal is in files.
async fn write_down(bench: &Bench) {
    if bench.memory.is_some() {
        return;
    }
    for _ in 0..400 {
        bench.publish("busy", &[&"x".repeat(9000)]).await;
        bench.pop("busy", 1).await;
    }
}

async fn a_paused_queue_hands_nothing_out_and_takes_acks(mut bench: Bench) {
    bench.publish("t", &["a", "b"]).await;
    let a = bench.lease("t").await.expect("a");
    manage(&bench, Manage::Pause { queue: name("t") }).await;
    manage(&bench, Manage::Pause { queue: name("t") }).await;
    bench.restart().await;
    assert!(bench.pop("t", 9).await.is_empty());
    assert_eq!(bench.ack("t", ack_id(&a)).await, Settled::Done);
    assert!(bench.engine().queue(name("t")).await.expect("there").is_paused);
    // Who waits is served when it is resumed.
    let waiting = bench.receive("t", 9, Duration::from_secs(3600), AckMode::AtOnce);
    let (got, _) = tokio::join!(waiting, manage(&bench, Manage::Resume { queue: name("t") }));
    assert_eq!(texts(&got), ["b"]);
}

async fn a_purge_empties_what_it_is_told_to(mut bench: Bench) {
    bench.register("s", &["t"]).await.expect("registered");
    bench.publish("t", &["a", "b", "c", "d"]).await;
    write_down(&bench).await;
    bench.publish("t", &["e", "f"]).await;
    let held = bench.lease("t.s").await.expect("a");
    assert_eq!(bench.pop("t", 1).await, ["a"], "another queue");
    let ready = PurgeScope { ready: true, ..PurgeScope::default() };
    assert_eq!(manage(&bench, Manage::Purge { queue: name("t.s"), scope: ready }).await.messages, 5);
    assert!(bench.pop("t.s", 9).await.is_empty());
    bench.restart().await;
    assert_eq!(bench.ack("t.s", ack_id(&held)).await, Settled::Done);
    assert_eq!(bench.pop("t", 9).await, ["b", "c", "d", "e", "f"]);
    bench.publish("t", &["g", "h"]).await;
    let held = bench.lease("t.s").await.expect("g");
    assert_eq!(manage(&bench, Manage::Purge { queue: name("t.s"), scope: all() }).await.messages, 2);
    assert_eq!(bench.ack("t.s", ack_id(&held)).await, Settled::Stale);
    assert_eq!(bench.engine().queue(name("t.s")).await.expect("there").bytes, 0);
    assert_eq!(bench.pop("t", 9).await, ["g", "h"]);
    let unknown = bench.engine().manage(Manage::Purge { queue: name("nowhere"), scope: all() }).await;
    assert_eq!(unknown, Err(EngineError::NoSuchQueue { name: "nowhere".into(), others: None }));
}

async fn a_queue_that_is_deleted_lets_go_of_its_messages_and_of_no_others(mut bench: Bench) {
    bench.register("s", &["t"]).await.expect("registered");
    bench.register("r", &["t"]).await.expect("registered");
    bench.publish("t", &["a", "b"]).await;
    write_down(&bench).await;
    bench.publish("t", &["c"]).await;
    let held = bench.lease("t.s").await.expect("a");
    assert_eq!(bench.pop("t.r", 1).await, ["a"]);
    assert_eq!(manage(&bench, Manage::DeleteQueue { queue: name("t.s") }).await.messages, 3);
    assert_eq!(bench.engine().statistics().await.expect("counted").messages, 2);
    bench.restart().await;
    let gone = bench.engine().ack(name("t.s"), vec![Some(ack_id(&held))]).await;
    assert_eq!(gone, Err(EngineError::NoSuchQueue { name: "t.s".into(), others: None }));
    assert_eq!(bench.publish("t", &["d"]).await.delivered_to(), 1);
    assert_eq!(bench.pop("t.r", 9).await, ["b", "c", "d"]);
    // It can come back, as a new one.
    bench.register("s", &["t"]).await.expect("registered");
    bench.publish("t", &["e"]).await;
    assert_eq!(bench.pop("t.s", 9).await, ["e"]);
}

async fn a_topic_whose_last_queue_is_deleted_keeps_what_comes_from_then_on(mut bench: Bench) {
    assert!(bench.pop("t", 1).await.is_empty());
    bench.publish("t", &["a", "b"]).await;
    write_down(&bench).await;
    assert_eq!(bench.pop("t", 1).await, ["a"]);
    manage(&bench, Manage::DeleteQueue { queue: name("t") }).await;
    bench.publish("t", &["c"]).await;
    bench.restart().await;
    assert_eq!(bench.engine().topic(name("t")).await.expect("there").messages, 1);
    assert_eq!(bench.pop("t", 9).await, ["c"]);
}

async fn a_topic_that_is_deleted_is_gone_with_everything_in_it(mut bench: Bench) {
    bench.register("s", &["t"]).await.expect("registered");
    bench.publish("t", &["a", "b"]).await;
    bench.publish_one("t", Draft { due: Due::After(LEASE), ..draft("later") }).await.expect("stored");
    let held = bench.lease("t.s").await.expect("a");
    write_down(&bench).await;
    assert_eq!(manage(&bench, Manage::DeleteTopic { topic: name("t") }).await.messages, 3);
    bench.restart().await;
    assert_eq!(bench.engine().statistics().await.expect("counted").messages, 0);
    assert_eq!(bench.engine().topic(name("t")).await, Err(EngineError::NoSuchTopic { name: "t".into() }));
    bench.advance(LEASE * 2);
    bench.register("s", &["t"]).await.expect("registered");
    bench.publish("t", &["c"]).await;
    let late = bench.engine().ack(name("t.s"), vec![Some(ack_id(&held))]).await;
    assert_eq!(late, Ok(vec![Settled::Unknown]), "another queue of that name");
    assert_eq!(bench.pop("t.s", 9).await, ["c"]);
}

async fn a_message_can_be_deleted_wherever_it_is(mut bench: Bench) {
    bench.register("s", &["t"]).await.expect("registered");
    let ids: Vec<_> = bench.publish("t", &["a", "b", "c", "d", "e"]).await.messages.iter().map(|m| m.id).collect();
    assert!(bench.pop("t", 1).await == ["a"]);
    write_down(&bench).await;
    let held = bench.lease("t.s").await.expect("a");
    let delete = async |bench: &Bench, n: usize| {
        let found = bench.engine().find(name("t.s"), ids[n]).await.expect("looked for");
        let (found, state) = found?;
        let seq = found.seq.expect("visible");
        let deleted = manage(bench, Manage::DeleteMessage { queue: name("t.s"), seq }).await.messages;
        assert_eq!(deleted, 1);
        Some(state)
    };
    assert!(matches!(delete(&bench, 3).await, Some(MessageState::Ready { .. })));
    assert!(matches!(delete(&bench, 0).await, Some(MessageState::Leased { .. })));
    assert_eq!(bench.ack("t.s", ack_id(&held)).await, Settled::Stale);
    assert_eq!(delete(&bench, 3).await, None, "once");
    let digest = bench.digest().await;
    bench.restart().await;
    assert_eq!(bench.digest().await, digest);
    assert_eq!(bench.engine().queue(name("t.s")).await.expect("there").ready, 3);
    assert_eq!(bench.pop("t.s", 9).await, ["b", "c", "e"]);
    assert_eq!(bench.pop("t", 9).await, ["b", "c", "d", "e"], "another queue has its own");
    assert_eq!(bench.engine().statistics().await.expect("counted").messages, 0);
}

async fn a_delayed_message_can_be_cancelled(mut bench: Bench) {
    let later = |text| Draft { due: Due::After(LEASE), ..draft(text) };
    let (a, b) = (bench.publish_one("t", later("a")).await, bench.publish_one("t", later("b")).await);
    let (a, b) = (a.expect("stored").messages[0].id, b.expect("stored").messages[0].id);
    write_down(&bench).await;
    let found = bench.engine().find_delayed(name("t"), a).await.expect("looked for").expect("there");
    let cancel = Manage::CancelDelayed { topic: name("t"), seq: found.delayed.expect("delayed") };
    assert_eq!(manage(&bench, cancel.clone()).await.messages, 1);
    assert_eq!(manage(&bench, cancel).await.messages, 0);
    bench.restart().await;
    assert!(bench.engine().find_delayed(name("t"), a).await.expect("looked for").is_none());
    bench.advance(LEASE);
    assert_eq!(bench.pop("t", 9).await, ["b"]);
    assert!(bench.engine().find_delayed(name("t"), b).await.expect("looked for").is_none(), "visible");
}

async fn a_full_queue_refuses_or_drops_its_oldest(mut bench: Bench) {
    bench.register("s", &["t"]).await.expect("registered");
    bench.register("r", &["t"]).await.expect("registered");
    set(&bench, "t.s", limits(at_most(2, Overflow::DropOldest))).await;
    bench.publish("t", &["a", "b", "c"]).await;
    let b = bench.lease("t.s").await.expect("b");
    bench.publish("t", &["d", "e"]).await;
    // What is held stays; the oldest that is not goes.
    assert_eq!(bench.ack("t.s", ack_id(&b)).await, Settled::Done);
    assert_eq!(bench.pop("t.s", 9).await, ["e"]);
    assert_eq!(bench.engine().queue(name("t.s")).await.expect("there").counters.dropped, 3);

    set(&bench, "t.r", limits(at_most(6, Overflow::Reject))).await;
    let full = EngineError::QueueFull { queue: "t.r".into() };
    assert_eq!(bench.engine().publish(name("t"), vec![draft("f"), draft("g")]).await, Err(full.clone()));
    assert!(bench.pop("t.s", 9).await.is_empty(), "refused for all");
    bench.restart().await;
    bench.publish("t", &["f"]).await;
    assert_eq!(bench.publish_one("t", draft("g")).await, Err(full));
    assert_eq!(bench.pop("t.r", 1).await, ["a"]);
    bench.publish("t", &["g"]).await;
    assert_eq!(bench.pop("t.r", 9).await, ["b", "c", "d", "e", "f", "g"]);
}

async fn a_limit_in_bytes_counts_what_is_stored(bench: Bench) {
    assert!(bench.pop("t", 1).await.is_empty());
    let bytes = |bytes| QueueLimitsPatch {
        bytes_max: Some(Some(bytes)),
        overflow: Some(Some(Overflow::DropOldest)),
        ..QueueLimitsPatch::default()
    };
    set(&bench, "t", limits(bytes(3500))).await;
    let text = |c: char| c.to_string().repeat(1000);
    for c in ['a', 'b', 'c', 'd', 'e'] {
        bench.publish("t", &[&text(c)]).await;
    }
    write_down(&bench).await;
    let view = bench.engine().queue(name("t")).await.expect("there");
    assert!((3000..=3500).contains(&view.bytes), "{}", view.bytes);
    assert_eq!(bench.pop("t", 9).await, ['c', 'd', 'e'].map(text));
    let large = bench.publish_one("t", draft(&"x".repeat(3600))).await;
    assert_eq!(large, Err(EngineError::QueueFull { queue: "t".into() }), "nothing could make room for it");
}

async fn a_limit_that_is_set_later_drops_what_is_too_much(bench: Bench) {
    assert!(bench.pop("t", 1).await.is_empty());
    bench.publish("t", &["a", "b", "c", "d"]).await;
    let held = bench.lease("t").await.expect("a");
    set(&bench, "t", limits(at_most(2, Overflow::DropOldest))).await;
    assert_eq!(bench.pop("t", 9).await, ["d"]);
    assert_eq!(bench.ack("t", ack_id(&held)).await, Settled::Done);
}

async fn what_is_acked_in_the_same_step_makes_room(bench: Bench) {
    use crate::engine::Settlement;
    assert!(bench.pop("t", 1).await.is_empty());
    set(&bench, "t", limits(at_most(1, Overflow::Reject))).await;
    bench.publish("t", &["a"]).await;
    let held = ack_id(&bench.lease("t").await.expect("a"));
    assert!(bench.publish_one("t", draft("b")).await.is_err());
    let next = vec![(name("t"), vec![draft("b")])];
    let done = bench.engine().settle_all(vec![(Some(held), Settlement::Ack)], next).await;
    assert!(done.is_ok(), "{done:?}");
    assert_eq!(bench.pop("t", 9).await, ["b"]);
}

async fn a_full_queue_takes_duplicates_and_what_is_not_visible_yet(bench: Bench) {
    assert!(bench.pop("t", 1).await.is_empty());
    set(&bench, "t", limits(at_most(1, Overflow::Reject))).await;
    let once = Draft { dedup_id: Some("id".into()), ..draft("once") };
    bench.publish_one("t", once.clone()).await.expect("there is room for one");
    assert!(bench.publish_one("t", once).await.expect("it is there already").messages[0].duplicate);
    let later = Draft { due: Due::After(LEASE), ..draft("later") };
    bench.publish_one("t", later).await.expect("it takes room when it becomes visible");
    assert_eq!(bench.publish_one("t", draft("more")).await, Err(EngineError::QueueFull { queue: "t".into() }));
}

async fn what_would_change_nothing_is_not_written(mut bench: Bench) {
    let kept = TopicPolicyPatch { limits: at_most(2, Overflow::DropOldest), ..TopicPolicyPatch::default() };
    assert!(set_topic(&bench, "t", kept).await);
    bench.publish("t", &["a", "b"]).await;
    bench.register("s", &["u"]).await.expect("registered");
    let frames = bench.engine().statistics().await.expect("counted").frames;
    let queue = || name("u.s");
    let put = |topic, policy, base| Manage::PutTopic { topic, policy, base };
    let again = [
        put(name("t"), kept, Base::Default),
        put(name("t"), TopicPolicyPatch::default(), Base::Current),
        Manage::Purge { queue: queue(), scope: all() },
        Manage::Redrive { queue: queue(), which: Redrive::Oldest(9), pace: None },
        Manage::Resume { queue: queue() },
        Manage::SetQueuePolicy { queue: queue(), policy: QueuePolicyPatch::default() },
        Manage::DeleteMessage { queue: queue(), seq: Seq(0) },
    ];
    for again in again {
        let what = format!("{again:?}");
        assert_eq!(manage(&bench, again).await, Managed::default(), "{what}");
        assert_eq!(bench.engine().statistics().await.expect("counted").frames, frames, "{what}");
    }
    // Four for topic t, its policy and what it has, five for u, the inbox and the queues of both: none trims what is
    // within its limit.
    bench.restart().await;
    assert_eq!(bench.engine().recovery().records, 9);
    assert_eq!(bench.pop("t", 9).await, ["a", "b"]);
    // And what is set, is.
    manage(&bench, put(name("t"), TopicPolicyPatch::default(), Base::Default)).await;
    bench.publish("r", &["a"]).await;
    assert!(bench.engine().topic(name("t")).await.expect("there").policy.limits.messages_max.is_none());
}

async fn what_is_not_there_cannot_be_deleted(bench: Bench) {
    bench.register("s", &["t"]).await.expect("registered");
    bench.publish("t", &["a"]).await;
    let delete = |seq| Manage::DeleteMessage { queue: name("t.s"), seq: Seq(seq) };
    for (seq, messages) in [(1, 0), (2, 0), (0, 1), (0, 0)] {
        assert_eq!(manage(&bench, delete(seq)).await.messages, messages, "place {seq}");
    }
    bench.publish("t", &["b"]).await;
    assert_eq!(bench.pop("t.s", 9).await, ["b"]);
}

async fn a_topic_without_a_queue_has_limits_as_well(mut bench: Bench) {
    let topic = |limits| TopicPolicyPatch { limits, ..TopicPolicyPatch::default() };
    assert!(set_topic(&bench, "t", topic(at_most(2, Overflow::DropOldest))).await);
    assert!(set_topic(&bench, "r", topic(at_most(1, Overflow::Reject))).await);
    bench.publish("t", &["a", "b", "c"]).await;
    bench.publish("t", &["d"]).await;
    bench.publish("r", &["a"]).await;
    assert_eq!(bench.publish_one("r", draft("b")).await, Err(EngineError::QueueFull { queue: "r".into() }));
    bench.restart().await;
    assert_eq!(bench.pop("t", 9).await, ["c", "d"]);
    // Its queues have what it says, unless they say something themselves.
    set(&bench, "t", limits(QueueLimitsPatch { messages_max: Some(Some(3)), ..QueueLimitsPatch::default() })).await;
    bench.publish("t", &["e", "f", "g", "h"]).await;
    assert_eq!(bench.pop("t", 9).await, ["f", "g", "h"]);
}

async fn what_is_too_old_is_dropped(bench: Bench) {
    let age =
        |seconds| QueueLimitsPatch { age_max: Some(Some(Duration::from_secs(seconds))), ..QueueLimitsPatch::default() };
    set_topic(&bench, "t", TopicPolicyPatch { limits: age(100), ..TopicPolicyPatch::default() }).await;
    bench.register("s", &["t"]).await.expect("registered");
    bench.publish("t", &["a", "b"]).await;
    write_down(&bench).await;
    bench.advance(Duration::from_secs(60));
    bench.publish("t", &["c"]).await;
    bench.advance(Duration::from_secs(39));
    assert_eq!(bench.pop("t.s", 1).await, ["a"]);
    bench.advance(Duration::from_secs(1));
    assert_eq!(bench.pop("t.s", 9).await, ["c"]);
    assert_eq!(bench.engine().queue(name("t.s")).await.expect("there").counters.dropped, 1);
}

async fn policies_are_set_kept_and_changed_in_part(mut bench: Bench) {
    let put = |policy, base| Manage::PutSubscription { topic: name("t"), service: name("s"), policy, base };
    let policy = QueuePolicyPatch {
        ack_deadline: Some(Duration::from_secs(77)),
        max_delivery_attempts: Some(None),
        ..QueuePolicyPatch::default()
    };
    assert!(manage(&bench, put(policy, Base::Default)).await.is_new);
    let backoff = QueuePolicyPatch { minimum_backoff: Some(LEASE), ..QueuePolicyPatch::default() };
    set(&bench, "t.s", backoff).await;
    bench.restart().await;
    let view = bench.engine().queue(name("t.s")).await.expect("there");
    assert_eq!((view.policy.ack_deadline, view.policy.max_delivery_attempts), (Duration::from_secs(77), None));
    assert_eq!(view.policy.retry, RetryPolicy { minimum_backoff: LEASE, ..RetryPolicy::default() });
    // A put says all.
    assert!(!manage(&bench, put(backoff, Base::Default)).await.is_new);
    let view = bench.engine().queue(name("t.s")).await.expect("there");
    assert_eq!((view.policy.ack_deadline, view.policy.retry.minimum_backoff), (Duration::from_secs(30), LEASE));
    let (services, next) = bench.engine().services(None, 9).await.expect("listed");
    assert_eq!((services.len(), next), (0, None), "a queue alone makes no inbox");
}

async fn a_topic_may_have_a_dedup_window_of_its_own(bench: Bench) {
    let window = TopicPolicyPatch { dedup_window: Some(Some(LEASE)), ..TopicPolicyPatch::default() };
    set_topic(&bench, "t", window).await;
    let once = || Draft { dedup_id: Some("once".into()), ..draft("a") };
    let publish = async || bench.publish_one("t", once()).await.expect("answered").messages[0].duplicate;
    assert!(!publish().await);
    bench.advance(LEASE - Duration::from_millis(1));
    assert!(publish().await);
    bench.advance(Duration::from_millis(1));
    assert!(!publish().await);
}

async fn names_are_declared_only_if_they_may_be(mut bench: Bench) {
    bench.options.auto_declare = false;
    bench.restart().await;
    assert_eq!(bench.publish_one("t", draft("a")).await, Err(EngineError::NoSuchTopic { name: "t".into() }));
    let receive = |queue: &str, service: Option<&str>| crate::engine::Receive {
        queue: name(queue),
        service: service.map(name),
        max_messages: 1,
        wait: Duration::ZERO,
        max_bytes: usize::MAX,
        mode: AckMode::AtOnce,
    };
    let refused = bench.engine().receive(receive("t", None)).await.map(drop);
    assert_eq!(refused, Err(EngineError::NoSuchQueue { name: "t".into(), others: None }));
    set_topic(&bench, "t", TopicPolicyPatch::default()).await;
    bench.publish("t", &["a"]).await;
    let refused = bench.engine().receive(receive("t", Some("s"))).await.map(drop);
    assert_eq!(refused, Err(EngineError::NoSuchQueue { name: "t.s".into(), others: None }));
    bench.register("s", &["t"]).await.expect("registered");
    assert_eq!(bench.pop("t.s", 9).await, ["a"]);
}

async fn what_a_queue_has_in_bytes_is_counted_right(mut bench: Bench) {
    bench.register("s", &["t"]).await.expect("registered");
    let bytes = async |bench: &Bench| bench.engine().queue(name("t.s")).await.expect("there").bytes;
    bench.publish("t", &["a", "bb", "ccc"]).await;
    let all = bytes(&bench).await;
    assert!(all > 0);
    write_down(&bench).await;
    let after = bytes(&bench).await;
    assert_eq!(after, all, "wherever they are");
    bench.restart().await;
    assert_eq!(bytes(&bench).await, all);
    let held = bench.lease("t.s").await.expect("a");
    bench.publish("t", &["d"]).await;
    let more = bytes(&bench).await;
    assert!(more > all);
    assert_eq!(bench.ack("t.s", ack_id(&held)).await, Settled::Done);
    assert!(bytes(&bench).await < more);
    bench.pop("t.s", 9).await;
    assert_eq!(bytes(&bench).await, 0);
    let page =
        bench.engine().browse(Browse { queue: name("t.s"), state: StateFilter::Ready, after: None, max: 9 }).await;
    assert!(page.expect("browsed").messages.is_empty());
}

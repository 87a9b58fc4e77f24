//! What is told of messages that went out of the way: taken back, redriven, brought along, or standing in segments.

use std::{path::PathBuf, time::Duration};

use super::{AckMode, Bench, Draft, LEASE, Settlement, ack_id, draft, name};
use crate::{
    engine::{Browse, EventKind, Manage, MessageState, Nack, NackOutcome, Obstacle, Redrive, StateFilter, Story},
    model::{Attempt, Due, MessageId, Properties, Seq},
};

over_both! {
    the_story_tells_of_another_deadline_and_of_a_message_that_was_brought_back,
    the_story_of_a_delayed_message_that_was_taken_back_ends_with_that,
    each_delayed_message_has_a_story_of_its_own,
    a_delayed_message_in_a_segment_is_found_as_soon_as_it_is_visible,
    a_page_ends_when_its_messages_are_large,
    a_queue_with_a_single_message_is_not_empty_whatever_the_message_waits_for,
    no_more_than_some_keys_are_named_and_none_that_holds_nothing_up,
    released_messages_can_be_delivered_and_wait_for_nobody,
}

/// Has everything so far written to segments, if the journal is in files.
async fn write_down(bench: &Bench) {
    if bench.memory.is_none() {
        for _ in 0..400 {
            bench.publish("busy", &[&"x".repeat(9000)]).await;
            bench.pop("busy", 1).await;
        }
    }
}

async fn story(bench: &Bench, id: MessageId) -> Story {
    bench.engine().story(id).await.expect("looked for").expect("known")
}

fn kinds(story: &Story) -> Vec<EventKind> {
    story.events.iter().map(|event| event.kind.clone()).collect()
}

async fn settle(bench: &Bench, id: crate::model::AckId, settlement: Settlement) {
    bench.engine().settle_each(None, vec![(Some(id), settlement)]).await.expect("answered");
}

fn nack(outcome: NackOutcome, delay: Duration) -> Settlement {
    Settlement::Nack(Nack { outcome, delay: Some(delay), reason: String::new() })
}

async fn publish_later(bench: &Bench, text: &str) -> MessageId {
    let later = Draft { due: Due::After(LEASE), ..draft(text) };
    bench.publish_one("t", later).await.expect("stored").messages[0].id
}

fn keyed(key: &str) -> Draft {
    let properties = Properties { ordering_key: Some(key.to_owned()), ..Properties::default() };
    Draft { properties, ..draft(key) }
}

async fn the_story_tells_of_another_deadline_and_of_a_message_that_was_brought_back(bench: Bench) {
    assert!(bench.pop("t", 1).await.is_empty());
    let id = bench.publish("t", &["a"]).await.messages[0].id;
    let held = bench.lease("t").await.expect("a");
    settle(&bench, ack_id(&held), Settlement::Extend(LEASE * 3)).await;
    let deadline = bench.options.clock.now().after(LEASE * 3);
    settle(&bench, ack_id(&held), nack(NackOutcome::DeadLetter, Duration::ZERO)).await;
    let redrive = Manage::Redrive { queue: name("t"), which: Redrive::Oldest(1), pace: None };
    assert_eq!(bench.engine().manage(redrive).await.expect("done").messages, 1);
    let kinds = kinds(&story(&bench, id).await);
    assert_eq!((kinds.len(), &kinds[2]), (5, &EventKind::Extended { deadline }), "{kinds:?}");
    assert_eq!(kinds[4], EventKind::Redriven);
}

async fn the_story_of_a_delayed_message_that_was_taken_back_ends_with_that(bench: Bench) {
    assert!(bench.pop("t", 1).await.is_empty());
    publish_later(&bench, "stays").await;
    let id = publish_later(&bench, "goes").await;
    let cancel = Manage::CancelDelayed { topic: name("t"), seq: Seq(1) };
    assert_eq!(bench.engine().manage(cancel).await.expect("done").messages, 1);
    assert_eq!(kinds(&story(&bench, id).await), [EventKind::Delayed, EventKind::Cancelled]);
}

async fn each_delayed_message_has_a_story_of_its_own(bench: Bench) {
    assert!(bench.pop("t", 1).await.is_empty());
    bench.publish("t", &["visible", "at", "once"]).await;
    let (first, second) = (publish_later(&bench, "first").await, publish_later(&bench, "second").await);
    bench.advance(LEASE);
    assert_eq!(bench.pop("t", 4).await.last().map(String::as_str), Some("first"));
    let known = [EventKind::Delayed, EventKind::BecameVisible, EventKind::Received];
    assert_eq!(kinds(&story(&bench, first).await), known);
    assert_eq!(kinds(&story(&bench, second).await), known[..2]);
}

async fn a_delayed_message_in_a_segment_is_found_as_soon_as_it_is_visible(mut bench: Bench) {
    assert!(bench.pop("t", 1).await.is_empty());
    bench.publish("t", &["visible", "at", "once"]).await;
    let id = publish_later(&bench, "later").await;
    write_down(&bench).await;
    bench.restart().await;
    assert!(bench.engine().find_delayed(name("t"), id).await.expect("looked for").is_some());
    bench.advance(LEASE);
    let (found, state) = bench.engine().find(name("t"), id).await.expect("looked for").expect("there");
    assert_eq!((found.seq, state), (Some(Seq(3)), MessageState::Ready { attempts: Attempt(0) }));
    assert!(bench.engine().find_delayed(name("t"), id).await.expect("looked for").is_none());
}

/// An id may look like one that the broker has made, and tell of another time than that of its import.
#[tokio::test]
async fn a_message_that_was_brought_along_is_found_whatever_its_id_says() {
    let mut bench = Bench::new();
    let ids = ["01890a5d-ac96-774b-bcce-b302099a8057", "3f2b0c6e-8a44-4d0e-9d43-0b6f2c1d9e11"];
    let lines = ids.map(|id| format!(r#"{{"id": "{id}", "topic": "t", "payload": 7}}"#));
    bench.engine.take().expect("open").close().await;
    std::fs::write(bench.options.data_dir.join("t.jsonl"), lines.join("\n")).expect("written");
    bench.engine = Some(bench.open());
    let ids = ids.map(|id| MessageId(id.parse().expect("an id")));
    write_down(&bench).await;
    bench.restart().await;
    for id in ids {
        assert!(story(&bench, id).await.message.is_some(), "{id}");
    }
}

/// The segments of the store.
fn segments(bench: &Bench) -> Vec<PathBuf> {
    let segments = std::fs::read_dir(bench.options.data_dir.join("segments")).expect("listed");
    let paths = segments.map(|entry| entry.expect("readable").path());
    paths.filter(|path| path.extension().is_some_and(|ending| ending == "seg")).collect()
}

#[tokio::test]
async fn of_messages_whose_index_was_damaged_no_age_is_made_up() {
    let mut bench = Bench::new();
    assert!(bench.pop("t", 1).await.is_empty());
    bench.publish("t", &["a"]).await;
    write_down(&bench).await;
    let oldest = async |bench: &Bench| bench.engine().queue(name("t")).await.expect("there").oldest_published_at;
    assert_eq!(oldest(&bench).await, Some(bench.options.clock.now()));
    bench.engine.take().expect("open").close().await;
    for segment in segments(&bench) {
        let mut bytes = std::fs::read(&segment).expect("readable");
        *bytes.last_mut().expect("not empty") ^= 1;
        std::fs::write(&segment, bytes).expect("damaged");
    }
    bench.engine = Some(bench.open());
    assert_eq!(oldest(&bench).await, None);
}

async fn a_page_ends_when_its_messages_are_large(bench: Bench) {
    assert!(bench.pop("t", 1).await.is_empty());
    for _ in 0..6 {
        bench.publish("t", &[&"x".repeat(450_000)]).await;
    }
    let asked = |after| Browse { queue: name("t"), state: StateFilter::Ready, after, max: 10 };
    let page = bench.engine().browse(asked(None)).await.expect("browsed");
    // Two megabytes are reached with the fifth.
    assert_eq!((page.messages.len(), page.next), (5, Some(Seq(4))));
    let page = bench.engine().browse(asked(page.next)).await.expect("browsed");
    assert_eq!((page.messages.len(), page.next), (1, None));
}

async fn obstacles(bench: &Bench, queue: &str) -> Vec<Obstacle> {
    bench.engine().explain(name(queue)).await.expect("explained").obstacles
}

async fn a_queue_with_a_single_message_is_not_empty_whatever_the_message_waits_for(bench: Bench) {
    assert!(bench.pop("t", 1).await.is_empty());
    assert_eq!(obstacles(&bench, "t").await, [Obstacle::Empty]);
    publish_later(&bench, "a").await;
    assert!(matches!(&obstacles(&bench, "t").await[..], [Obstacle::Delayed { messages: 1, .. }]));
    bench.advance(LEASE);
    assert_eq!(obstacles(&bench, "t").await, [Obstacle::NoConsumer]);
    let held = bench.lease("t").await.expect("a");
    assert!(matches!(&obstacles(&bench, "t").await[..], [Obstacle::Leased { messages: 1, .. }]));
    settle(&bench, ack_id(&held), nack(NackOutcome::Retry, LEASE)).await;
    assert!(matches!(&obstacles(&bench, "t").await[..], [Obstacle::Retrying { messages: 1, .. }]));
}

async fn released_messages_can_be_delivered_and_wait_for_nobody(bench: Bench) {
    assert!(bench.pop("t", 1).await.is_empty());
    bench.publish("t", &["a", "b", "c"]).await;
    let mode = AckMode::Lease(LEASE);
    for delivery in bench.receive("t", 2, Duration::ZERO, mode).await {
        settle(&bench, ack_id(&delivery), nack(NackOutcome::Release, Duration::ZERO)).await;
    }
    let explained = bench.engine().explain(name("t")).await.expect("explained");
    assert_eq!((explained.deliverable, explained.obstacles), (3, vec![Obstacle::NoConsumer]));
}

async fn no_more_than_some_keys_are_named_and_none_that_holds_nothing_up(bench: Bench) {
    assert!(bench.pop("t", 1).await.is_empty());
    let named = async || {
        let told = obstacles(&bench, "t").await.into_iter().find_map(|obstacle| match obstacle {
            Obstacle::BehindKeys { messages, keys } => Some((messages, keys)),
            _ => None,
        });
        let (messages, keys) = told.unwrap_or_default();
        (messages, keys.into_iter().filter_map(|key| key.key).collect::<Vec<_>>())
    };
    for round in 0..2 {
        for n in 0..7 {
            // The last key has one message only.
            if round == 0 || n < 6 {
                bench.publish_one("t", keyed(&format!("key {n}"))).await.expect("stored");
            }
        }
    }
    let held = bench.receive("t", 99, Duration::ZERO, AckMode::Lease(LEASE)).await;
    assert_eq!(held.len(), 7);
    assert_eq!(named().await, (6, (0..5).map(|n| format!("key {n}")).collect()), "some of six");
    for delivery in &held[..4] {
        bench.ack("t", ack_id(delivery)).await;
    }
    bench.pop("t", 99).await;
    assert_eq!(named().await, (2, vec!["key 4".to_owned(), "key 5".to_owned()]));
}

//! Looking at messages, queues and topics, wherever what is looked at stands.

use std::time::Duration;

use super::{AckMode, Bench, LEASE, Settlement, ack_id, draft, name, texts};
use crate::{
    engine::{
        Browse, DeadCause, Event, EventKind, Manage, MessageState, Nack, NackOutcome, Obstacle, ReturnCause,
        StateFilter,
    },
    model::{Attempt, Draft, Due, MessageId, Properties, Timestamp},
};

over_both! {
    messages_are_browsed_page_by_page_in_each_state,
    browsing_changes_nothing,
    a_message_is_found_by_its_id_wherever_it_is,
    a_message_that_was_brought_along_is_found_as_well,
    an_explanation_names_everything_that_holds_messages_back,
    the_story_of_a_message_is_told_from_its_publish_to_its_end,
    the_story_of_a_delayed_message_goes_on_when_it_becomes_visible,
    topics_queues_and_services_are_listed_page_by_page,
    the_oldest_message_tells_its_age,
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

fn keyed(key: &str, text: &str) -> Draft {
    let properties = Properties { ordering_key: Some(key.to_owned()), ..Properties::default() };
    Draft { properties, ..draft(text) }
}

async fn browse(bench: &Bench, state: StateFilter) -> Vec<(String, MessageState)> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let asked = Browse { queue: name("t"), state, after, max: 2 };
        let page = bench.engine().browse(asked).await.expect("browsed");
        let text = |message: &[u8]| String::from_utf8_lossy(message).into_owned();
        all.extend(page.messages.into_iter().map(|b| (text(&b.message.expect("whole").payload), b.state)));
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

async fn settle(bench: &Bench, id: crate::model::AckId, settlement: Settlement) {
    bench.engine().settle_each(None, vec![(Some(id), settlement)]).await.expect("answered");
}

fn nack(outcome: NackOutcome, delay: Duration, reason: &str) -> Settlement {
    Settlement::Nack(Nack { outcome, delay: Some(delay), reason: reason.to_owned() })
}

/// `a` is dead, `b` waits for its retry, `c` is held, `d` to `g` are ready, `h` is delayed.
async fn one_of_each(bench: &Bench) -> Timestamp {
    bench.publish("t", &["a", "b", "c", "d"]).await;
    bench.publish_one("t", Draft { due: Due::After(LEASE * 9), ..draft("h") }).await.expect("stored");
    let held = bench.receive("t", 3, Duration::ZERO, AckMode::Lease(LEASE)).await;
    settle(bench, ack_id(&held[0]), nack(NackOutcome::DeadLetter, Duration::ZERO, "bad")).await;
    settle(bench, ack_id(&held[1]), nack(NackOutcome::Retry, LEASE, "not now")).await;
    write_down(bench).await;
    bench.publish("t", &["e", "f", "g"]).await;
    bench.options.clock.now()
}

async fn messages_are_browsed_page_by_page_in_each_state(bench: Bench) {
    let now = one_of_each(&bench).await;
    let ready = |text: &str| (text.to_owned(), MessageState::Ready { attempts: Attempt(0) });
    let retrying = MessageState::Retrying { attempts: Attempt(1), retry_at: now.after(LEASE) };
    let expected = [("b".to_owned(), retrying), ready("d"), ready("e"), ready("f"), ready("g")];
    assert_eq!(browse(&bench, StateFilter::Ready).await, expected);
    let leased = MessageState::Leased { attempt: Attempt(1), deadline: now.after(LEASE) };
    assert_eq!(browse(&bench, StateFilter::Leased).await, [("c".to_owned(), leased)]);
    let delayed = MessageState::Delayed { due: now.after(LEASE * 9) };
    assert_eq!(browse(&bench, StateFilter::Delayed).await, [("h".to_owned(), delayed)]);
    let dead = browse(&bench, StateFilter::Dead).await;
    assert!(matches!(&dead[..], [(text, MessageState::Dead { .. })] if text == "a"), "{dead:?}");
}

async fn browsing_changes_nothing(bench: Bench) {
    one_of_each(&bench).await;
    let before = bench.digest().await;
    for state in [StateFilter::Ready, StateFilter::Leased, StateFilter::Delayed, StateFilter::Dead] {
        browse(&bench, state).await;
    }
    assert_eq!(bench.digest().await, before);
}

async fn a_message_is_found_by_its_id_wherever_it_is(mut bench: Bench) {
    bench.register("s", &["t"]).await.expect("registered");
    let id = async |bench: &Bench, text: &str| bench.publish("t", &[text]).await.messages[0].id;
    let old = id(&bench, "old").await;
    let later = Draft { due: Due::After(LEASE), ..draft("later") };
    let later = bench.publish_one("t", later).await.expect("stored").messages[0].id;
    write_down(&bench).await;
    bench.advance(LEASE * 100);
    write_down(&bench).await;
    let new = id(&bench, "new").await;
    let find = async |bench: &Bench, id: MessageId| {
        let found = bench.engine().find(name("t.s"), id).await.expect("looked for");
        found.map(|(found, state)| (String::from_utf8_lossy(&found.message.payload).into_owned(), state))
    };
    let ready = MessageState::Ready { attempts: Attempt(0) };
    for (id, text) in [(old, "old"), (new, "new"), (later, "later")] {
        assert_eq!(find(&bench, id).await, Some((text.to_owned(), ready.clone())), "{text}");
    }
    bench.restart().await;
    assert_eq!(find(&bench, later).await.map(|(text, _)| text).as_deref(), Some("later"), "after a restart");
    assert_eq!(bench.pop("t.s", 1).await, ["old"]);
    assert_eq!(find(&bench, old).await, None, "the queue is done with it");
    assert_eq!(find(&bench, MessageId::generate(bench.options.clock.now())).await, None);
    assert!(bench.engine().find(name("nowhere"), old).await.is_err());
}

async fn a_message_that_was_brought_along_is_found_as_well(mut bench: Bench) {
    if bench.memory.is_some() {
        return;
    }
    let id = "3f2b0c6e-8a44-4d0e-9d43-0b6f2c1d9e11";
    let line = format!(r#"{{"id": "{id}", "topic": "t", "payload": 7}}"#);
    bench.engine.take().expect("open").close().await;
    std::fs::write(bench.options.data_dir.join("t.jsonl"), line).expect("written");
    bench.engine = Some(bench.open());
    let id = MessageId(id.parse().expect("an id"));
    for _ in 0..2 {
        let story = bench.engine().story(id).await.expect("looked for").expect("there");
        assert_eq!(story.message.map(|message| message.payload.clone()).as_deref(), Some(&b"7"[..]));
        write_down(&bench).await;
    }
}

async fn an_explanation_names_everything_that_holds_messages_back(bench: Bench) {
    assert!(bench.pop("t", 1).await.is_empty());
    let explain = async || bench.engine().explain(name("t")).await.expect("explained");
    assert_eq!(explain().await.obstacles, [Obstacle::Empty]);
    let now = one_of_each(&bench).await;
    let leased = Obstacle::Leased { messages: 1, next_deadline: now.after(LEASE) };
    let retrying = Obstacle::Retrying { messages: 1, next_at: now.after(LEASE) };
    let delayed = Obstacle::Delayed { messages: 1, next_at: now.after(LEASE * 9) };
    let explained = explain().await;
    assert_eq!(explained.deliverable, 4);
    assert_eq!(explained.obstacles, [leased.clone(), retrying.clone(), delayed.clone(), Obstacle::NoConsumer]);
    bench.pop("t", 9).await;
    bench.engine().manage(Manage::Pause { queue: name("t") }).await.expect("paused");
    assert_eq!(explain().await.obstacles, [Obstacle::Paused, leased, retrying, delayed.clone()]);
    bench.engine().manage(Manage::Resume { queue: name("t") }).await.expect("resumed");

    bench.advance(LEASE);
    bench.pop("t", 9).await;
    for text in ["k1", "k2", "k3"] {
        bench.publish_one("t", keyed("customer 7", text)).await.expect("stored");
    }
    let k1 = bench.lease("t").await.expect("k1");
    assert!(bench.lease("t").await.is_none());
    write_down(&bench).await;
    let explained = explain().await;
    let [Obstacle::Leased { messages: 1, .. }, Obstacle::Delayed { .. }, Obstacle::BehindKeys { messages: 2, keys }] =
        &explained.obstacles[..]
    else {
        panic!("{explained:?}")
    };
    let told = (keys[0].key.as_deref(), keys[0].message, keys[0].attempt, keys[0].behind);
    assert_eq!((keys.len(), told), (1, (Some("customer 7"), Some(k1.message.id), Attempt(1), 2)));
    assert_eq!(explained.deliverable, 0);
    settle(&bench, ack_id(&k1), nack(NackOutcome::Retry, LEASE, "")).await;
    let explained = explain().await;
    let behind = explained.obstacles.iter().find_map(|o| match o {
        Obstacle::BehindKeys { messages, keys } => Some((*messages, keys.len(), keys[0].behind)),
        _ => None,
    });
    assert_eq!(behind, Some((2, 1, 2)), "a key whose message waits for its retry");
}

fn kinds(events: &[Event]) -> Vec<EventKind> {
    events.iter().map(|event| event.kind.clone()).collect()
}

async fn the_story_of_a_message_is_told_from_its_publish_to_its_end(bench: Bench) {
    bench.register("s", &["t"]).await.expect("registered");
    let now = bench.options.clock.now();
    let id = bench.publish("t", &["a"]).await.messages[0].id;
    bench.publish("t", &["b"]).await;
    let first = bench.lease("t.s").await.expect("a");
    settle(&bench, ack_id(&first), nack(NackOutcome::Retry, LEASE, "not now")).await;
    write_down(&bench).await;
    bench.advance(LEASE);
    assert_eq!(texts(&[bench.lease("t.s").await.expect("a")]), ["a"]);
    let story = bench.engine().story(id).await.expect("looked for").expect("known");
    let reason: std::sync::Arc<str> = "not now".into();
    let delivered = |attempt, deadline| EventKind::Delivered { attempt: Attempt(attempt), deadline };
    let expected = [
        EventKind::Published,
        delivered(1, now.after(LEASE)),
        EventKind::Returned { cause: ReturnCause::Failed, reason, retry_at: Some(now.after(LEASE)) },
        delivered(2, now.after(LEASE * 2)),
    ];
    assert_eq!(kinds(&story.events), expected);
    assert_eq!((&story.topic, &story.events[1].queue), (&Some(name("t")), &Some(name("t.s"))));
    let leased = MessageState::Leased { attempt: Attempt(2), deadline: now.after(LEASE * 2) };
    assert_eq!((story.queues.len(), &story.queues[0].state), (1, &Some(leased)));
    bench.advance(LEASE);
    let third = bench.lease("t.s").await.expect("a");
    settle(&bench, ack_id(&third), nack(NackOutcome::DeadLetter, Duration::ZERO, "never")).await;
    let story = bench.engine().story(id).await.expect("looked for").expect("known");
    let (cause, reason) = (DeadCause::Rejected, "never".into());
    assert_eq!(kinds(&story.events).last(), Some(&EventKind::DeadLettered { cause, reason }));
    let scope = crate::engine::PurgeScope { dead: true, ..Default::default() };
    bench.engine().manage(Manage::Purge { queue: name("t.s"), scope }).await.expect("purged");
    let story = bench.engine().story(id).await.expect("looked for").expect("remembered");
    assert!(story.message.is_none() && story.queues[0].state.is_none() && story.events.len() == 7, "{story:?}");
    let unknown = bench.engine().story(MessageId::generate(now)).await.expect("looked for");
    assert!(unknown.is_none());
}

async fn the_story_of_a_delayed_message_goes_on_when_it_becomes_visible(bench: Bench) {
    assert!(bench.pop("t", 1).await.is_empty());
    let later = Draft { due: Due::After(LEASE), ..draft("later") };
    let id = bench.publish_one("t", later).await.expect("stored").messages[0].id;
    let story = async || bench.engine().story(id).await.expect("looked for").expect("known");
    assert_eq!(story().await.due, Some(bench.options.clock.now().after(LEASE)));
    write_down(&bench).await;
    bench.advance(LEASE);
    assert_eq!(bench.pop("t", 1).await, ["later"]);
    assert_eq!(kinds(&story().await.events), [EventKind::Delayed, EventKind::BecameVisible, EventKind::Received]);
}

async fn topics_queues_and_services_are_listed_page_by_page(bench: Bench) {
    for n in 0..5 {
        bench.publish(&format!("topic.{n}"), &["a"]).await;
        bench.register(&format!("service-{n}"), &[&format!("topic.{n}"), "topic.0"]).await.expect("registered");
    }
    let (mut topics, mut from) = (Vec::new(), None);
    loop {
        let (page, next) = bench.engine().topics("topic.".into(), from, 2).await.expect("listed");
        assert!(page.len() <= 2);
        topics.extend(page.into_iter().map(|topic| (topic.name.to_string(), topic.messages, topic.queues.len())));
        from = next;
        if from.is_none() {
            break;
        }
    }
    let expected: Vec<_> = (0..5).map(|n| (format!("topic.{n}"), 1, if n == 0 { 5 } else { 1 })).collect();
    assert_eq!(topics, expected);
    let (queues, next) = bench.engine().queues("topic.0".into(), None, 99).await.expect("listed");
    assert_eq!((queues.len(), next), (5, None));
    assert_eq!((queues[0].name.as_str(), queues[0].ready, queues[1].ready), ("topic.0.service-0", 1, 0));
    let (services, next) = bench.engine().services(None, 4).await.expect("listed");
    assert_eq!(services[2].topics, [name("topic.0"), name("topic.2")]);
    let (rest, end) = bench.engine().services(next, 4).await.expect("listed");
    assert_eq!((services.len(), rest.len(), end), (4, 1, None));
}

async fn the_oldest_message_tells_its_age(bench: Bench) {
    assert!(bench.pop("t", 1).await.is_empty());
    let oldest = async || bench.engine().queue(name("t")).await.expect("there").oldest_published_at;
    assert_eq!(oldest().await, None);
    let first = bench.options.clock.now();
    bench.publish("t", &["a"]).await;
    bench.advance(LEASE);
    bench.publish("t", &["b"]).await;
    write_down(&bench).await;
    assert_eq!(oldest().await, Some(first));
    let held = bench.lease("t").await.expect("a");
    bench.ack("t", ack_id(&held)).await;
    let now = oldest().await.expect("b");
    assert!(now == first || now == first.after(LEASE), "as near as is known: {now}");
}

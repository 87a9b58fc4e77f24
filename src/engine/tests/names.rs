//! One name space: what a name may stand for, and what gives way.

use super::{Bench, draft, name};
use crate::engine::{EngineError, Manage};

fn is_conflict<T>(result: Result<T, EngineError>) -> Option<String> {
    match result {
        Err(EngineError::NameConflict { problem }) => Some(problem),
        _ => None,
    }
}

over_both! {
    registering_again_changes_nothing,
    publishing_to_the_queue_of_a_service_says_where_to_publish,
    a_name_that_would_mean_two_things_is_refused_and_nothing_is_done,
    a_name_that_was_only_received_from_gives_way_to_a_service,
    a_subscription_is_declared_by_receiving_as_a_service,
    the_number_of_topics_is_bounded_and_a_refusal_creates_nothing,
    a_topic_that_is_there_may_have_more_queues_when_no_more_topics_may_be,
    the_number_of_queues_is_bounded_and_those_that_are_there_go_on,
    a_bound_that_is_lowered_refuses_what_is_new_alone,
    two_names_together_may_be_too_long,
}

async fn registering_again_changes_nothing(mut bench: Bench) {
    let declared = bench.register("s", &["a", "b", "a"]).await;
    assert_eq!(declared, Ok(vec!["s".into(), "a.s".into(), "b.s".into()]));
    let before = bench.digest().await;
    assert_eq!(bench.register("s", &["b", "a"]).await, Ok(vec![]));
    assert_eq!(bench.digest().await, before);
    bench.restart().await;
    assert_eq!(bench.digest().await, before);
    assert_eq!(bench.register("s", &["a", "c"]).await, Ok(vec!["c.s".into()]));
}

async fn publishing_to_the_queue_of_a_service_says_where_to_publish(bench: Bench) {
    bench.register("billing", &["order"]).await.expect("registered");
    let problem = is_conflict(bench.publish_one("order.billing", draft("x")).await).expect("refused");
    assert!(problem.contains("publish to 'order'"), "{problem}");
}

async fn a_name_that_would_mean_two_things_is_refused_and_nothing_is_done(bench: Bench) {
    bench.publish("a.b", &["x"]).await;
    let before = bench.digest().await;
    assert!(is_conflict(bench.register("b", &["new", "a"]).await).is_some());
    assert!(is_conflict(bench.register("b", &["n", "n.b"]).await).is_some());
    assert_eq!(bench.digest().await, before);

    bench.register("y", &["x"]).await.expect("registered");
    // `x.y` is the queue of y on x: neither a topic nor an inbox of that name, nor another service's queue.
    assert!(is_conflict(bench.register("z", &["x.y"]).await).is_some());
    assert!(is_conflict(bench.register("x.y", &[]).await).is_some());
    bench.register("q.r", &["p"]).await.expect("registered");
    assert!(is_conflict(bench.register("r", &["p.q"]).await).is_some());
}

async fn a_name_that_was_only_received_from_gives_way_to_a_service(mut bench: Bench) {
    assert!(bench.pop("t.s", 1).await.is_empty());
    bench.register("s", &["t"]).await.expect("the placeholder gives way");
    bench.restart().await;
    bench.publish("t", &["x"]).await;
    assert_eq!(bench.pop("t.s", 1).await, ["x"]);
}

async fn a_subscription_is_declared_by_receiving_as_a_service(bench: Bench) {
    let receive = |queue: &str| crate::engine::Receive {
        queue: name(queue),
        service: Some(name("s")),
        max_messages: 9,
        wait: std::time::Duration::ZERO,
        max_bytes: usize::MAX,
        mode: crate::engine::AckMode::AtOnce,
    };
    assert!(bench.engine().receive(receive("t")).await.expect("declared").is_empty());
    bench.publish("t", &["x"]).await;
    assert_eq!(super::texts(&bench.engine().receive(receive("t")).await.expect("received")), ["x"]);
    assert!(is_conflict(bench.engine().receive(receive("t.s")).await).is_some());
}

async fn the_number_of_topics_is_bounded_and_a_refusal_creates_nothing(mut bench: Bench) {
    bench.options.limits.topics_max = 3;
    bench.restart().await;
    bench.register("s", &["a"]).await.expect("two topics");
    let full = |result: Result<_, EngineError>| matches!(result, Err(EngineError::Full { .. }));
    assert!(full(bench.register("s", &["b", "c"]).await.map(drop)));
    bench.publish("b", &["x"]).await;
    assert!(full(bench.publish_one("c", draft("x")).await.map(drop)));
    bench.publish("b", &["y"]).await;
    assert_eq!(bench.pop("b", 9).await, ["x", "y"]);
}

fn is_full<T>(result: Result<T, EngineError>) -> bool {
    matches!(result, Err(EngineError::Full { .. }))
}

/// Has the queue of a service on a topic, declared if need be.
async fn subscribe(bench: &Bench, topic: &str, service: &str) -> Result<(), EngineError> {
    let queue = Manage::DeclareQueue { queue: name(topic), service: Some(name(service)) };
    bench.engine().manage(queue).await.map(drop)
}

async fn a_topic_that_is_there_may_have_more_queues_when_no_more_topics_may_be(mut bench: Bench) {
    bench.options.limits.topics_max = 2;
    bench.restart().await;
    bench.publish("t", &["x"]).await;
    bench.register("s", &["t"]).await.expect("one topic more");
    assert!(is_full(bench.register("r", &[]).await), "its inbox would be a third");
    assert!(is_full(subscribe(&bench, "u", "r").await), "and so would this topic");
    subscribe(&bench, "t", "r").await.expect("this one is there");
    bench.publish("t", &["y"]).await;
    assert_eq!(bench.pop("t.r", 9).await, ["y"]);
    bench.register("s", &["t"]).await.expect("all of it is there");
}

async fn the_number_of_queues_is_bounded_and_those_that_are_there_go_on(mut bench: Bench) {
    bench.options.limits.topics_max = 2;
    bench.restart().await;
    bench.register("s", &["t"]).await.expect("two topics and two queues");
    for service in ["a", "b", "c", "d", "e"] {
        subscribe(&bench, "t", service).await.expect("there is room for eight");
    }
    assert!(is_full(bench.register("t", &["s", "t"]).await), "these would be three more");
    subscribe(&bench, "t", "f").await.expect("the eighth");
    assert!(is_full(subscribe(&bench, "t", "g").await));
    let own = Manage::DeclareQueue { queue: name("t"), service: None };
    assert!(is_full(bench.engine().manage(own).await));
    bench.publish("t", &["x"]).await;
    assert_eq!(bench.pop("t.f", 9).await, ["x"]);
    subscribe(&bench, "t", "a").await.expect("it is there");
    bench.register("s", &["t"]).await.expect("all of it is there");
    for _ in 0..20 {
        let delete = Manage::DeleteQueue { queue: name("t.a") };
        bench.engine().manage(delete).await.expect("deleted");
        subscribe(&bench, "t", "a").await.expect("a queue that is gone makes room");
    }
    bench.restart().await;
    assert!(is_full(subscribe(&bench, "t", "g").await));
}

async fn a_bound_that_is_lowered_refuses_what_is_new_alone(mut bench: Bench) {
    bench.publish("t", &["a"]).await;
    bench.publish("u", &["b"]).await;
    bench.options.limits.topics_max = 1;
    bench.restart().await;
    bench.publish("t", &["c"]).await;
    assert_eq!(bench.pop("t", 9).await, ["a", "c"]);
    assert!(is_full(bench.publish_one("v", draft("x")).await));
}

async fn two_names_together_may_be_too_long(bench: Bench) {
    let refused = bench.register(&"s".repeat(200), &[&"t".repeat(200)]).await;
    assert!(matches!(refused, Err(EngineError::BadName { field: "topics", .. })), "{refused:?}");
}

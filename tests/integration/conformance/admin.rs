//! Topics, queues, services: made, changed, listed, emptied, removed.

use serde_json::{Value, json};

use super::{Case, Cases, cases, list, number, text};

pub(super) fn cases() -> Cases {
    cases![
        "a topic that is put is there, with its policy" => put_topic,
        "a topic that is put again has the new policy and the defaults" => put_topic_again,
        "a topic shows its queues and messages" => topic_shown,
        "a deleted topic is gone with its queues" => delete_topic,
        "a deleted topic can come again, empty" => topic_again,
        "a topic that does not exist is not found" => no_topic,
        "a subscription that is put is a queue with that policy" => put_subscription,
        "a policy has its defaults" => defaults,
        "a subscription that is put again keeps its messages" => put_subscription_again,
        "a subscription begins with what is published from then on" => begins_later,
        "a deleted subscription is gone, and others keep their messages" => delete_subscription,
        "a queue that does not exist is not found" => no_queue,
        "an update changes what it names and nothing else" => update,
        "a queue counts what is in it" => queue_counts,
        "a queue tells the age of its oldest message" => oldest,
        "a queue counts what has happened" => counters,
        "rates tell what happens to a queue per second, and that it has ended" => rates,
        "a queue tells who consumes it" => consumers,
        "a registered service has an inbox and its queues" => register,
        "registering again changes nothing" => register_again,
        "topics are listed page by page" => list_topics,
        "queues are listed by prefix" => list_queues,
        "services are listed with their topics" => list_services,
        "a paused queue hands nothing out, and takes messages" => pause,
        "a paused queue lets consumers settle what they hold" => pause_settles,
        "a resumed queue goes on where it was" => resume,
        "pausing twice is pausing once" => pause_twice,
        "a queue can be paused before anybody has received from it" => pause_first,
        "what is kept for the first queue can be purged" => purge_kept,
        "what is kept for the first queue can be deleted one by one" => delete_kept,
        "a purge removes what is ready" => purge_ready,
        "a purge may remove what is leased and dead, too" => purge_all,
        "a purge of one queue leaves the others" => purge_one,
        "one message can be deleted" => delete_one,
        "deleting what is not there is not found" => delete_nothing,
    ]
}

async fn put_topic(case: Case) {
    let limits = json!({"max_messages": 9, "max_bytes": 1000, "max_age_seconds": 60, "overflow": "DROP_OLDEST"});
    let policy = json!({"dedup_window_seconds": 300, "limits": limits});
    let put = case.ok("put_topic", json!({"topic": case.name, "policy": policy})).await;
    let got = case.ok("get_topic", json!({"topic": case.name})).await;
    for topic in [put, got] {
        assert_eq!(text(&topic["name"]), case.name);
        assert_eq!(topic["policy"]["dedup_window_seconds"].as_f64(), Some(300.0));
        let limits = &topic["policy"]["limits"];
        assert_eq!((number(&limits["max_messages"]), number(&limits["max_bytes"])), (9, 1000));
        assert_eq!(limits["max_age_seconds"].as_f64(), Some(60.0));
        assert_eq!(text(&limits["overflow"]).to_uppercase(), "DROP_OLDEST");
    }
}

async fn put_topic_again(case: Case) {
    case.ok("put_topic", json!({"topic": case.name, "policy": {"dedup_window_seconds": 300}})).await;
    let topic = case.ok("put_topic", json!({"topic": case.name, "policy": {"limits": {"max_messages": 3}}})).await;
    assert_eq!(topic["policy"].get("dedup_window_seconds").and_then(Value::as_f64), None);
    assert_eq!(number(&topic["policy"]["limits"]["max_messages"]), 3);
}

async fn topic_shown(case: Case) {
    case.ok("put_subscription", json!({"topic": case.name, "service": "s"})).await;
    case.publish_all(&case.name, 1..=2).await;
    case.publish_as(&case.name, json!({"json": 3, "delay_seconds": 100})).await;
    let topic = case.ok("get_topic", json!({"topic": case.name})).await;
    assert_eq!(list(&topic["queues"]), [json!(format!("{}.s", case.name))]);
    assert_eq!((number(&topic["messages"]), number(&topic["delayed"])), (2, 1));
}

async fn delete_topic(case: Case) {
    case.ok("put_subscription", json!({"topic": case.name, "service": "s"})).await;
    case.publish_all(&case.name, 1..=2).await;
    case.ok("delete_topic", json!({"topic": case.name})).await;
    assert_eq!(case.code("get_topic", json!({"topic": case.name})).await, "not_found");
    assert_eq!(case.code("get_queue", json!({"queue": format!("{}.s", case.name)})).await, "not_found");
}

async fn topic_again(case: Case) {
    case.publish(&case.name, 1).await;
    let held = case.take(&case.name).await;
    case.ok("delete_topic", json!({"topic": case.name})).await;
    case.publish(&case.name, 2).await;
    assert_eq!(case.drain(&case.name, 9).await, [json!(2)]);
    // An ack id of a queue that is gone: in REST it is one of another queue than the one that is named.
    assert_ne!(case.aside().ack(&case.name, &held).await, "ok");
}

async fn no_topic(case: Case) {
    assert_eq!(case.code("get_topic", json!({"topic": case.name})).await, "not_found");
    assert_eq!(case.code("delete_topic", json!({"topic": case.name})).await, "not_found");
}

async fn put_subscription(case: Case) {
    let policy = json!({
        "ack_deadline_seconds": 45, "max_delivery_attempts": 7, "minimum_backoff_seconds": 1.5,
        "maximum_backoff_seconds": 20, "limits": {"max_messages": 5},
    });
    let put = json!({"topic": case.name, "service": "s", "policy": policy});
    let queue = case.ok("put_subscription", put).await;
    let got = case.ok("get_subscription", json!({"topic": case.name, "service": "s"})).await;
    for queue in [queue, got] {
        assert_eq!(text(&queue["name"]), format!("{}.s", case.name));
        assert_eq!((text(&queue["topic"]), text(&queue["service"])), (case.name.clone(), "s".into()));
        let seconds = |field: &str| queue["policy"][field].as_f64();
        assert_eq!(seconds("ack_deadline_seconds"), Some(45.0));
        assert_eq!(number(&queue["policy"]["max_delivery_attempts"]), 7);
        assert_eq!(seconds("minimum_backoff_seconds"), Some(1.5));
        assert_eq!(seconds("maximum_backoff_seconds"), Some(20.0));
        assert_eq!(number(&queue["policy"]["limits"]["max_messages"]), 5);
    }
}

async fn defaults(case: Case) {
    let queue = case.ok("put_subscription", json!({"topic": case.name, "service": "s"})).await;
    let policy = &queue["policy"];
    assert_eq!(policy["ack_deadline_seconds"].as_f64(), Some(30.0));
    assert_eq!(number(&policy["max_delivery_attempts"]), 5);
    assert_eq!(policy["minimum_backoff_seconds"].as_f64(), Some(0.0));
    assert_eq!(policy["maximum_backoff_seconds"].as_f64(), Some(600.0));
}

async fn put_subscription_again(case: Case) {
    case.ok("put_subscription", json!({"topic": case.name, "service": "s"})).await;
    case.publish(&case.name, 1).await;
    let put = json!({"topic": case.name, "service": "s", "policy": {"max_delivery_attempts": 1}});
    case.ok("put_subscription", put).await;
    assert_eq!(case.drain(&format!("{}.s", case.name), 9).await, [json!(1)]);
}

async fn begins_later(case: Case) {
    case.ok("put_subscription", json!({"topic": case.name, "service": "a"})).await;
    case.publish(&case.name, 1).await;
    case.ok("put_subscription", json!({"topic": case.name, "service": "b"})).await;
    case.publish(&case.name, 2).await;
    assert_eq!(case.drain(&format!("{}.b", case.name), 9).await, [json!(2)]);
}

async fn delete_subscription(case: Case) {
    for service in ["a", "b"] {
        case.ok("put_subscription", json!({"topic": case.name, "service": service})).await;
    }
    case.publish(&case.name, 1).await;
    case.ok("delete_subscription", json!({"topic": case.name, "service": "a"})).await;
    assert_eq!(case.code("get_subscription", json!({"topic": case.name, "service": "a"})).await, "not_found");
    assert_eq!(case.drain(&format!("{}.b", case.name), 9).await, [json!(1)]);
}

async fn no_queue(case: Case) {
    for call in
        ["get_queue", "delete_queue", "pause", "resume", "purge", "redrive", "explain", "browse", "update_queue"]
    {
        assert_eq!(case.code(call, json!({"queue": case.name})).await, "not_found", "{call}");
    }
}

async fn update(case: Case) {
    case.declare(&case.name).await;
    case.policy(&case.name, json!({"ack_deadline_seconds": 45, "limits": {"max_messages": 5}})).await;
    let queue = case.policy(&case.name, json!({"max_delivery_attempts": 9, "limits": {"max_bytes": 77}})).await;
    assert_eq!(queue["policy"]["ack_deadline_seconds"].as_f64(), Some(45.0));
    assert_eq!(number(&queue["policy"]["max_delivery_attempts"]), 9);
    let limits = &queue["policy"]["limits"];
    assert_eq!((number(&limits["max_messages"]), number(&limits["max_bytes"])), (5, 77));
}

async fn queue_counts(case: Case) {
    case.declare(&case.name).await;
    case.publish_all(&case.name, 1..=5).await;
    case.publish_as(&case.name, json!({"json": 6, "delay_seconds": 100})).await;
    let pulled = case.pull(&case.name, 3).await;
    case.nack(&case.name, &pulled[0], json!({"outcome": "DEAD_LETTER"})).await;
    case.nack(&case.name, &pulled[1], json!({"outcome": "RETRY", "delay_seconds": 100})).await;
    assert_eq!(case.counts(&case.name).await, [2, 1, 1, 1, 1]);
    assert!(number(&case.queue(&case.name).await["bytes"]) > 0);
}

async fn oldest(case: Case) {
    case.declare(&case.name).await;
    let time = |queue: &Value| text(&queue["oldest_published_at"]);
    assert_eq!(time(&case.queue(&case.name).await), "");
    case.publish(&case.name, 1).await;
    let first = time(&case.queue(&case.name).await);
    case.advance(100.0).await;
    case.publish(&case.name, 2).await;
    assert_eq!(time(&case.queue(&case.name).await), first);
    case.drain(&case.name, 1).await;
    assert!(time(&case.queue(&case.name).await) > first);
}

async fn counters(case: Case) {
    case.declare(&case.name).await;
    case.publish_all(&case.name, 1..=4).await;
    let pulled = case.pull(&case.name, 3).await;
    case.ack(&case.name, &pulled[0]).await;
    case.nack(&case.name, &pulled[1], json!({"outcome": "RETRY"})).await;
    case.nack(&case.name, &pulled[2], json!({"outcome": "DEAD_LETTER"})).await;
    let counters = case.queue(&case.name).await["counters"].clone();
    let of = |field: &str| number(&counters[field]);
    assert_eq!([of("published"), of("delivered"), of("acked"), of("dead_lettered")], [4, 3, 1, 1], "{counters}");
    assert!(of("failed") >= 1, "{counters}");
}

async fn rates(case: Case) {
    case.declare(&case.name).await;
    case.publish_all(&case.name, 1..=60).await;
    let pulled = case.pull(&case.name, 30).await;
    case.ack(&case.name, &pulled[0]).await;
    let rates = async || {
        let rates = case.queue(&case.name).await["rates"].clone();
        ["published", "delivered", "acked"].map(|what| rates[format!("{what}_per_second")].as_f64().unwrap_or_default())
    };
    let [published, delivered, acked] = rates().await;
    // All within the last seconds, in an average over a minute.
    assert!((0.5..=1.0).contains(&published), "{published}");
    assert!((0.25..=0.5).contains(&delivered) && (0.008..=0.017).contains(&acked), "{delivered} {acked}");
    case.advance(3600.0).await;
    assert_eq!(rates().await[..2], [0.0, 0.0]);
}

async fn consumers(case: Case) {
    case.pull_with(json!({"queue": case.name, "consumer": "worker 7"})).await;
    let consumers = list(&case.queue(&case.name).await["consumers"]);
    assert_eq!(consumers.len(), 1, "{consumers:?}");
    let consumer = &consumers[0];
    assert_eq!((text(&consumer["name"]), text(&consumer["kind"])), ("worker 7".into(), "pull".into()));
    assert_ne!(consumer["is_waiting"], json!(true));
}

async fn register(case: Case) {
    let (service, topic) = (format!("{}-s", case.name), format!("{}-t", case.name));
    case.ok("register_service", json!({"service": service, "topics": [topic]})).await;
    case.publish(&topic, 1).await;
    case.publish(&service, 2).await;
    assert_eq!(case.drain(&format!("{topic}.{service}"), 9).await, [json!(1)]);
    assert_eq!(case.drain(&service, 9).await, [json!(2)]);
}

async fn register_again(case: Case) {
    let (service, topic) = (format!("{}-s", case.name), format!("{}-t", case.name));
    for _ in 0..2 {
        case.ok("register_service", json!({"service": service, "topics": [topic]})).await;
        case.publish(&topic, 1).await;
    }
    assert_eq!(case.drain(&format!("{topic}.{service}"), 9).await.len(), 2);
}

/// Walks through the pages of a list; the names.
async fn pages(case: &Case, call: &str, field: &str, args: Value) -> Vec<String> {
    let mut names = Vec::new();
    let mut token = String::new();
    for _ in 0..10_000 {
        let mut args = args.clone();
        if !token.is_empty() {
            args["page_token"] = json!(token);
        }
        let page = case.ok(call, args).await;
        names.extend(list(&page[field]).iter().map(|entry| text(&entry["name"])));
        token = text(&page["next_page_token"]);
        if token.is_empty() {
            return names;
        }
    }
    panic!("the pages of {call} have no end");
}

async fn list_topics(case: Case) {
    let wanted: Vec<_> = (0..5).map(|n| format!("{}-{n}", case.name)).collect();
    for topic in &wanted {
        case.ok("put_topic", json!({"topic": topic})).await;
    }
    let prefix = format!("{}-", case.name);
    assert_eq!(pages(&case, "list_topics", "topics", json!({"prefix": prefix, "page_size": 2})).await, wanted);
    // Those of all other cases, too.
    let all = pages(&case.aside(), "list_topics", "topics", json!({"page_size": 1000})).await;
    assert!(wanted.iter().all(|topic| all.contains(topic)));
}

async fn list_queues(case: Case) {
    for service in ["a", "b", "c"] {
        case.ok("put_subscription", json!({"topic": case.name, "service": service})).await;
    }
    let prefix = format!("{}.", case.name);
    let queues = pages(&case, "list_queues", "queues", json!({"prefix": prefix, "page_size": 1})).await;
    assert_eq!(queues, ["a", "b", "c"].map(|service| format!("{}.{service}", case.name)));
}

async fn list_services(case: Case) {
    let (service, topic) = (format!("{}-s", case.name), format!("{}-t", case.name));
    case.ok("register_service", json!({"service": service, "topics": [topic]})).await;
    let page = case.aside().ok("list_services", json!({"page_size": 1000})).await;
    let found = list(&page["services"]).into_iter().find(|entry| text(&entry["name"]) == service).expect("listed");
    assert_eq!(list(&found["topics"]), [json!(topic)]);
}

async fn pause(case: Case) {
    case.publish(&case.name, 1).await;
    case.declare(&format!("{}-x", case.name)).await;
    case.pull(&case.name, 1).await;
    case.advance(31.0).await;
    let queue = case.ok("pause", json!({"queue": case.name})).await;
    assert_eq!(queue["paused"], json!(true));
    case.publish(&case.name, 2).await;
    assert_eq!(case.pull(&case.name, 9).await.len(), 0);
    assert_eq!(case.obstacles(&case.name).await.first().map(String::as_str), Some("paused"));
}

async fn pause_settles(case: Case) {
    case.publish_all(&case.name, 1..=2).await;
    let pulled = case.pull(&case.name, 2).await;
    case.ok("pause", json!({"queue": case.name})).await;
    assert_eq!(case.ack(&case.name, &pulled[0]).await, "ok");
    assert_eq!(case.nack(&case.name, &pulled[1], json!({"outcome": "RETRY"})).await, "ok");
    assert_eq!(case.counts(&case.name).await, [1, 0, 0, 0, 0]);
}

async fn resume(case: Case) {
    case.publish_all(&case.name, 1..=2).await;
    assert_eq!(case.drain(&case.name, 1).await, [json!(1)]);
    case.ok("pause", json!({"queue": case.name})).await;
    assert_eq!(case.pull(&case.name, 9).await.len(), 0);
    let queue = case.ok("resume", json!({"queue": case.name})).await;
    assert_ne!(queue["paused"], json!(true));
    assert_eq!(case.drain(&case.name, 9).await, [json!(2)]);
}

async fn pause_twice(case: Case) {
    case.declare(&case.name).await;
    for _ in 0..2 {
        case.ok("pause", json!({"queue": case.name})).await;
    }
    case.ok("resume", json!({"queue": case.name})).await;
    case.publish(&case.name, 1).await;
    assert_eq!(case.drain(&case.name, 9).await, [json!(1)]);
}

async fn pause_first(case: Case) {
    case.publish(&case.name, 1).await;
    case.ok("pause", json!({"queue": case.name})).await;
    assert_eq!(case.pull(&case.name, 1).await.len(), 0);
    case.ok("resume", json!({"queue": case.name})).await;
    assert_eq!(case.drain(&case.name, 9).await, [json!(1)]);
}

async fn purge_kept(case: Case) {
    case.publish_all(&case.name, 1..=3).await;
    assert_eq!(number(&case.ok("purge", json!({"queue": case.name})).await["messages"]), 3);
    case.publish(&case.name, 4).await;
    assert_eq!(case.drain(&case.name, 9).await, [json!(4)]);
}

async fn delete_kept(case: Case) {
    let ids = case.publish_all(&case.name, 1..=3).await;
    case.ok("delete_message", json!({"queue": case.name, "message_id": ids[1]})).await;
    assert_eq!(case.drain(&case.name, 9).await, [json!(1), json!(3)]);
}

async fn purge_ready(case: Case) {
    case.publish_all(&case.name, 1..=5).await;
    let held = case.take(&case.name).await;
    assert_eq!(number(&case.ok("purge", json!({"queue": case.name})).await["messages"]), 4);
    assert_eq!(case.counts(&case.name).await, [0, 0, 1, 0, 0]);
    assert_eq!(case.ack(&case.name, &held).await, "ok");
}

async fn purge_all(case: Case) {
    case.publish_all(&case.name, 1..=3).await;
    let pulled = case.pull(&case.name, 2).await;
    case.nack(&case.name, &pulled[0], json!({"outcome": "DEAD_LETTER"})).await;
    let states = match case.peer {
        super::Peer::Rest(_) => json!(["ready", "leased", "dead"]),
        super::Peer::Grpc(_) => json!(["READY", "LEASED", "DEAD"]),
    };
    assert_eq!(number(&case.ok("purge", json!({"queue": case.name, "states": states})).await["messages"]), 3);
    assert_eq!(case.counts(&case.name).await, [0; 5]);
    assert_eq!(case.ack(&case.name, &pulled[1]).await, "stale_ack");
}

async fn purge_one(case: Case) {
    for service in ["a", "b"] {
        case.ok("put_subscription", json!({"topic": case.name, "service": service})).await;
    }
    case.publish_all(&case.name, 1..=3).await;
    case.ok("purge", json!({"queue": format!("{}.a", case.name)})).await;
    assert_eq!(case.counts(&format!("{}.b", case.name)).await, [3, 0, 0, 0, 0]);
}

async fn delete_one(case: Case) {
    let ids = case.publish_all(&case.name, 1..=3).await;
    case.pull(&case.name, 1).await;
    for id in &ids[..2] {
        case.ok("delete_message", json!({"queue": case.name, "message_id": id})).await;
    }
    assert_eq!(case.drain(&case.name, 9).await, [json!(3)]);
}

async fn delete_nothing(case: Case) {
    let id = case.publish(&case.name, 1).await;
    case.drain(&case.name, 1).await;
    let delete = json!({"queue": case.name, "message_id": id});
    assert_eq!(case.code("delete_message", delete).await, "not_found");
}

//! Looking without touching: browse, one message, its story, and why a queue hands nothing out.

use serde_json::json;

use super::{Case, Cases, cases, list, number, text};

pub(super) fn cases() -> Cases {
    cases![
        "browsing shows what is ready and takes nothing" => browse_ready,
        "browsing shows who is held, and until when" => browse_leased,
        "browsing shows what is not visible yet" => browse_delayed,
        "browsing shows dead letters" => browse_dead,
        "browsing shows what is kept for the first queue, and makes none" => browse_kept,
        "a queue that is not there names those of its topic" => browse_none,
        "browsing goes page by page" => browse_pages,
        "a message that waits for its retry says until when" => browse_retrying,
        "one message can be looked at" => get_message,
        "a message that is done with is not found" => get_acked,
        "a story tells all that happened" => story,
        "a story tells of each queue" => story_queues,
        "a story of a message that is done with is still told" => story_acked,
        "a story of nothing is not found" => story_unknown,
        "an empty queue explains itself" => explain_empty,
        "a queue whose messages are held explains itself" => explain_leased,
        "a queue whose messages wait for a retry explains itself" => explain_retrying,
        "a queue whose messages are delayed explains itself" => explain_delayed,
        "a queue whose messages wait for a key names the key" => explain_keys,
        "a queue that nobody asks says so" => explain_nobody,
    ]
}

async fn browse_ready(case: Case) {
    let ids = case.publish_all(&case.name, 1..=3).await;
    case.declare(&format!("{}-x", case.name)).await;
    let held = case.take(&case.name).await;
    let shown = case.browse(&case.name, "ready").await;
    assert_eq!(shown.iter().map(|m| text(&m["id"])).collect::<Vec<_>>(), ids[1..]);
    assert_eq!((&shown[0]["json"], text(&shown[0]["state"]).to_lowercase()), (&json!(2), "ready".into()));
    case.ack(&case.name, &held).await;
    assert_eq!(case.drain(&case.name, 9).await, [json!(2), json!(3)]);
}

async fn browse_leased(case: Case) {
    case.publish(&case.name, 1).await;
    let held = case.take(&case.name).await;
    let shown = case.browse(&case.name, "leased").await;
    assert_eq!((&shown[0]["id"], &shown[0]["ack_deadline"]), (&held["id"], &held["ack_deadline"]));
    assert_eq!(shown[0]["delivery_attempts"], 1);
}

async fn browse_delayed(case: Case) {
    case.declare(&case.name).await;
    let id = case.publish_as(&case.name, json!({"json": 1, "delay_seconds": 100})).await;
    let shown = case.browse(&case.name, "delayed").await;
    assert_eq!(text(&shown[0]["id"]), id);
    assert!(text(&shown[0]["deliver_at"]).ends_with('Z'), "{}", shown[0]);
    assert_eq!(case.browse(&case.name, "ready").await.len(), 0);
}

async fn browse_dead(case: Case) {
    case.publish(&case.name, 1).await;
    let delivery = case.take(&case.name).await;
    case.nack(&case.name, &delivery, json!({"outcome": "DEAD_LETTER", "reason": "why not"})).await;
    let shown = case.browse(&case.name, "dead").await;
    assert_eq!((&shown[0]["json"], text(&shown[0]["dead_letter"]["reason"])), (&json!(1), "why not".into()));
    assert_eq!(text(&shown[0]["dead_letter"]["cause"]).to_lowercase(), "rejected");
}

async fn browse_kept(case: Case) {
    let ids = case.publish_all(&case.name, 1..=2).await;
    let shown = case.browse(&case.name, "ready").await;
    assert_eq!(shown.iter().map(|m| text(&m["id"])).collect::<Vec<_>>(), ids);
    let message = case.ok("get_message", json!({"queue": case.name, "message_id": ids[0]})).await;
    assert_eq!((&message["json"], text(&message["state"]).to_lowercase()), (&json!(1), "ready".into()));
    assert_eq!(case.counts(&case.name).await, [2, 0, 0, 0, 0]);
    assert_eq!(case.obstacles(&case.name).await, ["no_consumer"]);
    let topic = case.ok("get_topic", json!({"topic": case.name})).await;
    assert_eq!(list(&topic["queues"]).len(), 0, "{topic}");
}

async fn browse_none(case: Case) {
    case.ok("put_subscription", json!({"topic": case.name, "service": "s"})).await;
    case.publish(&case.name, 1).await;
    for call in ["browse", "pause", "purge", "redrive", "explain", "get_queue"] {
        assert_eq!(case.code(call, json!({"queue": case.name})).await, "not_found", "{call}");
    }
    let topic = case.ok("get_topic", json!({"topic": case.name})).await;
    assert_eq!(list(&topic["queues"]), [json!(format!("{}.s", case.name))], "none was made");
}

async fn browse_pages(case: Case) {
    let ids = case.publish_all(&case.name, 0..25).await;
    case.drain(&case.name, 1).await;
    let mut seen = Vec::new();
    let mut args = json!({"queue": case.name, "page_size": 10});
    loop {
        let page = case.ok("browse", args.clone()).await;
        seen.extend(list(&page["messages"]).iter().map(|m| text(&m["id"])));
        let token = text(&page["next_page_token"]);
        if token.is_empty() {
            break;
        }
        args["page_token"] = json!(token);
    }
    assert_eq!(seen, ids[1..]);
}

async fn browse_retrying(case: Case) {
    case.publish(&case.name, 1).await;
    let delivery = case.take(&case.name).await;
    case.nack(&case.name, &delivery, json!({"outcome": "RETRY", "delay_seconds": 100})).await;
    let shown = case.browse(&case.name, "ready").await;
    assert!(text(&shown[0]["retry_at"]).ends_with('Z'), "{}", shown[0]);
}

async fn get_message(case: Case) {
    let message = json!({"json": {"a": 1}, "attributes": {"k": "v"}, "correlation_id": "c"});
    let id = case.publish_as(&case.name, message).await;
    case.declare(&format!("{}-x", case.name)).await;
    case.take(&case.name).await;
    let shown = case.ok("get_message", json!({"queue": case.name, "message_id": id})).await;
    assert_eq!((&shown["json"], &shown["attributes"]), (&json!({"a": 1}), &json!({"k": "v"})));
    assert_eq!(text(&shown["state"]).to_lowercase(), "leased");
}

async fn get_acked(case: Case) {
    let id = case.publish(&case.name, 1).await;
    case.drain(&case.name, 1).await;
    assert_eq!(case.code("get_message", json!({"queue": case.name, "message_id": id})).await, "not_found");
}

async fn story(case: Case) {
    let id = case.publish(&case.name, 1).await;
    let first = case.take(&case.name).await;
    case.nack(&case.name, &first, json!({"outcome": "RETRY"})).await;
    case.take(&case.name).await;
    case.advance(31.0).await;
    let third = case.take(&case.name).await;
    case.extend(&case.name, &third, 60).await;
    case.nack(&case.name, &third, json!({"outcome": "DEAD_LETTER"})).await;
    case.ok("redrive", json!({"queue": case.name})).await;
    let last = case.take(&case.name).await;
    case.ack(&case.name, &last).await;
    let wanted = [
        "published",
        "delivered",
        "nacked",
        "delivered",
        "deadline_exceeded",
        "delivered",
        "extended",
        "dead_lettered",
        "redriven",
        "delivered",
        "acked",
    ];
    assert_eq!(case.events(&id).await, wanted);
}

async fn story_queues(case: Case) {
    for service in ["a", "b"] {
        case.ok("put_subscription", json!({"topic": case.name, "service": service})).await;
    }
    let id = case.publish(&case.name, 1).await;
    let (a, b) = (format!("{}.a", case.name), format!("{}.b", case.name));
    case.take(&a).await;
    case.drain(&b, 1).await;
    let story = case.ok("get_story", json!({"message_id": id})).await;
    assert_eq!(text(&story["topic"]), case.name);
    let queues = list(&story["queues"]);
    assert_eq!(queues.iter().map(|q| text(&q["queue"])).collect::<Vec<_>>(), [a, b]);
    assert_eq!(text(&queues[0]["state"]["state"]).to_lowercase(), "leased");
    assert!(queues[1]["state"].is_null(), "{}", queues[1]);
}

async fn story_acked(case: Case) {
    let id = case.publish(&case.name, 1).await;
    case.drain(&case.name, 1).await;
    assert_eq!(case.events(&id).await, ["published", "received"]);
}

async fn story_unknown(case: Case) {
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    assert_eq!(case.code("get_story", json!({"message_id": id})).await, "not_found");
}

async fn explain_empty(case: Case) {
    case.declare(&case.name).await;
    assert_eq!(case.obstacles(&case.name).await, ["empty"]);
}

async fn explain_leased(case: Case) {
    case.publish_all(&case.name, 1..=2).await;
    let held = case.pull(&case.name, 2).await;
    let explanation = case.ok("explain", json!({"queue": case.name})).await;
    let obstacle = &explanation["obstacles"][0];
    assert_eq!((text(&obstacle["kind"]), number(&obstacle["messages"])), ("leased".into(), 2));
    assert_eq!(obstacle["until"], held[0]["ack_deadline"]);
    assert!(text(&obstacle["detail"]).starts_with("2 messages are held by consumers"), "{obstacle}");
    assert_eq!(number(&explanation["deliverable"]), 0);
}

async fn explain_retrying(case: Case) {
    case.publish(&case.name, 1).await;
    let delivery = case.take(&case.name).await;
    case.nack(&case.name, &delivery, json!({"outcome": "RETRY", "delay_seconds": 100})).await;
    assert_eq!(case.obstacles(&case.name).await, ["retrying"]);
}

async fn explain_delayed(case: Case) {
    case.declare(&case.name).await;
    case.publish_as(&case.name, json!({"json": 1, "delay_seconds": 100})).await;
    assert!(case.obstacles(&case.name).await.contains(&"delayed".to_owned()));
}

async fn explain_keys(case: Case) {
    let messages = json!([{"json": 1, "ordering_key": "k"}, {"json": 2, "ordering_key": "k"}]);
    case.ok("publish", json!({"topic": case.name, "messages": messages})).await;
    let held = case.pull(&case.name, 9).await;
    let explanation = case.ok("explain", json!({"queue": case.name})).await;
    let obstacles = list(&explanation["obstacles"]);
    let behind = obstacles.iter().find(|o| o["kind"] == "behind_keys").unwrap_or_else(|| panic!("{explanation}"));
    let key = &behind["keys"][0];
    assert_eq!(
        (text(&key["ordering_key"]), &key["message_id"], number(&key["behind"])),
        ("k".into(), &held[0]["id"], 1)
    );
}

async fn explain_nobody(case: Case) {
    case.declare(&case.name).await;
    case.publish(&case.name, 1).await;
    let explanation = case.ok("explain", json!({"queue": case.name})).await;
    assert_eq!(number(&explanation["deliverable"]), 1);
    assert_eq!(case.obstacles(&case.name).await, ["no_consumer"]);
}

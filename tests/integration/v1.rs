//! The calls under `/v1`, over a real broker.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::{
    clients::{Answer, Rest, codes_of, messages_of},
    process::Broker,
    stage::{PATIENCE, Stage},
};

async fn put(rest: &Rest, path: &str, body: &Value) -> Answer {
    Rest::ask(rest.request(Method::PUT, path).json(body)).await.expect("an answer")
}

async fn publish(rest: &Rest, topic: &str, messages: Value) -> Value {
    rest.post(&format!("/v1/topics/{topic}/publish"), &json!({ "messages": messages })).await.ok()
}

async fn pull(rest: &Rest, queue: &str, max_messages: u32) -> Vec<Value> {
    let body = json!({"max_messages": max_messages, "wait_seconds": 20});
    messages_of(rest.post(&format!("/v1/queues/{queue}/pull"), &body).await.ok())
}

/// The events of a stream, one after the other.
struct Events {
    response: Response,
    read: String,
}

impl Events {
    async fn open(broker: &Broker, path: &str) -> Self {
        let response = broker.rest().request(Method::GET, path).send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, read: String::new() }
    }

    /// The name and the data of the next event; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.read.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                let found = field("event").map(|name| {
                    let data = field("data").expect("data");
                    (name.to_owned(), serde_json::from_str(data).expect("JSON"))
                });
                self.read = rest.to_owned();
                if found.is_some() {
                    return found;
                }
                continue;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await.expect("in time");
            let chunk = chunk.expect("readable")?;
            self.read.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        }
    }
}

// ------------------------------------------------------------------------------------ messages in and out

#[tokio::test]
async fn a_payload_comes_back_in_the_form_that_its_type_allows() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let rest = broker.rest();
    let messages = json!([
        {"json": {"a": 1.10}, "attributes": {"k": "v"}, "ordering_key": "o", "reply_to": "r", "correlation_id": "c"},
        {"json": null},
        {"text": "h\u{e9}"},
        {"data_base64": "/wA="},
        {"text": "[1]", "content_type": "application/json"},
    ]);
    let published = publish(&rest, "t", messages).await;
    assert_eq!(published["messages"].as_array().map(Vec::len), Some(5));
    assert_eq!((&published["delivered_to"], &published["queues"]), (&json!(1), &json!([])));
    let raw = rest.request(Method::POST, "/v1/topics/t/messages").body("a,b\r\n");
    let raw = raw
        .header("content-type", "text/csv")
        .header("campanile-attribute-source", "till")
        .header("campanile-ordering-key", "k");
    Rest::ask(raw).await.expect("an answer").ok();
    let pulled = pull(&rest, "t", 10).await;
    assert_eq!(pulled.len(), 6);
    assert_eq!(pulled[0]["id"], published["messages"][0]["message_id"]);
    for (field, value) in [("ordering_key", "o"), ("reply_to", "r"), ("correlation_id", "c")] {
        assert_eq!(pulled[0][field], value);
    }
    assert_eq!((&pulled[0]["json"], &pulled[0]["attributes"]), (&json!({"a": 1.10}), &json!({"k": "v"})));
    assert!(pulled[1].get("json").is_some_and(Value::is_null), "null is a payload: {}", pulled[1]);
    assert_eq!((&pulled[2]["text"], &pulled[2]["content_type"]), (&json!("h\u{e9}"), &json!("text/plain")));
    assert_eq!(
        (&pulled[3]["data_base64"], &pulled[3]["content_type"]),
        (&json!("/wA="), &json!("application/octet-stream"))
    );
    assert_eq!((&pulled[4]["json"], pulled[4].get("content_type")), (&json!([1]), None));
    assert_eq!((&pulled[5]["text"], &pulled[5]["content_type"]), (&json!("a,b\r\n"), &json!("text/csv")));
    assert_eq!(pulled[5]["attributes"], json!({"source": "till"}));
    assert!(pulled.iter().all(|m| m["delivery_attempt"] == 1 && m["ack_deadline"].is_string()));
}

#[tokio::test]
async fn a_dead_letter_is_seen_told_and_brought_back() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let rest = broker.rest();
    assert_eq!(put(&rest, "/v1/topics/t", &json!({})).await.status, 201);
    assert_eq!(
        put(&rest, "/v1/topics/t", &json!({"dedup_window_seconds": 5})).await.ok()["policy"]["dedup_window_seconds"],
        5.0
    );
    let made = put(&rest, "/v1/topics/t/subscriptions/s", &json!({"max_delivery_attempts": 1})).await;
    assert_eq!((made.status, &made.json["name"]), (201, &json!("t.s")));
    publish(&rest, "t", json!([{"json": 1}, {"json": 2}])).await;
    let pulled = pull(&rest, "t.s", 2).await;
    let nack = json!({"ack_ids": [pulled[0]["ack_id"]], "outcome": "DEAD_LETTER", "reason": "no such order"});
    assert_eq!(codes_of(&rest.post("/v1/queues/t.s/nack", &nack).await.ok()), ["ok"]);
    let nack = json!({"ack_ids": [pulled[1]["ack_id"], "junk"]});
    assert_eq!(codes_of(&rest.post("/v1/queues/t.s/nack", &nack).await.ok()), ["ok", "not_found"]);

    let dead = messages_of(rest.get("/v1/queues/t.s/messages?state=dead").await.ok());
    let causes: Vec<_> = dead.iter().map(|m| (&m["json"], &m["dead_letter"]["cause"])).collect();
    assert_eq!(causes, [(&json!(1), &json!("rejected")), (&json!(2), &json!("failed"))]);
    assert_eq!(dead[0]["dead_letter"]["reason"], "no such order");
    let page = rest.get("/v1/queues/t.s/messages?state=dead&page_size=1").await.ok();
    let token = page["next_page_token"].as_str().expect("there is more");
    let rest_of = rest.get(&format!("/v1/queues/t.s/messages?state=dead&page_size=1&page_token={token}")).await.ok();
    assert_eq!(rest_of["messages"][0]["json"], 2);

    let id = pulled[0]["id"].as_str().expect("an id");
    let story = rest.get(&format!("/v1/messages/{id}")).await.ok();
    let kinds: Vec<_> = story["events"].as_array().expect("events").iter().map(|e| e["kind"].as_str()).collect();
    assert_eq!(kinds, [Some("published"), Some("delivered"), Some("dead_lettered")]);
    assert_eq!(story["queues"][0]["state"]["state"], "dead");

    let redriven = rest.post("/v1/queues/t.s/redrive", &json!({"message_ids": [id]})).await.ok();
    assert_eq!(redriven["messages"], 1);
    assert_eq!(pull(&rest, "t.s", 1).await[0]["delivery_attempt"], 1, "as if it had never been delivered");
    let queue = rest.get("/v1/queues/t.s").await.ok();
    assert_eq!((&queue["dead"], &queue["leased"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn settling_together_is_all_or_nothing() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let rest = broker.rest();
    publish(&rest, "in", json!([{"json": 1}, {"json": 2}])).await;
    let pulled = pull(&rest, "in", 2).await;
    let ids: Vec<_> = pulled.iter().map(|m| &m["ack_id"]).collect();
    assert_eq!(rest.ack("in", &[ids[0]]).await, ["ok"]);
    let publish = json!([{"topic": "out", "messages": [{"json": "done"}]}]);
    let stale = rest.post("/v1/settle", &json!({"ack": ids, "publish": publish})).await;
    assert_eq!(stale.problem(), (409, "stale_ack", "ack[0]"));
    assert_eq!(rest.get("/v1/topics/out").await.problem().0, 404, "nothing was published");
    let both = json!({"nack": [{"ack_id": ids[1], "outcome": "RELEASE"}], "publish": publish});
    let settled = rest.post("/v1/settle", &both).await.ok();
    assert_eq!(codes_of(&settled), ["ok"]);
    assert_eq!(settled["published"][0]["messages"].as_array().map(Vec::len), Some(1));
    assert_eq!(pull(&rest, "out", 1).await[0]["json"], "done");
    assert_eq!(pull(&rest, "in", 1).await[0]["json"], 2);
}

#[tokio::test]
async fn a_request_is_answered() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let rest = broker.rest();
    let answerer = async {
        let asked = pull(&rest, "sums", 1).await.remove(0);
        let answer = json!([{"json": 3, "correlation_id": asked["correlation_id"]}]);
        publish(&rest, asked["reply_to"].as_str().expect("an address"), answer).await;
    };
    let body = json!({"message": {"json": [1, 2]}, "timeout_seconds": 20});
    let (answer, ()) = tokio::join!(rest.post("/v1/request/sums", &body), answerer);
    assert_eq!(answer.ok()["reply"]["json"], 3);
    let body = json!({"message": {"json": 1}, "timeout_seconds": 0.01});
    assert_eq!(rest.post("/v1/request/nobody", &body).await.problem(), (504, "deadline_exceeded", ""));
}

// ------------------------------------------------------------------------------------ see and steer

#[tokio::test]
async fn a_queue_is_steered_and_says_why_it_hands_nothing_out() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let rest = broker.rest();
    put(&rest, "/v1/topics/t/subscriptions/s", &json!({"limits": {"max_messages": 2, "overflow": "REJECT"}})).await;
    publish(&rest, "t", json!([{"json": 1}, {"json": 2}])).await;
    let full = rest.post("/v1/topics/t/publish", &json!({"messages": [{"json": 3}]})).await;
    assert_eq!(full.problem(), (429, "queue_full", ""));
    assert!(!full.header("retry-after").is_empty());
    let patch = rest.request(Method::PATCH, "/v1/queues/t.s").json(&json!({"limits": {"max_messages": null}}));
    assert_eq!(Rest::ask(patch).await.expect("an answer").ok()["policy"]["limits"], json!({"overflow": "REJECT"}));
    publish(&rest, "t", json!([{"json": 3}])).await;

    assert_eq!(rest.post("/v1/queues/t.s/pause", &json!({})).await.ok()["paused"], true);
    let explained = rest.get("/v1/queues/t.s/explain").await.ok();
    assert_eq!((&explained["obstacles"][0]["kind"], &explained["deliverable"]), (&json!("paused"), &json!(0)));
    assert_eq!(rest.post("/v1/queues/t.s/resume", &json!({})).await.ok()["paused"], false);

    let ready = messages_of(rest.get("/v1/queues/t.s/messages").await.ok());
    let path = format!("/v1/queues/t.s/messages/{}", ready[0]["id"].as_str().expect("an id"));
    assert_eq!(rest.get(&path).await.ok()["state"], "ready");
    let delete = async || Rest::ask(rest.request(Method::DELETE, &path)).await.expect("an answer").status;
    assert_eq!((delete().await, delete().await), (204, 404));
    assert_eq!(rest.post("/v1/queues/t.s/purge", &json!({})).await.ok()["messages"], 2);

    let names = rest.get("/v1/queues?prefix=t.").await.ok();
    assert_eq!(names["queues"][0]["name"], "t.s");
    let removed = Rest::ask(rest.request(Method::DELETE, "/v1/topics/t")).await.expect("an answer");
    assert_eq!(removed.ok()["messages"], 0);
    assert_eq!(rest.get("/v1/queues/t.s").await.problem(), (404, "not_found", ""));
}

#[tokio::test]
async fn the_clock_is_moved_in_dev_mode_only() {
    let stage = Stage::shared().await;
    let forward = json!({"by_seconds": 3600});
    let broker = stage.broker().start().await;
    let refused = broker.rest().post("/v1/dev/clock/advance", &forward).await;
    assert_eq!(refused.problem(), (409, "not_in_dev_mode", ""));
    assert!(broker.stop().await.success());
    let broker = stage.broker().args(&["--dev"]).start().await;
    let rest = broker.rest();
    publish(&rest, "t", json!([{"json": 1, "delay_seconds": 3000}])).await;
    assert!(messages_of(rest.post("/v1/queues/t/pull", &json!({})).await.ok()).is_empty());
    assert!(rest.post("/v1/dev/clock/advance", &forward).await.ok()["now"].is_string());
    assert_eq!(pull(&rest, "t", 1).await[0]["json"], 1);
}

// ------------------------------------------------------------------------------------ the stream

#[tokio::test]
async fn a_stream_hands_out_as_much_as_there_is_credit_and_its_end_gives_it_back() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let rest = broker.rest();
    let mut events = Events::open(&broker, "/v1/queues/t/stream?max_outstanding_messages=2&consumer=till").await;
    publish(&rest, "t", json!([{"json": 1}, {"json": 2}, {"json": 3}])).await;
    let first = events.next().await.expect("an event");
    assert_eq!((first.0.as_str(), &first.1["json"]), ("message", &json!(1)));
    assert_eq!(events.next().await.expect("an event").1["json"], 2);
    let queue = rest.get("/v1/queues/t").await.ok();
    assert_eq!((&queue["leased"], &queue["ready"]), (&json!(2), &json!(1)), "there is credit for two");
    let consumer = &queue["consumers"][0];
    assert_eq!(
        (&consumer["name"], &consumer["kind"], &consumer["has_credit"]),
        (&json!("till"), &json!("stream"), &json!(false))
    );
    assert_eq!(rest.ack("t", &[&first.1["ack_id"]]).await, ["ok"]);
    assert_eq!(events.next().await.expect("an event").1["json"], 3);
    drop(events);
    let mut back = pull(&rest, "t", 2).await;
    if back.len() == 1 {
        back.extend(pull(&rest, "t", 1).await);
    }
    let back: Vec<_> = back.iter().map(|m| (&m["json"], &m["delivery_attempt"])).collect();
    assert_eq!(back, [(&json!(2), &json!(1)), (&json!(3), &json!(1))]);
}

#[tokio::test]
async fn a_stream_outlives_the_deadline_of_requests_and_says_why_it_ends() {
    let stage = Stage::shared().await;
    let broker = stage.broker().set("BROKER_REQUEST_TIMEOUT_SECS", 1).start().await;
    let mut events = Events::open(&broker, "/v1/queues/t/stream").await;
    // Not to wait for something: the deadline has to pass.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    publish(&broker.rest(), "t", json!([{"json": 1}])).await;
    assert_eq!(events.next().await.expect("an event").1["json"], 1);
    broker.process.terminate();
    let (name, end) = events.next().await.expect("an event");
    assert_eq!((name.as_str(), &end["code"]), ("end", &json!("draining")));
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_stream_comes_through_a_standby() {
    let stage = Stage::shared().await;
    let [active, standby] = stage.active_and_standby().await;
    let mut events = Events::open(&standby, "/v1/queues/t/stream").await;
    publish(&active.rest(), "t", json!([{"json": 1}])).await;
    assert_eq!(events.next().await.expect("an event").1["json"], 1);
}

// ------------------------------------------------------------------------------------ the description

#[tokio::test]
async fn the_page_of_the_description_needs_nothing_from_elsewhere() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let rest = broker.rest();
    let page = rest.get("/docs").await;
    assert_eq!(page.status, 200, "the client follows to the page");
    let parts = page.text.split('"').filter(|part| part.ends_with(".js") || part.ends_with(".css"));
    let parts: Vec<_> = parts.collect();
    assert!(parts.len() >= 3, "{}", page.text);
    for part in parts {
        assert!(!part.contains("//"), "{part} is elsewhere");
        assert_eq!(rest.get(&format!("/docs/{}", part.trim_start_matches("./"))).await.status, 200, "{part}");
    }
    assert!(rest.get("/openapi.json").await.ok()["paths"].get("/v1/settle").is_some());
}

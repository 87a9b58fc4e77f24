//! The calls over a whole broker, in memory. What they mean in depth is tested over real servers, in `tests/`.

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Method, Request, StatusCode},
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Options, router};
use crate::{
    broker::{Broker, Limits},
    engine::{Engine, Options as EngineOptions, journal::MemoryJournal},
};

struct Client(Router);

impl Client {
    fn new() -> Self {
        let engine =
            Engine::over(Box::new(MemoryJournal::default()), EngineOptions::new("")).expect("an empty journal");
        let broker = Broker::standby(Limits::default());
        broker.activate(engine);
        Self(router(broker, Options { message_bytes_max: Limits::default().message_bytes_max }))
    }

    async fn ask(&self, method: Method, uri: &str, body: impl ToString) -> (StatusCode, String) {
        let body = Body::from(body.to_string());
        let request = Request::builder().method(method).uri(uri).body(body).expect("a valid request");
        let response = self.0.clone().oneshot(request).await.expect("infallible");
        let status = response.status();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("readable");
        (status, String::from_utf8(bytes.to_vec()).expect("UTF-8"))
    }

    async fn post(&self, uri: &str, body: Value) -> (StatusCode, Value) {
        let (status, body) = self.ask(Method::POST, uri, body).await;
        (status, serde_json::from_str(&body).expect("JSON"))
    }

    async fn consume(&self, uri: &str) -> Vec<Value> {
        let (status, body) = self.ask(Method::GET, uri, "").await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let mut body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(body["load_balancing"], "fair_dispatch");
        serde_json::from_value(body["messages"].take()).expect("a list")
    }
}

#[tokio::test]
async fn what_is_published_is_consumed_byte_for_byte_by_topic_and_by_service() {
    let client = Client::new();
    let body = json!({"service_name": "billing", "topics": ["order.created"]});
    let (status, answer) = client.post("/register", body).await;
    assert_eq!((status, &answer["registered_topics"]), (StatusCode::OK, &json!(["order.created"])));
    let text = r#"{"topic": "order.created", "message": {"total":  99.990, "name": "\u00e9"}}"#;
    let (status, answer) = client.ask(Method::POST, "/publish", text).await;
    assert_eq!(status, StatusCode::OK);
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer["delivered_to"], 1);
    assert_eq!(answer["queues"], json!(["order.created.billing"]));
    let (_, body) = client.ask(Method::GET, "/consume/order.created?service=billing", "").await;
    assert!(body.contains(r#""payload":{"total":  99.990, "name": "\u00e9"}}]"#), "{body}");
    assert!(body.contains(&answer["message_id"].to_string()), "{body}");
    assert!(client.consume("/consume/order.created.billing").await.is_empty());
}

#[tokio::test]
async fn a_leased_message_is_acked_once() {
    let client = Client::new();
    client.post("/publish", json!({"topic": "t", "message": null, "ordering_key": "k"})).await;
    let messages = client.consume("/consume/t?ack_deadline_seconds=30").await;
    assert_eq!(messages[0]["delivery_attempt"], 1);
    assert_eq!(messages[0]["ordering_key"], "k");
    assert!(client.consume("/consume/t").await.is_empty());
    let ack_id = &messages[0]["ack_id"];
    let settled = async || client.post("/v1/queues/t/ack", json!({"ack_ids": [ack_id, "junk"]})).await.1;
    let results =
        |code| json!({"results": [{"ack_id": ack_id, "code": code}, {"ack_id": "junk", "code": "not_found"}]});
    assert_eq!(settled().await, results("ok"));
    assert_eq!(settled().await, results("stale_ack"));
    let (status, problem) = client.post("/v1/queues/nothing/ack", json!({"ack_ids": ["x"]})).await;
    assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));
}

#[tokio::test]
async fn refusals_of_the_engine_have_their_codes() {
    let client = Client::new();
    let message = |text| json!({"topic": "t", "message": text, "dedup_id": "d"});
    let (_, first) = client.post("/publish", message("a")).await;
    assert!(first.get("duplicate").is_none());
    let (_, second) = client.post("/publish", message("a")).await;
    assert_eq!(second["duplicate"], true);
    assert_eq!(second["message_id"], first["message_id"]);
    let (status, problem) = client.post("/publish", message("b")).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("dedup_mismatch")));
    client.post("/register", json!({"service_name": "s", "topics": ["t"]})).await;
    let (status, problem) = client.post("/publish", json!({"topic": "t.s", "message": 1})).await;
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("name_conflict")));
}

#[tokio::test]
async fn a_consumer_that_hangs_up_gives_its_messages_back_at_once() {
    let client = Client::new();
    client.post("/publish", json!({"topic": "t", "message": 1})).await;
    let asks = || {
        let pull = Request::post("/v1/queues/t/pull").body(Body::empty());
        let consume = Request::get("/consume/t?ack_deadline_seconds=30").body(Body::empty());
        [pull, consume].map(|request| request.expect("a valid request"))
    };
    for request in asks() {
        let answer = client.0.clone().oneshot(request).await.expect("infallible");
        assert_eq!(answer.status(), StatusCode::OK);
        // Nobody reads it.
        drop(answer);
        let messages = client.consume("/consume/t?ack_deadline_seconds=30&wait_seconds=20").await;
        assert_eq!(messages[0]["delivery_attempt"], 1, "that delivery does not count");
        let release = json!({"ack_ids": [messages[0]["ack_id"]], "outcome": "RELEASE"});
        assert_eq!(client.post("/v1/queues/t/nack", release).await.1["results"][0]["code"], "ok");
    }
    for request in asks() {
        let answer = client.0.clone().oneshot(request).await.expect("infallible");
        let body = to_bytes(answer.into_body(), usize::MAX).await.expect("readable");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        let release = json!({"ack_ids": [body["messages"][0]["ack_id"]], "outcome": "RELEASE"});
        let (_, answer) = client.post("/v1/queues/t/nack", release).await;
        assert_eq!(answer["results"][0]["code"], "ok", "what was read to its end is the consumer's");
    }
}

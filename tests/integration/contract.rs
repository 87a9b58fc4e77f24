//! The original contract and its additions, call by call, over both protocols.

use std::{fs, time::Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tonic::Request;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::{
    clients::{Grpc, Rest, channel, message},
    stage::{Stage, eventually},
};

#[track_caller]
fn assert_signed(answer: &Value) {
    assert_eq!(answer["load_balancing"], "fair_dispatch", "{answer}");
    assert_eq!(answer["broker"], "custom_durable_file_backed", "{answer}");
}

fn payloads(messages: &[Value]) -> Vec<&Value> {
    messages.iter().map(|message| &message["payload"]).collect()
}

// ------------------------------------------------------------------------------------ the original calls

#[tokio::test]
async fn health_is_told_over_both_protocols() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let health = broker.rest().get("/health").await.ok();
    assert_eq!(health["status"], "healthy");
    assert_signed(&health);
    assert_eq!(broker.rest().get("/health/ready").await.status, 200);
    assert_eq!(broker.rest().get("/health/live").await.status, 200);
    let mut grpc = HealthClient::new(channel(broker.grpc));
    for service in ["", "MessageBrokerService"] {
        let answer = grpc.check(HealthCheckRequest { service: service.to_owned() }).await.expect("known");
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    }
}

#[tokio::test]
async fn reflection_lists_the_services() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let ask = |question| ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let questions = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol("MessageBrokerService".to_owned()),
    ];
    let request = Request::new(tokio_stream(questions.map(ask)));
    let mut client = ServerReflectionClient::new(channel(broker.grpc));
    let mut answers = client.server_reflection_info(request).await.expect("served").into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.expect("an answer").and_then(|answer| answer.message_response)
    else {
        panic!("no list of services")
    };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"MessageBrokerService") && names.contains(&"grpc.health.v1.Health"), "{names:?}");
    let Some(MessageResponse::FileDescriptorResponse(files)) =
        answers.message().await.expect("an answer").and_then(|answer| answer.message_response)
    else {
        panic!("no description of the service")
    };
    let bytes = files.file_descriptor_proto.concat();
    assert!(String::from_utf8_lossy(&bytes).contains("SendMessageRequest"), "the proto itself is shown");
}

fn tokio_stream<T: Send + 'static>(
    items: impl IntoIterator<Item = T, IntoIter: Send + 'static>,
) -> impl tonic::codegen::tokio_stream::Stream<Item = T> + Send + 'static {
    tonic::codegen::tokio_stream::iter(items)
}

#[tokio::test]
async fn registering_is_answered_as_ever_and_idempotent() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let rest = broker.rest();
    for _ in 0..2 {
        let answer = rest.register("user-service", &["user.created", "user.updated"]).await;
        assert_eq!(answer["status"], "ok");
        assert_eq!(answer["registered_topics"], json!(["user.created", "user.updated"]));
        assert_signed(&answer);
    }
    rest.publish("user.created", json!(1)).await;
    assert_eq!(rest.drain("user.created.user-service").await, [json!(1)], "one queue, however often it is registered");
}

#[tokio::test]
async fn a_message_has_the_fields_of_the_original_and_no_others() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let rest = broker.rest();
    let order = json!({"order_id": "ORD-123", "total": 99.99, "customer_id": "CUST-456"});
    let published = rest.publish("order.created", order.clone()).await;
    assert_eq!((&published["status"], &published["delivered_to"]), (&json!("ok"), &json!(1)));
    assert_signed(&published);
    let answer = rest.get("/consume/order.created?max_messages=5").await.ok();
    assert_signed(&answer);
    let expected = json!([{"id": published["message_id"], "topic": "order.created", "payload": order}]);
    assert_eq!(answer["messages"], expected);
    let again = rest.get("/consume/order.created?max_messages=5").await.ok();
    assert_eq!(again["messages"], json!([]), "acked at once");
}

#[tokio::test]
async fn an_unknown_queue_is_declared_and_empty() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    assert_eq!(broker.rest().consume("nobody.knows").await, [] as [Value; 0]);
    assert_eq!(broker.grpc().receive("nobody.knows.either").await, None);
}

#[tokio::test]
async fn sending_and_receiving_over_grpc_is_as_in_the_proto() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let grpc = broker.grpc();
    let mut order = message("order.created", r#"{"order_id": "ORD-123"}"#);
    order.reply_to = "order-service".to_owned();
    let sent = grpc.ask_send(order, None).await.expect("an answer");
    assert!(sent.success && sent.error_message.is_empty(), "{sent:?}");
    let received = grpc.receive("order.created").await.expect("the message");
    assert_eq!(received.message_id, sent.message_id);
    assert_eq!(received.topic, "order.created");
    assert_eq!(received.payload, r#"{"order_id": "ORD-123"}"#);
    assert_eq!(received.reply_to, "order-service");
    assert_eq!(grpc.receive("order.created").await, None);
}

#[tokio::test]
async fn a_payload_that_is_not_json_is_not_a_success_over_grpc() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let sent = broker.grpc().ask_send(message("t", "hello"), None).await.expect("an answer, no status");
    assert!(!sent.success && sent.message_id.is_empty(), "{sent:?}");
    assert!(sent.error_message.contains("payload"), "{sent:?}");
    assert_eq!(broker.grpc().receive("t").await, None);
}

#[tokio::test]
async fn both_protocols_see_the_same_queues_on_both_ports() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    for (rest, grpc) in [(broker.rest, broker.grpc), (broker.grpc, broker.rest)] {
        let (rest, grpc) = (Rest::new(rest), Grpc::new(grpc));
        let id = rest.publish("t", json!({"by": "REST"})).await["message_id"].take();
        let received = grpc.receive("t").await.expect("what REST published");
        assert_eq!(id, received.message_id);
        assert_eq!(received.payload, r#"{"by":"REST"}"#);
        let id = grpc.send("t", r#"{"by": "gRPC"}"#).await;
        let messages = rest.consume("t").await;
        assert_eq!(messages[0]["id"], id);
        assert_eq!(payloads(&messages), [&json!({"by": "gRPC"})]);
    }
}

#[tokio::test]
async fn a_payload_keeps_its_bytes() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let payload = r#"{ "b" : 1.00,	"a": [1e2 , "é"], "a":null, "n": 123456789012345678901234567890 }"#;
    let body = format!(r#"{{"topic": "t", "message": {payload}}}"#);
    broker.rest().post_text("/publish", body.clone()).await.ok();
    assert_eq!(broker.grpc().receive("t").await.expect("the message").payload, payload);
    broker.grpc().send("t", payload).await;
    let text = broker.rest().get("/consume/t").await.text;
    assert!(text.contains(payload), "{text}");
    for scalar in ["null", "0", "\"\"", "false", "[]"] {
        broker.grpc().send("t", scalar).await;
        assert_eq!(broker.rest().consume("t").await[0]["payload"].to_string(), scalar);
    }
    // Deeper than a stack could follow.
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    broker.rest().post_text("/publish", format!(r#"{{"topic": "t", "message": {deep}}}"#)).await.ok();
    assert_eq!(broker.grpc().receive("t").await.expect("the message").payload, deep);
}

#[tokio::test]
async fn a_queue_is_first_in_first_out_whoever_publishes() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let (rest, grpc) = (broker.rest(), broker.grpc());
    for n in 0..40 {
        if n % 3 == 0 {
            grpc.send("t", &n.to_string()).await;
        } else {
            rest.publish("t", json!(n)).await;
        }
    }
    let mut got = Vec::new();
    for n in [1, 7, 1000] {
        got.push(json!(grpc.receive("t").await.expect("more").payload.parse::<u64>().expect("a number")));
        got.extend(rest.consume(&format!("t?max_messages={n}")).await.into_iter().map(|mut m| m["payload"].take()));
    }
    assert_eq!(got, (0..40).map(|n| json!(n)).collect::<Vec<_>>());
}

// ------------------------------------------------------------------------------------ publish and subscribe

#[tokio::test]
async fn each_service_gets_every_message_once_and_its_instances_compete() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let rest = broker.rest();
    rest.register("billing", &["order.created"]).await;
    rest.register("shipping", &["order.created", "order.cancelled"]).await;
    let mut published = Value::Null;
    for n in 0..10 {
        published = rest.publish("order.created", json!(n)).await;
    }
    assert_eq!(published["delivered_to"], 2);
    assert_eq!(published["queues"], json!(["order.created.billing", "order.created.shipping"]));

    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        first.extend(rest.consume("order.created.billing").await);
        let received = broker.grpc().receive("order.created.billing").await.expect("more");
        second.push(received.payload);
    }
    assert_eq!(payloads(&first), [&json!(0), &json!(2), &json!(4), &json!(6), &json!(8)]);
    assert_eq!(second, ["1", "3", "5", "7", "9"]);
    assert_eq!(rest.consume("order.created.billing").await, [] as [Value; 0]);
    assert_eq!(rest.drain("order.created.shipping").await.len(), 10);
    assert_eq!(rest.drain("order.cancelled.shipping").await.len(), 0);
}

#[tokio::test]
async fn a_service_has_an_inbox_for_direct_messages() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    broker.rest().register("billing", &["order.created"]).await;
    let sent = broker.rest().publish("billing", json!("to you")).await;
    assert_eq!(sent["queues"], json!(["billing"]));
    assert_eq!(broker.grpc().receive("billing").await.expect("the message").payload, "\"to you\"");
    assert_eq!(broker.rest().drain("order.created.billing").await.len(), 0);
}

#[tokio::test]
async fn what_nobody_wanted_yet_is_kept_for_the_first_queue_only() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let rest = broker.rest();
    let before = rest.publish("t", json!("before")).await;
    assert_eq!((&before["delivered_to"], &before["queues"]), (&json!(1), &json!([])));
    rest.register("first", &["t"]).await;
    rest.register("second", &["t"]).await;
    rest.publish("t", json!("after")).await;
    assert_eq!(rest.drain("t.first").await, [json!("before"), json!("after")]);
    assert_eq!(rest.drain("t.second").await, [json!("after")]);
}

#[tokio::test]
async fn a_service_can_name_itself_when_it_consumes() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let rest = broker.rest();
    assert_eq!(rest.consume("t?service=billing").await, [] as [Value; 0], "declares the queue");
    rest.publish("t", json!(1)).await;
    assert_eq!(payloads(&rest.consume("t?service=billing").await), [&json!(1)]);
    rest.publish("t", json!(2)).await;
    assert_eq!(payloads(&rest.consume("t.billing").await), [&json!(2)], "the same queue");
}

#[tokio::test]
async fn a_name_that_would_mean_two_things_is_refused_over_both_protocols() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let (rest, grpc) = (broker.rest(), broker.grpc());
    rest.register("billing", &["order"]).await;
    let refused = rest.post("/publish", &json!({"topic": "order.billing", "message": 1})).await;
    assert_eq!(refused.problem(), (409, "name_conflict", ""));
    assert!(refused.text.contains("publish to 'order'"), "says where to publish instead: {}", refused.text);
    let sent = grpc.ask_send(message("order.billing", "1"), None).await.expect("an answer");
    assert!(!sent.success && sent.error_message.starts_with("name_conflict: "), "{sent:?}");
    rest.publish("order.shipping", json!("a topic")).await;
    let refused = rest.post("/register", &json!({"service_name": "shipping", "topics": ["order"]})).await;
    assert_eq!(refused.problem().0, 409);
    let refused = rest.post("/register", &json!({"service_name": "x", "topics": ["y", "order.billing"]})).await;
    assert_eq!(refused.problem().0, 409);
    rest.publish("y", json!(1)).await;
    assert_eq!(rest.drain("y").await.len(), 1, "all queues are declared or none: y has no queue of x");
}

// ------------------------------------------------------------------------------------ additions to publish

#[tokio::test]
async fn what_travels_beside_a_payload_arrives() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let rest = broker.rest();
    let beside = json!({
        "attributes": {"tenant": "a", "é": "1"}, "ordering_key": "k", "reply_to": "inbox", "correlation_id": "c",
        "content_type": "application/vnd.order+json",
    });
    let mut publish = beside.clone();
    publish["topic"] = json!("t");
    publish["message"] = json!({"n": 1});
    rest.post("/publish", &publish).await.ok();
    let message = rest.consume("t").await.remove(0);
    for (field, value) in beside.as_object().expect("an object") {
        assert_eq!(message[field], *value, "{field}");
    }
    rest.post("/publish", &publish).await.ok();
    assert_eq!(broker.grpc().receive("t").await.expect("the message").reply_to, "inbox");
}

#[tokio::test]
async fn a_repeated_publish_is_stored_once_whatever_the_protocol() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let (rest, grpc) = (broker.rest(), broker.grpc());
    let by_header = async |body: &str| {
        let request = rest.request(Method::POST, "/publish").header("idempotency-key", "k").body(body.to_owned());
        Rest::ask(request).await.expect("an answer")
    };
    let first = by_header(r#"{"topic": "t", "message": {"n":1}}"#).await.ok();
    assert!(first.get("duplicate").is_none(), "{first}");
    let again = by_header(r#"{"topic": "t", "message": {"n":1}}"#).await.ok();
    let in_body = rest.post("/publish", &json!({"topic": "t", "message": {"n": 1}, "dedup_id": "k"})).await.ok();
    for repeated in [again, in_body] {
        assert_eq!((&repeated["message_id"], &repeated["duplicate"]), (&first["message_id"], &json!(true)));
    }
    let over_grpc = grpc.ask_send(message("t", r#"{"n":1}"#), Some("k")).await.expect("an answer");
    assert_eq!(first["message_id"], over_grpc.message_id);

    assert_eq!(by_header(r#"{"topic": "t", "message": {"n":2}}"#).await.problem(), (422, "dedup_mismatch", "dedup_id"));
    let other = grpc.ask_send(message("t", r#"{"n":2}"#), Some("k")).await.expect("an answer");
    assert!(!other.success && other.error_message.starts_with("dedup_mismatch: "), "{other:?}");
    assert_eq!(by_header(r#"{"topic": "u", "message": {"n":2}}"#).await.status, 200, "another topic's key");

    assert_eq!(rest.drain("t").await.len(), 1);
    assert_eq!(by_header(r#"{"topic": "t", "message": {"n":1}}"#).await.ok()["duplicate"], true, "after the ack, too");
    assert_eq!(rest.drain("t").await.len(), 0);
}

#[tokio::test]
async fn a_delayed_message_comes_when_it_is_due() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let rest = broker.rest();
    let begun = Instant::now();
    rest.post("/publish", &json!({"topic": "t", "message": "late", "delay_seconds": 2})).await.ok();
    rest.post("/publish", &json!({"topic": "t", "message": "past", "deliver_at": "2001-01-01T00:00:00Z"})).await.ok();
    rest.post("/publish", &json!({"topic": "t", "message": "far", "deliver_at": "2999-01-01T00:00:00Z"})).await.ok();
    rest.publish("t", json!("now")).await;
    let messages = rest.consume("t?max_messages=10").await;
    assert_eq!(payloads(&messages), [&json!("past"), &json!("now")]);
    let messages = rest.consume("t?max_messages=10&wait_seconds=20").await;
    assert_eq!(payloads(&messages), [&json!("late")]);
    assert!(begun.elapsed().as_millis() >= 2000, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_message_is_not_delivered_after_its_time_to_live() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let rest = broker.rest();
    rest.post("/publish", &json!({"topic": "t", "message": "short", "ttl_seconds": 0.001})).await.ok();
    rest.post("/publish", &json!({"topic": "t", "message": "long", "ttl_seconds": 3600})).await.ok();
    // By the time that this delayed one comes, the first one is over.
    rest.post("/publish", &json!({"topic": "u", "message": 1, "delay_seconds": 0.05})).await.ok();
    assert_eq!(rest.consume("u?wait_seconds=20").await.len(), 1);
    assert_eq!(rest.drain("t").await, [json!("long")]);
}

// ------------------------------------------------------------------------------------ additions to consume

#[tokio::test]
async fn a_long_poll_is_answered_by_the_message_it_waits_for() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let rest = broker.rest();
    let begun = Instant::now();
    assert_eq!(rest.consume("t?wait_seconds=0.3").await, [] as [Value; 0], "an empty poll is no error");
    assert!(begun.elapsed().as_millis() >= 300, "{:?}", begun.elapsed());
    let waiting = tokio::spawn({
        let rest = rest.clone();
        async move { rest.consume("t?wait_seconds=60").await }
    });
    broker.grpc().send("t", "1").await;
    assert_eq!(payloads(&waiting.await.expect("no panic")), [&json!(1)]);
    assert!(begun.elapsed().as_secs() < 30, "at once, not at the end of the wait: {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_leased_message_is_gone_once_it_is_acked() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let rest = broker.rest();
    for n in 0..3 {
        rest.publish("t", json!(n)).await;
    }
    let messages = rest.consume("t?max_messages=2&ack_deadline_seconds=30").await;
    assert_eq!(payloads(&messages), [&json!(0), &json!(1)]);
    for message in &messages {
        assert_eq!(message["delivery_attempt"], 1);
        assert!(message["published_at"].as_str() < message["ack_deadline"].as_str(), "{message}");
    }
    assert_eq!(rest.drain("t").await, [json!(2)], "what one consumer holds no other gets");
    let ids = [&messages[0]["ack_id"], &messages[1]["ack_id"]];
    assert_eq!(rest.ack("t", &[ids[0], &json!("junk"), ids[1]]).await, ["ok", "not_found", "ok"]);
    assert_eq!(rest.ack("t", &ids).await, ["stale_ack", "stale_ack"]);
    let unknown = rest.post("/v1/queues/nothing/ack", &json!({"ack_ids": ids})).await;
    assert_eq!(unknown.problem(), (404, "not_found", ""));
}

#[tokio::test]
async fn a_message_that_is_not_acked_comes_back_to_its_place_and_a_late_ack_does_nothing() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let rest = broker.rest();
    rest.publish("t", json!("first")).await;
    let held = rest.consume("t?ack_deadline_seconds=10").await.remove(0);
    rest.publish("t", json!("second")).await;
    rest.publish("u", json!("something else")).await;
    let begun = Instant::now();
    let second = rest.consume("t?ack_deadline_seconds=10").await.remove(0);
    assert_eq!(second["payload"], "second");
    let again = rest.consume("t?wait_seconds=30&ack_deadline_seconds=10").await.remove(0);
    assert!((8..25).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!((&again["payload"], &again["delivery_attempt"]), (&json!("first"), &json!(2)));
    assert_eq!(rest.ack("t", &[&held["ack_id"]]).await, ["stale_ack"]);
    assert_eq!(rest.ack("t", &[&again["ack_id"]]).await, ["ok"]);
}

// ------------------------------------------------------------------------------------ restarts

#[tokio::test]
async fn a_restart_keeps_everything() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let rest = broker.rest();
    rest.register("billing", &["order"]).await;
    for n in 0..5 {
        rest.publish("order", json!({"n": n})).await;
    }
    let kept = rest.publish("order.kept", json!("for the first queue")).await;
    rest.post("/publish", &json!({"topic": "later", "message": 1, "delay_seconds": 3600, "dedup_id": "d"})).await.ok();
    rest.consume("order.billing").await;
    let held = rest.consume("order.billing?max_messages=2&ack_deadline_seconds=3600").await;
    assert_eq!(rest.ack("order.billing", &[&held[0]["ack_id"]]).await, ["ok"]);
    assert_eq!(broker.stop().await.code(), Some(0));

    let broker = stage.broker().start().await;
    let rest = broker.rest();
    let repeated = rest.post("/publish", &json!({"topic": "later", "message": 1, "dedup_id": "d"})).await.ok();
    assert_eq!(repeated["duplicate"], true);
    assert_eq!(rest.drain("order.billing").await, [json!({"n": 3}), json!({"n": 4})]);
    assert_eq!(rest.ack("order.billing", &[&held[0]["ack_id"]]).await, ["stale_ack"]);
    assert_eq!(rest.ack("order.billing", &[&held[1]["ack_id"]]).await, ["ok"], "the lease went on");
    let message = broker.grpc().receive("order.kept").await.expect("kept");
    assert_eq!(kept["message_id"], message.message_id);
    assert_eq!(rest.publish("order", json!(9)).await["queues"], json!(["order.billing"]));
    assert_eq!(rest.drain("later").await.len(), 0, "still delayed");
}

#[tokio::test]
async fn the_files_of_the_original_are_taken_over_once() {
    let stage = Stage::shared().await;
    fs::create_dir(stage.data_dir()).expect("a folder");
    let id = |n: u8| format!("00000000-0000-4000-8000-0000000000{n:02}");
    let line = |n: u8, topic: &str, reply_to: &str| {
        format!(r#"{{"id": "{}", "topic": "{topic}", "payload": {{"n": {n}}}, "reply_to": {reply_to}}}"#, id(n))
    };
    let orders = [line(1, "order.created", "null"), line(2, "order.created", "\"inbox\"")].join("\n") + "\n";
    fs::write(stage.data_dir().join("order.created.jsonl"), orders).expect("written");
    fs::write(stage.data_dir().join("empty.jsonl"), "").expect("written");
    for _ in 0..2 {
        let broker = stage.broker().start().await;
        assert!(stage.data_dir().join("order.created.jsonl.imported").exists());
        assert!(!stage.data_dir().join("order.created.jsonl").exists());
        assert_eq!(broker.stop().await.code(), Some(0));
    }
    let broker = stage.broker().start().await;
    let received = broker.grpc().receive("order.created").await.expect("the first");
    assert_eq!((received.message_id, received.payload), (id(1), r#"{"n": 1}"#.to_owned()));
    let messages = broker.rest().consume("order.created?max_messages=10").await;
    let expected = json!([{"id": id(2), "topic": "order.created", "payload": {"n": 2}, "reply_to": "inbox"}]);
    assert_eq!(json!(messages), expected);
}

#[tokio::test]
async fn a_damaged_file_of_the_original_stops_the_start_and_is_named_with_its_line() {
    let stage = Stage::shared().await;
    fs::create_dir(stage.data_dir()).expect("a folder");
    let good = r#"{"id": "00000000-0000-4000-8000-000000000001", "topic": "t", "payload": 1, "reply_to": null}"#;
    fs::write(stage.data_dir().join("a.jsonl"), format!("{good}\n")).expect("written");
    let damaged = stage.data_dir().join("t.jsonl");
    fs::write(&damaged, format!("{good}\n{{\"id\": \"000\n{good}\n")).expect("written");
    let refusal = stage.broker().refused().await;
    assert_eq!(refusal.code, Some(1), "{}", refusal.text);
    assert!(refusal.text.contains("t.jsonl, line 2"), "{}", refusal.text);
    assert!(damaged.exists(), "left as it was");

    fs::write(&damaged, format!("{good}\n")).expect("written");
    let broker = stage.broker().start().await;
    let payloads = broker.rest().drain("t").await;
    assert_eq!(payloads, [json!(1), json!(1)], "and nothing was taken over twice");
}

// ------------------------------------------------------------------------------------ the log

#[tokio::test]
async fn the_log_has_the_events_of_the_original() {
    let stage = Stage::shared().await;
    let broker = stage.broker().set("BROKER_LOG", "debug").start().await;
    broker.rest().register("billing", &["order.created"]).await;
    broker.rest().publish("order.created", json!(1)).await;
    broker.grpc().receive("order.created.billing").await.expect("the message");
    broker.process.logged("queue declared").await;
    let published = "Message published to queue 'order.created' with custom durable broker (fair dispatch via FIFO)";
    broker.process.logged(published).await;
    let consumed = "Message consumed from queue 'order.created.billing' (custom broker, FIFO fair dispatch)";
    broker.process.logged(consumed).await;
}

#[tokio::test]
async fn bodies_are_never_logged() {
    let stage = Stage::shared().await;
    let broker = stage.broker().set("BROKER_LOG", "trace").start().await;
    broker.rest().publish("t", json!("a secret of the publisher")).await;
    broker.grpc().send("t", "\"a secret of the publisher\"").await;
    broker.rest().drain("t").await;
    let last = broker.rest().get("/health/live").await.header("x-request-id").to_owned();
    eventually("the log of the last request", async || broker.process.output().contains(&last).then_some(())).await;
    assert!(!broker.process.output().contains("a secret"), "{}", broker.process.output());
}

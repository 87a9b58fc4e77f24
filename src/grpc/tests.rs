//! The calls over a whole broker, in memory, by the generated client. What they mean in depth is tested over real
//! servers, in `tests/`.

use axum::Router;
use tonic::{Code, Request};

use super::{
    Options,
    proto::{
        ReceiveMessageRequest, SendMessageRequest, SendMessageResponse,
        message_broker_service_client::MessageBrokerServiceClient,
    },
    routes,
};
use crate::{
    broker::{Broker, Limits},
    engine::{Engine, Options as EngineOptions, journal::MemoryJournal},
};

fn client() -> MessageBrokerServiceClient<Router> {
    let engine = Engine::over(Box::new(MemoryJournal::default()), EngineOptions::new("")).expect("an empty journal");
    let broker = Broker::standby(Limits { message_bytes_max: 1000, ..Limits::default() });
    broker.activate(engine);
    MessageBrokerServiceClient::new(routes(broker, Options { message_bytes_max: 1000 }))
}

fn message(payload: &str) -> SendMessageRequest {
    SendMessageRequest { topic: "t".into(), payload: payload.into(), reply_to: "r".into() }
}

#[tokio::test]
async fn what_is_sent_is_received_byte_for_byte() {
    let mut client = client();
    let sent = client.send_message(message(" {\"a\" : 1.0}")).await.expect("taken").into_inner();
    assert!(sent.success, "{sent:?}");
    let from = || ReceiveMessageRequest { topic: "t".into() };
    let received = client.receive_message(from()).await.expect("answered").into_inner();
    assert!(received.has_message);
    assert_eq!(received.message_id, sent.message_id);
    assert_eq!((&*received.topic, &*received.payload, &*received.reply_to), ("t", " {\"a\" : 1.0}", "r"));
    let empty = client.receive_message(from()).await.expect("answered").into_inner();
    assert_eq!(empty, Default::default());
}

#[tokio::test]
async fn what_is_wrong_with_a_message_is_said_in_the_answer() {
    let mut client = client();
    let mut send = async |payload: &str, key: &'static str| -> SendMessageResponse {
        let mut request = Request::new(message(payload));
        request.metadata_mut().insert("idempotency-key", key.parse().expect("ASCII"));
        client.send_message(request).await.expect("answered").into_inner()
    };
    let first = send("1", "k").await;
    assert_eq!(send("1", "k").await, first);
    for (payload, key, code) in [
        ("2", "k", "dedup_mismatch: "),
        ("x", "l", "invalid_argument: payload: "),
        (&"1".repeat(1001), "m", "too_large: "),
    ] {
        let refused = send(payload, key).await;
        assert!(!refused.success && refused.message_id.is_empty(), "{refused:?}");
        assert!(refused.error_message.starts_with(code), "{refused:?}");
    }
}

#[tokio::test]
async fn receiving_from_what_is_no_name_is_an_invalid_argument() {
    let refused = client().receive_message(ReceiveMessageRequest { topic: "a b".into() }).await.expect_err("no name");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.metadata().get("campanile-code").expect("set"), "invalid_argument");
    assert!(refused.message().starts_with("topic: "), "{refused}");
}

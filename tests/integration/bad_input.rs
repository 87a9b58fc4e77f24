//! What a client may do wrong, over both protocols: each is refused by a typed error, and the broker goes on as if
//! nothing had been.

use std::net::SocketAddr;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, Request, codegen::http::uri::PathAndQuery, metadata::MetadataValue};

use crate::{
    clients::{Grpc, Rest, channel, message, metadata},
    process::Broker,
    stage::Stage,
};

const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// A broker with a few messages, which must still be there at the end.
struct Witness {
    broker: Broker,
    stage: Stage,
}

impl Witness {
    async fn start() -> Self {
        let stage = Stage::shared().await;
        let broker = stage.broker().set("BROKER_MESSAGE_BYTES_MAX", MESSAGE_BYTES_MAX).start().await;
        for n in 0..3 {
            broker.rest().publish("witness", json!(n)).await;
        }
        Self { broker, stage }
    }

    /// Nothing was lost or came in, nothing broke, and a restart sees the same.
    async fn assert_unharmed(mut self) {
        assert_eq!(self.broker.rest().get("/health").await.ok()["status"], "healthy");
        assert_eq!(self.broker.rest().consume("witness").await[0]["payload"], 0);
        self.broker.process.kill();
        let broker = self.stage.broker().start().await;
        assert_eq!(broker.rest().drain("witness").await, [json!(1), json!(2)]);
        assert_eq!(broker.rest().drain("t").await, [] as [Value; 0], "no bad message was stored");
        assert!(!self.broker.process.output().contains("panicked"), "{}", self.broker.process.output());
    }
}

#[tokio::test]
async fn a_bad_body_is_refused_by_the_name_of_its_field() {
    let witness = Witness::start().await;
    let rest = witness.broker.rest();
    let long = "x".repeat(256);
    let cases = [
        ("/publish", "", "body"),
        ("/publish", "null", "body"),
        ("/publish", "[]", "body"),
        ("/publish", "{", "body"),
        ("/publish", "{\"topic\": \"t\", \"message\": 1}}", "body"),
        ("/publish", "{\"topic\": \"t\", \"message\": NaN}", "body"),
        ("/publish", "{\"topic\": \"t\", \"message\": 01}", "body"),
        ("/publish", "{\"topic\": \"t\", 'message': 1}", "body"),
        ("/publish", "topic=t&message=1", "body"),
        ("/publish", "{}", "topic"),
        ("/publish", "{\"message\": 1}", "topic"),
        ("/publish", "{\"topic\": null, \"message\": 1}", "topic"),
        ("/publish", "{\"topic\": [\"t\"], \"message\": 1}", "topic"),
        ("/publish", "{\"topic\": \"\", \"message\": 1}", "topic"),
        ("/publish", "{\"topic\": \"../t\", \"message\": 1}", "topic"),
        ("/publish", "{\"topic\": \"a/b\", \"message\": 1}", "topic"),
        ("/publish", "{\"topic\": \"a..b\", \"message\": 1}", "topic"),
        ("/publish", "{\"topic\": \".t\", \"message\": 1}", "topic"),
        ("/publish", "{\"topic\": \"t\\u0000\", \"message\": 1}", "topic"),
        ("/publish", "{\"topic\": \"\\ud800\", \"message\": 1}", "topic"),
        ("/publish", "{\"topic\": \"t\", \"topic\": \"t\", \"message\": 1}", "topic"),
        ("/publish", "{\"topic\": \"t\"}", "message"),
        ("/publish", "{\"topic\": \"t\", \"Message\": 1}", "message"),
        ("/publish", "{\"topic\": \"t\", \"message\": 1, \"attributes\": [1]}", "attributes"),
        ("/publish", "{\"topic\": \"t\", \"message\": 1, \"attributes\": {\"a\": 1}}", "attributes"),
        ("/publish", "{\"topic\": \"t\", \"message\": 1, \"delay_seconds\": -1}", "delay_seconds"),
        ("/publish", "{\"topic\": \"t\", \"message\": 1, \"delay_seconds\": 1e300}", "delay_seconds"),
        ("/publish", "{\"topic\": \"t\", \"message\": 1, \"deliver_at\": \"tomorrow\"}", "deliver_at"),
        ("/publish", "{\"topic\": \"t\", \"message\": 1, \"ttl_seconds\": 0}", "ttl_seconds"),
        ("/publish", "{\"topic\": \"t\", \"message\": 1, \"reply_to\": 5}", "reply_to"),
        ("/publish", "{\"topic\": \"t\", \"message\": 1, \"content_type\": \"a\\nb\"}", "content_type"),
        ("/register", "{}", "service_name"),
        ("/register", "{\"service_name\": \"s\"}", "topics"),
        ("/register", "{\"service_name\": \"a/b\", \"topics\": []}", "service_name"),
        ("/register", "{\"service_name\": \"s\", \"topics\": \"t\"}", "topics"),
        ("/register", "{\"service_name\": \"s\", \"topics\": [\"ok\", \"../x\"]}", "topics[1]"),
        ("/register", "{\"service_name\": \"s\", \"topics\": [null]}", "topics[0]"),
        ("/v1/queues/witness/ack", "{}", "ack_ids"),
        ("/v1/queues/witness/ack", "{\"ack_ids\": []}", "ack_ids"),
        ("/v1/queues/witness/ack", "{\"ack_ids\": [1]}", "ack_ids[0]"),
        ("/v1/queues/a%2Fb/ack", "{\"ack_ids\": [\"x\"]}", "queue"),
    ];
    let owned = [
        (format!("{{\"topic\": \"{long}\", \"message\": 1}}"), "topic"),
        (format!("{{\"topic\": \"t\", \"message\": 1, \"dedup_id\": \"{long}\"}}"), "dedup_id"),
        (format!("{{\"topic\": \"t\", \"message\": 1, \"attributes\": {{\"{long}x\": \"\"}}}}"), "attributes"),
        (format!("{{\"topic\": \"t\", \"message\": {}1{}}}", "[".repeat(20_000), "]".repeat(19_999)), "body"),
    ];
    let owned = owned.iter().map(|(body, field)| ("/publish", body.as_str(), *field));
    for (path, body, field) in cases.into_iter().chain(owned) {
        let refused = rest.post_text(path, body.to_owned()).await;
        let shown: String = body.chars().take(100).collect();
        assert_eq!(refused.problem(), (400, "invalid_argument", field), "{path} {shown}: {}", refused.text);
    }
    let not_text = rest.post_text("/publish", b"{\"topic\": \"t\", \"message\": \"\xff\"}".to_vec()).await;
    assert_eq!(not_text.problem(), (400, "invalid_argument", "body"));
    let two_keys = rest.request(Method::POST, "/publish").header("idempotency-key", "a").header("idempotency-key", "b");
    let two_keys = Rest::ask(two_keys.body("{\"topic\": \"t\", \"message\": 1}")).await.expect("an answer");
    assert_eq!(two_keys.problem(), (400, "invalid_argument", "dedup_id"));
    witness.assert_unharmed().await;
}

#[tokio::test]
async fn a_bad_path_or_query_is_refused_by_the_name_of_its_field() {
    let witness = Witness::start().await;
    let rest = witness.broker.rest();
    let cases = [
        ("witness?max_messages=0", "max_messages"),
        ("witness?max_messages=-1", "max_messages"),
        ("witness?max_messages=abc", "max_messages"),
        ("witness?max_messages=1.5", "max_messages"),
        ("witness?max_messages=", "max_messages"),
        ("witness?max_messages=1001", "max_messages"),
        ("witness?max_messages=1000000000", "max_messages"),
        ("witness?max_messages=99999999999999999999", "max_messages"),
        ("witness?max_messages=1&max_messages=2", "max_messages"),
        ("witness?wait_seconds=-1", "wait_seconds"),
        ("witness?wait_seconds=61", "wait_seconds"),
        ("witness?wait_seconds=inf", "wait_seconds"),
        ("witness?wait_seconds=NaN", "wait_seconds"),
        ("witness?ack_deadline_seconds=0", "ack_deadline_seconds"),
        ("witness?ack_deadline_seconds=9", "ack_deadline_seconds"),
        ("witness?ack_deadline_seconds=1e9", "ack_deadline_seconds"),
        ("witness?service=a%2Fb", "service"),
        ("%2e%2e%2fetc%2fpasswd", "queue"),
        ("a%2Fb", "queue"),
        ("a%00b", "queue"),
        ("%ff", "queue"),
        ("a%20b", "queue"),
        (&"x".repeat(256), "queue"),
    ];
    for (query, field) in cases {
        let refused = rest.get(&format!("/consume/{query}")).await;
        assert_eq!(refused.problem(), (400, "invalid_argument", field), "{query}: {}", refused.text);
    }
    // A client library would have tidied these up.
    for path in ["/consume/../publish", "/consume/..", "/consume/%2e%2e"] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: b\r\nconnection: close\r\n\r\n");
        let answer = answer_to(witness.broker.rest, &request).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
    }
    witness.assert_unharmed().await;
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused_in_the_protocol_of_the_request() {
    let witness = Witness::start().await;
    let rest = witness.broker.rest();
    for path in [
        "/",
        "/nothing",
        "/publish/",
        "/consume",
        "/consume/a/b",
        "/health/x",
        "/v1/queues/q",
        "/MessageBrokerService/SendMessage",
    ] {
        let refused = rest.get(path).await;
        assert_eq!(refused.problem(), (404, "not_found", ""), "{path}");
    }
    for (method, path, allow) in [
        (Method::GET, "/publish", "POST"),
        (Method::DELETE, "/register", "POST"),
        (Method::POST, "/consume/witness", "GET"),
        (Method::PUT, "/health", "GET"),
        (Method::GET, "/v1/queues/witness/ack", "POST"),
    ] {
        let refused = Rest::ask(rest.request(method.clone(), path)).await.expect("an answer");
        assert_eq!(refused.problem(), (405, "method_not_allowed", ""), "{method} {path}");
        assert!(refused.header("allow").contains(allow), "{method} {path}: {}", refused.header("allow"));
    }
    // HEAD would take a message and show none.
    let head = Rest::ask(rest.request(Method::HEAD, "/consume/witness")).await.expect("an answer");
    assert_eq!((head.status, head.header("allow")), (405, "GET"));

    for path in ["/MessageBrokerService/Nothing", "/Nothing/SendMessage", "/publish", "/health"] {
        let mut client = tonic::client::Grpc::new(channel(witness.broker.grpc));
        client.ready().await.expect("a connection");
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let answer = client.unary(Request::new(()), PathAndQuery::from_static(path), codec).await;
        assert_eq!(answer.expect_err("refused").code(), Code::Unimplemented, "{path}");
    }
    witness.assert_unharmed().await;
}

#[tokio::test]
async fn a_bad_call_over_grpc_is_refused_with_the_same_code_as_over_rest() {
    let witness = Witness::start().await;
    let grpc = witness.broker.grpc();
    let long = "x".repeat(256);
    let nested = "[".repeat(20_000) + &"]".repeat(19_999);
    let cases = [
        ("", "1", "topic"),
        ("../t", "1", "topic"),
        ("a/b", "1", "topic"),
        ("a..b", "1", "topic"),
        ("t\0", "1", "topic"),
        ("tüp", "1", "topic"),
        (&long, "1", "topic"),
        ("t", "", "payload"),
        ("t", "hello", "payload"),
        ("t", "{", "payload"),
        ("t", "{} {}", "payload"),
        ("t", "NaN", "payload"),
        ("t", "{'a': 1}", "payload"),
        ("t", &nested, "payload"),
    ];
    for (topic, payload, field) in cases {
        let sent = grpc.ask_send(message(topic, payload), None).await.expect("an answer, no status");
        assert!(!sent.success && sent.message_id.is_empty(), "{topic:?}: {sent:?}");
        let begin = format!("invalid_argument: {field}");
        assert!(sent.error_message.starts_with(&begin), "{topic:?}: {}", sent.error_message);
    }
    let mut reply_to = message("t", "1");
    reply_to.reply_to = "x".repeat(1025);
    let sent = grpc.ask_send(reply_to, None).await.expect("an answer");
    assert!(sent.error_message.starts_with("invalid_argument: reply_to"), "{sent:?}");
    let sent = grpc.ask_send(message("t", "1"), Some(&long)).await.expect("an answer");
    assert!(sent.error_message.starts_with("invalid_argument: "), "{sent:?}");

    for queue in ["", "../t", "a/b", ".", "a b", &long] {
        let status = grpc.ask_receive(queue).await.expect_err("no name");
        assert_eq!(status.code(), Code::InvalidArgument, "{queue:?}");
        assert_eq!(metadata(&status, "campanile-code"), "invalid_argument", "{queue:?}");
        assert!(status.message().starts_with("topic"), "{queue:?}: {status}");
    }
    witness.assert_unharmed().await;
}

#[tokio::test]
async fn a_message_over_the_limit_is_too_large_over_both_protocols() {
    let witness = Witness::start().await;
    let (rest, grpc) = (witness.broker.rest(), witness.broker.grpc());
    // As JSON the text has two bytes more.
    let largest = "x".repeat(MESSAGE_BYTES_MAX - 2);
    rest.publish("fits", json!(largest)).await;
    grpc.send("fits", &format!("{largest:?}")).await;
    assert_eq!(rest.drain("fits").await.len(), 2);

    let too_large = format!("{largest}x");
    let refused = rest.post("/publish", &json!({"topic": "t", "message": too_large})).await;
    assert_eq!(refused.problem(), (413, "too_large", "message"));
    let sent = grpc.ask_send(message("t", &format!("{too_large:?}")), None).await.expect("an answer");
    assert!(!sent.success && sent.error_message.starts_with("too_large: "), "{sent:?}");

    // Longer than is even read.
    let huge = "x".repeat(4 << 20);
    for (path, body) in [
        ("/publish", json!({"topic": "t", "message": huge})),
        ("/register", json!({"service_name": huge, "topics": []})),
        ("/v1/queues/witness/ack", json!({"ack_ids": [huge]})),
    ] {
        let refused = rest.post(path, &body).await;
        assert_eq!(refused.problem(), (413, "too_large", "body"), "{path}");
    }
    let status = grpc.ask_send(message("t", &format!("{huge:?}")), None).await.expect_err("not read");
    assert_eq!((status.code(), metadata(&status, "campanile-code")), (Code::OutOfRange, "too_large"));
    let many: Vec<String> = (0..1001).map(|n| format!("t{n}")).collect();
    let refused = rest.post("/register", &json!({"service_name": "s", "topics": many})).await;
    assert_eq!(refused.problem(), (400, "invalid_argument", "topics"));
    witness.assert_unharmed().await;
}

#[tokio::test]
async fn what_is_no_request_at_all_does_no_harm() {
    let witness = Witness::start().await;
    let addrs = [witness.broker.rest, witness.broker.grpc];
    for addr in addrs {
        let wrong: [&[u8]; 6] = [
            b"\r\n\r\n",
            b"HELLO\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"POST /publish HTTP/1.1\r\nhost: b\r\ncontent-length: -5\r\n\r\n",
            b"POST /publish HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        ];
        for bytes in wrong {
            let answer = raw(addr, bytes).await;
            assert!(!answer.starts_with("HTTP/1.1 2"), "{bytes:?}: {answer}");
        }
        // A client that goes away in the middle of its message.
        let mut stream = TcpStream::connect(addr).await.expect("listening");
        let half = b"POST /publish HTTP/1.1\r\nhost: b\r\ncontent-length: 100\r\n\r\n{\"topic\": \"t\", \"mess";
        stream.write_all(half).await.expect("taken");
        drop(stream);
    }
    let mut garbage = tonic::client::Grpc::new(channel(witness.broker.grpc));
    garbage.ready().await.expect("a connection");
    let codec = tonic_prost::ProstCodec::<Vec<u8>, ()>::default();
    let send = PathAndQuery::from_static("/MessageBrokerService/SendMessage");
    // A protobuf whose only field has the number of `topic`, and is no text.
    let answer = garbage.unary(Request::new(vec![0xff, 0xfe]), send, codec).await;
    let status = answer.expect_err("refused");
    assert_eq!((status.code(), metadata(&status, "campanile-code")), (Code::InvalidArgument, "invalid_argument"));
    witness.assert_unharmed().await;
}

#[tokio::test]
async fn a_key_that_is_no_text_is_refused_over_grpc() {
    let witness = Witness::start().await;
    let mut client = campanile::grpc::proto::message_broker_service_client::MessageBrokerServiceClient::new(channel(
        witness.broker.grpc,
    ));
    let mut request = Request::new(message("t", "1"));
    let not_ascii = MetadataValue::try_from(&b"k\xc3\xbc"[..]).expect("a header value");
    request.metadata_mut().insert("idempotency-key", not_ascii);
    let sent = client.send_message(request).await.expect("an answer").into_inner();
    assert!(!sent.success && sent.error_message.starts_with("invalid_argument: idempotency-key"), "{sent:?}");
    witness.assert_unharmed().await;
}

#[tokio::test]
async fn one_topic_more_than_allowed_is_refused_and_what_is_there_goes_on() {
    let stage = Stage::shared().await;
    let broker = stage.broker().set("BROKER_TOPICS_MAX", 2).start().await;
    let (rest, grpc): (Rest, Grpc) = (broker.rest(), broker.grpc());
    rest.publish("a", json!(1)).await;
    rest.publish("b", json!(2)).await;
    let refused = rest.post("/publish", &json!({"topic": "c", "message": 1})).await;
    assert_eq!(refused.problem(), (503, "overloaded", ""));
    assert_eq!(refused.header("retry-after"), "1");
    let refused = rest.get("/consume/c").await;
    assert_eq!(refused.problem(), (503, "overloaded", ""));
    let status = grpc.ask_send(message("c", "1"), None).await.expect_err("refused");
    assert_eq!((status.code(), metadata(&status, "campanile-code")), (Code::Unavailable, "overloaded"));
    rest.publish("a", json!(3)).await;
    assert_eq!(rest.drain("a").await, [json!(1), json!(3)]);
}

/// The answer to a request that asks for the end of the connection.
async fn answer_to(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("listening");
    stream.write_all(request.as_bytes()).await.expect("taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer, and the end of the connection");
    answer
}

/// Whatever comes back for these bytes, and no more.
async fn raw(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("listening");
    stream.write_all(bytes).await.expect("taken");
    // Fails if the broker has closed the connection already.
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    // A connection that is reset has no more to say either.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

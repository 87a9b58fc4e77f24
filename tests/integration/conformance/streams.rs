//! Streams of deliveries: credit bounds them, and whoever vanishes loses nothing.
//!
//! Over gRPC a stream settles what it was given; over REST (server-sent events) other calls do.

use std::time::Duration;

use campanile::grpc::proto::v1::{
    self as proto, broker_client::BrokerClient, streaming_pull_request::Frame as Asked,
    streaming_pull_response::Frame as Told,
};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};
use tonic::{Streaming, codegen::tokio_stream::wrappers::ReceiverStream};

use super::{Case, Cases, Peer, cases, list, number, text};

pub(super) fn cases() -> Cases {
    cases![
        "a stream hands out messages as they come" => as_they_come,
        "no more leaves the server than there is credit" => credit_bounds,
        "a settled delivery gives its credit back" => credit_back,
        "a lease that ends gives its credit back" => credit_back_at_deadline,
        "credit in bytes bounds a stream, too" => credit_bytes,
        "what a stream holds goes back at once when its consumer vanishes" => vanish,
        "a stream shows as a consumer, with what it holds" => shown,
        "a queue whose consumer has no credit left says so" => explain_no_credit,
        "a stream keeps the order of keys" => keyed,
        "a stream uses the ack deadline that it names" => deadline,
        "a stream ends when its queue is removed" => removed,
        "a stream gives nothing while its queue is paused" => paused,
    ]
}

/// A stream over either protocol.
enum Stream {
    Grpc { requests: mpsc::Sender<proto::StreamingPullRequest>, responses: Streaming<proto::StreamingPullResponse> },
    Sse { response: reqwest::Response, read: String },
}

/// How long nothing has to come for it to count as nothing. A delivery takes a few milliseconds.
const SILENCE: Duration = Duration::from_millis(300);

impl Stream {
    async fn open(case: &Case, args: Value) -> Self {
        match &case.peer {
            Peer::Grpc(peer) => {
                let duration =
                    |field: &str| args[field].as_i64().map(|seconds| prost_types::Duration { seconds, nanos: 0 });
                let start = proto::StreamingPullStart {
                    queue: case.name.clone(),
                    service: String::new(),
                    ack_deadline: duration("ack_deadline_seconds"),
                    consumer: text(&args["consumer"]),
                    credit: Some(proto::Credit {
                        max_outstanding_messages: args["max_outstanding_messages"].as_u64().map(|n| n as u32),
                        max_outstanding_bytes: args["max_outstanding_bytes"].as_u64(),
                    }),
                };
                let (requests, receiver) = mpsc::channel(16);
                requests.send(asked(Asked::Start(start))).await.expect("there is room");
                let mut client = BrokerClient::new(peer.channel());
                let responses = client.streaming_pull(ReceiverStream::new(receiver)).await.expect("a stream");
                Self::Grpc { requests, responses: responses.into_inner() }
            }
            Peer::Rest(peer) => {
                let url = peer.url(&format!("/v1/queues/{}/stream", case.name));
                let fields = args.as_object().cloned().unwrap_or_default();
                let query: Vec<_> = fields
                    .iter()
                    .map(|(name, value)| {
                        (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                    })
                    .collect();
                let response = peer.client().get(url).query(&query).send().await.expect("a stream");
                assert_eq!(response.status(), 200);
                Self::Sse { response, read: String::new() }
            }
        }
    }

    /// The next delivery, if one comes before it has been silent for long enough.
    async fn next(&mut self, patience: Duration) -> Vec<Value> {
        timeout(patience, self.wait()).await.unwrap_or_default()
    }

    /// All that comes until it is silent, at least `count`.
    async fn take(&mut self, count: usize) -> Vec<Value> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let next = self.next(crate::stage::PATIENCE).await;
            assert!(!next.is_empty(), "{} of {count} came", taken.len());
            taken.extend(next);
        }
        loop {
            let next = self.next(SILENCE).await;
            if next.is_empty() {
                return taken;
            }
            taken.extend(next);
        }
    }

    async fn wait(&mut self) -> Vec<Value> {
        match self {
            Self::Grpc { responses, .. } => loop {
                let response = responses.message().await.expect("no error").expect("no end");
                if let Some(Told::Deliveries(deliveries)) = response.frame {
                    return deliveries.deliveries.into_iter().map(shown_delivery).collect();
                }
            },
            Self::Sse { response, read } => loop {
                if let Some((event, rest)) = read.split_once("\n\n") {
                    let (event, rest) = (event.to_owned(), rest.to_owned());
                    *read = rest;
                    let data: Vec<_> = event.lines().filter_map(|line| line.strip_prefix("data:")).collect();
                    if !data.is_empty() {
                        return vec![serde_json::from_str(data.join("\n").trim()).expect("JSON")];
                    }
                    continue;
                }
                let chunk = response.chunk().await.expect("no error").expect("no end");
                read.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
            },
        }
    }

    /// The code with which it ends.
    async fn end(&mut self) -> String {
        timeout(crate::stage::PATIENCE, self.last()).await.expect("an end")
    }

    async fn last(&mut self) -> String {
        match self {
            Self::Grpc { responses, .. } => loop {
                match responses.message().await {
                    Ok(response) => drop(response.expect("a status")),
                    Err(status) => return super::grpc::refused(&status).code,
                }
            },
            Self::Sse { response, read } => loop {
                if let Some((_, end)) = read.split_once("event: end\ndata: ")
                    && let Some((end, _)) = end.split_once("\n\n")
                {
                    let end: Value = serde_json::from_str(end).expect("JSON");
                    return text(&end["code"]);
                }
                let chunk = response.chunk().await.expect("no error").expect("an event that says why");
                read.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
            },
        }
    }

    /// Acks a delivery the way the protocol has it for streams.
    async fn ack(&mut self, case: &Case, delivery: &Value) {
        match self {
            Self::Grpc { requests, .. } => {
                let settlement = proto::Settlement {
                    ack_id: text(&delivery["ack_id"]),
                    outcome: Some(proto::settlement::Outcome::Ack(proto::Ack {})),
                };
                let settle = proto::StreamingPullSettle { tag: 7, settlements: vec![settlement] };
                requests.send(asked(Asked::Settle(settle))).await.expect("the stream is there");
            }
            Self::Sse { .. } => assert_eq!(case.aside().ack(&case.name, delivery).await, "ok"),
        }
    }
}

fn asked(frame: Asked) -> proto::StreamingPullRequest {
    proto::StreamingPullRequest { frame: Some(frame) }
}

fn shown_delivery(delivery: proto::Delivery) -> Value {
    let message = delivery.message.unwrap_or_default();
    let payload: Value = serde_json::from_slice(&message.data).unwrap_or_default();
    json!({"id": message.id, "json": payload, "ack_id": delivery.ack_id, "delivery_attempt": delivery.delivery_attempt})
}

fn texts(deliveries: &[Value]) -> Vec<Value> {
    super::payloads(deliveries)
}

async fn as_they_come(case: Case) {
    let mut stream = Stream::open(&case, json!({})).await;
    for n in 0..3 {
        case.publish(&case.name, n).await;
        assert_eq!(texts(&stream.take(1).await), [json!(n)]);
    }
}

async fn credit_bounds(case: Case) {
    case.publish_all(&case.name, 0..20).await;
    let mut stream = Stream::open(&case, json!({"max_outstanding_messages": 3})).await;
    assert_eq!(texts(&stream.take(3).await), [json!(0), json!(1), json!(2)]);
    assert_eq!(case.counts(&case.name).await, [17, 0, 3, 0, 0]);
}

async fn credit_back(case: Case) {
    case.publish_all(&case.name, 0..5).await;
    let mut stream = Stream::open(&case, json!({"max_outstanding_messages": 2})).await;
    let mut held = stream.take(2).await;
    for n in 2..5 {
        let first = held.remove(0);
        stream.ack(&case, &first).await;
        let next = stream.take(1).await;
        assert_eq!(texts(&next), [json!(n)]);
        held.extend(next);
    }
}

async fn credit_back_at_deadline(case: Case) {
    case.publish_all(&case.name, 0..2).await;
    let mut stream = Stream::open(&case, json!({"max_outstanding_messages": 1})).await;
    assert_eq!(texts(&stream.take(1).await), [json!(0)]);
    case.advance(31.0).await;
    let again = stream.take(1).await;
    assert_eq!((texts(&again), &again[0]["delivery_attempt"]), (vec![json!(0)], &json!(2)));
}

async fn credit_bytes(case: Case) {
    let large = "x".repeat(10_000);
    for _ in 0..5 {
        case.publish(&case.name, large.clone()).await;
    }
    let mut stream = Stream::open(&case, json!({"max_outstanding_bytes": 15_000})).await;
    assert_eq!(stream.take(2).await.len(), 2, "the second one brings it over");
    assert_eq!(case.counts(&case.name).await, [3, 0, 2, 0, 0]);
}

async fn vanish(case: Case) {
    case.publish_all(&case.name, 0..3).await;
    let mut stream = Stream::open(&case, json!({})).await;
    stream.take(3).await;
    drop(stream);
    let mut back = Vec::new();
    while back.len() < 3 {
        let pull = json!({"queue": case.name, "max_messages": 9, "wait_seconds": 20});
        back.extend(case.aside().pull_with(pull).await);
    }
    assert_eq!(texts(&back), [json!(0), json!(1), json!(2)]);
    assert!(back.iter().all(|delivery| delivery["delivery_attempt"] == 1), "{back:?}");
}

async fn shown(case: Case) {
    case.publish_all(&case.name, 0..5).await;
    let mut stream = Stream::open(&case, json!({"max_outstanding_messages": 2, "consumer": "streamer"})).await;
    stream.take(2).await;
    let consumers = list(&case.queue(&case.name).await["consumers"]);
    let consumer = consumers.iter().find(|c| text(&c["name"]) == "streamer").unwrap_or_else(|| panic!("{consumers:?}"));
    assert_eq!((text(&consumer["kind"]), number(&consumer["outstanding_messages"])), ("stream".into(), 2));
    assert!(number(&consumer["outstanding_bytes"]) > 0, "{consumer}");
    assert_ne!(consumer["has_credit"], json!(true));
}

async fn explain_no_credit(case: Case) {
    case.publish_all(&case.name, 0..5).await;
    let mut stream = Stream::open(&case, json!({"max_outstanding_messages": 2})).await;
    stream.take(2).await;
    assert!(case.obstacles(&case.name).await.contains(&"no_credit".to_owned()));
}

async fn keyed(case: Case) {
    let messages: Vec<_> = ["a", "a", "b"].iter().map(|key| json!({"json": key, "ordering_key": key})).collect();
    case.ok("publish", json!({"topic": case.name, "messages": messages})).await;
    let mut stream = Stream::open(&case, json!({})).await;
    let held = stream.take(2).await;
    assert_eq!(texts(&held), [json!("a"), json!("b")]);
    stream.ack(&case, &held[0]).await;
    assert_eq!(texts(&stream.take(1).await), [json!("a")]);
}

async fn removed(case: Case) {
    case.publish(&case.name, 1).await;
    let mut stream = Stream::open(&case, json!({})).await;
    stream.take(1).await;
    case.ok("delete_queue", json!({"queue": case.name})).await;
    assert_eq!(stream.end().await, "not_found");
}

async fn paused(case: Case) {
    let mut stream = Stream::open(&case, json!({})).await;
    case.ok("pause", json!({"queue": case.name})).await;
    case.publish(&case.name, 1).await;
    assert!(stream.next(SILENCE).await.is_empty());
    case.aside().ok("resume", json!({"queue": case.name})).await;
    assert_eq!(texts(&stream.take(1).await), [json!(1)]);
}

async fn deadline(case: Case) {
    case.publish(&case.name, 1).await;
    let mut stream = Stream::open(&case, json!({"ack_deadline_seconds": 600})).await;
    stream.take(1).await;
    case.advance(599.0).await;
    assert_eq!(case.counts(&case.name).await, [0, 0, 1, 0, 0]);
    drop(stream);
}

//! Clients of both protocols: in one form that answers whatever comes, in one that fails the test if it is not good.

use std::{net::SocketAddr, time::Duration};

use campanile::grpc::proto::{
    ReceiveMessageRequest, ReceiveMessageResponse, SendMessageRequest, SendMessageResponse,
    message_broker_service_client::MessageBrokerServiceClient,
};
use reqwest::{Client, Method, RequestBuilder, header::HeaderMap};
use serde_json::{Value, json};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

/// Longer than anything that the broker may do.
const TIMEOUT: Duration = Duration::from_secs(70);

/// An answer over REST.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Its JSON; null when it has none.
    pub(crate) json: Value,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The JSON of a good answer.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json
    }

    /// Status, code and field of a refusal.
    #[track_caller]
    pub(crate) fn problem(&self) -> (u16, &str, &str) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text);
        assert_eq!(self.json["status"], self.status, "{}", self.text);
        assert!(self.json["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{}", self.text);
        let text = |field: &str| self.json[field].as_str().unwrap_or_default();
        (self.status, text("code"), text("field"))
    }
}

/// Asks over REST.
#[derive(Debug, Clone)]
pub(crate) struct Rest {
    client: Client,
    url: String,
}

impl Rest {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        let client = Client::builder().timeout(TIMEOUT).build().expect("a client");
        Self { client, url: format!("http://{addr}") }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn ask(request: RequestBuilder) -> Result<Answer, reqwest::Error> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        Ok(Answer { status, headers, json: serde_json::from_str(&text).unwrap_or_default(), text })
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Self::ask(self.request(Method::GET, path)).await.expect("an answer")
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        Self::ask(self.request(Method::POST, path).json(body)).await.expect("an answer")
    }

    /// A body as it is, JSON or not.
    pub(crate) async fn post_text(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        Self::ask(self.request(Method::POST, path).body(body)).await.expect("an answer")
    }

    pub(crate) async fn register(&self, service: &str, topics: &[&str]) -> Value {
        self.post("/register", &json!({"service_name": service, "topics": topics})).await.ok()
    }

    pub(crate) async fn publish(&self, topic: &str, message: Value) -> Value {
        self.post("/publish", &json!({"topic": topic, "message": message})).await.ok()
    }

    /// The messages of a queue, which may bring its query.
    pub(crate) async fn consume(&self, queue: &str) -> Vec<Value> {
        messages_of(self.get(&format!("/consume/{queue}")).await.ok())
    }

    /// The payloads of all that a queue has.
    pub(crate) async fn drain(&self, queue: &str) -> Vec<Value> {
        let mut payloads = Vec::new();
        loop {
            let messages = self.consume(&format!("{queue}?max_messages=1000")).await;
            if messages.is_empty() {
                return payloads;
            }
            payloads.extend(messages.into_iter().map(|mut message| message["payload"].take()));
        }
    }

    /// The code of each ack.
    pub(crate) async fn ack(&self, queue: &str, ack_ids: &[&Value]) -> Vec<String> {
        let answer = self.post(&format!("/v1/queues/{queue}/ack"), &json!({"ack_ids": ack_ids})).await.ok();
        codes_of(&answer)
    }
}

/// The messages in the answer to a consume.
pub(crate) fn messages_of(mut answer: Value) -> Vec<Value> {
    answer["messages"].as_array_mut().map(std::mem::take).expect("a list of messages")
}

/// The codes in the answer to an ack.
pub(crate) fn codes_of(answer: &Value) -> Vec<String> {
    let results = answer["results"].as_array().expect("a list of results");
    results.iter().map(|result| result["code"].as_str().expect("a code").to_owned()).collect()
}

/// Asks over gRPC.
#[derive(Debug, Clone)]
pub(crate) struct Grpc {
    client: MessageBrokerServiceClient<Channel>,
}

impl Grpc {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        let client = MessageBrokerServiceClient::new(channel(addr));
        Self { client: client.max_encoding_message_size(usize::MAX).max_decoding_message_size(usize::MAX) }
    }

    pub(crate) async fn ask_send(
        &self,
        message: SendMessageRequest,
        idempotency_key: Option<&str>,
    ) -> Result<SendMessageResponse, Status> {
        let mut request = Request::new(message);
        if let Some(key) = idempotency_key {
            request.metadata_mut().insert("idempotency-key", key.parse().expect("ASCII"));
        }
        self.client.clone().send_message(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn ask_receive(&self, queue: &str) -> Result<ReceiveMessageResponse, Status> {
        let request = ReceiveMessageRequest { topic: queue.to_owned() };
        self.client.clone().receive_message(request).await.map(tonic::Response::into_inner)
    }

    /// Sends a message and answers its id.
    pub(crate) async fn send(&self, topic: &str, payload: &str) -> String {
        let sent = self.ask_send(message(topic, payload), None).await.expect("an answer");
        assert!(sent.success, "{sent:?}");
        sent.message_id
    }

    /// The next message, if there is one.
    pub(crate) async fn receive(&self, queue: &str) -> Option<ReceiveMessageResponse> {
        let received = self.ask_receive(queue).await.expect("an answer");
        received.has_message.then_some(received)
    }
}

/// A message without an address for answers.
pub(crate) fn message(topic: &str, payload: &str) -> SendMessageRequest {
    SendMessageRequest { topic: topic.to_owned(), payload: payload.to_owned(), reply_to: String::new() }
}

/// A connection for gRPC, made when it is first used.
pub(crate) fn channel(addr: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).expect("an address makes a URI");
    endpoint.timeout(TIMEOUT).connect_lazy()
}

/// Metadata of a status.
pub(crate) fn metadata<'a>(status: &'a Status, name: &str) -> &'a str {
    status.metadata().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

//! The calls over REST.

use std::net::SocketAddr;

use reqwest::{Client, Method};
use serde_json::{Map, Value};

use super::peer::{Answer, NAMELESS, Refused};

/// The broker over REST.
#[derive(Debug, Clone)]
pub(crate) struct RestPeer {
    client: Client,
    url: String,
}

/// Method and path of each call; what stands in braces is taken out of the arguments.
const CALLS: [(&str, Method, &str); 29] = [
    ("publish", Method::POST, "/v1/topics/{topic}/publish"),
    ("pull", Method::POST, "/v1/queues/{queue}/pull"),
    ("ack", Method::POST, "/v1/queues/{queue}/ack"),
    ("nack", Method::POST, "/v1/queues/{queue}/nack"),
    ("extend", Method::POST, "/v1/queues/{queue}/modify-ack-deadline"),
    ("settle", Method::POST, "/v1/settle"),
    ("request", Method::POST, "/v1/request/{topic}"),
    ("browse", Method::GET, "/v1/queues/{queue}/messages"),
    ("get_message", Method::GET, "/v1/queues/{queue}/messages/{message_id}"),
    ("delete_message", Method::DELETE, "/v1/queues/{queue}/messages/{message_id}"),
    ("get_story", Method::GET, "/v1/messages/{message_id}"),
    ("explain", Method::GET, "/v1/queues/{queue}/explain"),
    ("purge", Method::POST, "/v1/queues/{queue}/purge"),
    ("redrive", Method::POST, "/v1/queues/{queue}/redrive"),
    ("pause", Method::POST, "/v1/queues/{queue}/pause"),
    ("resume", Method::POST, "/v1/queues/{queue}/resume"),
    ("put_topic", Method::PUT, "/v1/topics/{topic}"),
    ("get_topic", Method::GET, "/v1/topics/{topic}"),
    ("list_topics", Method::GET, "/v1/topics"),
    ("delete_topic", Method::DELETE, "/v1/topics/{topic}"),
    ("put_subscription", Method::PUT, "/v1/topics/{topic}/subscriptions/{service}"),
    ("get_subscription", Method::GET, "/v1/topics/{topic}/subscriptions/{service}"),
    ("delete_subscription", Method::DELETE, "/v1/topics/{topic}/subscriptions/{service}"),
    ("list_services", Method::GET, "/v1/services"),
    ("get_queue", Method::GET, "/v1/queues/{queue}"),
    ("list_queues", Method::GET, "/v1/queues"),
    ("update_queue", Method::PATCH, "/v1/queues/{queue}"),
    ("delete_queue", Method::DELETE, "/v1/queues/{queue}"),
    ("advance_clock", Method::POST, "/v1/dev/clock/advance"),
];

impl RestPeer {
    pub(super) fn new(addr: SocketAddr) -> Self {
        // As a consumer of that name it is shown, where a gRPC client has one of its own.
        let client = Client::builder().user_agent(NAMELESS).build().expect("a client");
        Self { client, url: format!("http://{addr}") }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) async fn call(&self, call: &str, args: Value) -> Answer {
        let (method, path, args) = match call {
            // The one call that the original has already.
            "register_service" => {
                let args = serde_json::json!({"service_name": args["service"], "topics": args["topics"]});
                (Method::POST, "/register".to_owned(), args.as_object().cloned().unwrap_or_default())
            }
            _ => {
                let (_, method, path) =
                    CALLS.iter().find(|(name, ..)| *name == call).unwrap_or_else(|| panic!("no call {call}"));
                let mut args = args.as_object().cloned().unwrap_or_default();
                let path = filled(path, &mut args);
                // The policy is the body.
                let whole = match call {
                    "put_topic" | "put_subscription" | "update_queue" => Some("policy"),
                    _ => None,
                };
                let args = match whole {
                    Some(field) => args.remove(field).and_then(|v| v.as_object().cloned()).unwrap_or_default(),
                    None => args,
                };
                (method.clone(), path, args)
            }
        };
        let mut request = self.client.request(method.clone(), self.url(&path));
        request = match method {
            Method::GET | Method::DELETE => request.query(&pairs(&args)),
            _ => request.json(&args),
        };
        let broken = |_| Refused::broken();
        let response = request.send().await.map_err(broken)?;
        let (status, kind) = (response.status(), response.headers().get("content-type").cloned());
        let bytes = response.bytes().await.map_err(broken)?;
        let value = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).expect("JSON") };
        if status.is_success() {
            return Ok(value);
        }
        assert_eq!(kind.as_ref().and_then(|kind| kind.to_str().ok()), Some("application/problem+json"), "{value}");
        assert_eq!(value["status"], status.as_u16(), "{value}");
        let text = |field: &str| value[field].as_str().unwrap_or_default();
        Err(Refused::new(text("code"), text("field")))
    }
}

fn filled(path: &str, args: &mut Map<String, Value>) -> String {
    let mut filled = Vec::new();
    for part in path.split('/') {
        match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            Some(name) => {
                let value = args.remove(name).unwrap_or_else(|| panic!("{path} needs {name}"));
                filled.push(value.as_str().unwrap_or_default().replace('/', "%2F"));
            }
            None => filled.push(part.to_owned()),
        }
    }
    filled.join("/")
}

fn pairs(args: &Map<String, Value>) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    args.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

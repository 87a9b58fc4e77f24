//! The broker as one of its protocols shows it, in one form: the calls, arguments and answers of REST.
//!
//! A duration is a number of seconds in a field `…_seconds`, a payload is `json`, `text` or `data_base64`. Over gRPC the same
//! calls are made by reflection, and their fields renamed, so that nothing of a response can be overlooked here.

use std::net::SocketAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{grpc::GrpcPeer, rest::RestPeer};

/// A refusal, as both protocols have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: String,
    /// The field, as REST names it, but for the unit and the form of a payload.
    pub(crate) path: String,
    /// The last part of the field's name, without the unit: `messages[3].delay_seconds` is `delay`.
    pub(crate) field: String,
}

pub(crate) type Answer = Result<Value, Refused>;

/// How a client is called that does not say.
pub(super) const NAMELESS: &str = "nameless";

/// The code of a call whose connection broke.
pub(super) const BROKEN: &str = "broken";

/// The broker over one protocol.
#[derive(Debug, Clone)]
pub(crate) enum Peer {
    Rest(RestPeer),
    Grpc(GrpcPeer),
}

impl Peer {
    pub(crate) fn rest(addr: SocketAddr) -> Self {
        Self::Rest(RestPeer::new(addr))
    }

    pub(crate) fn grpc(addr: SocketAddr) -> Self {
        Self::Grpc(GrpcPeer::new(addr))
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Rest(_) => "REST",
            Self::Grpc(_) => "gRPC",
        }
    }

    /// Makes a call.
    pub(crate) async fn call(&self, call: &str, args: Value) -> Answer {
        match self {
            Self::Rest(peer) => peer.call(call, args).await,
            Self::Grpc(peer) => peer.call(call, args).await,
        }
    }
}

impl Refused {
    pub(super) fn new(code: &str, field: &str) -> Self {
        let path = field.strip_suffix("_seconds").unwrap_or(field);
        let (front, last) = path.rsplit_once('.').map_or(("", path), |(front, last)| (front, last));
        // The payload, in whichever form it came.
        let path = match last {
            "json" | "text" | "data_base64" => format!("{front}.data"),
            _ => path.to_owned(),
        };
        let field = last.split('[').next().unwrap_or_default().to_owned();
        Self { code: code.to_owned(), path, field }
    }

    /// The connection broke.
    pub(super) fn broken() -> Self {
        Self::new(BROKEN, "")
    }
}

/// A message with its payload as `data`, as the proto has it.
pub(super) fn with_data(message: &Value) -> Value {
    let mut fields = message.as_object().cloned().unwrap_or_default();
    let mut data = None;
    if let Some(json) = fields.remove("json") {
        data = Some(json.to_string().into_bytes());
    }
    if let Some(text) = fields.remove("text") {
        data = Some(text.as_str().unwrap_or_default().as_bytes().to_vec());
        fields.entry("content_type").or_insert_with(|| json!("text/plain"));
    }
    if let Some(base64) = fields.remove("data_base64") {
        data = STANDARD.decode(base64.as_str().unwrap_or_default()).ok();
        fields.entry("content_type").or_insert_with(|| json!("application/octet-stream"));
    }
    if let Some(data) = data {
        fields.insert("data".into(), json!(STANDARD.encode(data)));
    }
    Value::Object(fields)
}

/// A message with its payload in the form that its content type allows, as REST has it.
pub(super) fn with_form(fields: &mut Map<String, Value>) {
    let Some(data) = fields.remove("data") else { return };
    let bytes = STANDARD.decode(data.as_str().unwrap_or_default()).expect("base64 of a payload");
    let content_type = fields.get("content_type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_json = content_type.is_empty() || content_type == "application/json" || content_type.ends_with("+json");
    if is_json && let Ok(json) = serde_json::from_slice::<Value>(&bytes) {
        fields.insert("json".into(), json);
    } else if let (true, Ok(text)) = (content_type.starts_with("text/"), std::str::from_utf8(&bytes)) {
        fields.insert("text".into(), json!(text));
    } else {
        fields.insert("data_base64".into(), json!(STANDARD.encode(&bytes)));
    }
}

//! The calls over gRPC, by reflection on the descriptors that the broker is built with.

use std::{net::SocketAddr, sync::LazyLock};

use bytes::{Buf as _, BufMut as _, Bytes};
use campanile::grpc::proto::DESCRIPTORS;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::{Map, Value, json};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

use super::peer::{Answer, Refused, with_data, with_form};

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).expect("the descriptors are well formed"));

/// Fields of the proto that are durations, and of REST numbers of seconds.
const DURATIONS: [&str; 7] =
    ["ack_deadline", "minimum_backoff", "maximum_backoff", "dedup_window", "max_age", "retry_after", "delay"];

/// The broker over gRPC.
#[derive(Debug, Clone)]
pub(crate) struct GrpcPeer {
    channel: Channel,
}

impl GrpcPeer {
    pub(super) fn new(addr: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{addr}")).expect("a valid address");
        Self { channel: endpoint.connect_lazy() }
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(super) async fn call(&self, call: &str, args: Value) -> Answer {
        match call {
            "ack" | "nack" | "extend" | "settle" => self.settle(call, args).await,
            _ => self.ask(call, args).await.map(|answer| shaped(call, answer)),
        }
    }

    async fn ask(&self, method: &str, args: Value) -> Answer {
        let service = POOL.get_service_by_name("campanile.v1.Broker").expect("the service");
        let name = camel(method);
        let method = service.methods().find(|m| m.name() == name).unwrap_or_else(|| panic!("no method {name}"));
        let request =
            DynamicMessage::deserialize(method.input(), to_proto(args)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let path = format!("/campanile.v1.Broker/{name}").parse().expect("a path");
        let mut client = Grpc::new(self.channel.clone()).max_decoding_message_size(64 << 20);
        client.ready().await.expect("a channel that is there");
        let answer = client.unary(Request::new(Bytes::from(request.encode_to_vec())), path, RawCodec).await;
        match answer {
            Ok(answer) => Ok(from_proto(method.output(), answer.into_inner())),
            Err(status) => Err(refused(&status)),
        }
    }

    /// Acks, nacks and extensions, which REST has calls of their own for.
    async fn settle(&self, call: &str, mut args: Value) -> Answer {
        let mut settlements = Vec::new();
        let mut request = Map::new();
        match call {
            "settle" => {
                request.insert("all_or_nothing".into(), json!(true));
                for id in args["ack"].as_array().into_iter().flatten() {
                    settlements.push(json!({"ack_id": id, "ack": {}}));
                }
                for nack in args["nack"].as_array().into_iter().flatten() {
                    settlements.push(settlement("nack", &nack["ack_id"], nack));
                }
                if let Some(publishes) = args.get_mut("publish") {
                    request.insert("publishes".into(), publishes.take());
                }
            }
            _ => {
                for id in args["ack_ids"].as_array().into_iter().flatten() {
                    settlements.push(settlement(call, id, &args));
                }
            }
        }
        request.insert("settlements".into(), Value::Array(settlements));
        let rest_name = |refused: Refused| Refused::new(&refused.code, &rest_name(call, &refused.path, &args));
        self.ask("settle", Value::Object(request)).await.map_err(rest_name)
    }
}

/// A field of a settlement as REST names it: acks come first there, and one outcome is for all where there is a call for it.
fn rest_name(call: &str, path: &str, args: &Value) -> String {
    let of_one = path.strip_prefix("settlements[").and_then(|rest| rest.split_once("]."));
    let of_one = of_one.and_then(|(at, part)| Some((at.parse::<usize>().ok()?, part.trim_start_matches("nack."))));
    match (call, of_one) {
        ("settle", Some((at, part))) => {
            let acks = args["ack"].as_array().map_or(0, Vec::len);
            at.checked_sub(acks).map_or(format!("ack[{at}]"), |at| format!("nack[{at}].{part}"))
        }
        ("settle", None) => path.replace("settlements", "ack").replace("publishes", "publish"),
        (_, Some((_, "extend"))) => "ack_deadline".to_owned(),
        (_, Some((_, part))) => part.to_owned(),
        (_, None) => path.replace("settlements", "ack_ids"),
    }
}

fn settlement(call: &str, ack_id: &Value, args: &Value) -> Value {
    let mut nack = Map::new();
    for field in ["outcome", "delay_seconds", "reason"] {
        if let Some(value) = args.get(field) {
            nack.insert(field.into(), value.clone());
        }
    }
    match call {
        "ack" => json!({"ack_id": ack_id, "ack": {}}),
        "nack" => json!({"ack_id": ack_id, "nack": nack}),
        _ => json!({"ack_id": ack_id, "extend": format!("{}s", args["ack_deadline_seconds"])}),
    }
}

pub(super) fn refused(status: &Status) -> Refused {
    let details = status.get_error_details();
    let Some(info) = details.error_info() else {
        // Only a connection that broke has none.
        assert!(matches!(status.code(), Code::Unknown | Code::Unavailable), "{status:?}");
        assert!(status.metadata().is_empty(), "a refusal without an ErrorInfo: {status:?}");
        return Refused::broken();
    };
    assert_eq!(info.domain, "campanile", "{status:?}");
    let code = status.metadata().get("campanile-code").and_then(|code| code.to_str().ok());
    assert_eq!(code, Some(info.reason.as_str()), "{status:?}");
    assert!(!status.message().is_empty(), "{status:?}");
    Refused::new(&info.reason, info.metadata.get("field").map(String::as_str).unwrap_or_default())
}

/// `put_topic` is `PutTopic`.
fn camel(text: &str) -> String {
    let upper = |word: &str| word[..1].to_uppercase() + &word[1..];
    text.split('_').map(upper).collect()
}

/// A request of REST as the proto's JSON.
fn to_proto(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(to_proto).collect(),
        Value::Object(fields) => {
            let is_message = ["json", "text", "data_base64"].iter().any(|form| fields.contains_key(*form));
            let fields = if is_message {
                with_data(&Value::Object(fields)).as_object().cloned().unwrap_or_default()
            } else {
                fields
            };
            let field = |(name, value): (String, Value)| match name.strip_suffix("_seconds") {
                Some(short) if value.is_number() => (short.to_owned(), json!(format!("{value}s"))),
                // An attribute may be called anything.
                _ if name == "attributes" => (name, value),
                _ => (name, to_proto(value)),
            };
            fields.into_iter().map(field).collect()
        }
        other => other,
    }
}

/// A response of the proto as the JSON of REST.
fn from_proto(descriptor: MessageDescriptor, bytes: Bytes) -> Value {
    let message = DynamicMessage::decode(descriptor, bytes).expect("a response of that kind");
    let options =
        SerializeOptions::new().stringify_64_bit_integers(false).use_proto_field_name(true).skip_default_fields(false);
    let value = message.serialize_with_options(serde_json::value::Serializer, &options).expect("JSON");
    renamed(value)
}

fn renamed(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(renamed).collect(),
        Value::Object(fields) => {
            let mut fields: Map<String, Value> = fields
                .into_iter()
                .map(|(name, value)| match seconds_of(&name, &value) {
                    Some(seconds) => (format!("{name}_seconds"), json!(seconds)),
                    None if name == "attributes" => (name, value),
                    None => (name, renamed(value)),
                })
                .collect();
            with_form(&mut fields);
            Value::Object(fields)
        }
        other => other,
    }
}

fn seconds_of(name: &str, value: &Value) -> Option<f64> {
    if !DURATIONS.contains(&name) {
        return None;
    }
    value.as_str()?.strip_suffix('s')?.parse().ok()
}

/// Deliveries and messages as REST shows them: one object for each.
fn shaped(call: &str, mut answer: Value) -> Value {
    match call {
        "pull" => json!({"messages": flat(answer["deliveries"].take())}),
        "browse" => {
            let messages = flat(answer["messages"].take());
            json!({"messages": messages, "next_page_token": answer["next_page_token"]})
        }
        "get_message" => flat_one(answer),
        _ => answer,
    }
}

fn flat(items: Value) -> Value {
    let Value::Array(items) = items else { return json!([]) };
    items.into_iter().map(flat_one).collect()
}

fn flat_one(mut item: Value) -> Value {
    let mut message = item["message"].take();
    if let (Some(message), Some(rest)) = (message.as_object_mut(), item.as_object_mut()) {
        rest.remove("message");
        message.append(rest);
        return Value::Object(std::mem::take(message));
    }
    item
}

/// Bytes as they are.
#[derive(Debug, Clone, Copy)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

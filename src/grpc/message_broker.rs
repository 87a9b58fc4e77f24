//! The original contract's service: send a message, receive one.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::value::RawValue;
use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::{
    proto::{
        ReceiveMessageRequest, ReceiveMessageResponse, SendMessageRequest, SendMessageResponse,
        message_broker_service_server::MessageBrokerService,
    },
    status::{error_message_of, status_of},
};
use crate::{
    broker::{Broker, BrokerError, Publish, Receive, reading},
    model::{Draft, Message, MessageId, Properties},
};

/// The metadata that carries the dedup id.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Serves `MessageBrokerService`.
#[derive(Debug, Clone)]
pub(super) struct MessageBroker {
    broker: Broker,
}

impl MessageBroker {
    pub(super) fn new(broker: Broker) -> Self {
        Self { broker }
    }

    async fn send(&self, metadata: &MetadataMap, request: SendMessageRequest) -> Result<MessageId, BrokerError> {
        let published =
            self.broker.publish(publish_of(metadata, request)?).await.map_err(BrokerError::of_the_message)?;
        Ok(published.messages.first().expect("one message was published").id)
    }
}

#[tonic::async_trait]
impl MessageBrokerService for MessageBroker {
    async fn send_message(
        &self,
        request: Request<SendMessageRequest>,
    ) -> Result<Response<SendMessageResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let response = match self.send(&metadata, request).await {
            Ok(id) => SendMessageResponse { success: true, message_id: id.to_string(), error_message: String::new() },
            Err(error) => {
                let error_message = error_message_of(&error)?;
                SendMessageResponse { success: false, message_id: String::new(), error_message }
            }
        };
        Ok(Response::new(response))
    }

    async fn receive_message(
        &self,
        request: Request<ReceiveMessageRequest>,
    ) -> Result<Response<ReceiveMessageResponse>, Status> {
        let receive = receive_of(&request.into_inner()).map_err(|e| status_of(&e))?;
        let deliveries = self.broker.receive(receive).await.map_err(|e| status_of(&e))?;
        let response = deliveries.first().map(|delivery| response_of(&delivery.message));
        Ok(Response::new(response.unwrap_or_default()))
    }
}

fn publish_of(metadata: &MetadataMap, request: SendMessageRequest) -> Result<Publish, BrokerError> {
    let SendMessageRequest { topic, payload, reply_to } = request;
    let topic = reading::name("topic", &topic)?;
    if let Err(e) = serde_json::from_str::<&RawValue>(&payload) {
        return Err(BrokerError::invalid("payload", format!("is not JSON: {e}")));
    }
    let properties = Properties { reply_to: Some(reply_to).filter(|text| !text.is_empty()), ..Properties::default() };
    let payload = Bytes::from(payload);
    let draft = Draft { payload, properties, dedup_id: dedup_id_of(metadata)?, ..Draft::default() };
    Ok(Publish { topic, drafts: vec![draft] })
}

fn receive_of(request: &ReceiveMessageRequest) -> Result<Receive, BrokerError> {
    let queue = reading::name("topic", &request.topic)?;
    Ok(Receive::now(queue))
}

fn dedup_id_of(metadata: &MetadataMap) -> Result<Option<String>, BrokerError> {
    let mut values = metadata.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.any(|other| other != value) {
        return Err(BrokerError::invalid(IDEMPOTENCY_KEY, "is given twice, not the same"));
    }
    let text = value.to_str().map_err(|_| BrokerError::invalid(IDEMPOTENCY_KEY, "must be visible ASCII"))?;
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

fn response_of(message: &Message) -> ReceiveMessageResponse {
    ReceiveMessageResponse {
        has_message: true,
        message_id: message.id.to_string(),
        topic: message.topic.to_string(),
        payload: json_text_of(message),
        reply_to: message.properties.reply_to.clone().unwrap_or_default(),
    }
}

/// The payload as JSON text: its own bytes if they are that, else its text, or base64 of what is no text, as a JSON
/// string.
fn json_text_of(message: &Message) -> String {
    let text = match std::str::from_utf8(&message.payload) {
        // Without a content type it was checked to be JSON when it was published.
        Ok(text) if message.properties.content_type.is_none() => return text.to_owned(),
        Ok(text) if serde_json::from_str::<&RawValue>(text).is_ok() => return text.to_owned(),
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(STANDARD.encode(&message.payload)),
    };
    serde_json::to_string(&text).expect("a text can be written as JSON")
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::model::{Name, Timestamp};

    fn publish(topic: &str, payload: &str, keys: &[&'static str]) -> Result<Draft, String> {
        let request = SendMessageRequest { topic: topic.into(), payload: payload.into(), reply_to: String::new() };
        let mut metadata = MetadataMap::new();
        for key in keys {
            metadata.append(IDEMPOTENCY_KEY, key.parse().expect("ASCII"));
        }
        publish_of(&metadata, request).map(|mut p| p.drafts.remove(0)).map_err(|e| e.to_string())
    }

    #[test]
    fn a_payload_is_checked_and_kept_byte_for_byte() {
        let text = " {\"a\" : 1.00, \"b\": \"\\u00e9\"}\n";
        let draft = publish("t", text, &["k"]).expect("valid");
        assert_eq!(draft.payload, text);
        assert_eq!(draft.properties, Properties::default());
        assert_eq!(draft.dedup_id.as_deref(), Some("k"));
        for payload in ["", "{", "nul", "{} {}", "NaN", "'a'"] {
            assert!(
                publish("t", payload, &[]).expect_err("no JSON").starts_with("payload: is not JSON: "),
                "{payload}"
            );
        }
    }

    #[test]
    fn bad_names_and_keys_are_named() {
        assert_eq!(publish("", "1", &[]), Err("topic: must not be empty".into()));
        assert!(publish("../t", "1", &[]).expect_err("refused").starts_with("topic: "));
        assert!(publish("t", "1", &["a", "b"]).expect_err("refused").starts_with("idempotency-key: "));
        assert_eq!(publish("t", "1", &["a", "a"]).map(|d| d.dedup_id), Ok(Some("a".into())));
        assert_eq!(publish("t", "1", &[""]).map(|d| d.dedup_id), Ok(None));
    }

    #[test]
    fn a_payload_that_is_not_json_comes_as_a_json_string() {
        let text_of = |payload: &'static [u8], content_type: Option<&str>| {
            json_text_of(&Message {
                id: MessageId(Uuid::nil()),
                topic: Name::parse("t").expect("valid"),
                payload: Bytes::from_static(payload),
                properties: Properties { content_type: content_type.map(Into::into), ..Properties::default() },
                published_at: Timestamp::EPOCH,
                expires_at: None,
            })
        };
        assert_eq!(text_of(b" [1 ]", None), " [1 ]");
        assert_eq!(text_of(b" [1 ]", Some("x/y")), " [1 ]");
        assert_eq!(text_of(b"say \"hi\"", Some("text/plain")), r#""say \"hi\"""#);
        assert_eq!(text_of(b"\xff\x00", Some("x/y")), r#""/wA=""#);
    }
}

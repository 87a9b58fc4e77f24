//! The broker's answers about messages as responses.

use std::time::Duration;

use prost_types::{Duration as ProtoDuration, Timestamp as ProtoTimestamp};

use crate::{
    broker::{Broker, BrokerError, Published, Settled},
    grpc::proto::v1 as proto,
    model::{Delivery, Message, Timestamp},
};

pub(super) fn timestamp(at: Timestamp) -> ProtoTimestamp {
    let ms = at.as_millis();
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    ProtoTimestamp { seconds, nanos: (ms % 1000) as i32 * 1_000_000 }
}

pub(super) fn duration(duration: Duration) -> ProtoDuration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    ProtoDuration { seconds, nanos: duration.subsec_nanos() as i32 }
}

pub(super) fn published(published: &Published) -> proto::PublishResponse {
    let message = |m: &crate::engine::PublishedMessage| proto::PublishedMessage {
        message_id: m.id.to_string(),
        duplicate: m.duplicate,
    };
    proto::PublishResponse {
        messages: published.messages.iter().map(message).collect(),
        delivered_to: u32::try_from(published.delivered_to()).unwrap_or(u32::MAX),
        queues: published.queues.iter().map(ToString::to_string).collect(),
    }
}

pub(super) fn message(message: &Message) -> proto::Message {
    let properties = message.properties.clone();
    proto::Message {
        id: message.id.to_string(),
        topic: message.topic.to_string(),
        data: message.payload.clone(),
        content_type: properties.content_type.unwrap_or_default(),
        attributes: properties.attributes.into_iter().collect(),
        ordering_key: properties.ordering_key.unwrap_or_default(),
        reply_to: properties.reply_to.unwrap_or_default(),
        correlation_id: properties.correlation_id.unwrap_or_default(),
        traceparent: properties.traceparent.unwrap_or_default(),
        tracestate: properties.tracestate.unwrap_or_default(),
        published_at: Some(timestamp(message.published_at)),
        expires_at: message.expires_at.map(timestamp),
    }
}

pub(super) fn deliveries(broker: &Broker, deliveries: &[Delivery]) -> Result<Vec<proto::Delivery>, BrokerError> {
    let delivery = |delivery: &Delivery| {
        let lease = delivery.lease.as_ref();
        Ok(proto::Delivery {
            message: Some(message(&delivery.message)),
            ack_id: lease.map(|lease| broker.seal(lease.ack_id)).transpose()?.unwrap_or_default(),
            delivery_attempt: delivery.attempt.0,
            ack_deadline: lease.map(|lease| timestamp(lease.ack_deadline)),
        })
    };
    deliveries.iter().map(delivery).collect()
}

pub(super) fn results(ack_ids: Vec<String>, settled: &[Settled]) -> Vec<proto::SettleResult> {
    let result = |(ack_id, settled): (String, &Settled)| proto::SettleResult { ack_id, code: settled.word().into() };
    ack_ids.into_iter().zip(settled).map(result).collect()
}

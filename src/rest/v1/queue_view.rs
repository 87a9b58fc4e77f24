//! Queues, topics and services as JSON objects.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    broker::{self, ConsumerKind, ServiceView, TopicView},
    model::{Overflow as ModelOverflow, QueueLimits, QueuePolicy as ModelQueuePolicy, TopicPolicy as ModelTopicPolicy},
};

/// A queue.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Queue {
    name: String,
    topic: String,
    /// Whose it is; absent: the topic's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    policy: QueuePolicy,
    /// It hands nothing out until it is resumed.
    paused: bool,
    /// Messages that wait to be handed out, but for those that wait for a retry.
    ready: u64,
    /// Messages that failed and wait for their retry.
    retrying: u64,
    /// Messages that consumers hold.
    leased: u64,
    /// Messages of the topic that are not visible yet.
    delayed: u64,
    /// Dead letters.
    dead: u64,
    /// About how many bytes its messages have, as they are stored, but for dead letters.
    bytes: u64,
    /// When the oldest message that waits was published, as near as is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    oldest_published_at: Option<String>,
    /// What has happened since this instance opened the store.
    counters: Counters,
    /// How often it happens: messages per second, an average whose weights fall by the factor e each minute.
    rates: Rates,
    /// Who has asked for messages lately.
    consumers: Vec<Consumer>,
}

/// How a queue delivers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QueuePolicy {
    ack_deadline_seconds: f64,
    /// 0: a message is never dead.
    max_delivery_attempts: u32,
    minimum_backoff_seconds: f64,
    maximum_backoff_seconds: f64,
    limits: Limits,
}

/// How much may wait; what is absent is not limited, or as the topic says.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "uint64")]
    max_messages: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "uint64")]
    max_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overflow: Option<Overflow>,
}

/// What is done with a publish that would be too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Overflow {
    /// It is refused (`queue_full`), for all queues of the topic.
    Reject,
    /// The oldest messages of the queue that no consumer holds make room.
    DropOldest,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Counters {
    published: u64,
    delivered: u64,
    acked: u64,
    failed: u64,
    dead_lettered: u64,
    dropped: u64,
}

/// How often something happens to the messages of a queue.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Rates {
    /// Messages that come into it.
    published_per_second: f64,
    /// Deliveries.
    delivered_per_second: f64,
    /// Messages that it is done with because they were acked.
    acked_per_second: f64,
}

/// Who has asked for messages.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Consumer {
    /// As it calls itself, or as its client does.
    name: String,
    kind: Kind,
    #[schema(format = "date-time")]
    last_seen_at: String,
    /// Of a stream: messages that it holds.
    outstanding_messages: u64,
    /// Bytes of these.
    outstanding_bytes: u64,
    has_credit: bool,
    /// It waits for a message now.
    is_waiting: bool,
}

/// How a consumer asks.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ConsumerKind)]
pub(super) enum Kind {
    Pull,
    Stream,
}

/// A topic.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Topic {
    name: String,
    policy: TopicPolicy,
    /// The queues on it, oldest first.
    queues: Vec<String>,
    /// Messages that some queue, or no queue yet, wants.
    messages: u64,
    /// Messages that become visible later.
    delayed: u64,
    /// It is the inbox of a service.
    is_inbox: bool,
}

/// How a topic takes messages.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TopicPolicy {
    /// How long a dedup id is remembered; absent: as the broker is set up.
    #[serde(skip_serializing_if = "Option::is_none")]
    dedup_window_seconds: Option<f64>,
    limits: Limits,
}

/// A service.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Service {
    name: String,
    /// The topics on which it has a queue.
    topics: Vec<String>,
}

impl From<broker::Queue> for Queue {
    fn from(queue: broker::Queue) -> Self {
        let broker::Queue { view, consumers } = queue;
        let broker::Counters { published, delivered, acked, failed, dead_lettered, dropped } = view.counters;
        Self {
            name: view.name.to_string(),
            topic: view.topic.to_string(),
            service: view.service.map(|service| service.to_string()),
            policy: QueuePolicy::of(&view.policy),
            paused: view.is_paused,
            ready: view.ready,
            retrying: view.retrying,
            leased: view.leased,
            delayed: view.delayed,
            dead: view.dead,
            bytes: view.bytes,
            oldest_published_at: view.oldest_published_at.map(|at| at.to_string()),
            counters: Counters { published, delivered, acked, failed, dead_lettered, dropped },
            rates: Rates {
                published_per_second: view.rates.published.per_second(),
                delivered_per_second: view.rates.delivered.per_second(),
                acked_per_second: view.rates.acked.per_second(),
            },
            consumers: consumers.into_iter().map(Consumer::from).collect(),
        }
    }
}

impl QueuePolicy {
    fn of(policy: &ModelQueuePolicy) -> Self {
        Self {
            ack_deadline_seconds: policy.ack_deadline.as_secs_f64(),
            max_delivery_attempts: policy.max_delivery_attempts.map_or(0, std::num::NonZeroU32::get),
            minimum_backoff_seconds: policy.retry.minimum_backoff.as_secs_f64(),
            maximum_backoff_seconds: policy.retry.maximum_backoff.as_secs_f64(),
            limits: policy.limits.into(),
        }
    }
}

impl From<QueueLimits> for Limits {
    fn from(limits: QueueLimits) -> Self {
        let overflow = limits.overflow.map(|overflow| match overflow {
            ModelOverflow::Reject => Overflow::Reject,
            ModelOverflow::DropOldest => Overflow::DropOldest,
        });
        let max_age_seconds = limits.age_max.map(|age| age.as_secs_f64());
        Self { max_messages: limits.messages_max, max_bytes: limits.bytes_max, max_age_seconds, overflow }
    }
}

impl From<broker::Consumer> for Consumer {
    fn from(consumer: broker::Consumer) -> Self {
        Self {
            name: consumer.name,
            kind: match consumer.kind {
                ConsumerKind::Pull => Kind::Pull,
                ConsumerKind::Stream => Kind::Stream,
            },
            last_seen_at: consumer.last_seen_at.to_string(),
            outstanding_messages: consumer.outstanding_messages,
            outstanding_bytes: consumer.outstanding_bytes,
            has_credit: consumer.has_credit,
            is_waiting: consumer.is_waiting,
        }
    }
}

impl From<TopicView> for Topic {
    fn from(topic: TopicView) -> Self {
        let ModelTopicPolicy { dedup_window, limits } = topic.policy;
        Self {
            name: topic.name.to_string(),
            policy: TopicPolicy {
                dedup_window_seconds: dedup_window.map(|window| window.as_secs_f64()),
                limits: limits.into(),
            },
            queues: topic.queues.iter().map(ToString::to_string).collect(),
            messages: topic.messages,
            delayed: topic.delayed,
            is_inbox: topic.is_inbox,
        }
    }
}

impl From<ServiceView> for Service {
    fn from(service: ServiceView) -> Self {
        Self { name: service.name.to_string(), topics: service.topics.iter().map(ToString::to_string).collect() }
    }
}

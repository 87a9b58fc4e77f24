//! What the broker is asked for, as a transport has read it. Numbers are as they were typed: the broker checks them.

use crate::{
    engine::{Settlement, StateFilter},
    model::{Draft, MessageId, Name, QueuePolicyPatch},
};

/// Asks for the queues of a service.
#[derive(Debug, Clone)]
pub struct Register {
    /// The service; its inbox is the queue of this name.
    pub service: Name,
    /// The topics that it wants a queue of its own on.
    pub topics: Vec<Name>,
}

/// Asks for messages to be stored, all or none.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The topic; one that does not exist yet comes into being.
    pub topic: Name,
    /// The messages, in order.
    pub drafts: Vec<Draft>,
}

/// Asks for the next messages of a queue.
#[derive(Debug, Clone)]
pub struct Receive {
    /// A queue or a topic; one that does not exist yet comes into being.
    pub queue: Name,
    /// The service whose queue on the topic `queue` is meant.
    pub service: Option<Name>,
    /// Most messages to hand out.
    pub max_messages: i64,
    /// Most bytes of the answer, unless its first message alone has more.
    pub max_bytes: usize,
    /// How long to wait for the first one, in seconds.
    pub wait_seconds: f64,
    /// When the messages count as done.
    pub ack: AckWhen,
    /// As what the consumer is shown to people who look at the queue.
    pub consumer: Option<String>,
}

impl Receive {
    /// One message, if there is one, acked at once.
    #[must_use]
    pub fn now(queue: Name) -> Self {
        let max_bytes = crate::engine::Receive::BYTES_MAX;
        let (ack, consumer) = (AckWhen::AtOnce, None);
        Self { queue, service: None, max_messages: 1, max_bytes, wait_seconds: 0.0, ack, consumer }
    }
}

/// When messages that are handed out count as done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AckWhen {
    /// As they are handed out.
    AtOnce,
    /// When they are acked within so many seconds; `None`: as the queue's policy says.
    Later(Option<f64>),
}

/// Settles deliveries, each on its own.
#[derive(Debug, Clone)]
pub struct Settle {
    /// The queue they came from; `None`: whichever.
    pub queue: Option<Name>,
    /// Their ack ids, as they were handed out, and what is to become of each.
    pub settlements: Vec<(String, Settlement)>,
}

/// Settles deliveries and publishes messages in one durable step: all of it, or nothing.
#[derive(Debug, Clone)]
pub struct SettleAll {
    /// Ack ids, as they were handed out, and what is to become of each.
    pub settlements: Vec<(String, Settlement)>,
    /// What is published.
    pub publishes: Vec<Publish>,
}

/// Opens a stream of deliveries.
#[derive(Debug, Clone)]
pub struct Subscribe {
    /// As in [`Receive`].
    pub queue: Name,
    /// As in [`Receive`].
    pub service: Option<Name>,
    /// How long the consumer may take to settle, in seconds; `None`: as the queue's policy says.
    pub ack_deadline_seconds: Option<f64>,
    /// As in [`Receive`].
    pub consumer: Option<String>,
    /// How much the consumer may hold that it has not settled.
    pub credit: Credit,
    /// Most bytes that are handed out at a time, unless the first message alone has more.
    pub max_bytes: usize,
}

/// How much a consumer may hold that it has not settled. Nothing is handed out to one who holds so many messages, or so
/// many bytes; so its last message may bring it over the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    /// Messages, 1 to 10,000. Default 1,000.
    pub messages_max: u64,
    /// Bytes, at least 1. Default 16 MiB.
    pub bytes_max: u64,
}

impl Default for Credit {
    fn default() -> Self {
        Self { messages_max: 1000, bytes_max: 16 << 20 }
    }
}

/// Publishes a message and waits for the answer to it.
#[derive(Debug, Clone)]
pub struct Request {
    /// The topic.
    pub topic: Name,
    /// The message. Its `reply_to` and `correlation_id` are the broker's to set.
    pub draft: Draft,
    /// How long to wait, in seconds: more than 0, at most 60; `None`: 30.
    pub timeout_seconds: Option<f64>,
}

/// Asks for a page of topics, queues or services.
#[derive(Debug, Clone, Default)]
pub struct List {
    /// Only names that begin so.
    pub prefix: String,
    /// Where to look, and how far.
    pub page: Page,
}

/// Asks for messages of a queue.
#[derive(Debug, Clone)]
pub struct Browse {
    /// The queue.
    pub queue: Name,
    /// Which of its messages.
    pub state: StateFilter,
    /// Where to look, and how far.
    pub page: Page,
}

/// Which page of a list is asked for.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Most entries, 1 to 1,000; `None`: 100.
    pub size: Option<i64>,
    /// What the page before said; empty: the first page.
    pub token: String,
}

/// Brings dead letters back.
#[derive(Debug, Clone)]
pub struct Redrive {
    /// The queue.
    pub queue: Name,
    /// Which ones; empty: all.
    pub ids: Vec<MessageId>,
    /// How many become deliverable per second; 0: all at once.
    pub max_per_second: u32,
}

/// Makes the queue of a service on a topic, or sets its policy.
#[derive(Debug, Clone)]
pub struct PutSubscription {
    /// The topic.
    pub topic: Name,
    /// The service.
    pub service: Name,
    /// What the policy says; the rest is at its default.
    pub policy: QueuePolicyPatch,
}

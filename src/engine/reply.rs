//! What the engine is asked for and what it answers.

use std::{sync::Arc, time::Duration};

use crate::model::{MessageId, Name};

/// A publish that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// One for each message, in order.
    pub messages: Vec<PublishedMessage>,
    /// The queues that get them; none yet if nobody has received from the topic or registered on it.
    pub queues: Arc<[Name]>,
}

impl Published {
    /// How many queues get the messages, at least 1: a topic without a queue keeps them for the first one.
    #[must_use]
    pub fn delivered_to(&self) -> usize {
        self.queues.len().max(1)
    }
}

/// One message of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedMessage {
    /// Its id; of a duplicate, that of the first one.
    pub id: MessageId,
    /// Whether its dedup id was used for the same message before, so that nothing was stored now.
    pub duplicate: bool,
}

/// A registration that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The topics, as they were asked for.
    pub topics: Vec<Name>,
    /// The queues that came into being.
    pub declared: Vec<Name>,
}

/// Asks for the next messages of a queue.
#[derive(Debug, Clone)]
pub struct Receive {
    /// A queue or a topic; one that does not exist yet comes into being.
    pub queue: Name,
    /// The service whose queue on the topic `queue` is meant.
    pub service: Option<Name>,
    /// Most messages, at least 1.
    pub max_messages: usize,
    /// How long to wait for the first one.
    pub wait: Duration,
    /// When the messages count as done.
    pub mode: AckMode,
}

/// When a message that was handed out counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckMode {
    /// As it is handed out.
    AtOnce,
    /// When it is acked within that time; otherwise it goes back to its queue.
    Lease(Duration),
}

/// What became of an ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acked {
    /// The message is done with.
    Acked,
    /// The lease had ended: the message is done with already, or somebody else may hold it.
    Stale,
    /// It is no ack id of this queue.
    Unknown,
}

/// What the engine holds; counting it looks at every message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistics {
    /// Topics.
    pub topics: usize,
    /// Each queue, oldest first.
    pub queues: Vec<QueueStatistics>,
    /// Messages that some queue, or no queue yet, wants; delayed ones included.
    pub messages: usize,
    /// Of these, messages that become visible later.
    pub delayed: usize,
    /// Receives that wait for a message.
    pub waiting: usize,
    /// Frames appended since the start.
    pub frames: u64,
    /// Equal for equal states: two engines that applied the same frames show the same number.
    pub digest: u64,
}

/// What one queue holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStatistics {
    /// Its name.
    pub name: Name,
    /// Messages that can be handed out.
    pub ready: usize,
    /// Messages that consumers hold.
    pub leased: usize,
}

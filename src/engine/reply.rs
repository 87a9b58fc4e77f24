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
    /// Most bytes of messages ([`Message::bytes`](crate::model::Message::bytes)), unless the first message alone has more; never more than [`Receive::BYTES_MAX`].
    pub max_bytes: usize,
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
    /// The same, with the ack deadline that the queue's policy says.
    LeaseByPolicy,
}

impl Receive {
    /// Most bytes of one answer, unless its first message alone has more: 16 MiB, the largest payload there is.
    pub const BYTES_MAX: usize = 16 << 20;
}

/// What is to become of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// The queue is done with the message.
    Ack,
    /// The consumer is not: see there.
    Nack(Nack),
    /// The consumer needs more time: the lease ends that long from now.
    Extend(Duration),
}

/// A delivery that its consumer could not, or would not, make something of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nack {
    /// What is to become of the message.
    pub outcome: NackOutcome,
    /// After how long a message that failed may be delivered again; `None`: after as long as the queue's policy says.
    pub delay: Option<Duration>,
    /// Why, for people; may be empty.
    pub reason: String,
}

/// What becomes of a message whose consumer gives it back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NackOutcome {
    /// It is back in its place at once, as if it had not been delivered: a consumer that shuts down.
    Release,
    /// The delivery counts as one that failed: the message waits for the next one, or was delivered often enough.
    #[default]
    Retry,
    /// It goes to the dead letters.
    DeadLetter,
}

/// What became of a delivery that was to be settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// What was asked for.
    Done,
    /// Nothing. The lease had ended: the message is done with already, or somebody else may hold it.
    Stale,
    /// Nothing. It is no ack id of this queue.
    Unknown,
}

/// What became of deliveries and messages that were settled and published together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledAll {
    /// Of each delivery, in order: all done.
    pub results: Vec<Settled>,
    /// Of each publication, in order.
    pub published: Vec<Published>,
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

/// So many messages per second, to a thousandth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate {
    thousandths: u64,
}

impl Rate {
    /// A rate that is not negative.
    #[must_use]
    pub(in crate::engine) fn of(per_second: f64) -> Self {
        Self { thousandths: (per_second * 1000.0).round() as u64 }
    }

    /// Messages per second.
    #[must_use]
    pub fn per_second(self) -> f64 {
        self.thousandths as f64 / 1000.0
    }
}

/// How often something has happened to the messages of a queue lately: an average whose weights fall by the factor *e* each
/// minute, since this instance opened the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// Messages that came into it.
    pub published: Rate,
    /// Deliveries.
    pub delivered: Rate,
    /// Messages that it is done with because they were acked.
    pub acked: Rate,
}

/// What has happened to the messages of a queue since this instance opened the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Came into it.
    pub published: u64,
    /// Handed out, each time anew; acked at once or under a lease.
    pub delivered: u64,
    /// Done with: acked, or acked at once.
    pub acked: u64,
    /// Deliveries that failed: nacked, or not acked in time.
    pub failed: u64,
    /// Became dead letters.
    pub dead_lettered: u64,
    /// Expired, too old, dropped for newer ones, deleted, or damaged.
    pub dropped: u64,
}

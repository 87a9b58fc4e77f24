//! What may be done to topics and queues, beside publishing and receiving.

use crate::model::{Name, QueuePolicyPatch, Seq, TopicPolicyPatch};

pub use super::journal::{Pace, PurgeScope};

/// A change of a topic, a queue, or what is in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manage {
    /// Makes a topic, or gives one that exists another policy.
    PutTopic {
        /// The topic.
        topic: Name,
        /// What its policy is to say.
        policy: TopicPolicyPatch,
        /// Where it does not say anything.
        base: Base,
    },
    /// Removes a topic, with its queues and everything in them.
    DeleteTopic {
        /// The topic.
        topic: Name,
    },
    /// Makes the queue of a service on a topic, or gives one that exists another policy.
    PutSubscription {
        /// The topic.
        topic: Name,
        /// The service.
        service: Name,
        /// What the queue's policy is to say.
        policy: QueuePolicyPatch,
        /// Where it does not say anything.
        base: Base,
    },
    /// Declares the queue that a consumer means, as its receive would.
    DeclareQueue {
        /// A queue or a topic.
        queue: Name,
        /// The service whose queue on the topic is meant.
        service: Option<Name>,
    },
    /// Gives a queue another policy. The own queue of a topic that exists comes into being for that.
    SetQueuePolicy {
        /// The queue.
        queue: Name,
        /// What its policy is to say; the rest stays.
        policy: QueuePolicyPatch,
    },
    /// Removes a queue with everything in it. Other queues of its topic keep their messages.
    DeleteQueue {
        /// The queue.
        queue: Name,
    },
    /// Hands nothing out from a queue until it is resumed. What consumers hold they can settle. The own queue of a topic that
    /// has no queue comes into being for that, and for the four below.
    Pause {
        /// The queue.
        queue: Name,
    },
    /// Hands out again what comes from a queue.
    Resume {
        /// The queue.
        queue: Name,
    },
    /// Removes what is in a queue.
    Purge {
        /// The queue.
        queue: Name,
        /// Of what.
        scope: PurgeScope,
    },
    /// Brings dead letters back to their places in the queue, as if they had never been delivered.
    Redrive {
        /// The queue.
        queue: Name,
        /// Which ones.
        which: Redrive,
        /// When the first of them may be delivered, and how fast the others follow; `None`: all at once.
        pace: Option<Pace>,
    },
    /// Removes one message from a queue.
    DeleteMessage {
        /// The queue.
        queue: Name,
        /// Its place.
        seq: Seq,
    },
    /// Removes a message that is not visible yet.
    CancelDelayed {
        /// Its topic.
        topic: Name,
        /// Its place among the delayed ones.
        seq: Seq,
    },
}

impl Manage {
    /// Whether queues are gone when it is done.
    pub(super) fn removes_queues(&self) -> bool {
        matches!(self, Self::DeleteTopic { .. } | Self::DeleteQueue { .. })
    }
}

/// What a policy says where it is not told what to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// The defaults.
    Default,
    /// What it said before.
    Current,
}

/// Which dead letters come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redrive {
    /// The oldest ones, as many.
    Oldest(usize),
    /// Those at these places, as far as they are dead letters.
    These(Vec<Seq>),
}

/// What came of a [`Manage`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Managed {
    /// How many messages it was done to.
    pub messages: u64,
    /// Whether something came into being that was not there.
    pub is_new: bool,
}

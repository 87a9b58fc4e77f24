//! Records: the changes of state, as they stand in a frame.
//!
//! A record holds everything that applying it needs (ids, time, random choices), so the same records give the same
//! state anywhere. All numbers are little-endian.
//!
//! ```text
//! 0        4            8      9       10         12        16    24        32         36          40
//! | length | header crc | type | flags | reserved | subject | seq | time ms | body crc | head len | body …
//! ```
//!
//! *length* counts the whole record; *header crc* is the CRC-32C of everything else in the header, so it covers the
//! length and, through *body crc*, the body; *subject* is a topic or a queue. The body of a message is its head
//! (see [`Sealed`]) and then its payload; *body crc* is computed once, where the message enters, and stays with it.
//! What the bodies of the other records hold stands where they are written, in `encode`.

mod decode;
mod encode;
mod header;
mod items;
mod policy;

pub use header::HEADER_BYTES;
#[cfg(any(test, fuzzing))]
pub(super) use header::make_right;
pub(super) use header::{header_crc, kind};
pub use items::{DeadCause, LeaseItem, Pace, PassedItem, PurgeScope, Reason, ReturnCause, ReturnItem};
pub(in crate::engine) use policy::{decode_queue_policy, encode_queue_policy};
pub(in crate::engine) use policy::{decode_topic_policy, encode_topic_policy};

use crate::{
    engine::sealed::Sealed,
    model::{Attempt, Name, QueueId, QueuePolicy, Seq, Timestamp, TopicId, TopicPolicy},
};

/// A change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A topic came into being.
    TopicCreated {
        /// Its id, one more than any before.
        topic: TopicId,
        /// Its name.
        name: Name,
    },
    /// A topic, its queues and its messages went away.
    TopicDeleted {
        /// Which one.
        topic: TopicId,
    },
    /// A queue came into being.
    QueueCreated {
        /// Its id, one more than any before.
        queue: QueueId,
        /// The topic it is a position in.
        topic: TopicId,
        /// Whose queue it is; `None`: the topic's own.
        service: Option<Name>,
        /// The first message that it gets.
        start: Seq,
    },
    /// A service registered; the topic is its inbox.
    ServiceRegistered {
        /// The topic of the service's name.
        topic: TopicId,
    },
    /// A message was published.
    Published {
        /// To which topic.
        topic: TopicId,
        /// Its place there.
        seq: Seq,
        /// The message.
        message: Sealed,
    },
    /// A message was published that becomes visible later.
    Delayed {
        /// To which topic.
        topic: TopicId,
        /// Its place among the topic's delayed messages.
        seq: Seq,
        /// The message.
        message: Sealed,
    },
    /// Delayed messages became visible: they joined their topic.
    Matured {
        /// Their topic.
        topic: TopicId,
        /// The place in the topic of the first one.
        first: Seq,
        /// Their places among the delayed messages, in the order in which they joined.
        delayed: Vec<Seq>,
    },
    /// A queue is done with messages.
    Done {
        /// Which queue.
        queue: QueueId,
        /// Why.
        reason: Reason,
        /// Which messages, ascending.
        seqs: Vec<Seq>,
    },
    /// Messages were looked at and not handed out, because others of their key come first.
    PassedOver {
        /// Whose messages.
        queue: QueueId,
        /// Which messages, ascending.
        items: Vec<PassedItem>,
    },
    /// Consumers hold messages until a deadline.
    Leased {
        /// Whose messages.
        queue: QueueId,
        /// Until when.
        deadline: Timestamp,
        /// Which messages.
        items: Vec<LeaseItem>,
    },
    /// Consumers hold messages until another deadline.
    Extended {
        /// Whose messages.
        queue: QueueId,
        /// Until when.
        deadline: Timestamp,
        /// Which messages.
        seqs: Vec<Seq>,
    },
    /// Leases ended without an ack: the messages wait for their next delivery.
    Returned {
        /// Whose messages.
        queue: QueueId,
        /// How the leases ended.
        cause: ReturnCause,
        /// What the consumer said; empty if it said nothing.
        reason: String,
        /// Which messages.
        items: Vec<ReturnItem>,
    },
    /// Messages are given up: they are dead letters.
    Buried {
        /// Whose messages.
        queue: QueueId,
        /// Why.
        cause: DeadCause,
        /// What the consumer said; empty if it said nothing.
        reason: String,
        /// Which messages.
        seqs: Vec<Seq>,
    },
    /// Dead letters wait in their places again.
    Revived {
        /// Whose messages.
        queue: QueueId,
        /// When the first of them may be delivered, and how fast the others follow; `None`: all at once.
        pace: Option<Pace>,
        /// Which messages.
        seqs: Vec<Seq>,
    },
    /// A queue is done with everything of some kinds that was published before.
    Purged {
        /// Which queue.
        queue: QueueId,
        /// Of what.
        scope: PurgeScope,
        /// The place of the first message that is not meant.
        end: Seq,
    },
    /// Delayed messages will not become visible.
    DelayedCancelled {
        /// Their topic.
        topic: TopicId,
        /// Their places among the delayed messages.
        seqs: Vec<Seq>,
    },
    /// A topic without a queue does not keep its oldest messages any longer.
    TopicTrimmed {
        /// Which topic.
        topic: TopicId,
        /// The place of the first message that is kept.
        end: Seq,
    },
    /// A topic has another policy.
    TopicPolicySet {
        /// Which topic.
        topic: TopicId,
        /// The policy.
        policy: TopicPolicy,
    },
    /// A queue has another policy.
    QueuePolicySet {
        /// Which queue.
        queue: QueueId,
        /// The policy.
        policy: QueuePolicy,
    },
    /// A queue hands nothing out any more.
    QueuePaused {
        /// Which queue.
        queue: QueueId,
    },
    /// A queue hands messages out again.
    QueueResumed {
        /// Which queue.
        queue: QueueId,
    },
    /// A queue went away, with what it wanted.
    QueueDeleted {
        /// Which queue.
        queue: QueueId,
    },
    /// Leases ended without an ack, in the way of version 2; the messages are back in their places. Not written any more.
    Released {
        /// Whose messages.
        queue: QueueId,
        /// Which messages.
        seqs: Vec<Seq>,
    },
    /// A file of the broker that this one replaces is being taken over: what came of these lines stands in the frames up
    /// to this one.
    ImportAdvanced {
        /// Which file, with its length and checksum.
        source: String,
        /// How many of its lines have been read.
        lines: u64,
    },
    /// A file was being taken over in the way of version 1; what an unfinished one left is forgotten. Not written any
    /// more.
    ImportBegun {
        /// Which file, with its length and checksum.
        source: String,
    },
    /// A message of that file. It is invisible until the import has ended. Not written any more.
    Imported {
        /// To which topic.
        topic: TopicId,
        /// The message, with the id that it had.
        message: Sealed,
    },
    /// All messages of the file are here.
    ImportEnded {
        /// Which file, as it began.
        source: String,
    },
}

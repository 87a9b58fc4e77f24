//! The words of the broker as types: names, ids, messages, deliveries. Parsed once, valid ever after.
//!
//! Nothing here knows of storage, of HTTP or of gRPC; a value that exists keeps the rules its type states.

mod ack_id;
mod delivery;
mod id;
mod key;
mod message;
mod name;
mod policy;
mod timestamp;

pub use ack_id::{AckId, AckIdError, AckKey};
pub use delivery::{Delivery, Lease};
pub use id::{Attempt, LeaseNumber, MessageId, QueueId, Seq, TopicId};
pub use key::KeyHash;
pub use message::{Draft, DraftError, Due, Message, Properties};
pub use name::{Name, NameError};
pub use policy::{
    Overflow, QueueLimits, QueueLimitsPatch, QueuePolicy, QueuePolicyPatch, RetryPolicy, TopicPolicy, TopicPolicyPatch,
};
pub use timestamp::Timestamp;

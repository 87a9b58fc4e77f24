//! A message on its way to a consumer.

use std::sync::Arc;

use super::{AckId, Attempt, Message, Timestamp};

/// A message handed to a consumer.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message.
    pub message: Arc<Message>,
    /// Which delivery to this queue it is, of those that count; the first one is 1.
    pub attempt: Attempt,
    /// Until when the consumer holds it; `None` when it was acked as it was handed out.
    pub lease: Option<Lease>,
}

/// The consumer's hold on a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What the consumer says to ack it.
    pub ack_id: AckId,
    /// When the message goes back to its queue unless it is acked before.
    pub ack_deadline: Timestamp,
}

//! What the commit thread is asked, and the answers that wait until it is durable.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{Acked, EngineError, Published, Receive, Registered, Statistics, sealed::Sealed};
use crate::model::{AckId, Delivery, Name};

type Reply<T> = Result<T, EngineError>;

/// A question to the commit thread. The permits give back the room it takes in the inbox.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) verb: Verb,
    pub(super) room: OwnedSemaphorePermit,
}

/// What is asked.
#[derive(Debug)]
pub(super) enum Verb {
    Publish { topic: Name, messages: Vec<Sealed>, reply: oneshot::Sender<Reply<Published>> },
    Register { service: Name, topics: Vec<Name>, reply: oneshot::Sender<Reply<Registered>> },
    Receive { receive: Receive, reply: oneshot::Sender<Reply<Vec<Delivery>>> },
    Ack { queue: Name, ids: Vec<Option<AckId>>, reply: oneshot::Sender<Reply<Vec<Acked>>> },
    Statistics { reply: oneshot::Sender<Reply<Statistics>> },
}

impl Verb {
    /// How many bytes of a frame it may take.
    pub(super) fn frame_bytes(&self) -> usize {
        /// What the records that come with a request take beside the messages: names, headers, runs.
        const OVERHEAD_BYTES: usize = 64 << 10;
        match self {
            Self::Publish { messages, .. } => OVERHEAD_BYTES + frame_bytes_of(messages),
            Self::Register { topics, .. } => OVERHEAD_BYTES + topics.len() * 1024,
            Self::Receive { .. } | Self::Ack { .. } | Self::Statistics { .. } => OVERHEAD_BYTES,
        }
    }

    /// Answers that the request was never looked at.
    pub(super) fn refuse(self, error: EngineError) {
        // Nobody is there any more to be told: that is fine.
        match self {
            Self::Publish { reply, .. } => drop(reply.send(Err(error))),
            Self::Register { reply, .. } => drop(reply.send(Err(error))),
            Self::Receive { reply, .. } => drop(reply.send(Err(error))),
            Self::Ack { reply, .. } => drop(reply.send(Err(error))),
            Self::Statistics { reply } => drop(reply.send(Err(error))),
        }
    }
}

/// The bytes that the records of these messages take in a frame.
pub(super) fn frame_bytes_of(messages: &[Sealed]) -> usize {
    messages.iter().map(|m| super::journal::RECORD_HEADER_BYTES + m.body_bytes()).sum()
}

/// An answer that may be given when the open frame is durable.
#[derive(Debug)]
pub(super) struct Answer {
    reply: Held,
    _room: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Held {
    Publish(oneshot::Sender<Reply<Published>>, Reply<Published>),
    Register(oneshot::Sender<Reply<Registered>>, Reply<Registered>),
    Receive(oneshot::Sender<Reply<Vec<Delivery>>>, Reply<Vec<Delivery>>),
    Ack(oneshot::Sender<Reply<Vec<Acked>>>, Reply<Vec<Acked>>),
    Statistics(oneshot::Sender<Reply<Statistics>>, Reply<Statistics>),
}

impl Answer {
    pub(super) fn publish(
        reply: oneshot::Sender<Reply<Published>>,
        value: Reply<Published>,
        room: OwnedSemaphorePermit,
    ) -> Self {
        Self { reply: Held::Publish(reply, value), _room: Some(room) }
    }

    pub(super) fn register(
        reply: oneshot::Sender<Reply<Registered>>,
        value: Reply<Registered>,
        room: OwnedSemaphorePermit,
    ) -> Self {
        Self { reply: Held::Register(reply, value), _room: Some(room) }
    }

    /// A waiting receive has given its room back already.
    pub(super) fn receive(reply: oneshot::Sender<Reply<Vec<Delivery>>>, value: Reply<Vec<Delivery>>) -> Self {
        Self { reply: Held::Receive(reply, value), _room: None }
    }

    pub(super) fn ack(
        reply: oneshot::Sender<Reply<Vec<Acked>>>,
        value: Reply<Vec<Acked>>,
        room: OwnedSemaphorePermit,
    ) -> Self {
        Self { reply: Held::Ack(reply, value), _room: Some(room) }
    }

    pub(super) fn statistics(reply: oneshot::Sender<Reply<Statistics>>, value: Statistics) -> Self {
        Self { reply: Held::Statistics(reply, Ok(value)), _room: None }
    }

    /// The frame is durable: answers. Nobody there any more to be told is fine, except that messages under a lease then
    /// come back: those are answered.
    pub(super) fn give(self) -> Vec<Delivery> {
        match self.reply {
            Held::Publish(reply, value) => drop(reply.send(value)),
            Held::Register(reply, value) => drop(reply.send(value)),
            Held::Receive(reply, value) => {
                if let Err(Ok(mut unclaimed)) = reply.send(value) {
                    unclaimed.retain(|delivery| delivery.lease.is_some());
                    return unclaimed;
                }
            }
            Held::Ack(reply, value) => drop(reply.send(value)),
            Held::Statistics(reply, value) => drop(reply.send(value)),
        }
        Vec::new()
    }

    /// It is not known whether the frame is durable: says so, unless the request was refused anyway.
    pub(super) fn give_unknown(self) {
        fn send<T>(reply: oneshot::Sender<Reply<T>>, value: Reply<T>) {
            drop(reply.send(value.and(Err(EngineError::OutcomeUnknown))));
        }
        match self.reply {
            Held::Publish(reply, value) => send(reply, value),
            Held::Register(reply, value) => send(reply, value),
            Held::Receive(reply, value) => send(reply, value),
            Held::Ack(reply, value) => send(reply, value),
            Held::Statistics(reply, value) => send(reply, value),
        }
    }
}

//! What the commit thread is asked, and the answers that wait until it is durable.

use std::fmt;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    EngineError, Published, Receive, Registered, Settled, SettledAll, Settlement, Statistics,
    manage::{Manage, Managed},
    sealed::Sealed,
    verbs::{Publication, SettleItem},
    views::Look,
};
use crate::model::{Delivery, Name};

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
    Publish { publication: Publication, reply: oneshot::Sender<Reply<Published>> },
    Register { service: Name, topics: Vec<Name>, reply: oneshot::Sender<Reply<Registered>> },
    Receive { receive: Receive, reply: oneshot::Sender<Reply<Vec<Delivery>>> },
    SettleEach { queue: Option<Name>, items: Vec<SettleItem>, reply: oneshot::Sender<Reply<Vec<Settled>>> },
    SettleAll { items: Vec<SettleItem>, publications: Vec<Publication>, reply: oneshot::Sender<Reply<SettledAll>> },
    Manage { manage: Manage, reply: oneshot::Sender<Reply<Managed>> },
    Look { look: Look },
    Statistics { reply: oneshot::Sender<Reply<Statistics>> },
}

impl Verb {
    /// How many bytes of a frame it may take.
    pub(super) fn frame_bytes(&self) -> usize {
        /// What the records that come with a request take beside the messages: names, headers, runs.
        const OVERHEAD_BYTES: usize = 64 << 10;
        match self {
            Self::Publish { publication, .. } => OVERHEAD_BYTES + frame_bytes_of(&publication.messages),
            Self::Register { topics, .. } => OVERHEAD_BYTES + topics.len() * 1024,
            Self::SettleEach { items, .. } => OVERHEAD_BYTES + settle_bytes_of(items),
            Self::SettleAll { items, publications, .. } => {
                let messages: usize =
                    publications.iter().map(|publication| frame_bytes_of(&publication.messages)).sum();
                OVERHEAD_BYTES + settle_bytes_of(items) + messages + publications.len() * 1024
            }
            Self::Receive { .. } | Self::Manage { .. } | Self::Look { .. } | Self::Statistics { .. } => OVERHEAD_BYTES,
        }
    }

    /// How much room it takes while it is under way, in bytes; `None` if it brings no messages.
    pub(super) fn room_bytes(&self) -> Option<usize> {
        /// What a request takes beside its messages: itself, names, its answer.
        const OVERHEAD_BYTES: usize = 1 << 10;
        match self {
            Self::Publish { publication, .. } => Some(OVERHEAD_BYTES + frame_bytes_of(&publication.messages)),
            Self::SettleAll { publications, .. } if !publications.is_empty() => {
                let messages = publications.iter().map(|publication| frame_bytes_of(&publication.messages));
                Some(OVERHEAD_BYTES + messages.sum::<usize>())
            }
            Self::Register { .. }
            | Self::Receive { .. }
            | Self::SettleEach { .. }
            | Self::SettleAll { .. }
            | Self::Manage { .. }
            | Self::Look { .. }
            | Self::Statistics { .. } => None,
        }
    }

    /// Whether it brings messages, and so has to wait while no more may come.
    pub(super) fn brings_messages(&self) -> bool {
        self.room_bytes().is_some()
    }

    /// Answers that the request was never looked at.
    pub(super) fn refuse(self, error: EngineError) {
        // Nobody is there any more to be told: that is fine.
        match self {
            Self::Publish { reply, .. } => drop(reply.send(Err(error))),
            Self::Register { reply, .. } => drop(reply.send(Err(error))),
            Self::Receive { reply, .. } => drop(reply.send(Err(error))),
            Self::SettleEach { reply, .. } => drop(reply.send(Err(error))),
            Self::SettleAll { reply, .. } => drop(reply.send(Err(error))),
            Self::Manage { reply, .. } => drop(reply.send(Err(error))),
            Self::Look { look } => look.refuse(error),
            Self::Statistics { reply } => drop(reply.send(Err(error))),
        }
    }
}

/// The bytes that the records of these messages take in a frame.
pub(super) fn frame_bytes_of(messages: &[Sealed]) -> usize {
    messages.iter().map(|m| super::journal::RECORD_HEADER_BYTES + m.body_bytes()).sum()
}

/// The bytes that the records of these settlements take in a frame, at most.
fn settle_bytes_of(items: &[SettleItem]) -> usize {
    let reason = |settlement: &Settlement| match settlement {
        Settlement::Nack(nack) => nack.reason.len(),
        Settlement::Ack | Settlement::Extend(_) => 0,
    };
    items.iter().map(|(_, settlement)| 2 * super::journal::RECORD_HEADER_BYTES + reason(settlement)).sum()
}

/// What became of the frame that an answer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is written and synced.
    Durable,
    /// It may or may not be stored.
    Unknown,
}

/// An answer that waits for the open frame. Answers what the client should have got and did not, because it is gone.
pub(super) struct Answer(Box<dyn FnOnce(Fate) -> Vec<Delivery> + Send>);

impl Answer {
    /// Gives back the room of the request when it is given.
    pub(super) fn new<T: Send + 'static>(
        reply: oneshot::Sender<Reply<T>>,
        value: Reply<T>,
        room: OwnedSemaphorePermit,
    ) -> Self {
        Self(Box::new(move |fate| {
            drop(room);
            // Nobody is there any more to be told: that is fine.
            drop(reply.send(told(fate, value)));
            Vec::new()
        }))
    }

    /// Deliveries; a receive that waits has given its room back already.
    pub(super) fn deliveries(reply: oneshot::Sender<Reply<Vec<Delivery>>>, value: Reply<Vec<Delivery>>) -> Self {
        Self(Box::new(move |fate| reply.send(told(fate, value)).err().and_then(Result::ok).unwrap_or_default()))
    }

    /// Tells the client.
    pub(super) fn give(self, fate: Fate) -> Vec<Delivery> {
        (self.0)(fate)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

/// A refusal stays one; that something was done can only be said of a durable frame.
fn told<T>(fate: Fate, value: Reply<T>) -> Reply<T> {
    match fate {
        Fate::Durable => value,
        Fate::Unknown => value.and(Err(EngineError::OutcomeUnknown)),
    }
}

//! Messages of a queue, page by page, with what is up with each. Nothing happens to them by that.

use std::sync::Arc;

use super::{View, queue_view::Named};
use crate::{
    engine::{
        EngineError,
        checkpoint::{Block, Kind, Place},
        journal::DeadCause,
        state::{Queue, Topic, Waiting, Whereabouts},
    },
    model::{Attempt, Message, Name, Seq, Timestamp},
};

/// Which messages of a queue are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateFilter {
    /// Those that wait to be handed out, also those that wait for a retry or for others of their key.
    Ready,
    /// Those that consumers hold.
    Leased,
    /// Those of the topic that are not visible yet.
    Delayed,
    /// Dead letters.
    Dead,
}

/// Asks for messages of a queue.
#[derive(Debug, Clone)]
pub struct Browse {
    /// The queue.
    pub queue: Name,
    /// Which of its messages.
    pub state: StateFilter,
    /// Behind which place; `None`: from the first one on.
    pub after: Option<Seq>,
    /// Most messages.
    pub max: usize,
}

/// Some messages, in publish order.
#[derive(Debug, Clone)]
pub struct Page {
    /// The messages.
    pub messages: Vec<Browsed>,
    /// Behind which place the next ones are, if there may be more.
    pub next: Option<Seq>,
}

/// A message and what is up with it.
#[derive(Debug, Clone)]
pub struct Browsed {
    /// Its place: among the delayed ones of its topic if it is not visible yet.
    pub seq: Seq,
    /// The message; `None` if it is damaged.
    pub message: Option<Arc<Message>>,
    /// What is up with it.
    pub state: MessageState,
}

/// What is up with a message, as one queue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageState {
    /// It waits to be handed out.
    Ready {
        /// Deliveries so far that count.
        attempts: Attempt,
    },
    /// It failed, and waits for its retry.
    Retrying {
        /// Deliveries so far that count.
        attempts: Attempt,
        /// When it can be delivered again.
        retry_at: Timestamp,
    },
    /// A consumer holds it.
    Leased {
        /// Which delivery this is.
        attempt: Attempt,
        /// Until when.
        deadline: Timestamp,
    },
    /// It is not visible yet.
    Delayed {
        /// When it becomes so.
        due: Timestamp,
    },
    /// It is a dead letter.
    Dead {
        /// Deliveries so far that count.
        attempts: Attempt,
        /// Why.
        cause: DeadCause,
        /// What the consumer said; empty if it said nothing.
        reason: Arc<str>,
        /// When the first of its deliveries failed.
        first_failed: Timestamp,
        /// When it was given up.
        at: Timestamp,
    },
}

/// Where a message can be had.
#[derive(Debug, Clone)]
pub(in crate::engine) enum Source {
    Here(Arc<Message>),
    In(Block, Seq),
    Lost,
}

/// A message that is to be shown.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Located {
    pub(in crate::engine) seq: Seq,
    pub(in crate::engine) state: MessageState,
    pub(in crate::engine) source: Source,
}

/// A page before its messages are read.
#[derive(Debug)]
pub(in crate::engine) struct Outline {
    pub(in crate::engine) topic: Name,
    pub(in crate::engine) messages: Vec<Located>,
    pub(in crate::engine) next: Option<Seq>,
}

impl View<'_> {
    pub(in crate::engine) fn browse(&self, browse: &Browse) -> Result<Outline, EngineError> {
        let Named { queue, topic, .. } = self.queue_named(&browse.queue)?;
        let from = browse.after.map_or(Seq(0), Seq::next);
        let kind = if browse.state == StateFilter::Delayed { Kind::Delayed } else { Kind::Visible };
        let mut messages = Vec::new();
        for seq in seqs_of(&queue, topic, browse.state, from).take(browse.max) {
            let Some(state) = self.state_of(&queue, topic, kind, seq) else { continue };
            let source = self.source_of(Place { topic: queue.topic, kind, seq });
            messages.push(Located { seq, state, source });
        }
        let next = messages.last().map(|last| last.seq).filter(|_| messages.len() == browse.max);
        Ok(Outline { topic: topic.name.clone(), messages, next })
    }

    /// What is up with a message, if the queue is not done with it.
    pub(super) fn state_of(&self, queue: &Queue, topic: &Topic, kind: Kind, seq: Seq) -> Option<MessageState> {
        if kind == Kind::Delayed {
            return topic.delayed.get(&seq).map(|due| MessageState::Delayed { due: *due });
        }
        if let Some(held) = queue.held(seq) {
            return Some(MessageState::Leased { attempt: held.attempt, deadline: held.deadline });
        }
        if let Some(dead) = queue.dead().get(&seq) {
            return Some(MessageState::Dead {
                attempts: dead.attempts,
                cause: dead.cause,
                reason: Arc::clone(&dead.reason),
                first_failed: dead.first_failed,
                at: dead.at,
            });
        }
        match queue.lanes().back(seq) {
            Some(Waiting { attempts, retry_at: Some(retry_at), .. }) if *retry_at > self.now => {
                Some(MessageState::Retrying { attempts: *attempts, retry_at: *retry_at })
            }
            Some(waiting) => Some(MessageState::Ready { attempts: waiting.attempts }),
            None => (queue.wants(seq) && seq < topic.log.next).then_some(MessageState::Ready { attempts: Attempt(0) }),
        }
    }

    pub(super) fn source_of(&self, place: Place) -> Source {
        match self.state.find(place) {
            Whereabouts::Recent(kept) => Source::Here(Arc::clone(&kept.message)),
            Whereabouts::Saved(block, seq) => Source::In(block, seq),
            Whereabouts::Nowhere => Source::Lost,
        }
    }
}

/// The places of messages from `from` on, in order.
fn seqs_of<'a>(
    queue: &'a Queue,
    topic: &'a Topic,
    state: StateFilter,
    from: Seq,
) -> Box<dyn Iterator<Item = Seq> + 'a> {
    match state {
        StateFilter::Leased => Box::new(queue.all_held().range(from..).map(|(seq, _)| *seq)),
        StateFilter::Dead => Box::new(queue.dead().range(from..).map(|(seq, _)| *seq)),
        StateFilter::Delayed => Box::new(topic.delayed.range(from..).map(|(seq, _)| *seq)),
        StateFilter::Ready => {
            let fresh = (queue.cursor().max(from).0..topic.log.next.0).map(Seq);
            let waiting = queue.lanes().from(from);
            Box::new(waiting.chain(fresh.filter(|seq| !queue.gone().contains(seq))))
        }
    }
}

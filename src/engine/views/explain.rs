//! Why a queue hands nothing out, or that it would.

use super::{QueueView, View, browse::Source, queue_view::Named};
use crate::{
    engine::{
        EngineError,
        checkpoint::{Kind, Place},
        state::Queue,
        verbs::has_look_ahead,
    },
    model::{Attempt, MessageId, Name, Seq, Timestamp},
};

/// Most keys that are told one by one.
const KEYS_MAX: usize = 5;

/// What a queue is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The queue.
    pub queue: QueueView,
    /// Messages that can be handed out now, as far as is known without reading them.
    pub deliverable: u64,
    /// What holds messages back; empty if nothing does.
    pub obstacles: Vec<Obstacle>,
}

/// What holds messages back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// The queue is paused.
    Paused,
    /// There is no message in it.
    Empty,
    /// Consumers hold messages.
    Leased {
        /// How many.
        messages: u64,
        /// When the first of these leases ends.
        next_deadline: Timestamp,
    },
    /// Messages that failed wait for their retry.
    Retrying {
        /// How many.
        messages: u64,
        /// When the first one can be delivered again.
        next_at: Timestamp,
    },
    /// Messages are not visible yet.
    Delayed {
        /// How many.
        messages: u64,
        /// When the first one becomes visible.
        next_at: Timestamp,
    },
    /// Messages wait for others of their ordering key.
    BehindKeys {
        /// How many, as far as the queue has looked.
        messages: u64,
        /// Some of what they wait for.
        keys: Vec<HeldKey>,
    },
    /// So many messages wait for others of their ordering key that no further ones are looked at.
    LookAheadFull {
        /// How many.
        messages: u64,
    },
    /// Nobody asks for messages, though there are some.
    NoConsumer,
}

/// An ordering key whose next message cannot be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldKey {
    /// The key; `None` if the message that holds it up cannot be read.
    pub key: Option<String>,
    /// The message that holds it up.
    pub message: Option<MessageId>,
    /// Which delivery of it.
    pub attempt: Attempt,
    /// Until when: its ack deadline, or when it is retried.
    pub until: Timestamp,
    /// How many messages of the key wait behind it.
    pub behind: u64,
}

/// An explanation before the messages are read that it names.
#[derive(Debug)]
pub(in crate::engine) struct Reasons {
    pub(in crate::engine) topic: Name,
    pub(in crate::engine) explanation: Explanation,
    /// Of each of the keys of [`Obstacle::BehindKeys`], the message that holds it up.
    pub(in crate::engine) sources: Vec<Source>,
}

impl View<'_> {
    pub(in crate::engine) fn explain(&self, name: &Name) -> Result<Reasons, EngineError> {
        let Named { id, queue, topic } = self.queue_named(name)?;
        let (view, lanes) = (self.queue_view(id, &queue, topic), queue.lanes());
        let is_later = |(at, _): &(Timestamp, Seq)| *at > self.now;
        let listed = lanes.ready().count() + lanes.retrying().filter(|retry| !is_later(retry)).count();
        let fresh = queue.ready_count(topic.log.next) - lanes.len();
        let deliverable = if queue.is_paused { 0 } else { (listed + fresh) as u64 };
        let mut obstacles = Vec::new();
        if queue.is_paused {
            obstacles.push(Obstacle::Paused);
        }
        if view.ready + view.retrying + view.leased + view.delayed == 0 {
            obstacles.push(Obstacle::Empty);
        }
        if let Some(next_deadline) = queue.all_held().values().map(|held| held.deadline).min() {
            obstacles.push(Obstacle::Leased { messages: view.leased, next_deadline });
        }
        if let Some((next_at, _)) = lanes.retrying().find(is_later) {
            obstacles.push(Obstacle::Retrying { messages: view.retrying, next_at });
        }
        if let Some(next_at) = topic.delayed.values().min() {
            obstacles.push(Obstacle::Delayed { messages: view.delayed, next_at: *next_at });
        }
        let mut sources = Vec::new();
        let behind = lanes.len() as u64 - listed as u64 - view.retrying;
        if behind > 0 {
            let keys = self.held_keys(&queue, &mut sources);
            obstacles.push(Obstacle::BehindKeys { messages: behind, keys });
        }
        if !has_look_ahead(self.state.passed_over_room(&queue, self.limits)) {
            obstacles.push(Obstacle::LookAheadFull { messages: lanes.passed_over().len() as u64 });
        }
        if deliverable > 0 && view.waiting == 0 {
            obstacles.push(Obstacle::NoConsumer);
        }
        let explanation = Explanation { queue: view, deliverable, obstacles };
        Ok(Reasons { topic: topic.name.clone(), explanation, sources })
    }

    /// Some of the keys of which messages wait for another one; that one goes to `sources`.
    fn held_keys(&self, queue: &Queue, sources: &mut Vec<Source>) -> Vec<HeldKey> {
        let lanes = queue.lanes();
        let held = queue.all_held().iter();
        let held = held.filter_map(|(seq, held)| Some((*seq, held.key?, held.attempt, held.deadline)));
        let retrying = lanes.retrying().filter(|(at, _)| *at > self.now).filter_map(|(at, seq)| {
            let waiting = lanes.back(seq)?;
            Some((seq, waiting.key?, waiting.attempts, at))
        });
        let mut keys = Vec::new();
        for (seq, key, attempt, until) in held.chain(retrying) {
            // One that waits for its retry is among those of its lane.
            let behind = lanes.count_of(key) as u64 - u64::from(lanes.contains(seq));
            if behind > 0 {
                keys.push(HeldKey { key: None, message: None, attempt, until, behind });
                sources.push(self.source_of(Place { topic: queue.topic, kind: Kind::Visible, seq }));
            }
            if keys.len() == KEYS_MAX {
                break;
            }
        }
        keys
    }
}

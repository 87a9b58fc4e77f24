//! The state machine: what the records of the journal, applied in order, amount to.
//!
//! Pure: no clock, no randomness, no I/O. It changes by [`State::apply`] alone, and everything that `apply` needs
//! stands in the record, so the same records give the same state in any process. Deciding *which* record comes next is
//! not done here (see [`super::verbs`]).

mod apply;
mod dedup;
mod queue;
mod saved;
mod topic;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

pub(in crate::engine) use self::{
    apply::Inconsistent,
    dedup::{DedupWindow, Remembered, Seen},
    queue::{Held, Queue},
    saved::{Piece, Segments},
    topic::Topic,
};
use crate::{
    engine::sealed::{Kept, Sealed},
    model::{Name, QueueId, Seq, Timestamp, TopicId},
};

/// Everything the broker knows.
#[derive(Debug, Default)]
pub(in crate::engine) struct State {
    /// The time of the latest record; it never runs backwards.
    pub(in crate::engine) time: Timestamp,
    /// By id; a deleted one leaves a hole, because ids are never used again.
    topics: Vec<Option<Topic>>,
    topic_count: usize,
    queues: Vec<Option<Queue>>,
    names: HashMap<Name, Meaning>,
    /// What becomes visible later, by when.
    pub(in crate::engine) delayed: BTreeMap<(Timestamp, TopicId, Seq), Kept>,
    /// When each lease ends.
    pub(in crate::engine) deadlines: BTreeSet<(Timestamp, QueueId, Seq)>,
    pub(in crate::engine) dedup: DedupWindow,
    import: Option<Import>,
    /// The files that have been taken over.
    pub(in crate::engine) imported: BTreeSet<String>,
    /// Topics that got messages since the last checkpoint began. Like `segments`, not part of what replaying restores.
    unsaved_topics: BTreeSet<TopicId>,
    segments: Segments,
    /// Queues that got something to deliver since the list was last taken. Not part of the durable state.
    stirred: Vec<QueueId>,
}

/// What a name stands for. There is one name space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Meaning {
    /// A topic, and its own queue if it has one.
    Topic(TopicId),
    /// The queue of a service on a topic.
    Subscription(QueueId),
}

/// Messages of an import that has not ended: nobody sees them yet.
#[derive(Debug)]
struct Import {
    source: String,
    messages: Vec<(TopicId, Sealed)>,
}

impl State {
    /// What `name` stands for.
    pub(in crate::engine) fn meaning(&self, name: &Name) -> Option<Meaning> {
        self.names.get(name).copied()
    }

    pub(in crate::engine) fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(id.0 as usize)?.as_ref()
    }

    pub(in crate::engine) fn queue(&self, id: QueueId) -> Option<&Queue> {
        self.queues.get(id.0 as usize)?.as_ref()
    }

    /// A queue with its topic.
    pub(in crate::engine) fn queue_and_topic(&self, id: QueueId) -> Option<(&Queue, &Topic)> {
        let queue = self.queue(id)?;
        Some((queue, self.topic(queue.topic)?))
    }

    /// How many topics there are.
    pub(in crate::engine) fn topic_count(&self) -> usize {
        self.topic_count
    }

    /// The id that the next topic gets.
    pub(in crate::engine) fn next_topic(&self) -> TopicId {
        TopicId(u32::try_from(self.topics.len()).expect("topics are bounded far below 2^32"))
    }

    /// The id that the next queue gets.
    pub(in crate::engine) fn next_queue(&self) -> QueueId {
        QueueId(u32::try_from(self.queues.len()).expect("queues are bounded far below 2^32"))
    }

    /// The queues that got something to deliver since this was last asked.
    pub(in crate::engine) fn take_stirred(&mut self) -> Vec<QueueId> {
        let stirred = std::mem::take(&mut self.stirred);
        for id in &stirred {
            if let Some(Some(queue)) = self.queues.get_mut(id.0 as usize) {
                queue.is_stirred = false;
            }
        }
        stirred
    }

    /// All queues, with their topics.
    pub(in crate::engine) fn queues(&self) -> impl Iterator<Item = (&Queue, &Topic)> {
        self.queues.iter().flatten().filter_map(|queue| Some((queue, self.topic(queue.topic)?)))
    }

    /// How many messages are kept, delayed ones included.
    pub(in crate::engine) fn message_count(&self) -> usize {
        self.topics.iter().flatten().map(|topic| topic.log.len()).sum::<usize>() + self.delayed.len()
    }

    /// A number that is equal for equal states, for comparing two engines that applied the same records.
    pub(in crate::engine) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.time.hash(&mut hasher);
        for (id, topic) in self.topics.iter().enumerate() {
            let Some(topic) = topic else { continue };
            (id, &topic.name, &topic.queues, topic.own, topic.is_inbox).hash(&mut hasher);
            (topic.log.next, topic.next_delayed).hash(&mut hasher);
            for (seq, kept) in topic.log.iter_from(Seq(0)) {
                (seq, kept.message.id, &kept.message.payload, kept.message.expires_at).hash(&mut hasher);
            }
        }
        for (id, queue) in self.queues.iter().enumerate() {
            let Some(queue) = queue else { continue };
            (id, &queue.name, queue.topic, &queue.service, queue.fingerprint()).hash(&mut hasher);
        }
        for (key, kept) in &self.delayed {
            (key, kept.message.id).hash(&mut hasher);
        }
        self.deadlines.hash(&mut hasher);
        self.imported.hash(&mut hasher);
        self.dedup.fingerprint().for_each(|end| end.hash(&mut hasher));
        hasher.finish()
    }
}

//! The state machine: what the records of the journal, applied in order, amount to.
//!
//! Pure: no clock, no randomness, no I/O. It changes by [`State::apply`] alone, and everything that `apply` needs
//! stands in the record, so the same records give the same state in any process. Deciding *which* record comes next is
//! not done here (see [`super::verbs`]).
//!
//! A message has no object here: which ones are wanted follows from the positions of the queues, and where each stands
//! from the index of the segments, a few bytes for each hundred of them. Only the recent ones, those that no checkpoint
//! has written yet, are here themselves; how much they may take is the engine's business.

mod apply;
mod dedup;
mod lanes;
mod leftovers;
mod numbered;
mod queue;
mod saved;
mod segments;
mod sizes;
#[cfg(test)]
mod tests;
mod topic;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

pub(in crate::engine) use self::{
    apply::Inconsistent,
    dedup::{DedupWindow, Seen},
    lanes::{Turn, Waiting},
    leftovers::Leftovers,
    queue::{Dead, Held, Queue, QueueContent},
    saved::{Piece, Plan, Source},
    segments::Segments,
    topic::{Content, Topic, Wanted},
};
use self::{leftovers::Bin, numbered::Numbered};
use crate::{
    engine::{
        Counters,
        checkpoint::{Block, IdsEntry, Kind, Place},
        sealed::{Kept, Sealed},
    },
    model::{Name, QueueId, Seq, Timestamp, TopicId},
};

/// Everything the broker knows.
#[derive(Debug, Default)]
pub(in crate::engine) struct State {
    /// The time of the latest record; it never runs backwards.
    pub(in crate::engine) time: Timestamp,
    topics: Numbered<Topic>,
    queues: Numbered<Queue>,
    names: HashMap<Name, Meaning>,
    /// What becomes visible later, by when.
    pub(in crate::engine) delayed: BTreeSet<(Timestamp, TopicId, Seq)>,
    /// When each lease ends.
    pub(in crate::engine) deadlines: BTreeSet<(Timestamp, QueueId, Seq)>,
    /// When each message that failed may be delivered again. One that is gone by then is passed over.
    pub(in crate::engine) retries: BTreeSet<(Timestamp, QueueId, Seq)>,
    /// Dead letters of all queues.
    pub(in crate::engine) dead_count: usize,
    /// Messages of all queues that were looked at and never handed out.
    pub(in crate::engine) passed_over_count: usize,
    pub(in crate::engine) dedup: DedupWindow,
    import: Option<Import>,
    /// Files that are being taken over, each with how many of its lines have been read.
    pub(in crate::engine) importing: BTreeMap<String, u64>,
    /// The files that have been taken over.
    pub(in crate::engine) imported: BTreeSet<String>,
    /// Topics that got messages since the last checkpoint began. Like `segments`, not part of what replaying restores.
    unsaved_topics: BTreeSet<TopicId>,
    /// What the checkpoint that is being written covers: of each topic, the messages before these.
    saving: Vec<(TopicId, Seq, Seq)>,
    /// About what the recent messages take in memory.
    recent_bytes: u64,
    pub(in crate::engine) segments: Segments,
    /// Where the last checkpoints have written dedup ids.
    ids_files: Vec<IdsEntry>,
    /// Queues that got something to deliver since the list was last taken. Not part of the durable state.
    stirred: Vec<QueueId>,
    /// Messages that are not needed any more. Not part of the durable state.
    bin: Bin,
}

/// What a name stands for. There is one name space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Meaning {
    /// A topic, and its own queue if it has one.
    Topic(TopicId),
    /// The queue of a service on a topic.
    Subscription(QueueId),
}

/// Messages of an import of version 1 that has not ended: nobody sees them yet.
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
        self.topics.get(id.0)
    }

    pub(in crate::engine) fn queue(&self, id: QueueId) -> Option<&Queue> {
        self.queues.get(id.0)
    }

    /// A queue with its topic.
    pub(in crate::engine) fn queue_and_topic(&self, id: QueueId) -> Option<(&Queue, &Topic)> {
        let queue = self.queue(id)?;
        Some((queue, self.topic(queue.topic)?))
    }

    /// How many topics there are.
    pub(in crate::engine) fn topic_count(&self) -> usize {
        self.topics.len()
    }

    pub(in crate::engine) fn queue_count(&self) -> usize {
        self.queues.len()
    }

    /// The id that the next topic gets.
    pub(in crate::engine) fn next_topic(&self) -> TopicId {
        TopicId(self.topics.next())
    }

    /// The id that the next queue gets.
    pub(in crate::engine) fn next_queue(&self) -> QueueId {
        QueueId(self.queues.next())
    }

    /// How many more topics and queues can ever be made.
    pub(in crate::engine) fn ids_left(&self) -> (usize, usize) {
        (self.topics.left(), self.queues.left())
    }

    /// The journal has come to its end: nothing will end an import of version 1 any more.
    pub(in crate::engine) fn forget_unfinished_import(&mut self) {
        self.import = None;
    }

    /// The queues that got something to deliver since this was last asked.
    pub(in crate::engine) fn take_stirred(&mut self) -> Vec<QueueId> {
        let stirred = std::mem::take(&mut self.stirred);
        for id in &stirred {
            if let Some(queue) = self.queues.get_mut(id.0) {
                queue.is_stirred = false;
            }
        }
        stirred
    }

    /// From here on messages that are not needed any more are kept until they are taken, instead of being freed at once.
    pub(in crate::engine) fn keep_leftovers(&mut self) {
        self.bin.keep();
    }

    /// The messages that are not needed any more.
    pub(in crate::engine) fn take_leftovers(&mut self) -> Leftovers {
        self.bin.take()
    }

    /// Counts from here on what happens.
    pub(in crate::engine) fn forget_counts(&mut self) {
        self.queues.values_mut().for_each(|queue| queue.counters = Counters::default());
    }

    /// A queue's messages that have waited long enough for their next delivery can be handed out from now on.
    pub(in crate::engine) fn wake(&mut self, id: QueueId, now: Timestamp) {
        if let Some(queue) = self.queues.get_mut(id.0) {
            queue.wake(now);
        }
    }

    /// All queues, with their topics.
    pub(in crate::engine) fn queues(&self) -> impl Iterator<Item = (&Queue, &Topic)> {
        self.queues.iter().filter_map(|(_, queue)| Some((queue, self.topic(queue.topic)?)))
    }

    /// The topics from an id on, in the order in which they came.
    pub(in crate::engine) fn topics_from(&self, id: TopicId) -> impl Iterator<Item = (TopicId, &Topic)> {
        self.topics.from(id.0).map(|(id, topic)| (TopicId(id), topic))
    }

    /// The queues from an id on, in the order in which they came, with their topics.
    pub(in crate::engine) fn queues_from(&self, id: QueueId) -> impl Iterator<Item = (QueueId, &Queue, &Topic)> {
        self.queues.from(id.0).filter_map(|(id, queue)| Some((QueueId(id), queue, self.topic(queue.topic)?)))
    }

    /// Which messages of a topic are wanted.
    pub(in crate::engine) fn wanted(&self, topic: &Topic) -> Wanted {
        Wanted::of(topic, topic.queues.iter().filter_map(|id| self.queue(*id)))
    }

    /// Whether some queue of the topic wants the visible message, or the topic keeps it for its first one.
    pub(in crate::engine) fn wants(&self, topic: TopicId, seq: Seq) -> bool {
        let Some(topic) = self.topic(topic).filter(|topic| seq < topic.log.next) else { return false };
        let is_kept = topic.queues.is_empty() && seq >= topic.kept_from;
        is_kept || topic.queues.iter().filter_map(|id| self.queue(*id)).any(|queue| queue.wants(seq))
    }

    /// The earliest message of a topic that is wanted; the place of the next one if there is none.
    pub(in crate::engine) fn first_wanted(&self, topic: &Topic) -> Seq {
        self.wanted(topic).first()
    }

    /// How many messages are wanted, delayed ones included.
    pub(in crate::engine) fn message_count(&self) -> usize {
        let visible = self.topics.iter().map(|(_, topic)| self.visible_count(topic));
        visible.sum::<usize>() + self.delayed.len()
    }

    /// How many visible messages of a topic are wanted.
    pub(in crate::engine) fn visible_count(&self, topic: &Topic) -> usize {
        usize::try_from(self.wanted(topic).visible_count()).unwrap_or(usize::MAX)
    }

    /// The places of all messages that are wanted.
    pub(in crate::engine) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.topics_from(TopicId(0)).flat_map(|(topic, entry)| {
            let visible: Vec<_> = self.wanted(entry).visible().collect();
            let visible = visible.into_iter().map(move |seq| Place { topic, kind: Kind::Visible, seq });
            visible.chain(entry.delayed.keys().map(move |seq| Place { topic, kind: Kind::Delayed, seq: *seq }))
        })
    }

    /// Where a message is that is wanted.
    pub(in crate::engine) fn find(&self, place: Place) -> Whereabouts<'_> {
        let Some(topic) = self.topic(place.topic) else { return Whereabouts::Nowhere };
        let saved_at = match place.kind {
            Kind::Delayed => match topic.recent_delayed.get(&place.seq) {
                Some(kept) => return Whereabouts::Recent(kept),
                None => place,
            },
            Kind::Visible => match topic.log.get(place.seq) {
                Some(Content::Here(kept)) => return Whereabouts::Recent(kept),
                Some(Content::AmongDelayed(seq)) => Place { kind: Kind::Delayed, seq: *seq, ..place },
                None => place,
            },
        };
        self.segments.find(saved_at).map_or(Whereabouts::Nowhere, |block| Whereabouts::Saved(block, saved_at.seq))
    }

    /// About what the recent messages take in memory, in bytes.
    pub(in crate::engine) fn recent_bytes(&self) -> u64 {
        self.recent_bytes
    }

    /// A number that is equal for equal states, for comparing two engines that applied the same records. What the
    /// messages say is no part of it.
    pub(in crate::engine) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.time.hash(&mut hasher);
        for (id, topic) in self.topics.iter() {
            (id, &topic.name, &topic.queues, topic.own, topic.is_inbox).hash(&mut hasher);
            (topic.policy, topic.kept_from).hash(&mut hasher);
            (topic.log.next, topic.next_delayed, &topic.delayed).hash(&mut hasher);
        }
        (self.topics.next(), self.queues.next()).hash(&mut hasher);
        for (id, queue) in self.queues.iter() {
            (id, &queue.name, queue.topic, &queue.service, queue.fingerprint()).hash(&mut hasher);
        }
        self.delayed.hash(&mut hasher);
        self.deadlines.hash(&mut hasher);
        (&self.imported, &self.importing).hash(&mut hasher);
        self.dedup.fingerprint().for_each(|end| end.hash(&mut hasher));
        hasher.finish()
    }
}

/// Where a message is.
#[derive(Debug)]
pub(in crate::engine) enum Whereabouts<'a> {
    /// In memory.
    Recent(&'a Kept),
    /// In a block, under that place in its sequence.
    Saved(Block, Seq),
    /// Lost: its segment was damaged.
    Nowhere,
}

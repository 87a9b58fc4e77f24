//! How much may wait in a queue, and what is done with what would be too much.

use super::{Step, publish::Leaving};
use crate::{
    engine::{
        EngineError,
        journal::{RECORD_HEADER_BYTES, Reason, Record},
        sealed::Sealed,
        state::{Queue, Seen, Topic},
    },
    model::{Overflow, QueueId, QueueLimits, Seq, TopicId},
};

/// How much there is of something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Load {
    messages: u64,
    bytes: u64,
}

impl Load {
    fn and(self, other: Self) -> Self {
        Self { messages: self.messages + other.messages, bytes: self.bytes + other.bytes }
    }

    fn without(self, other: Self) -> Self {
        let (messages, bytes) = (self.messages.saturating_sub(other.messages), self.bytes.saturating_sub(other.bytes));
        Self { messages, bytes }
    }

    fn fits(self, limits: &QueueLimits) -> bool {
        let fits = |amount, max: Option<u64>| max.is_none_or(|max| amount <= max);
        fits(self.messages, limits.messages_max) && fits(self.bytes, limits.bytes_max)
    }
}

fn load_of(queue: &Queue, topic: &Topic) -> Load {
    let messages = (queue.ready_count(topic.log.next) + queue.held_count()) as u64;
    Load { messages, bytes: queue.bytes() }
}

fn limits_of(queue: &Queue, topic: &Topic) -> QueueLimits {
    queue.policy.limits.or(topic.policy.limits)
}

impl Step<'_> {
    /// Refuses messages that would be too much for a queue of the topic.
    pub(super) fn check_limits(&self, id: TopicId, messages: &[Sealed], leaving: &Leaving) -> Result<(), EngineError> {
        let Some(topic) = self.state.topic(id) else { return Ok(()) };
        let queues = || topic.queues.iter().filter_map(|id| Some((*id, self.state.queue(*id)?)));
        if !queues().any(|(_, queue)| limits_of(queue, topic).are_set()) && !topic.policy.limits.are_set() {
            return Ok(());
        }
        let is_new = |message: &&Sealed| {
            let is_visible = message.matures_at(self.now).is_none();
            is_visible && !matches!(self.state.dedup.look_up(id, message, self.now), Seen::Same(_))
        };
        let load = |message: &Sealed| Load { messages: 1, bytes: (RECORD_HEADER_BYTES + message.body_bytes()) as u64 };
        let more = messages.iter().filter(is_new).map(load).fold(Load::default(), Load::and);
        // Of several, too, the oldest make room.
        let Some(last) = messages.iter().rfind(is_new).map(load) else { return Ok(()) };
        let full = |queue: &str| Err(EngineError::QueueFull { queue: queue.to_owned() });
        for (queue_id, queue) in queues() {
            let limits = limits_of(queue, topic);
            let leaving = leaving.get(&queue_id).map_or(Load::default(), |seqs| self.load_of_all(id, seqs));
            let before = load_of(queue, topic).without(leaving);
            let after = match limits.overflow.unwrap_or_default() {
                Overflow::Reject => before.and(more),
                // What consumers hold stays.
                Overflow::DropOldest => {
                    let held: Vec<Seq> = queue.all_held().keys().copied().collect();
                    self.load_of_all(id, &held).without(leaving).and(last)
                }
            };
            if !after.fits(&limits) {
                return full(queue.name.as_str());
            }
        }
        let limits = topic.policy.limits;
        if topic.queues.is_empty() {
            let after = match limits.overflow.unwrap_or_default() {
                Overflow::Reject => self.load_without_queue(id, topic).and(more),
                Overflow::DropOldest => last,
            };
            if !after.fits(&limits) {
                return full(topic.name.as_str());
            }
        }
        Ok(())
    }

    /// The oldest messages of the topic's queues go that are too much for them.
    pub(super) fn make_room(&mut self, id: TopicId) {
        let Some(topic) = self.state.topic(id) else { return };
        let over: Vec<QueueId> = topic.queues.iter().copied().filter(|queue| self.is_over(*queue)).collect();
        for queue in over {
            let seqs = self.oldest_too_much(queue);
            if !seqs.is_empty() {
                self.emit(Record::Done { queue, reason: Reason::Dropped, seqs });
            }
        }
        self.trim(id);
    }

    fn is_over(&self, id: QueueId) -> bool {
        let found = self.state.queue_and_topic(id);
        found.is_some_and(|(queue, topic)| {
            let limits = limits_of(queue, topic);
            limits.overflow == Some(Overflow::DropOldest) && !load_of(queue, topic).fits(&limits)
        })
    }

    /// The oldest messages of a queue that no consumer holds, as many as are over its limits.
    fn oldest_too_much(&self, id: QueueId) -> Vec<Seq> {
        let Some((queue, topic)) = self.state.queue_and_topic(id) else { return Vec::new() };
        let (limits, mut load, mut seqs) = (limits_of(queue, topic), load_of(queue, topic), Vec::new());
        let waiting = queue.lanes().seqs();
        let fresh = (queue.cursor().0..topic.log.next.0).map(Seq).filter(|seq| !queue.gone().contains(seq));
        for seq in waiting.chain(fresh) {
            if load.fits(&limits) {
                break;
            }
            load = load.without(self.load_of_all(queue.topic, &[seq]));
            seqs.push(seq);
        }
        seqs
    }

    /// The same for a topic without a queue.
    fn trim(&mut self, id: TopicId) {
        let Some(topic) = self.state.topic(id).filter(|topic| topic.queues.is_empty()) else { return };
        let limits = topic.policy.limits;
        if limits.overflow != Some(Overflow::DropOldest) || !limits.are_set() {
            return;
        }
        let (mut load, mut end) = (self.load_without_queue(id, topic), topic.kept_from);
        while !load.fits(&limits) && end < topic.log.next {
            load = load.without(self.load_of_all(id, &[end]));
            end = end.next();
        }
        if end > topic.kept_from {
            self.emit(Record::TopicTrimmed { topic: id, end });
        }
    }

    fn load_of_all(&self, topic: TopicId, seqs: &[Seq]) -> Load {
        Load { messages: seqs.len() as u64, bytes: self.state.sizes_of(topic, seqs) }
    }

    fn load_without_queue(&self, id: TopicId, topic: &Topic) -> Load {
        Load { messages: topic.log.next.0 - topic.kept_from.0, bytes: self.state.bytes_from(id, topic.kept_from) }
    }
}

//! A queue as it is now, in numbers.

use super::View;
use crate::{
    engine::{
        Counters, EngineError,
        checkpoint::{Kind, Place},
        state::{Meaning, Queue, Topic, Whereabouts},
    },
    model::{Name, QueueId, QueueLimits, QueuePolicy, Seq, Timestamp},
};

/// A queue as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueView {
    /// Its name.
    pub name: Name,
    /// The topic that it is a position in.
    pub topic: Name,
    /// Whose it is; `None`: the topic's own.
    pub service: Option<Name>,
    /// What was set of it.
    pub policy: QueuePolicy,
    /// How much may wait in it: what was set of it, or else of its topic.
    pub limits: QueueLimits,
    /// Whether it hands nothing out until it is resumed.
    pub is_paused: bool,
    /// Messages that wait to be handed out, but for those that wait for a retry. Some may have expired, and some wait for
    /// others of their ordering key.
    pub ready: u64,
    /// Messages that failed and wait for their retry.
    pub retrying: u64,
    /// Messages that consumers hold.
    pub leased: u64,
    /// Messages of the topic that are not visible yet.
    pub delayed: u64,
    /// Dead letters.
    pub dead: u64,
    /// About how many bytes its messages have, as they are stored, but for dead letters.
    pub bytes: u64,
    /// When the oldest message that waits was published, as near as can be told without reading it.
    pub oldest_published_at: Option<Timestamp>,
    /// Receives that wait for a message.
    pub waiting: u64,
    /// What has happened so far.
    pub counters: Counters,
}

impl View<'_> {
    /// The queues from the `from`th on that there ever was, and from where on there are more.
    pub(in crate::engine) fn queues(&self, from: u32, max: usize, prefix: &str) -> (Vec<QueueView>, Option<u32>) {
        let mut found = Vec::new();
        for (id, queue, topic) in self.state.queues_from(QueueId(from)) {
            if !queue.name.as_str().starts_with(prefix) {
                continue;
            }
            if found.len() == max {
                return (found, Some(id.0));
            }
            found.push(self.queue_view(id, queue, topic));
        }
        (found, None)
    }

    pub(in crate::engine) fn queue(&self, name: &Name) -> Result<QueueView, EngineError> {
        let (id, queue, topic) = self.queue_named(name)?;
        Ok(self.queue_view(id, queue, topic))
    }

    pub(super) fn queue_named(&self, name: &Name) -> Result<(QueueId, &Queue, &Topic), EngineError> {
        let id = match self.state.meaning(name) {
            Some(Meaning::Subscription(queue)) => Some(queue),
            Some(Meaning::Topic(topic)) => self.state.topic(topic).and_then(|topic| topic.own),
            None => None,
        };
        let found = id.and_then(|id| self.state.queue_and_topic(id).map(|(queue, topic)| (id, queue, topic)));
        found.ok_or_else(|| EngineError::NoSuchQueue { name: name.to_string() })
    }

    pub(super) fn queue_view(&self, id: QueueId, queue: &Queue, topic: &Topic) -> QueueView {
        let retrying = queue.lanes().retrying().filter(|(at, _)| *at > self.now).count() as u64;
        QueueView {
            name: queue.name.clone(),
            topic: topic.name.clone(),
            service: queue.service.clone(),
            policy: (*queue.policy).clone(),
            limits: queue.policy.limits.or(topic.policy.limits),
            is_paused: queue.is_paused,
            ready: queue.ready_count(topic.log.next) as u64 - retrying,
            retrying,
            leased: queue.held_count() as u64,
            delayed: topic.delayed.len() as u64,
            dead: queue.dead().len() as u64,
            bytes: queue.bytes(),
            oldest_published_at: self.oldest(queue, topic),
            waiting: self.waiters.count(id) as u64,
            counters: queue.counters,
        }
    }

    fn oldest(&self, queue: &Queue, topic: &Topic) -> Option<Timestamp> {
        let waiting = queue.lanes().iter().next().map(|(seq, _)| seq);
        let seq = waiting.or_else(|| queue.first_fresh(topic.log.next))?;
        self.published_at(Place { topic: queue.topic, kind: Kind::Visible, seq })
    }

    /// When a message was published, or the first one of its block if it is not in memory.
    fn published_at(&self, place: Place) -> Option<Timestamp> {
        match self.state.find(place) {
            Whereabouts::Recent(kept) => Some(kept.message.published_at),
            Whereabouts::Saved(block, Seq(_)) => Some(block.origin.from).filter(|from| *from > Timestamp::EPOCH),
            Whereabouts::Nowhere => None,
        }
    }
}

//! What a state holds, in numbers.

use std::{cmp::Reverse, collections::HashMap};

use crate::{
    engine::state::State,
    model::{Name, Timestamp, TopicId},
};

/// Topics, queues and messages. As they are stored: whether a lease has ended or a delay is over by now is for a broker
/// to find out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// Topics.
    pub topics: usize,
    /// Messages that some queue, or no queue yet, wants; delayed ones included.
    pub messages: usize,
    /// Of these, messages that become visible later.
    pub delayed: usize,
    /// Of these, messages on topics that have no queue yet.
    pub without_queue: usize,
    /// Queues.
    pub queues: usize,
    /// The sum of [`QueueContents::ready`] over all queues. A message counts once for every queue that wants it.
    pub ready: usize,
    /// The sum of [`QueueContents::leased`] over all queues.
    pub leased: usize,
    /// The largest queues, at most [`Contents::QUEUES_MAX`].
    pub largest: Vec<QueueContents>,
    /// The time of the latest record that they come from.
    pub as_of: Timestamp,
}

/// What one queue holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueContents {
    /// Its name.
    pub name: Name,
    /// Messages that can be handed out.
    pub ready: usize,
    /// Messages that consumers hold.
    pub leased: usize,
    /// Messages of its topic that become visible later. Every queue of the topic gets each of them.
    pub delayed: usize,
}

impl QueueContents {
    fn size(&self) -> usize {
        self.ready + self.leased + self.delayed
    }
}

impl Contents {
    /// Most queues that are listed.
    pub const QUEUES_MAX: usize = 20;

    pub(super) fn of(state: &State) -> Self {
        let mut delayed: HashMap<TopicId, usize> = HashMap::new();
        for (_, topic, _) in &state.delayed {
            *delayed.entry(*topic).or_default() += 1;
        }
        let mut contents = Self {
            topics: state.topic_count(),
            messages: state.message_count(),
            delayed: state.delayed.len(),
            as_of: state.time,
            ..Self::default()
        };
        for (queue, topic) in state.queues() {
            let (ready, leased) = (queue.ready_count(topic.log.next), queue.held_count());
            let delayed = delayed.get(&queue.topic).copied().unwrap_or(0);
            contents.queues += 1;
            contents.ready += ready;
            contents.leased += leased;
            contents.list(QueueContents { name: queue.name.clone(), ready, leased, delayed });
        }
        for (id, topic) in state.topics_from(TopicId(0)).filter(|(_, topic)| topic.queues.is_empty()) {
            contents.without_queue += state.visible_count(topic) + delayed.get(&id).copied().unwrap_or(0);
        }
        contents
    }

    /// Puts a queue in its place among the largest.
    fn list(&mut self, queue: QueueContents) {
        let key = |queue: &QueueContents| (Reverse(queue.size()), queue.name.clone());
        let place = self.largest.partition_point(|other| key(other) < key(&queue));
        if place < Self::QUEUES_MAX {
            self.largest.insert(place, queue);
            self.largest.truncate(Self::QUEUES_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_queues_are_listed_and_those_of_one_size_by_name() {
        let mut contents = Contents::default();
        for n in 0..50_usize {
            let name = Name::parse(&format!("q{n:02}")).expect("valid");
            contents.list(QueueContents { name, ready: n / 2, leased: n % 2, delayed: 0 });
        }
        assert_eq!(contents.largest.len(), Contents::QUEUES_MAX);
        let names: Vec<_> = contents.largest[..4].iter().map(|queue| queue.name.as_str()).collect();
        assert_eq!(names, ["q49", "q47", "q48", "q45"]);
    }
}

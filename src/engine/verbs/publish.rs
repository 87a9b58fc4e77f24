//! Publish: store messages in a topic, all or none.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::Step;
use crate::{
    engine::{
        EngineError, Published, PublishedMessage,
        journal::Record,
        sealed::Sealed,
        state::{Meaning, Seen},
    },
    model::{Name, QueueId, Seq, TopicId},
};

/// Messages for a topic.
#[derive(Debug)]
pub(in crate::engine) struct Publication {
    pub(in crate::engine) topic: Name,
    pub(in crate::engine) messages: Vec<Sealed>,
}

/// Messages that can be stored.
pub(super) struct Checked {
    name: Name,
    existing: Option<TopicId>,
    messages: Vec<Sealed>,
}

/// Publications that can be stored.
pub(super) struct CheckedAll {
    /// One for each topic.
    checked: Vec<Checked>,
    /// Of each publication, in which of them its messages are, behind those of the publications before, and how many.
    parts: Vec<(usize, usize)>,
}

/// What a step lets go of before it publishes, per queue.
pub(super) type Leaving = BTreeMap<QueueId, Vec<Seq>>;

/// In which publication a message is that stands at `index` among all for the topic `at`, and where there.
fn unmerged(parts: &[(usize, usize)], at: usize, mut index: usize) -> (usize, usize) {
    for (publication, (_, count)) in parts.iter().enumerate().filter(|(_, (of, _))| *of == at) {
        if index < *count {
            return (publication, index);
        }
        index -= count;
    }
    (0, index)
}

impl Step<'_> {
    pub(in crate::engine) fn publish(&mut self, publication: Publication) -> Result<Published, EngineError> {
        let new_topics = usize::from(self.state.meaning(&publication.topic).is_none());
        self.sweep(&publication.topic);
        let checked = self.check(publication, &Leaving::new())?;
        self.check_room(new_topics, 0)?;
        Ok(self.publish_checked(checked))
    }

    /// Refuses all, or none: several for one topic count together.
    pub(super) fn check_all(
        &self,
        publications: Vec<Publication>,
        leaving: &Leaving,
    ) -> Result<CheckedAll, EngineError> {
        let (mut topics, mut merged) = (HashMap::new(), Vec::<Publication>::new());
        let mut parts = Vec::with_capacity(publications.len());
        for Publication { topic, messages } in publications {
            let at = *topics.entry(topic.clone()).or_insert(merged.len());
            parts.push((at, messages.len()));
            match merged.get_mut(at) {
                Some(before) => before.messages.extend(messages),
                None => merged.push(Publication { topic, messages }),
            }
        }
        let is_new = |publication: &&Publication| self.state.meaning(&publication.topic).is_none();
        let new_topics = merged.iter().filter(is_new).count();
        let check = |(at, publication)| {
            self.check(publication, leaving).map_err(|error| match error {
                EngineError::DedupMismatch { index, dedup_id, .. } => {
                    let (publication, index) = unmerged(&parts, at, index);
                    EngineError::DedupMismatch { publication, index, dedup_id }
                }
                other => other,
            })
        };
        let checked = merged.into_iter().enumerate().map(check).collect::<Result<_, _>>()?;
        self.check_room(new_topics, 0)?;
        Ok(CheckedAll { checked, parts })
    }

    /// Stores what was checked in this step, and answers each publication.
    pub(super) fn publish_checked_all(&mut self, all: CheckedAll) -> Vec<Published> {
        let published: Vec<_> = all.checked.into_iter().map(|checked| self.publish_checked(checked)).collect();
        let mut rests: Vec<_> = published.iter().map(|published| published.messages.as_slice()).collect();
        let part = |(at, count): (usize, usize)| {
            let (messages, rest) = rests[at].split_at(count);
            rests[at] = rest;
            Published { messages: messages.to_vec(), queues: Arc::clone(&published[at].queues) }
        };
        all.parts.into_iter().map(part).collect()
    }

    /// Refuses what cannot be stored, but for the room that new topics take.
    fn check(&self, publication: Publication, leaving: &Leaving) -> Result<Checked, EngineError> {
        let Publication { topic: name, messages } = publication;
        let existing = match self.state.meaning(&name) {
            None if !self.declares => return Err(EngineError::NoSuchTopic { name: name.to_string() }),
            None => None,
            Some(Meaning::Topic(topic)) => Some(topic),
            Some(Meaning::Subscription(queue)) => return Err(self.publish_to_subscription(&name, queue)),
        };
        self.check_dedup(existing, &messages)?;
        self.check_delayed(&messages)?;
        if let Some(topic) = existing {
            self.check_limits(topic, &messages, leaving)?;
        }
        Ok(Checked { name, existing, messages })
    }

    fn publish_checked(&mut self, checked: Checked) -> Published {
        let Checked { name, existing, messages } = checked;
        let topic = existing.unwrap_or_else(|| self.create_topic(name));
        let messages = messages.into_iter().map(|message| self.publish_one(topic, message)).collect();
        self.make_room(topic);
        let queues = self.state.topic(topic).map(|t| Arc::clone(&t.queue_names)).unwrap_or_default();
        Published { messages, queues }
    }

    fn publish_one(&mut self, topic: TopicId, message: Sealed) -> PublishedMessage {
        if let Seen::Same(id) = self.state.dedup.look_up(topic, &message, self.now) {
            return PublishedMessage { id, duplicate: true };
        }
        let id = message.id;
        let numbers = self.state.topic(topic).map(|t| (t.log.next, t.next_delayed)).unwrap_or_default();
        let record = match message.matures_at(self.now) {
            None => Record::Published { topic, seq: numbers.0, message },
            Some(_) => Record::Delayed { topic, seq: numbers.1, message },
        };
        self.emit(record);
        PublishedMessage { id, duplicate: false }
    }

    /// Refuses the whole batch for one dedup id that was used for something else, before or within it.
    fn check_dedup(&self, topic: Option<TopicId>, messages: &[Sealed]) -> Result<(), EngineError> {
        let mut batch = HashMap::new();
        for (index, message) in messages.iter().enumerate() {
            let Some(dedup) = &message.dedup else { continue };
            let seen = topic.map_or(Seen::Never, |topic| self.state.dedup.look_up(topic, message, self.now));
            let first = batch.entry(dedup.id.as_str()).or_insert(&message.payload);
            if seen == Seen::Other || **first != message.payload {
                return Err(EngineError::DedupMismatch { publication: 0, index, dedup_id: dedup.id.clone() });
            }
        }
        if !self.state.dedup.has_room(batch.len(), self.limits.dedup_ids_max, self.now) {
            return Err(EngineError::Full { what: "as many dedup ids are remembered as may be; retry later" });
        }
        Ok(())
    }

    /// Refuses what would be one delayed message too many.
    fn check_delayed(&self, messages: &[Sealed]) -> Result<(), EngineError> {
        let more = messages.iter().filter(|message| message.matures_at(self.now).is_some()).count();
        if more > 0 && self.state.delayed.len() + more > self.limits.delayed_max {
            return Err(EngineError::Full { what: "as many messages are delayed as may be; retry later" });
        }
        Ok(())
    }

    fn publish_to_subscription(&self, name: &Name, queue: QueueId) -> EngineError {
        let problem = match self.state.queue_and_topic(queue) {
            Some((queue, topic)) => {
                let (topic, service) = (&topic.name, queue.service.as_ref().map_or("", Name::as_str));
                format!(
                    "topic: '{name}' is the queue of service '{service}' on topic '{topic}'; publish to '{topic}', \
                     or to '{service}' for the inbox of the service"
                )
            }
            None => format!("topic: '{name}' is a queue; publish to its topic"),
        };
        EngineError::NameConflict { problem }
    }
}

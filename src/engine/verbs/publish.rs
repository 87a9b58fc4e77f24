//! Publish: store messages in a topic, all or none.

use std::{collections::HashMap, sync::Arc};

use super::Step;
use crate::{
    engine::{
        EngineError, Published, PublishedMessage,
        journal::Record,
        sealed::Sealed,
        state::{Meaning, Seen},
    },
    model::{Name, QueueId, TopicId},
};

impl Step<'_> {
    pub(in crate::engine) fn publish(&mut self, name: Name, messages: Vec<Sealed>) -> Result<Published, EngineError> {
        let existing = match self.state.meaning(&name) {
            None => None,
            Some(Meaning::Topic(topic)) => Some(topic),
            Some(Meaning::Subscription(queue)) => return Err(self.publish_to_subscription(&name, queue)),
        };
        self.check_dedup(existing, &messages)?;
        self.check_delayed(&messages)?;
        let topic = match existing {
            Some(topic) => topic,
            None => {
                self.check_room(1)?;
                self.create_topic(name.clone())
            }
        };
        let messages = messages.into_iter().map(|message| self.publish_one(topic, message)).collect();
        let queues = self.state.topic(topic).map(|t| Arc::clone(&t.queue_names)).unwrap_or_default();
        Ok(Published { messages, queues })
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
        for message in messages {
            let Some(dedup) = &message.dedup else { continue };
            let seen = topic.map_or(Seen::Never, |topic| self.state.dedup.look_up(topic, message, self.now));
            let first = batch.entry(dedup.id.as_str()).or_insert(&message.payload);
            if seen == Seen::Other || **first != message.payload {
                return Err(EngineError::DedupMismatch { dedup_id: dedup.id.clone() });
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

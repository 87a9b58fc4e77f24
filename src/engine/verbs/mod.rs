//! Deciding requests: which records carry one out, given the state as it is.
//!
//! A [`Step`] looks at the state, emits records and answers. Emitting puts a record into the open frame and applies it
//! at once, so that the next request of the same frame sees it; nobody outside sees it before the frame is durable,
//! because the answers wait for that.

mod ack;
mod publish;
mod receive;
mod register;
mod tick;

use tracing::info;

use super::{EngineError, journal::FrameBuf, journal::Record, state::State};
use crate::model::{Name, QueueId, Timestamp, TopicId};

pub(super) use tick::next_event;

/// One request at a time, at one moment.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) state: &'a mut State,
    pub(super) frame: &'a mut FrameBuf,
    pub(super) now: Timestamp,
    /// Most topics, and most queues, of the store.
    pub(super) topics_max: usize,
    /// Most dedup ids that are remembered at a time.
    pub(super) dedup_ids_max: usize,
}

impl Step<'_> {
    /// Adds a record to the frame and to the state.
    pub(super) fn emit(&mut self, record: Record) {
        self.frame.push(&record, self.now);
        self.state.apply(self.now, record).expect("a record that was decided on this state fits it");
    }

    /// Refuses when `more` topics would be too many.
    pub(super) fn check_room(&self, more: usize) -> Result<(), EngineError> {
        let queues = self.state.next_queue().0 as usize;
        if self.state.topic_count() + more > self.topics_max || queues + more > self.topics_max.saturating_mul(4) {
            return Err(EngineError::Full { what: "the broker has as many topics or queues as it may have" });
        }
        Ok(())
    }

    pub(super) fn create_topic(&mut self, name: Name) -> TopicId {
        let topic = self.state.next_topic();
        self.emit(Record::TopicCreated { topic, name });
        topic
    }

    /// Creates a queue that begins at the earliest message still kept, if it is the topic's first or its own one, else
    /// with what is published from now on.
    fn create_queue(&mut self, topic: TopicId, service: Option<Name>) -> QueueId {
        let queue = self.state.next_queue();
        let log = self.state.topic(topic).map(|t| (&t.log, t.queues.is_empty() || service.is_none()));
        let start =
            log.map_or_else(Default::default, |(log, from_start)| if from_start { log.first() } else { log.next });
        self.emit(Record::QueueCreated { queue, topic, service, start });
        if let Some(created) = self.state.queue(queue) {
            info!(queue = %created.name, "queue declared");
        }
        queue
    }
}

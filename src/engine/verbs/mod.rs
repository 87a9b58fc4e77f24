//! Deciding requests: which records carry one out, given the state as it is.
//!
//! A [`Step`] looks at the state, emits records and answers. Emitting puts a record into the open frame and applies it
//! at once, so that the next request of the same frame sees it; nobody outside sees it before the frame is durable,
//! because the answers wait for that.

mod candidates;
mod fail;
mod limits;
mod manage;
mod pick;
mod publish;
mod receive;
mod register;
mod settle;
mod tick;

use tracing::info;

use super::{
    EngineError, Limits,
    journal::{FrameBuf, Record},
    reading::BlockCache,
    state::State,
    views::History,
};
use crate::model::{Name, QueueId, Timestamp, TopicId};

pub(super) use pick::{Next, PASSED_OVER_MAX, Wanted};
pub(super) use publish::Publication;
pub(super) use receive::{Fill, Received};
pub(super) use settle::Item as SettleItem;
pub(super) use tick::next_event;

/// One request at a time, at one moment.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) state: &'a mut State,
    pub(super) frame: &'a mut FrameBuf,
    /// Messages of segments that are in memory.
    pub(super) blocks: &'a mut BlockCache,
    pub(super) now: Timestamp,
    pub(super) limits: Limits,
    /// Whether publishing to a name, or receiving from it, declares it.
    pub(super) declares: bool,
    pub(super) history: &'a mut History,
}

impl Step<'_> {
    /// Adds a record to the frame and to the state.
    pub(super) fn emit(&mut self, record: Record) {
        let topic = record.queue().and_then(|queue| self.state.queue(queue)).map(|queue| queue.topic);
        self.history.note(self.now, &record, topic);
        self.frame.push(&record, self.now);
        self.state.apply(self.now, record).expect("a record that was decided on this state fits it");
    }

    /// Refuses when so many more topics or queues would be too many. Those that there are stay, whatever the bound.
    pub(super) fn check_room(&self, topics: usize, queues: usize) -> Result<(), EngineError> {
        let is_too_many = |there: usize, more: usize, max: usize| more > 0 && there + more > max;
        let max = self.limits.topics_max;
        let (topics_left, queues_left) = self.state.ids_left();
        if topics > topics_left || queues > queues_left {
            return Err(EngineError::Full { what: "the store has given all numbers that topics or queues can have" });
        }
        if is_too_many(self.state.topic_count(), topics, max)
            || is_too_many(self.state.queue_count(), queues, max.saturating_mul(4))
        {
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
        let entry = self.state.topic(topic);
        let start = entry.map_or_else(Default::default, |entry| {
            let from_start = entry.queues.is_empty() || service.is_none();
            if from_start { self.state.first_wanted(entry) } else { entry.log.next }
        });
        self.emit(Record::QueueCreated { queue, topic, service, start });
        if let Some(created) = self.state.queue(queue) {
            info!(queue = %created.name, "queue declared");
        }
        queue
    }
}

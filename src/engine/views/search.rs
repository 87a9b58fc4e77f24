//! Finding a message by its id.
//!
//! An id that the broker has made tells when its message was published, so only what was published around then is read.
//! Blocks with ids that were brought along are read all.

use std::{sync::Arc, time::Duration};

use super::{MessageState, View};
use crate::{
    engine::{
        EngineError,
        checkpoint::{Block, Kind, Place},
        state::{Content, Meaning},
    },
    model::{Message, MessageId, Name, Seq, TopicId},
};

/// How long it may take at most from when an id is made until its message is published: as long as a request may take.
const UNDER_WAY_MAX: Duration = Duration::from_secs(600);

/// A message that was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The message.
    pub message: Arc<Message>,
    /// Its place in its topic; `None` if it is not visible yet.
    pub seq: Option<Seq>,
    /// Its place among the delayed messages of its topic, if it is not visible yet.
    pub delayed: Option<Seq>,
}

/// Where a message may be.
#[derive(Debug)]
pub(in crate::engine) enum Trail {
    /// Here it is.
    Here(Place, Arc<Message>),
    /// In one of these blocks, each with the name of its topic.
    In(Vec<(Block, Name)>),
}

impl View<'_> {
    /// The topic of that name, or of the queue of that name.
    pub(in crate::engine) fn topic_of(&self, name: &Name) -> Result<TopicId, EngineError> {
        let topic = match self.state.meaning(name) {
            Some(Meaning::Topic(topic)) => Some(topic),
            Some(Meaning::Subscription(queue)) => self.state.queue(queue).map(|queue| queue.topic),
            None => None,
        };
        topic.ok_or_else(|| EngineError::NoSuchQueue { name: name.to_string() })
    }

    /// What is up with a message in a queue, if that is not done with it.
    pub(in crate::engine) fn state_in(&self, name: &Name, place: Place) -> Result<Option<MessageState>, EngineError> {
        let (_, queue, topic) = self.queue_named(name)?;
        Ok(self.state_of(queue, topic, place.kind, place.seq).filter(|_| queue.topic == place.topic))
    }

    /// Where the message of that id may be: of one topic, or of any.
    pub(in crate::engine) fn search(&self, scope: Option<TopicId>, id: MessageId) -> Trail {
        let first = scope.unwrap_or(TopicId(0));
        let topics = self.state.topics_from(first).take_while(|(id, _)| scope.is_none_or(|only| only == *id));
        for (topic_id, topic) in topics {
            let visible = topic.log.iter().filter_map(|(seq, content)| match content {
                Content::Here(kept) => Some((Kind::Visible, seq, kept)),
                Content::AmongDelayed(_) => None,
            });
            let delayed = topic.recent_delayed.iter().map(|(seq, kept)| (Kind::Delayed, *seq, kept));
            let found = visible.chain(delayed).find(|(.., kept)| kept.message.id == id);
            if let Some((kind, seq, kept)) = found {
                return Trail::Here(Place { topic: topic_id, kind, seq }, Arc::clone(&kept.message));
            }
        }
        let may_have = |block: &Block| {
            let origin = block.origin;
            match id.made_at() {
                Some(at) => origin.from <= at.after(UNDER_WAY_MAX) && at <= origin.until || !origin.has_own_ids,
                None => !origin.has_own_ids,
            }
        };
        let blocks = self.state.segments.blocks().filter(|block| scope.is_none_or(|topic| block.first.topic == topic));
        let named = blocks.filter(may_have).filter_map(|block| {
            let name = self.state.topic(block.first.topic)?.name.clone();
            Some((block, name))
        });
        Trail::In(named.collect())
    }

    /// The place of a message now that stands at `place` in a segment, if anybody wants it.
    pub(in crate::engine) fn place_now(&self, place: Place) -> Option<Place> {
        let topic = self.state.topic(place.topic)?;
        match place.kind {
            Kind::Delayed if topic.delayed.contains_key(&place.seq) => Some(place),
            Kind::Delayed => {
                let became = |content: &Content| matches!(content, Content::AmongDelayed(seq) if *seq == place.seq);
                let (seq, _) = topic.log.iter().find(|(_, content)| became(content))?;
                Some(Place { kind: Kind::Visible, seq, ..place })
            }
            Kind::Visible => Some(place),
        }
    }

    /// Whether some queue, or no queue yet, wants it.
    pub(in crate::engine) fn is_wanted(&self, place: Place) -> bool {
        let Some(topic) = self.state.topic(place.topic) else { return false };
        match place.kind {
            Kind::Delayed => topic.delayed.contains_key(&place.seq),
            Kind::Visible => self.state.wants(place.topic, place.seq),
        }
    }
}

impl Found {
    pub(in crate::engine) fn new(place: Place, message: Arc<Message>) -> Self {
        match place.kind {
            Kind::Visible => Self { message, seq: Some(place.seq), delayed: None },
            Kind::Delayed => Self { message, seq: None, delayed: Some(place.seq) },
        }
    }
}

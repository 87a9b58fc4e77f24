//! Messages come into a topic, and leave it when nobody wants them any more.

use super::{Inconsistent, Result, State};
use crate::{
    engine::{
        checkpoint::{Kind, Place},
        sealed::Sealed,
        state::Content,
    },
    model::{Seq, TopicId},
};

impl State {
    pub(super) fn publish(&mut self, id: TopicId, seq: Seq, message: Sealed) -> Result<()> {
        self.remember_dedup(id, &message)?;
        let now = self.time;
        let topic = self.topic_mut(id)?;
        let kept = message.into_kept(topic.name.clone(), now);
        self.append(id, seq, Content::Here(kept))
    }

    fn remember_dedup(&mut self, id: TopicId, message: &Sealed) -> Result<()> {
        let (now, window) = (self.time, self.topic_mut(id)?.policy.dedup_window);
        self.dedup.remember(id, message, window, now);
        Ok(())
    }

    /// Puts a message at the end of its topic.
    pub(super) fn append(&mut self, id: TopicId, seq: Seq, content: Content) -> Result<()> {
        let bytes = match &content {
            Content::Here(kept) => kept.memory_bytes(),
            Content::AmongDelayed(_) => 0,
        };
        let topic = self.topic_mut(id)?;
        if topic.log.push(content) != seq {
            return Err(Inconsistent("a message out of order"));
        }
        self.recent_bytes += bytes;
        self.unsaved_topics.insert(id);
        let stored_bytes = self.size_of(Place { topic: id, kind: Kind::Visible, seq });
        self.stir_all(id, stored_bytes);
        Ok(())
    }

    pub(super) fn delay(&mut self, id: TopicId, seq: Seq, message: Sealed) -> Result<()> {
        self.remember_dedup(id, &message)?;
        let now = self.time;
        let due = message.matures_at(now).unwrap_or(now);
        let topic = self.topic_mut(id)?;
        if topic.next_delayed != seq {
            return Err(Inconsistent("a delayed message out of order"));
        }
        topic.next_delayed = seq.next();
        topic.delayed.insert(seq, due);
        let kept = message.into_kept(topic.name.clone(), now);
        let bytes = kept.memory_bytes();
        topic.recent_delayed.insert(seq, kept);
        self.recent_bytes += bytes;
        self.delayed.insert((due, id, seq));
        self.unsaved_topics.insert(id);
        Ok(())
    }

    pub(super) fn cancel(&mut self, id: TopicId, delayed: &[Seq]) -> Result<()> {
        for seq in delayed {
            let topic = self.topic_mut(id)?;
            let due = topic.delayed.remove(seq).ok_or(Inconsistent("an unknown delayed message"))?;
            match topic.recent_delayed.remove(seq) {
                Some(kept) => self.recent_bytes -= kept.memory_bytes(),
                None => self.segments.left(Place { topic: id, kind: Kind::Delayed, seq: *seq }),
            }
            self.delayed.remove(&(due, id, *seq));
        }
        Ok(())
    }

    pub(super) fn mature(&mut self, id: TopicId, first: Seq, delayed: &[Seq]) -> Result<()> {
        let mut place = first;
        for seq in delayed {
            let topic = self.topic_mut(id)?;
            let due = topic.delayed.remove(seq).ok_or(Inconsistent("an unknown delayed message"))?;
            let content = match topic.recent_delayed.remove(seq) {
                Some(kept) => Content::Here(kept),
                None => {
                    topic.matured.insert(*seq);
                    Content::AmongDelayed(*seq)
                }
            };
            if let Content::Here(kept) = &content {
                self.recent_bytes -= kept.memory_bytes();
            }
            self.delayed.remove(&(due, id, *seq));
            self.append(id, place, content)?;
            place = place.next();
        }
        Ok(())
    }

    /// Lets go of the message, unless some queue wants it.
    pub(super) fn leave(&mut self, id: TopicId, seq: Seq) {
        let Some(topic) = self.topics.get_mut(id.0) else { return };
        let mut queues = topic.queues.iter().filter_map(|queue| self.queues.get(queue.0));
        if queues.any(|queue| queue.wants(seq)) {
            return;
        }
        match topic.log.remove(seq) {
            Some(Content::Here(kept)) => self.recent_bytes -= kept.memory_bytes(),
            Some(Content::AmongDelayed(delayed)) => {
                topic.matured.remove(&delayed);
                self.segments.left(Place { topic: id, kind: Kind::Delayed, seq: delayed });
            }
            None => self.segments.left(Place { topic: id, kind: Kind::Visible, seq }),
        }
    }

    pub(super) fn end_import(&mut self, source: String) -> Result<()> {
        let import = self.import.take().filter(|import| import.source == source);
        if import.is_none() && self.importing.remove(&source).is_none() {
            return Err(Inconsistent("an import that never began"));
        }
        let now = self.time;
        for (id, message) in import.into_iter().flat_map(|import| import.messages) {
            let topic = self.topic_mut(id)?;
            let (seq, kept) = (topic.log.next, message.into_kept(topic.name.clone(), now));
            self.append(id, seq, Content::Here(kept))?;
        }
        self.imported.insert(source);
        Ok(())
    }
}

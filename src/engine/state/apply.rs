//! Applying a record: the only way in which the state changes.

use super::{Import, Meaning, Queue, State, queue::Held, topic::Content, topic::Topic};
use crate::{
    engine::{
        checkpoint::{Kind, Place},
        journal::Record,
        sealed::Sealed,
    },
    model::{Attempt, Name, QueueId, Seq, Timestamp, TopicId},
};

/// A record that does not fit the state it is applied to: the journal is not one that this engine wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record does not fit what came before it: {0}")]
pub(in crate::engine) struct Inconsistent(pub(in crate::engine) &'static str);

type Result<T> = std::result::Result<T, Inconsistent>;

impl State {
    /// Applies a record of `time`.
    ///
    /// # Errors
    /// [`Inconsistent`]; the state is of no use after it.
    pub(in crate::engine) fn apply(&mut self, time: Timestamp, record: Record) -> Result<()> {
        self.time = self.time.max(time);
        self.dedup.expire(self.time);
        match record {
            Record::TopicCreated { topic, name } => self.create_topic(topic, name),
            Record::TopicDeleted { topic } => self.delete_topic(topic),
            Record::QueueCreated { queue, topic, service, start } => self.create_queue(queue, topic, service, start),
            Record::ServiceRegistered { topic } => {
                self.topic_mut(topic)?.is_inbox = true;
                Ok(())
            }
            Record::Published { topic, seq, message } => self.publish(topic, seq, message),
            Record::Delayed { topic, seq, message } => self.delay(topic, seq, message),
            Record::Matured { topic, first, delayed } => self.mature(topic, first, &delayed),
            Record::Done { queue, seqs, .. } => self.finish(queue, &seqs),
            Record::Leased { queue, deadline, items } => self.lease(queue, deadline, &items),
            Record::Released { queue, seqs } => self.release(queue, &seqs),
            Record::ImportBegun { source } => {
                self.import = Some(Import { source, messages: Vec::new() });
                Ok(())
            }
            Record::Imported { topic, message } => {
                let import = self.import.as_mut().ok_or(Inconsistent("an import that never began"))?;
                import.messages.push((topic, message));
                Ok(())
            }
            Record::ImportAdvanced { source, lines } => {
                self.importing.insert(source, lines);
                Ok(())
            }
            Record::ImportEnded { source } => self.end_import(source),
        }
    }

    fn topic_mut(&mut self, id: TopicId) -> Result<&mut Topic> {
        self.topics.get_mut(id.0 as usize).and_then(Option::as_mut).ok_or(Inconsistent("an unknown topic"))
    }

    fn queue_mut(&mut self, id: QueueId) -> Result<(&mut Queue, &mut Topic)> {
        let queue = self.queues.get_mut(id.0 as usize).and_then(Option::as_mut);
        let queue = queue.ok_or(Inconsistent("an unknown queue"))?;
        let topic = self.topics.get_mut(queue.topic.0 as usize).and_then(Option::as_mut);
        Ok((queue, topic.ok_or(Inconsistent("a queue without its topic"))?))
    }

    fn create_topic(&mut self, id: TopicId, name: Name) -> Result<()> {
        if id != self.next_topic() {
            return Err(Inconsistent("a topic id out of order"));
        }
        if self.names.insert(name.clone(), Meaning::Topic(id)).is_some() {
            return Err(Inconsistent("two things of one name"));
        }
        self.topics.push(Some(Topic::new(name, Seq(0))));
        self.topic_count += 1;
        Ok(())
    }

    fn delete_topic(&mut self, id: TopicId) -> Result<()> {
        let topic = self.topics.get_mut(id.0 as usize).and_then(Option::take);
        let topic = topic.ok_or(Inconsistent("an unknown topic"))?;
        self.topic_count -= 1;
        self.names.remove(&topic.name);
        for queue_id in topic.queues {
            if let Some(queue) = self.queues.get_mut(queue_id.0 as usize).and_then(Option::take) {
                self.names.remove(&queue.name);
            }
            self.deadlines.retain(|(_, of, _)| *of != queue_id);
        }
        for (seq, due) in &topic.delayed {
            self.delayed.remove(&(*due, id, *seq));
        }
        let recent = topic.log.iter().filter_map(|(_, content)| match content {
            Content::Here(kept) => Some(kept),
            Content::AmongDelayed(_) => None,
        });
        self.recent_bytes -= recent.chain(topic.recent_delayed.values()).map(|kept| kept.memory_bytes()).sum::<u64>();
        self.segments.left_all(id);
        self.unsaved_topics.remove(&id);
        self.dedup.forget_topic(id);
        Ok(())
    }

    fn create_queue(&mut self, id: QueueId, topic_id: TopicId, service: Option<Name>, start: Seq) -> Result<()> {
        if id != self.next_queue() {
            return Err(Inconsistent("a queue id out of order"));
        }
        let topic = self.topic_mut(topic_id)?;
        if start > topic.log.next {
            return Err(Inconsistent("a queue that begins behind its topic"));
        }
        topic.queues.push(id);
        let name = match &service {
            None => {
                topic.own = Some(id);
                topic.name.clone()
            }
            Some(service) => topic.name.subscription(service).map_err(|_| Inconsistent("a queue name too long"))?,
        };
        topic.queue_names = topic.queue_names.iter().cloned().chain([name.clone()]).collect();
        if service.is_some() && self.names.insert(name.clone(), Meaning::Subscription(id)).is_some() {
            return Err(Inconsistent("two things of one name"));
        }
        let mut queue = Queue::new(name, topic_id, service, start);
        if let Some(Some(topic)) = self.topics.get(topic_id.0 as usize)
            && start != topic.log.next
        {
            let others = || topic.queues.iter().filter_map(|other| self.queue(*other));
            if let Some(slowest) = others().map(Queue::cursor).min() {
                queue = queue.beside(slowest, others().flat_map(|other| other.wanted_before(slowest)));
            }
        }
        self.queues.push(Some(queue));
        self.stir(id);
        Ok(())
    }

    fn publish(&mut self, id: TopicId, seq: Seq, message: Sealed) -> Result<()> {
        let now = self.time;
        self.dedup.remember(id, &message, now);
        let topic = self.topic_mut(id)?;
        let kept = message.into_kept(topic.name.clone(), now);
        self.append(id, seq, Content::Here(kept))
    }

    /// Puts a message at the end of its topic.
    fn append(&mut self, id: TopicId, seq: Seq, content: Content) -> Result<()> {
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
        self.stir_all(id);
        Ok(())
    }

    fn delay(&mut self, id: TopicId, seq: Seq, message: Sealed) -> Result<()> {
        let now = self.time;
        self.dedup.remember(id, &message, now);
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

    fn mature(&mut self, id: TopicId, first: Seq, delayed: &[Seq]) -> Result<()> {
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

    fn finish(&mut self, id: QueueId, seqs: &[Seq]) -> Result<()> {
        let (mut ended, mut left) = (Vec::new(), Vec::with_capacity(seqs.len()));
        let (queue, topic) = self.queue_mut(id)?;
        for seq in seqs {
            if *seq >= topic.log.next {
                return Err(Inconsistent("done with a message that never was"));
            }
            if queue.wants(*seq) {
                left.push(*seq);
            }
            if let Some(held) = queue.take(*seq) {
                ended.push((held.deadline, id, *seq));
            }
        }
        let topic = queue.topic;
        self.forget_deadlines(&ended);
        for seq in left {
            self.leave(topic, seq);
        }
        Ok(())
    }

    /// Lets go of the message, unless another queue wants it.
    fn leave(&mut self, id: TopicId, seq: Seq) {
        let Some(Some(topic)) = self.topics.get_mut(id.0 as usize) else { return };
        let mut queues = topic.queues.iter().filter_map(|queue| self.queues.get(queue.0 as usize)?.as_ref());
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

    fn lease(&mut self, id: QueueId, deadline: Timestamp, items: &[(Seq, Attempt)]) -> Result<()> {
        let (queue, topic) = self.queue_mut(id)?;
        for (seq, attempt) in items {
            if *seq >= topic.log.next {
                return Err(Inconsistent("a lease of a message that never was"));
            }
            queue.lease(*seq, Held { attempt: *attempt, deadline });
        }
        self.deadlines.extend(items.iter().map(|(seq, _)| (deadline, id, *seq)));
        Ok(())
    }

    fn release(&mut self, id: QueueId, seqs: &[Seq]) -> Result<()> {
        let (queue, _) = self.queue_mut(id)?;
        let ended: Vec<_> = seqs.iter().filter_map(|seq| Some((queue.release(*seq)?.deadline, id, *seq))).collect();
        self.forget_deadlines(&ended);
        self.stir(id);
        Ok(())
    }

    fn end_import(&mut self, source: String) -> Result<()> {
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

    fn forget_deadlines(&mut self, ended: &[(Timestamp, QueueId, Seq)]) {
        for key in ended {
            self.deadlines.remove(key);
        }
    }

    /// Notes that every queue of the topic has something to deliver.
    fn stir_all(&mut self, id: TopicId) {
        let Some(Some(topic)) = self.topics.get(id.0 as usize) else { return };
        for queue in &topic.queues {
            stir(&mut self.queues, &mut self.stirred, *queue);
        }
    }

    /// Notes that a queue may have something to deliver that it could not deliver before.
    pub(in crate::engine) fn stir(&mut self, id: QueueId) {
        stir(&mut self.queues, &mut self.stirred, id);
    }
}

fn stir(queues: &mut [Option<Queue>], stirred: &mut Vec<QueueId>, id: QueueId) {
    let Some(Some(queue)) = queues.get_mut(id.0 as usize) else { return };
    if !queue.is_stirred {
        queue.is_stirred = true;
        stirred.push(id);
    }
}

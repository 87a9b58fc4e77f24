//! Topics and queues: they come, change, and go.

use super::{Inconsistent, Queue, Result, State, Topic};
use crate::{
    engine::state::{Content, Meaning},
    model::{Name, QueueId, Seq, TopicId},
};

impl State {
    pub(super) fn create_topic(&mut self, id: TopicId, name: Name) -> Result<()> {
        if id != self.next_topic() {
            return Err(Inconsistent("a topic id out of order"));
        }
        if self.names.insert(name.clone(), Meaning::Topic(id)).is_some() {
            return Err(Inconsistent("two things of one name"));
        }
        self.topics.push(Topic::new(name, Seq(0))).map(drop).ok_or(Inconsistent("a topic too many"))
    }

    pub(super) fn delete_topic(&mut self, id: TopicId) -> Result<()> {
        let topic = self.topics.remove(id.0).ok_or(Inconsistent("an unknown topic"))?;
        self.names.remove(&topic.name);
        topic.queues.iter().for_each(|queue| self.forget_queue(*queue));
        for (seq, due) in &topic.delayed {
            self.delayed.remove(&(*due, id, *seq));
        }
        let recent = topic.log.iter().filter_map(|(_, content)| match content {
            Content::Here(kept) => Some(kept),
            Content::AmongDelayed(_) => None,
        });
        self.recent_bytes -= recent.chain(topic.recent_delayed.values()).map(|kept| kept.memory_bytes()).sum::<u64>();
        self.bin.put_topic(topic);
        self.segments.left_all(id);
        self.unsaved_topics.remove(&id);
        self.dedup.forget_topic(id);
        Ok(())
    }

    pub(super) fn create_queue(
        &mut self,
        id: QueueId,
        topic_id: TopicId,
        service: Option<Name>,
        start: Seq,
    ) -> Result<()> {
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
        if let Some(topic) = self.topics.get(topic_id.0)
            && start != topic.log.next
        {
            let others = || topic.queues.iter().filter_map(|other| self.queue(*other));
            if let Some(slowest) = others().map(Queue::cursor).min() {
                let before = others().flat_map(|other| other.undelivered_before(slowest));
                let gone = self.wanted(topic).gone().filter(|seq| *seq >= start).collect::<Vec<_>>();
                queue = queue.beside(slowest, before, gone.into_iter());
            }
        }
        self.queues.push(queue).ok_or(Inconsistent("a queue too many"))?;
        self.measure(id);
        self.stir(id);
        Ok(())
    }

    pub(super) fn delete_queue(&mut self, id: QueueId) -> Result<()> {
        let (queue, topic) = self.queue_mut(id)?;
        let (topic_id, name, next) = (queue.topic, queue.name.clone(), topic.log.next);
        self.forget_queue(id);
        let topic = self.topic_mut(topic_id)?;
        topic.queues.retain(|queue| *queue != id);
        topic.queue_names = topic.queue_names.iter().filter(|other| **other != name).cloned().collect();
        topic.own = topic.own.filter(|own| *own != id);
        if topic.queues.is_empty() {
            // What comes from now on is for its next queue.
            topic.kept_from = next;
        }
        self.let_go_of_unwanted(topic_id);
        Ok(())
    }

    /// A queue with its name, its leases and its times.
    fn forget_queue(&mut self, id: QueueId) {
        let Some(queue) = self.queues.remove(id.0) else { return };
        if queue.service.is_some() {
            self.names.remove(&queue.name);
        }
        for (seq, held) in queue.all_held() {
            self.deadlines.remove(&(held.deadline, id, *seq));
        }
        for (retry_at, seq) in queue.lanes().retrying() {
            self.retries.remove(&(retry_at, id, seq));
        }
        self.dead_count -= queue.dead().len();
        self.passed_over_count -= queue.lanes().passed_over_count();
    }

    /// What a topic without a queue has from before `end` is not kept any longer.
    pub(super) fn trim_topic(&mut self, id: TopicId, end: Seq) -> Result<()> {
        let topic = self.topic_mut(id)?;
        if end > topic.log.next {
            return Err(Inconsistent("a topic that is trimmed behind its end"));
        }
        topic.kept_from = topic.kept_from.max(end);
        self.let_go_of_unwanted(id);
        Ok(())
    }

    /// Lets go of all messages of a topic that nobody wants any more. Takes as long as there are recent messages and blocks
    /// of it.
    pub(super) fn let_go_of_unwanted(&mut self, id: TopicId) {
        let Some(topic) = self.topic(id) else { return };
        let wanted = self.wanted(topic);
        let unwanted: Vec<Seq> = topic.log.iter().map(|(seq, _)| seq).filter(|seq| !wanted.has_visible(*seq)).collect();
        let Some(topic) = self.topics.get_mut(id.0) else { return };
        let left: Vec<Content> = unwanted.into_iter().filter_map(|seq| topic.log.remove(seq)).collect();
        for content in &left {
            match content {
                Content::Here(kept) => self.recent_bytes -= kept.memory_bytes(),
                Content::AmongDelayed(seq) => drop(topic.matured.remove(seq)),
            }
        }
        self.bin.put_contents(left);
        // Some of those that left stood among the delayed ones.
        let Some(topic) = self.topic(id) else { return };
        let wanted = self.wanted(topic);
        self.segments.recount(id, |block| wanted.count(block.first.kind, block.first.seq, block.last));
    }
}

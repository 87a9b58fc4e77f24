//! Applying a record: the only way in which the state changes.

mod message;
mod queue;
mod topic;

use super::{Import, Numbered, Queue, State, topic::Topic};
use crate::{
    engine::journal::Record,
    model::{QueueId, Seq, Timestamp, TopicId},
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
            Record::TopicPolicySet { topic, policy } => {
                self.topic_mut(topic)?.policy = policy;
                Ok(())
            }
            Record::TopicTrimmed { topic, end } => self.trim_topic(topic, end),
            Record::ServiceRegistered { topic } => {
                self.topic_mut(topic)?.is_inbox = true;
                Ok(())
            }
            Record::QueueCreated { queue, topic, service, start } => self.create_queue(queue, topic, service, start),
            Record::QueueDeleted { queue } => self.delete_queue(queue),
            Record::QueuePolicySet { queue, policy } => {
                self.queue_mut(queue)?.0.policy = policy.into();
                Ok(())
            }
            Record::QueuePaused { queue } => {
                self.queue_mut(queue)?.0.is_paused = true;
                Ok(())
            }
            Record::QueueResumed { queue } => {
                self.queue_mut(queue)?.0.is_paused = false;
                self.stir(queue);
                Ok(())
            }
            Record::Published { topic, seq, message } => self.publish(topic, seq, message),
            Record::Delayed { topic, seq, message } => self.delay(topic, seq, message),
            Record::DelayedCancelled { topic, seqs } => self.cancel(topic, &seqs),
            Record::Matured { topic, first, delayed } => self.mature(topic, first, &delayed),
            Record::Done { queue, reason, seqs } => self.finish(queue, reason, &seqs),
            Record::PassedOver { queue, items } => self.pass_over(queue, &items),
            Record::Leased { queue, deadline, items } => self.lease(queue, deadline, &items),
            Record::Extended { queue, deadline, seqs } => self.extend(queue, deadline, &seqs),
            Record::Returned { queue, cause, items, .. } => self.give_back(queue, cause, &items),
            Record::Released { queue, seqs } => self.release(queue, &seqs),
            Record::Buried { queue, cause, reason, seqs } => self.bury(queue, cause, &reason, &seqs),
            Record::Revived { queue, pace, seqs } => self.revive(queue, pace, &seqs),
            Record::Purged { queue, scope, end } => self.purge(queue, scope, end),
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
        self.topics.get_mut(id.0).ok_or(Inconsistent("an unknown topic"))
    }

    fn queue_mut(&mut self, id: QueueId) -> Result<(&mut Queue, &mut Topic)> {
        let queue = self.queues.get_mut(id.0).ok_or(Inconsistent("an unknown queue"))?;
        let topic = self.topics.get_mut(queue.topic.0);
        Ok((queue, topic.ok_or(Inconsistent("a queue without its topic"))?))
    }

    /// Changes a queue, and what is counted of all queues along.
    fn change_queue<T>(&mut self, id: QueueId, change: impl FnOnce(&mut Queue, &mut Topic) -> T) -> Result<T> {
        let (queue, topic) = self.queue_mut(id)?;
        let (dead, passed_over) = (queue.dead().len(), queue.lanes().passed_over_count());
        let result = change(queue, topic);
        let (dead_now, passed_over_now) = (queue.dead().len(), queue.lanes().passed_over_count());
        self.dead_count = self.dead_count + dead_now - dead;
        self.passed_over_count = self.passed_over_count + passed_over_now - passed_over;
        Ok(result)
    }

    fn forget_deadlines(&mut self, ended: &[(Timestamp, QueueId, Seq)]) {
        for key in ended {
            self.deadlines.remove(key);
        }
    }

    /// Notes that every queue of the topic has something more to deliver, of so many bytes.
    fn stir_all(&mut self, id: TopicId, bytes: u64) {
        let Some(topic) = self.topics.get(id.0) else { return };
        for queue in &topic.queues {
            stir(&mut self.queues, &mut self.stirred, *queue);
            if let Some(queue) = self.queues.get_mut(queue.0) {
                queue.bytes += bytes;
                queue.counters.published += 1;
            }
        }
    }

    /// Notes that a queue may have something to deliver that it could not deliver before.
    pub(in crate::engine) fn stir(&mut self, id: QueueId) {
        stir(&mut self.queues, &mut self.stirred, id);
    }
}

fn stir(queues: &mut Numbered<Queue>, stirred: &mut Vec<QueueId>, id: QueueId) {
    let Some(queue) = queues.get_mut(id.0) else { return };
    if !queue.is_stirred {
        queue.is_stirred = true;
        stirred.push(id);
    }
}

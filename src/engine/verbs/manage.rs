//! Topics and queues are made, changed, emptied and removed.

use super::{Step, register::subscription};
use crate::{
    engine::{
        EngineError,
        journal::{Pace, PurgeScope, Reason, Record},
        manage::{Base, Manage, Managed, Redrive},
        state::Meaning,
    },
    model::{Name, QueueId, QueuePolicy, QueuePolicyPatch, Seq, TopicId, TopicPolicy, TopicPolicyPatch},
};

type Result<T> = std::result::Result<T, EngineError>;

impl Step<'_> {
    pub(in crate::engine) fn manage(&mut self, manage: Manage) -> Result<Managed> {
        match manage {
            Manage::PutTopic { topic, policy, base } => self.put_topic(topic, &policy, base),
            Manage::DeleteTopic { topic } => self.delete_topic(&topic),
            Manage::PutSubscription { topic, service, policy, base } => {
                self.put_subscription(&topic, &service, &policy, base)
            }
            Manage::DeclareQueue { queue, service } => {
                self.queue_for(&queue, service.as_ref())?;
                Ok(Managed::default())
            }
            Manage::SetQueuePolicy { queue, policy } => {
                let (queue, is_new) = self.existing_or_own(&queue)?;
                self.set_queue_policy(queue, &policy, Base::Current);
                Ok(Managed { messages: 0, is_new })
            }
            Manage::DeleteQueue { queue } => {
                let queue = self.queue_named(&queue)?;
                let messages = self.count_of(queue, PurgeScope { ready: true, leased: true, dead: true });
                self.emit(Record::QueueDeleted { queue });
                Ok(Managed { messages, is_new: false })
            }
            Manage::Pause { queue } => {
                let queue = self.existing_or_first(&queue)?;
                if self.state.queue(queue).is_some_and(|queue| !queue.is_paused) {
                    self.emit(Record::QueuePaused { queue });
                }
                Ok(Managed::default())
            }
            Manage::Resume { queue } => {
                let queue = self.existing_or_first(&queue)?;
                if self.state.queue(queue).is_some_and(|queue| queue.is_paused) {
                    self.emit(Record::QueueResumed { queue });
                }
                Ok(Managed::default())
            }
            Manage::Purge { queue, scope } => self.purge(&queue, scope),
            Manage::Redrive { queue, which, pace } => self.redrive(&queue, which, pace),
            Manage::DeleteMessage { queue, seq } => self.delete_message(&queue, seq),
            Manage::CancelDelayed { topic, seq } => self.cancel_delayed(&topic, seq),
        }
    }

    fn put_topic(&mut self, name: Name, policy: &TopicPolicyPatch, base: Base) -> Result<Managed> {
        let (topic, is_new) = match self.topic_named(&name)? {
            Some(topic) => (topic, false),
            None => {
                self.check_room(1, 0)?;
                (self.create_topic(name), true)
            }
        };
        let before = self.state.topic(topic).map(|topic| topic.policy).unwrap_or_default();
        let after = policy.applied_to(if base == Base::Current { before } else { TopicPolicy::default() });
        if after != before {
            self.emit(Record::TopicPolicySet { topic, policy: after });
            self.make_room(topic);
        }
        Ok(Managed { messages: 0, is_new })
    }

    fn existing_topic(&self, name: &Name) -> Result<TopicId> {
        self.topic_named(name)?.ok_or_else(|| EngineError::NoSuchTopic { name: name.to_string() })
    }

    /// The queue of that name; a topic's own queue comes into being, so that something can be set of it before it is read.
    fn existing_or_own(&mut self, name: &Name) -> Result<(QueueId, bool)> {
        match self.state.meaning(name) {
            Some(Meaning::Topic(topic)) if self.state.topic(topic).is_some_and(|topic| topic.own.is_none()) => {
                self.check_room(0, 1)?;
                Ok((self.create_queue(topic, None), true))
            }
            _ => Ok((self.queue_named(name)?, false)),
        }
    }

    /// The queue of that name; the own one of a topic that has no queue comes into being, as with its first receive.
    fn existing_or_first(&mut self, name: &Name) -> Result<QueueId> {
        match self.state.meaning(name) {
            Some(Meaning::Topic(topic)) if self.state.topic(topic).is_some_and(|topic| topic.queues.is_empty()) => {
                self.check_room(0, 1)?;
                Ok(self.create_queue(topic, None))
            }
            _ => self.queue_named(name),
        }
    }

    fn delete_topic(&mut self, name: &Name) -> Result<Managed> {
        let topic = self.existing_topic(name)?;
        let entry = self.state.topic(topic);
        let messages = entry.map_or(0, |entry| self.state.visible_count(entry) + entry.delayed.len()) as u64;
        self.emit(Record::TopicDeleted { topic });
        Ok(Managed { messages, is_new: false })
    }

    fn put_subscription(
        &mut self,
        topic: &Name,
        service: &Name,
        policy: &QueuePolicyPatch,
        base: Base,
    ) -> Result<Managed> {
        let is_new = self.state.meaning(&subscription(topic, service)?).is_none();
        let queue = self.subscribe(topic, service)?;
        self.set_queue_policy(queue, policy, base);
        Ok(Managed { messages: 0, is_new })
    }

    fn set_queue_policy(&mut self, id: QueueId, policy: &QueuePolicyPatch, base: Base) {
        let Some(queue) = self.state.queue(id) else { return };
        let default = QueuePolicy::default();
        let after = policy.applied_to(if base == Base::Current { &queue.policy } else { &default });
        if after != *queue.policy {
            let topic = queue.topic;
            self.emit(Record::QueuePolicySet { queue: id, policy: after });
            self.make_room(topic);
        }
    }

    /// How many messages of some kinds a queue has.
    fn count_of(&self, id: QueueId, scope: PurgeScope) -> u64 {
        let Some((queue, topic)) = self.state.queue_and_topic(id) else { return 0 };
        let count = |is_meant, count: usize| if is_meant { count as u64 } else { 0 };
        count(scope.ready, queue.ready_count(topic.log.next))
            + count(scope.leased, queue.held_count())
            + count(scope.dead, queue.dead().len())
    }

    fn purge(&mut self, name: &Name, scope: PurgeScope) -> Result<Managed> {
        let queue = self.existing_or_first(name)?;
        let messages = self.count_of(queue, scope);
        let end = self.state.queue_and_topic(queue).map(|(_, topic)| topic.log.next).unwrap_or_default();
        if messages > 0 {
            self.emit(Record::Purged { queue, scope, end });
        }
        Ok(Managed { messages, is_new: false })
    }

    fn redrive(&mut self, name: &Name, which: Redrive, pace: Option<Pace>) -> Result<Managed> {
        let id = self.existing_or_first(name)?;
        let Some(queue) = self.state.queue(id) else { return Ok(Managed::default()) };
        let seqs: Vec<Seq> = match which {
            Redrive::Oldest(max) => queue.dead().keys().take(max).copied().collect(),
            Redrive::These(mut seqs) => {
                seqs.sort_unstable();
                seqs.dedup();
                seqs.into_iter().filter(|seq| queue.dead().contains_key(seq)).collect()
            }
        };
        let messages = seqs.len() as u64;
        if messages > 0 {
            self.emit(Record::Revived { queue: id, pace, seqs });
        }
        Ok(Managed { messages, is_new: false })
    }

    fn delete_message(&mut self, name: &Name, seq: Seq) -> Result<Managed> {
        /// Most messages of a queue that are removed before it has come to them.
        const GONE_MAX: usize = 100_000;
        let id = self.existing_or_first(name)?;
        let Some((queue, topic)) = self.state.queue_and_topic(id) else { return Ok(Managed::default()) };
        if seq >= topic.log.next || !queue.wants(seq) {
            return Ok(Managed::default());
        }
        if seq >= queue.cursor() && queue.gone().len() >= GONE_MAX {
            return Err(EngineError::Full { what: "as many messages as may be were deleted before their turn" });
        }
        self.emit(Record::Done { queue: id, reason: Reason::Deleted, seqs: vec![seq] });
        Ok(Managed { messages: 1, is_new: false })
    }

    fn cancel_delayed(&mut self, name: &Name, seq: Seq) -> Result<Managed> {
        let topic = self.existing_topic(name)?;
        if !self.state.topic(topic).is_some_and(|topic| topic.delayed.contains_key(&seq)) {
            return Ok(Managed::default());
        }
        self.emit(Record::DelayedCancelled { topic, seqs: vec![seq] });
        Ok(Managed { messages: 1, is_new: false })
    }
}

//! Receive: hand out the next messages of a queue, and drop what has expired or is damaged on the way.

use super::{
    Step,
    pick::{DROPPED_MAX, Next, Pick, Picked, Wanted},
    register::subscription,
};
use crate::{
    engine::{
        AckMode, EngineError,
        journal::{LeaseItem, Reason, Record},
        state::Meaning,
    },
    model::{AckId, Delivery, Lease, Name, QueueId},
};

/// How much of what a receive asks for has to be in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Fill {
    /// All, as far as a few blocks have it.
    Whole,
    /// One message.
    Some,
}

/// What a receive came to.
#[derive(Debug)]
pub(in crate::engine) struct Received {
    pub(in crate::engine) deliveries: Vec<Delivery>,
    pub(in crate::engine) next: Next,
    /// Messages were dropped or passed over: the next look begins further on.
    pub(in crate::engine) is_further: bool,
}

impl Step<'_> {
    /// The queue that a consumer means, declared if need be.
    pub(in crate::engine) fn queue_for(&mut self, name: &Name, service: Option<&Name>) -> Result<QueueId, EngineError> {
        if let Some(service) = service {
            let queue = subscription(name, service)?;
            return if self.declares { self.subscribe(name, service) } else { self.queue_named(&queue) };
        }
        let topic = match self.state.meaning(name) {
            Some(Meaning::Subscription(queue)) => return Ok(queue),
            Some(Meaning::Topic(topic)) => topic,
            None if !self.declares => return Err(self.state.no_such_queue(name)),
            None => {
                self.check_room(1, 1)?;
                self.create_topic(name.clone())
            }
        };
        if let Some(queue) = self.state.topic(topic).and_then(|t| t.own) {
            return Ok(queue);
        }
        self.check_room(0, 1)?;
        Ok(self.create_queue(topic, None))
    }

    /// Hands out messages; none if the queue is empty, paused or gone, or if not `fill` of them is in memory.
    pub(in crate::engine) fn receive(&mut self, queue: QueueId, wanted: Wanted, fill: Fill) -> Received {
        let mut is_further = false;
        loop {
            let Pick { messages, passed_over, expired, too_old, damaged, next } = self.pick(queue, wanted);
            if fill == Fill::Whole && matches!(next, Next::Missing(_)) && !messages.is_empty() {
                return Received { deliveries: Vec::new(), next, is_further };
            }
            let dropped_count = expired.len() + too_old.len() + damaged.len();
            is_further |= dropped_count + passed_over.len() > 0;
            if !passed_over.is_empty() {
                // Before the others, as they may stand behind it.
                self.emit(Record::PassedOver { queue, items: passed_over });
            }
            for (reason, seqs) in [(Reason::Expired, expired), (Reason::TooOld, too_old), (Reason::Damaged, damaged)] {
                if !seqs.is_empty() {
                    self.emit(Record::Done { queue, reason, seqs });
                }
            }
            if messages.is_empty() && dropped_count >= DROPPED_MAX {
                continue;
            }
            let deliveries = if messages.is_empty() { Vec::new() } else { self.hand_out(queue, messages, wanted.mode) };
            return Received { deliveries, next, is_further };
        }
    }

    fn hand_out(&mut self, queue: QueueId, picked: Vec<Picked>, mode: AckMode) -> Vec<Delivery> {
        let length = match mode {
            AckMode::AtOnce => None,
            AckMode::Lease(length) => Some(length),
            AckMode::LeaseByPolicy => self.state.queue(queue).map(|queue| queue.policy.ack_deadline),
        };
        let deadline = match length {
            None => {
                let seqs = picked.iter().map(|p| p.seq).collect();
                self.emit(Record::Done { queue, reason: Reason::Received, seqs });
                None
            }
            Some(length) => {
                let deadline = self.now.after(length);
                let item = |p: &Picked| LeaseItem { seq: p.seq, attempt: p.attempt, lease: p.lease, key: p.key };
                let items = picked.iter().map(item).collect();
                self.emit(Record::Leased { queue, deadline, items });
                Some(deadline)
            }
        };
        let lease = |p: &Picked| {
            let ack_id = AckId { queue, seq: p.seq, lease: p.lease };
            deadline.map(|ack_deadline| Lease { ack_id, ack_deadline })
        };
        picked.into_iter().map(|p| Delivery { lease: lease(&p), attempt: p.attempt, message: p.message }).collect()
    }
}

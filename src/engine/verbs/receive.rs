//! Receive: hand out the next messages of a queue.

use std::sync::Arc;

use super::Step;
use crate::{
    engine::{
        AckMode, EngineError,
        journal::{Reason, Record},
        state::Meaning,
    },
    model::{AckId, Attempt, Delivery, Lease, Message, Name, QueueId, Seq},
};

/// Most payload bytes of one answer, unless its first message alone is larger: 16 MiB, the largest message there is.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Most expired messages that one step drops, so that no step takes long.
const EXPIRED_MAX: usize = 10_000;

impl Step<'_> {
    /// The queue that a consumer means, declared if need be.
    pub(in crate::engine) fn queue_for(&mut self, name: &Name, service: Option<&Name>) -> Result<QueueId, EngineError> {
        if let Some(service) = service {
            return self.subscribe(name, service);
        }
        let topic = match self.state.meaning(name) {
            Some(Meaning::Subscription(queue)) => return Ok(queue),
            Some(Meaning::Topic(topic)) => topic,
            None => {
                self.check_room(1)?;
                self.create_topic(name.clone())
            }
        };
        if let Some(queue) = self.state.topic(topic).and_then(|t| t.own) {
            return Ok(queue);
        }
        self.check_room(0)?;
        Ok(self.create_queue(topic, None))
    }

    /// Hands out up to `max` messages; none if the queue is empty or gone.
    pub(in crate::engine) fn receive(&mut self, queue: QueueId, max: usize, mode: AckMode) -> Vec<Delivery> {
        loop {
            let (picked, expired) = self.pick(queue, max);
            let dropped = expired.len();
            if dropped > 0 {
                self.emit(Record::Done { queue, reason: Reason::Expired, seqs: expired });
            }
            if !picked.is_empty() {
                return self.hand_out(queue, picked, mode);
            }
            if dropped < EXPIRED_MAX {
                return Vec::new();
            }
        }
    }

    fn pick(&self, queue: QueueId, max: usize) -> (Vec<Picked>, Vec<Seq>) {
        let (mut picked, mut expired, mut bytes) = (Vec::new(), Vec::new(), 0);
        let Some((queue, topic)) = self.state.queue_and_topic(queue) else { return (picked, expired) };
        for (seq, attempt) in queue.ready(&topic.log) {
            if picked.len() == max || expired.len() == EXPIRED_MAX {
                break;
            }
            let Some(message) = topic.log.get(seq) else { continue };
            if message.expires_at.is_some_and(|at| at <= self.now) {
                expired.push(seq);
                continue;
            }
            bytes += message.payload.len();
            if bytes > ANSWER_BYTES_MAX && !picked.is_empty() {
                break;
            }
            picked.push(Picked { seq, attempt, message: Arc::clone(message) });
        }
        (picked, expired)
    }

    fn hand_out(&mut self, queue: QueueId, picked: Vec<Picked>, mode: AckMode) -> Vec<Delivery> {
        let deadline = match mode {
            AckMode::AtOnce => {
                let seqs = picked.iter().map(|p| p.seq).collect();
                self.emit(Record::Done { queue, reason: Reason::Received, seqs });
                None
            }
            AckMode::Lease(length) => {
                let deadline = self.now.after(length);
                let items = picked.iter().map(|p| (p.seq, p.attempt)).collect();
                self.emit(Record::Leased { queue, deadline, items });
                Some(deadline)
            }
        };
        let lease = |p: &Picked| {
            let ack_id = AckId { queue, seq: p.seq, attempt: p.attempt };
            deadline.map(|ack_deadline| Lease { ack_id, ack_deadline })
        };
        picked.into_iter().map(|p| Delivery { lease: lease(&p), attempt: p.attempt, message: p.message }).collect()
    }
}

struct Picked {
    seq: Seq,
    attempt: Attempt,
    message: Arc<Message>,
}

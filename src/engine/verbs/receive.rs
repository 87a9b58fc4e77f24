//! Receive: hand out the next messages of a queue.

use std::sync::Arc;

use super::Step;
use crate::{
    engine::{
        AckMode, EngineError,
        checkpoint::{Block, Kind, Place},
        journal::{Reason, Record},
        reading::Cached,
        state::{Meaning, Whereabouts},
    },
    model::{AckId, Attempt, Delivery, Lease, Message, Name, QueueId, Seq},
};

/// Most payload bytes of one answer, unless its first message alone is larger: 16 MiB, the largest message there is.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Most expired and damaged messages that one record drops.
const DROPPED_MAX: usize = 10_000;

/// Most blocks that are loaded for one receive: 2 MiB, which is a thousand messages of 1 KiB and more.
const MISSING_MAX: usize = 16;

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
}

/// What stands behind the messages that were handed out.
#[derive(Debug, Default)]
pub(in crate::engine) enum Next {
    /// Nothing that has to be loaded.
    #[default]
    Nothing,
    /// This block will be asked for soon.
    Ahead(Block),
    /// The next messages are in these blocks, of which the first one at least is not in memory.
    Missing(Vec<Block>),
    /// The next message is in a block that cannot be read; why.
    Failed(String),
}

#[derive(Debug, Default)]
struct Pick {
    messages: Vec<Picked>,
    expired: Vec<Seq>,
    damaged: Vec<Seq>,
    next: Next,
}

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

    /// Hands out up to `max` messages; none if the queue is empty or gone, or if not `fill` of them is in memory.
    pub(in crate::engine) fn receive(&mut self, queue: QueueId, max: usize, mode: AckMode, fill: Fill) -> Received {
        loop {
            let Pick { mut messages, expired, damaged, next } = self.pick(queue, max);
            let dropped_count = expired.len() + damaged.len();
            for (reason, seqs) in [(Reason::Expired, expired), (Reason::Damaged, damaged)] {
                if !seqs.is_empty() {
                    self.emit(Record::Done { queue, reason, seqs });
                }
            }
            if messages.is_empty() && dropped_count >= DROPPED_MAX {
                continue;
            }
            if fill == Fill::Whole && matches!(next, Next::Missing(_)) {
                messages.clear();
            }
            let deliveries = if messages.is_empty() { Vec::new() } else { self.hand_out(queue, messages, mode) };
            return Received { deliveries, next };
        }
    }

    fn pick(&mut self, queue: QueueId, max: usize) -> Pick {
        let mut pick = Pick::default();
        let Some((queue, topic)) = self.state.queue_and_topic(queue) else { return pick };
        let place = Place { topic: queue.topic, kind: Kind::Visible, seq: Seq(0) };
        // Messages behind the first one that is not in memory are not picked, only the blocks that they are in.
        let (mut bytes, mut missing, mut ahead, mut left) = (0, Vec::new(), None, 0);
        for (seq, attempt) in queue.ready(topic.log.next) {
            if pick.messages.len() + left == max || pick.expired.len() + pick.damaged.len() == DROPPED_MAX {
                break;
            }
            let message = match self.state.find(place.at(seq)) {
                Whereabouts::Recent(kept) => Some(Arc::clone(&kept.message)),
                Whereabouts::Nowhere => None,
                Whereabouts::Saved(block, _) if block.expires_by.is_some_and(|at| at <= self.now) => {
                    pick.expired.push(seq);
                    continue;
                }
                Whereabouts::Saved(block, at) => match self.blocks.get(&block) {
                    Some(Cached::Loaded(loaded)) => {
                        let message = loaded.message(at, &topic.name);
                        ahead = Some(block);
                        message
                    }
                    Some(Cached::Failed(problem)) => {
                        pick.next = Next::Failed(problem.clone());
                        break;
                    }
                    None => {
                        if missing.last() != Some(&block) {
                            if missing.len() == MISSING_MAX {
                                break;
                            }
                            missing.push(block);
                        }
                        left += 1;
                        continue;
                    }
                },
            };
            if !missing.is_empty() {
                left += 1;
                continue;
            }
            let Some(message) = message else {
                pick.damaged.push(seq);
                continue;
            };
            if message.expires_at.is_some_and(|at| at <= self.now) {
                pick.expired.push(seq);
                continue;
            }
            bytes += message.payload.len();
            if bytes > ANSWER_BYTES_MAX && !pick.messages.is_empty() {
                break;
            }
            pick.messages.push(Picked { seq, attempt, message });
        }
        if !missing.is_empty() {
            pick.next = Next::Missing(missing);
        } else if let (Next::Nothing, Some(block)) = (&pick.next, ahead) {
            // What is read one after the other is read ahead.
            pick.next = self.state.segments.after(&block).map_or(Next::Nothing, Next::Ahead);
        }
        pick
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

#[derive(Debug)]
struct Picked {
    seq: Seq,
    attempt: Attempt,
    message: Arc<Message>,
}

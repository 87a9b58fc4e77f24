//! What becomes of the messages of a queue.

use std::sync::Arc;

use super::{Inconsistent, Result, State};
use crate::{
    engine::{
        journal::{DeadCause, LeaseItem, Pace, PassedItem, PurgeScope, Reason, ReturnCause, ReturnItem},
        state::{lanes::Waiting, meter::Happening},
    },
    model::{QueueId, Seq, Timestamp},
};

impl State {
    pub(super) fn finish(&mut self, id: QueueId, reason: Reason, seqs: &[Seq]) -> Result<()> {
        let (mut ended, mut left, mut dead, mut frees) =
            (Vec::new(), Vec::with_capacity(seqs.len()), Vec::new(), false);
        let now = self.time;
        let topic = self.change_queue(id, |queue, topic| {
            for seq in seqs {
                if *seq >= topic.log.next {
                    return Err(Inconsistent("done with a message that never was"));
                }
                if queue.dead().contains_key(seq) {
                    dead.push(*seq);
                } else if queue.wants(*seq) {
                    left.push(*seq);
                }
                match reason {
                    Reason::Received => {
                        queue.counters.delivered += 1;
                        queue.counters.acked += 1;
                        queue.meter.note(Happening::Delivered, now);
                        queue.meter.note(Happening::Acked, now);
                    }
                    Reason::Acked => {
                        queue.counters.acked += 1;
                        queue.meter.note(Happening::Acked, now);
                    }
                    _ => queue.counters.dropped += 1,
                }
                if reason == Reason::Deleted && *seq >= queue.cursor() {
                    queue.skip(*seq);
                    continue;
                }
                let taken = queue.take(*seq);
                ended.extend(taken.held.map(|held| (held.deadline, id, *seq)));
                frees |= taken.frees;
            }
            Ok(queue.topic)
        })??;
        self.forget_deadlines(&ended);
        let bytes = self.sizes_of(topic, &left);
        self.change_bytes(id, |queue| queue.bytes = queue.bytes.saturating_sub(bytes));
        for seq in left.into_iter().chain(dead) {
            self.leave(topic, seq);
        }
        if frees {
            self.stir(id);
        }
        Ok(())
    }

    pub(super) fn pass_over(&mut self, id: QueueId, items: &[PassedItem]) -> Result<()> {
        self.change_queue(id, |queue, topic| {
            for item in items {
                let end = item.end().filter(|end| *end <= topic.log.next);
                let end = end.ok_or(Inconsistent("a message that never was is passed over"))?;
                queue.pass_over(item.first..end, item.key);
            }
            Ok(())
        })?
    }

    pub(super) fn lease(&mut self, id: QueueId, deadline: Timestamp, items: &[LeaseItem]) -> Result<()> {
        let (now, mut ended) = (self.time, Vec::new());
        self.change_queue(id, |queue, topic| {
            for item in items {
                if item.seq >= topic.log.next {
                    return Err(Inconsistent("a lease of a message that never was"));
                }
                queue.counters.delivered += 1;
                queue.meter.note(Happening::Delivered, now);
                ended.extend(queue.lease(item, deadline).map(|held| (held.deadline, id, item.seq)));
            }
            Ok(())
        })??;
        self.forget_deadlines(&ended);
        self.deadlines.extend(items.iter().map(|item| (deadline, id, item.seq)));
        Ok(())
    }

    pub(super) fn extend(&mut self, id: QueueId, deadline: Timestamp, seqs: &[Seq]) -> Result<()> {
        let (queue, _) = self.queue_mut(id)?;
        let ends: Vec<_> = seqs.iter().filter_map(|seq| Some((queue.extend(*seq, deadline)?, *seq))).collect();
        for (before, seq) in ends {
            self.deadlines.remove(&(before, id, seq));
            self.deadlines.insert((deadline, id, seq));
        }
        Ok(())
    }

    pub(super) fn give_back(&mut self, id: QueueId, cause: ReturnCause, items: &[ReturnItem]) -> Result<()> {
        let now = self.time;
        let (mut ended, mut retries) = (Vec::new(), Vec::new());
        self.change_queue(id, |queue, _| {
            for ReturnItem { seq, attempts, retry_at } in items {
                let held = queue.give_back(*seq, |held| Waiting {
                    attempts: *attempts,
                    leases: held.lease,
                    key: held.key,
                    retry_at: *retry_at,
                    first_failed: held.first_failed.or(cause.is_failure().then_some(now)),
                });
                let Some(held) = held else { continue };
                queue.counters.failed += u64::from(cause.is_failure());
                ended.push((held.deadline, id, *seq));
                retries.extend(retry_at.map(|at| (at, id, *seq)));
            }
        })?;
        self.forget_deadlines(&ended);
        self.retries.extend(retries);
        self.stir(id);
        Ok(())
    }

    /// As version 2 had it: the delivery counts, and the message is ready at once.
    pub(super) fn release(&mut self, id: QueueId, seqs: &[Seq]) -> Result<()> {
        let (queue, _) = self.queue_mut(id)?;
        let item = |seq: &Seq| {
            let attempts = queue.held(*seq).map(|held| held.attempt).unwrap_or_default();
            ReturnItem { seq: *seq, attempts, retry_at: None }
        };
        let items: Vec<_> = seqs.iter().map(item).collect();
        self.give_back(id, ReturnCause::DeadlineOver, &items)
    }

    pub(super) fn bury(&mut self, id: QueueId, cause: DeadCause, reason: &str, seqs: &[Seq]) -> Result<()> {
        let (now, reason) = (self.time, Arc::<str>::from(reason));
        let (topic, ended) = self.change_queue(id, |queue, _| {
            let ended = seqs.iter().filter_map(|seq| {
                let held = queue.bury(*seq, now, cause, Arc::clone(&reason))?;
                queue.counters.dead_lettered += 1;
                queue.counters.failed += u64::from(cause != DeadCause::Rejected);
                Some((held.deadline, id, *seq))
            });
            let ended: Vec<_> = ended.collect();
            (queue.topic, ended)
        })?;
        self.forget_deadlines(&ended);
        let buried: Vec<Seq> = ended.iter().map(|(.., seq)| *seq).collect();
        let bytes = self.sizes_of(topic, &buried);
        self.change_bytes(id, |queue| queue.bytes = queue.bytes.saturating_sub(bytes));
        self.stir(id);
        Ok(())
    }

    pub(super) fn revive(&mut self, id: QueueId, pace: Option<Pace>, seqs: &[Seq]) -> Result<()> {
        let retries: Vec<_> = (0..).zip(seqs).map(|(before, seq)| (*seq, pace.map(|pace| pace.at(before)))).collect();
        let (topic, are_dead) = self.change_queue(id, |queue, _| {
            (queue.topic, retries.iter().all(|(seq, retry_at)| queue.revive(*seq, *retry_at)))
        })?;
        if !are_dead {
            return Err(Inconsistent("a dead letter that is none comes back"));
        }
        self.retries.extend(retries.iter().filter_map(|(seq, retry_at)| Some(((*retry_at)?, id, *seq))));
        let bytes = self.sizes_of(topic, seqs);
        self.change_bytes(id, |queue| queue.bytes += bytes);
        self.stir(id);
        Ok(())
    }

    pub(super) fn purge(&mut self, id: QueueId, scope: PurgeScope, end: Seq) -> Result<()> {
        let (topic, left, ended) = self.change_queue(id, |queue, topic| {
            if end > topic.log.next {
                return Err(Inconsistent("a queue that is purged behind its topic"));
            }
            let (left, ended) = queue.purge(scope, end);
            Ok((queue.topic, left, ended))
        })??;
        let ended: Vec<_> = ended.into_iter().map(|(seq, held)| (held.deadline, id, seq)).collect();
        self.forget_deadlines(&ended);
        if scope.ready {
            self.let_go_of_unwanted(topic);
        } else {
            left.into_iter().for_each(|seq| self.leave(topic, seq));
        }
        self.measure(id);
        self.stir(id);
        Ok(())
    }
}

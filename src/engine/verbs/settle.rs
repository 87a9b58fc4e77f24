//! Settle: what becomes of messages that consumers hold, and messages that are published along, in one durable step.

use std::collections::{BTreeMap, HashSet};

use super::{
    Step,
    fail::Failure,
    publish::{Leaving, Publication},
};
use crate::{
    engine::{
        EngineError, Nack, NackOutcome, Settled, SettledAll, Settlement,
        journal::{DeadCause, Reason, Record, ReturnCause},
        state::Meaning,
    },
    model::{AckId, Name, QueueId, Seq},
};

/// A delivery and what becomes of it; `None` stands for an ack id that could not be read.
pub(in crate::engine) type Item = (Option<AckId>, Settlement);

impl Step<'_> {
    /// Settles each on its own. With a name, only deliveries of that queue are.
    pub(in crate::engine) fn settle_each(
        &mut self,
        name: Option<&Name>,
        items: &[Item],
    ) -> Result<Vec<Settled>, EngineError> {
        let scope = name.map(|name| self.queue_named(name)).transpose()?;
        let results = self.judge_all(scope, items);
        self.settle_judged(items, &results);
        Ok(results)
    }

    /// Settles all and publishes all, or nothing of it.
    pub(in crate::engine) fn settle_all(
        &mut self,
        items: &[Item],
        publications: Vec<Publication>,
    ) -> Result<SettledAll, EngineError> {
        let results = self.judge_all(None, items);
        match results.iter().position(|result| *result != Settled::Done) {
            Some(index) if results[index] == Settled::Stale => return Err(EngineError::StaleAck { index }),
            Some(index) => return Err(EngineError::UnknownAck { index }),
            None => {}
        }
        // What is done with makes room in its queue.
        let mut leaving = Leaving::new();
        for (id, settlement) in items {
            if let (Some(id), Settlement::Ack) = (id, settlement) {
                leaving.entry(id.queue).or_default().push(id.seq);
            }
        }
        publications.iter().for_each(|publication| self.sweep(&publication.topic));
        let checked = self.check_all(publications, &leaving)?;
        self.settle_judged(items, &results);
        Ok(SettledAll { results, published: self.publish_checked_all(checked) })
    }

    /// The queue of that name.
    pub(in crate::engine) fn queue_named(&self, name: &Name) -> Result<QueueId, EngineError> {
        let queue = match self.state.meaning(name) {
            Some(Meaning::Subscription(queue)) => Some(queue),
            Some(Meaning::Topic(topic)) => self.state.topic(topic).and_then(|topic| topic.own),
            None => None,
        };
        queue.ok_or_else(|| self.state.no_such_queue(name))
    }

    fn judge_all(&self, scope: Option<QueueId>, items: &[Item]) -> Vec<Settled> {
        let mut seen = HashSet::with_capacity(items.len());
        items.iter().map(|(id, _)| self.judge(scope, *id, &mut seen)).collect()
    }

    fn judge(&self, scope: Option<QueueId>, id: Option<AckId>, seen: &mut HashSet<(QueueId, Seq)>) -> Settled {
        let Some(id) = id.filter(|id| scope.is_none_or(|scope| scope == id.queue)) else { return Settled::Unknown };
        let held = self.state.queue(id.queue).and_then(|queue| queue.held(id.seq));
        // A lease whose time is over has ended, also when nobody has looked at the clock since.
        let is_held = held.is_some_and(|held| held.lease == id.lease && held.deadline > self.now);
        if is_held && seen.insert((id.queue, id.seq)) { Settled::Done } else { Settled::Stale }
    }

    /// Does what was judged to be possible: per queue, and what is alike in one record.
    fn settle_judged(&mut self, items: &[Item], results: &[Settled]) {
        let mut alike: BTreeMap<QueueId, Vec<(&Settlement, Vec<Seq>)>> = BTreeMap::new();
        for ((id, settlement), result) in items.iter().zip(results) {
            let (Some(id), Settled::Done) = (id, result) else { continue };
            let groups = alike.entry(id.queue).or_default();
            match groups.iter_mut().find(|(of, _)| *of == settlement) {
                Some((_, seqs)) => seqs.push(id.seq),
                None => groups.push((settlement, vec![id.seq])),
            }
        }
        for (queue, groups) in alike {
            for (settlement, mut seqs) in groups {
                seqs.sort_unstable();
                self.settle_alike(queue, settlement, seqs);
            }
        }
    }

    fn settle_alike(&mut self, queue: QueueId, settlement: &Settlement, seqs: Vec<Seq>) {
        match settlement {
            Settlement::Ack => self.emit(Record::Done { queue, reason: Reason::Acked, seqs }),
            Settlement::Extend(by) => {
                let deadline = self.now.after(*by);
                self.emit(Record::Extended { queue, deadline, seqs });
            }
            Settlement::Nack(Nack { outcome, delay, reason }) => match outcome {
                NackOutcome::Release => self.release(queue, &seqs, ReturnCause::Released, reason),
                NackOutcome::Retry => {
                    self.fail(queue, &seqs, Failure { cause: ReturnCause::Failed, reason, delay: *delay });
                }
                NackOutcome::DeadLetter => {
                    let room = self.limits.dead_letters_max.saturating_sub(self.state.dead_count);
                    let (fit, others) = seqs.split_at(room.min(seqs.len()));
                    self.bury(queue, fit.to_vec(), DeadCause::Rejected, reason);
                    self.fail(queue, others, Failure { cause: ReturnCause::Failed, reason, delay: *delay });
                }
            },
        }
    }
}

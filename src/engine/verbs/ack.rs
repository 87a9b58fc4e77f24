//! Ack: a queue is done with a message that a consumer holds.

use super::Step;
use crate::{
    engine::{
        Acked, EngineError,
        journal::{Reason, Record},
        state::Meaning,
    },
    model::{AckId, Name, QueueId, Seq},
};

impl Step<'_> {
    /// Acks each on its own: `None` stands for an ack id that could not be read.
    pub(in crate::engine) fn ack(&mut self, name: &Name, ids: &[Option<AckId>]) -> Result<Vec<Acked>, EngineError> {
        let queue = match self.state.meaning(name) {
            Some(Meaning::Subscription(queue)) => Some(queue),
            Some(Meaning::Topic(topic)) => self.state.topic(topic).and_then(|t| t.own),
            None => None,
        };
        let queue = queue.ok_or_else(|| EngineError::NoSuchQueue { name: name.to_string() })?;
        let mut done: Vec<Seq> = Vec::with_capacity(ids.len());
        let mut results = Vec::with_capacity(ids.len());
        for id in ids {
            let result = self.judge(queue, *id, &done);
            if let (Acked::Acked, Some(id)) = (result, id) {
                done.push(id.seq);
            }
            results.push(result);
        }
        if !done.is_empty() {
            done.sort_unstable();
            self.emit(Record::Done { queue, reason: Reason::Acked, seqs: done });
        }
        Ok(results)
    }

    fn judge(&self, queue: QueueId, id: Option<AckId>, done: &[Seq]) -> Acked {
        let Some(id) = id.filter(|id| id.queue == queue) else { return Acked::Unknown };
        let held = self.state.queue(queue).and_then(|q| q.held(id.seq));
        if held.is_some_and(|held| held.attempt == id.attempt) && !done.contains(&id.seq) {
            return Acked::Acked;
        }
        Acked::Stale
    }
}

//! What time alone brings about: leases end, delayed messages become visible.

use super::{Step, fail::Failure};
use crate::{
    engine::{
        journal::{Record, ReturnCause},
        state::State,
    },
    model::{AckId, QueueId, Seq, Timestamp, TopicId},
};

/// Most leases and delayed messages of one step, so that none takes long; the rest follow in the next one.
const EVENTS_MAX: usize = 4096;

/// When there is something to do next.
pub(in crate::engine) fn next_event(state: &State) -> Option<Timestamp> {
    let deadline = state.deadlines.first().map(|(at, ..)| *at);
    let due = state.delayed.first().map(|(at, ..)| *at);
    let retry = state.retries.first().map(|(at, ..)| *at);
    deadline.into_iter().chain(due).chain(retry).min()
}

impl Step<'_> {
    /// Carries out what is due by now.
    pub(in crate::engine) fn tick(&mut self) {
        if next_event(self.state).is_none_or(|at| at > self.now) {
            return;
        }
        self.end_leases();
        self.mature();
        self.wake();
    }

    /// Ends the leases of messages whose client left before it got them.
    pub(in crate::engine) fn give_back(&mut self, unclaimed: Vec<AckId>) {
        let still_held = |id: &AckId| {
            let held = self.state.queue(id.queue).and_then(|queue| queue.held(id.seq));
            held.is_some_and(|held| held.lease == id.lease)
        };
        let ended = unclaimed.into_iter().filter(still_held).map(|id| (self.now, id.queue, id.seq)).collect();
        for (queue, seqs) in by_owner(ended) {
            self.release(queue, &seqs, ReturnCause::Unclaimed, "");
        }
    }

    fn end_leases(&mut self) {
        let ended: Vec<(Timestamp, QueueId, Seq)> =
            self.state.deadlines.iter().take_while(|(at, ..)| *at <= self.now).take(EVENTS_MAX).copied().collect();
        let failure = Failure { cause: ReturnCause::DeadlineOver, reason: "", delay: None };
        for (queue, seqs) in by_owner(ended) {
            self.fail(queue, &seqs, failure);
        }
    }

    /// Messages that failed have waited long enough. Nothing changes by that but what can be handed out.
    fn wake(&mut self) {
        while let Some((_, queue, _)) = self.state.retries.first().copied().filter(|(at, ..)| *at <= self.now) {
            self.state.retries.pop_first();
            self.state.wake(queue, self.now);
            self.state.stir(queue);
        }
    }

    fn mature(&mut self) {
        let due: Vec<(Timestamp, TopicId, Seq)> =
            self.state.delayed.iter().take_while(|(at, ..)| *at <= self.now).take(EVENTS_MAX).copied().collect();
        for (topic, delayed) in by_owner(due) {
            let first = self.state.topic(topic).map(|t| t.log.next).unwrap_or_default();
            self.emit(Record::Matured { topic, first, delayed });
            self.make_room(topic);
        }
    }
}

/// Groups by owner, keeping the order within each.
fn by_owner<T: Ord + Copy>(events: Vec<(Timestamp, T, Seq)>) -> Vec<(T, Vec<Seq>)> {
    let mut groups = std::collections::BTreeMap::<T, Vec<Seq>>::new();
    for (_, owner, seq) in events {
        groups.entry(owner).or_default().push(seq);
    }
    groups.into_iter().collect()
}

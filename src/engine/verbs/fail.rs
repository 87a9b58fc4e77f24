//! What becomes of a delivery that failed: another one, after a while, or none any more.

use std::{num::NonZeroU32, time::Duration};

use super::Step;
use crate::{
    engine::journal::{DeadCause, Record, ReturnCause, ReturnItem},
    model::{Attempt, QueueId, Seq},
};

/// How deliveries failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure<'a> {
    pub(super) cause: ReturnCause,
    /// What the consumer said; empty if it said nothing.
    pub(super) reason: &'a str,
    /// How long the message is to wait, if not as long as the policy says.
    pub(super) delay: Option<Duration>,
}

impl Step<'_> {
    /// Messages of a queue that consumers hold go back to it, or to the dead letters if they were delivered often enough.
    ///
    /// When there are as many dead letters as there may be, they go back as well, for as long as the policy lets them wait
    /// at most: nothing is lost for want of room.
    pub(super) fn fail(&mut self, id: QueueId, seqs: &[Seq], failure: Failure<'_>) {
        let Some(queue) = self.state.queue(id) else { return };
        let policy = &queue.policy;
        let attempts_max = policy.max_delivery_attempts.map_or(u32::MAX, NonZeroU32::get);
        let mut room = self.limits.dead_letters_max.saturating_sub(self.state.dead_count);
        let (mut items, mut buried) = (Vec::new(), Vec::new());
        for seq in seqs {
            let Some(held) = queue.held(*seq) else { continue };
            let attempts = held.attempt;
            let is_last = attempts.0 >= attempts_max;
            if is_last && room > 0 {
                room -= 1;
                buried.push(*seq);
                continue;
            }
            let backoff =
                if is_last { policy.retry.maximum_backoff } else { policy.retry.backoff(attempts.0, fastrand::f64()) };
            let delay = failure.delay.unwrap_or(backoff);
            let retry_at = (!delay.is_zero()).then(|| self.now.after(delay));
            items.push(ReturnItem { seq: *seq, attempts, retry_at });
        }
        if !items.is_empty() {
            let (cause, reason) = (failure.cause, failure.reason.to_owned());
            self.emit(Record::Returned { queue: id, cause, reason, items });
        }
        let cause = match failure.cause {
            ReturnCause::DeadlineOver => DeadCause::DeadlineOver,
            ReturnCause::Failed | ReturnCause::Released | ReturnCause::Unclaimed => DeadCause::Failed,
        };
        self.bury(id, buried, cause, failure.reason);
    }

    /// Messages that consumers hold become dead letters.
    pub(super) fn bury(&mut self, queue: QueueId, seqs: Vec<Seq>, cause: DeadCause, reason: &str) {
        if !seqs.is_empty() {
            self.emit(Record::Buried { queue, cause, reason: reason.to_owned(), seqs });
        }
    }

    /// Messages go back to a queue from consumers who have not tried: their deliveries do not count.
    pub(super) fn release(&mut self, id: QueueId, seqs: &[Seq], cause: ReturnCause, reason: &str) {
        let Some(queue) = self.state.queue(id) else { return };
        let item = |seq: &Seq| {
            let attempts = Attempt(queue.held(*seq)?.attempt.0.saturating_sub(1));
            Some(ReturnItem { seq: *seq, attempts, retry_at: None })
        };
        let items: Vec<_> = seqs.iter().filter_map(item).collect();
        if !items.is_empty() {
            self.emit(Record::Returned { queue: id, cause, reason: reason.to_owned(), items });
        }
    }
}

//! Receives that wait for a message: first come, first served, per queue, none longer than it asked for.

use std::collections::{BTreeMap, HashMap, VecDeque};

use tokio::sync::oneshot;

use super::{EngineError, verbs::Wanted};
use crate::model::{Delivery, QueueId, Timestamp};

/// A receive that found its queue empty, or its next message not in memory.
#[derive(Debug)]
pub(super) struct Waiter {
    /// It goes on waiting when there is nothing: otherwise it waits only for what is being read.
    pub(super) is_patient: bool,
    /// How often blocks have been read for it.
    pub(super) reads: u8,
    pub(super) wanted: Wanted,
    pub(super) reply: oneshot::Sender<Result<Vec<Delivery>, EngineError>>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    waiting: HashMap<u64, (Timestamp, Waiter)>,
    /// Tickets in order of arrival; one that is not in `waiting` any more is passed over.
    queues: HashMap<QueueId, VecDeque<u64>>,
    deadlines: BTreeMap<(Timestamp, u64), QueueId>,
    next_ticket: u64,
    /// How many wait only for what is being read.
    impatient_count: usize,
}

impl Waiters {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn add(&mut self, queue: QueueId, until: Timestamp, waiter: Waiter) {
        let ticket = self.enter(queue, until, waiter);
        self.queues.entry(queue).or_default().push_back(ticket);
    }

    /// The first one in the line of a queue whose client is still there, and until when it waits.
    pub(super) fn first(&mut self, queue: QueueId) -> Option<(Timestamp, Waiter)> {
        while let Some(ticket) = self.queues.get_mut(&queue)?.pop_front() {
            let Some((until, waiter)) = self.leave(ticket) else { continue };
            self.deadlines.remove(&(until, ticket));
            if !waiter.reply.is_closed() {
                return Some((until, waiter));
            }
        }
        self.queues.remove(&queue);
        None
    }

    /// Puts the one that was first back in its place.
    pub(super) fn put_back(&mut self, queue: QueueId, until: Timestamp, waiter: Waiter) {
        let ticket = self.enter(queue, until, waiter);
        self.queues.entry(queue).or_default().push_front(ticket);
    }

    /// Takes out those who do not wait when there is nothing.
    pub(super) fn take_impatient(&mut self, queue: QueueId) -> Vec<Waiter> {
        if self.impatient_count == 0 {
            return Vec::new();
        }
        let line = self.queues.get(&queue).into_iter().flatten();
        let is_impatient = |ticket: &u64| self.waiting.get(ticket).is_some_and(|(_, waiter)| !waiter.is_patient);
        let tickets: Vec<_> = line.copied().filter(is_impatient).collect();
        let mut taken = Vec::with_capacity(tickets.len());
        for ticket in tickets {
            if let Some((until, waiter)) = self.leave(ticket) {
                self.deadlines.remove(&(until, ticket));
                taken.push(waiter);
            }
        }
        self.tidy(queue);
        taken
    }

    /// Takes out all that wait for a queue.
    pub(super) fn take_all(&mut self, queue: QueueId) -> Vec<Waiter> {
        std::iter::from_fn(|| self.first(queue)).map(|(_, waiter)| waiter).collect()
    }

    /// The queues that somebody waits for.
    pub(super) fn queues(&self) -> impl Iterator<Item = QueueId> + '_ {
        self.queues.keys().copied()
    }

    /// How many stand in the line of a queue.
    pub(super) fn count(&self, queue: QueueId) -> usize {
        let line = self.queues.get(&queue).into_iter().flatten();
        line.filter(|ticket| self.waiting.contains_key(ticket)).count()
    }

    /// Whether anybody stands in the line of a queue.
    pub(super) fn is_awaited(&self, queue: QueueId) -> bool {
        self.queues.contains_key(&queue)
    }

    /// When the next one has waited long enough.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first_key_value().map(|((until, _), _)| *until)
    }

    /// Takes out those that have waited long enough.
    pub(super) fn expire(&mut self, now: Timestamp) -> Vec<Waiter> {
        let mut expired = Vec::new();
        while let Some(entry) = self.deadlines.first_entry().filter(|e| e.key().0 <= now) {
            let ((_, ticket), queue) = entry.remove_entry();
            expired.extend(self.leave(ticket).map(|(_, waiter)| waiter));
            self.tidy(queue);
        }
        expired
    }

    /// Takes out all.
    pub(super) fn drain(&mut self) -> Vec<Waiter> {
        self.queues.clear();
        self.deadlines.clear();
        self.impatient_count = 0;
        self.waiting.drain().map(|(_, (_, waiter))| waiter).collect()
    }

    fn enter(&mut self, queue: QueueId, until: Timestamp, waiter: Waiter) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.impatient_count += usize::from(!waiter.is_patient);
        self.deadlines.insert((until, ticket), queue);
        self.waiting.insert(ticket, (until, waiter));
        ticket
    }

    fn leave(&mut self, ticket: u64) -> Option<(Timestamp, Waiter)> {
        let (until, waiter) = self.waiting.remove(&ticket)?;
        self.impatient_count -= usize::from(!waiter.is_patient);
        Some((until, waiter))
    }

    /// Drops the front of a line that has left, so that a line does not outgrow those who stand in it by much.
    fn tidy(&mut self, queue: QueueId) {
        let Some(line) = self.queues.get_mut(&queue) else { return };
        while line.front().is_some_and(|ticket| !self.waiting.contains_key(ticket)) {
            line.pop_front();
        }
        if line.is_empty() {
            self.queues.remove(&queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::AckMode;

    fn waiter() -> (Waiter, oneshot::Receiver<Result<Vec<Delivery>, EngineError>>) {
        let (reply, answer) = oneshot::channel();
        let wanted = Wanted { messages_max: 1, bytes_max: usize::MAX, mode: AckMode::AtOnce };
        (Waiter { is_patient: true, reads: 0, wanted, reply }, answer)
    }

    #[test]
    fn the_line_is_first_come_first_served_and_passes_over_who_left() {
        let mut waiters = Waiters::default();
        let queue = QueueId(1);
        let (first, gone) = waiter();
        let (mut second, _there) = waiter();
        second.wanted.messages_max = 2;
        waiters.add(queue, Timestamp::from_millis(50), first);
        waiters.add(queue, Timestamp::from_millis(60), second);
        drop(gone);
        assert_eq!(waiters.first(queue).map(|(_, w)| w.wanted.messages_max), Some(2));
        assert!(waiters.first(queue).is_none());
        assert!(!waiters.is_awaited(queue));
    }

    #[test]
    fn those_who_wait_only_for_the_disk_leave_together_and_the_others_stay_in_line() {
        let mut waiters = Waiters::default();
        let (queue, other) = (QueueId(1), QueueId(2));
        let mut answers = Vec::new();
        for (of, max, is_patient) in
            [(queue, 1, true), (queue, 2, false), (queue, 3, true), (queue, 4, false), (other, 5, false)]
        {
            let (mut waiter, answer) = waiter();
            (waiter.wanted.messages_max, waiter.is_patient) = (max, is_patient);
            waiters.add(of, Timestamp::from_millis(50 + max as u64), waiter);
            answers.push(answer);
        }
        assert_eq!((waiters.count(queue), waiters.count(other), waiters.len()), (4, 1, 5));
        let taken = |waiters: &mut Waiters, queue| -> Vec<usize> {
            waiters.take_impatient(queue).iter().map(|waiter| waiter.wanted.messages_max).collect()
        };
        assert_eq!(taken(&mut waiters, queue), [2, 4]);
        assert_eq!(taken(&mut waiters, queue), [0; 0]);
        assert_eq!(taken(&mut waiters, other), [5]);
        assert!(!waiters.is_awaited(other));
        assert_eq!((waiters.count(queue), waiters.len()), (2, 2));
        let (until, first) = waiters.first(queue).expect("two are left");
        assert_eq!((first.wanted.messages_max, waiters.count(queue)), (1, 1));
        waiters.put_back(queue, until, first);
        assert_eq!(waiters.next_deadline(), Some(Timestamp::from_millis(51)));
        let order: Vec<usize> =
            std::iter::from_fn(|| waiters.first(queue)).map(|(_, w)| w.wanted.messages_max).collect();
        assert_eq!(order, [1, 3]);
        assert_eq!((waiters.len(), waiters.next_deadline()), (0, None));
    }

    #[test]
    fn who_has_waited_long_enough_is_let_go() {
        let mut waiters = Waiters::default();
        let (first, _a) = waiter();
        let (second, _b) = waiter();
        waiters.add(QueueId(1), Timestamp::from_millis(50), first);
        waiters.add(QueueId(2), Timestamp::from_millis(40), second);
        assert_eq!(waiters.next_deadline(), Some(Timestamp::from_millis(40)));
        assert_eq!(waiters.expire(Timestamp::from_millis(39)).len(), 0);
        assert_eq!(waiters.expire(Timestamp::from_millis(45)).len(), 1);
        assert!(!waiters.is_awaited(QueueId(2)));
        assert!(waiters.is_awaited(QueueId(1)));
        assert_eq!(waiters.expire(Timestamp::from_millis(50)).len(), 1);
        assert_eq!(waiters.len(), 0);
    }
}

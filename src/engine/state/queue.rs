//! A queue: which messages of its topic it is done with, which are held by consumers, which come next, which are dead.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hash,
    ops::Range,
    sync::Arc,
};

use super::{
    lanes::{Lanes, Waiting},
    meter::Meter,
    seq_set::SeqSet,
};
use crate::{
    engine::{
        Counters,
        journal::{DeadCause, LeaseItem, PurgeScope},
    },
    model::{Attempt, KeyHash, LeaseNumber, Name, QueuePolicy, Seq, Timestamp, TopicId},
};

/// A durable position in a topic.
///
/// ```text
///                      cursor
///   done, held, dead     │   never looked at
///   or waiting           ▼
///   ─ ─ H ─ W ─ D ─ W ─  ┼ ─ ─ ─ G ─ ─►     H held under a lease   W waiting: given back, or passed over for its key
///                                           D dead letter          G gone: done with before it was looked at
/// ```
///
/// Invariant: every message of the queue is either at or after the cursor, or in exactly one of `lanes`, `held` and `dead`,
/// or the queue is done with it.
#[derive(Debug)]
pub(in crate::engine) struct Queue {
    pub(in crate::engine) name: Name,
    pub(in crate::engine) topic: TopicId,
    /// Whose queue it is; `None`: the topic's own.
    pub(in crate::engine) service: Option<Name>,
    pub(in crate::engine) policy: Arc<QueuePolicy>,
    /// Nothing is handed out until it is resumed.
    pub(in crate::engine) is_paused: bool,
    /// The first message that was never looked at; everything from here on is wanted, but what is gone.
    cursor: Seq,
    lanes: Lanes,
    held: BTreeMap<Seq, Held>,
    dead: BTreeMap<Seq, Dead>,
    gone: BTreeSet<Seq>,
    /// About how many bytes its messages have that are no dead letters. Not part of what replaying restores.
    pub(super) bytes: u64,
    /// What has happened since the state was made. Not part of what replaying restores.
    pub(in crate::engine) counters: Counters,
    /// How often it happens. Not part of what replaying restores.
    pub(in crate::engine) meter: Meter,
    /// Whether it stands in the state's list of queues that got something to deliver.
    pub(super) is_stirred: bool,
}

/// A consumer's hold on a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::engine) struct Held {
    pub(in crate::engine) attempt: Attempt,
    pub(in crate::engine) lease: LeaseNumber,
    pub(in crate::engine) deadline: Timestamp,
    pub(in crate::engine) key: Option<KeyHash>,
    /// When the first of its deliveries failed.
    pub(in crate::engine) first_failed: Option<Timestamp>,
}

/// A message that is not delivered any more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::engine) struct Dead {
    /// Deliveries so far that count.
    pub(in crate::engine) attempts: Attempt,
    /// All leases so far.
    pub(in crate::engine) leases: LeaseNumber,
    pub(in crate::engine) key: Option<KeyHash>,
    pub(in crate::engine) first_failed: Timestamp,
    /// When it was given up.
    pub(in crate::engine) at: Timestamp,
    pub(in crate::engine) cause: DeadCause,
    /// What the consumer said; empty if it said nothing.
    pub(in crate::engine) reason: Arc<str>,
}

/// What a queue durably consists of beside its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::engine) struct QueueContent {
    pub(in crate::engine) policy: Arc<QueuePolicy>,
    pub(in crate::engine) is_paused: bool,
    /// What came back, and what has no key.
    pub(in crate::engine) waiting: BTreeMap<Seq, Waiting>,
    /// What was passed over, by key.
    pub(in crate::engine) passed_over: BTreeMap<KeyHash, SeqSet>,
    pub(in crate::engine) held: BTreeMap<Seq, Held>,
    pub(in crate::engine) dead: BTreeMap<Seq, Dead>,
    pub(in crate::engine) gone: BTreeSet<Seq>,
}

/// Where a message stood that a queue has let go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// The lease that it was under.
    pub(super) held: Option<Held>,
    /// When the first of its deliveries failed.
    pub(super) first_failed: Option<Timestamp>,
    /// Another message may be handed out now that could not be before.
    pub(super) frees: bool,
}

impl Queue {
    pub(super) fn new(name: Name, topic: TopicId, service: Option<Name>, start: Seq) -> Self {
        Self {
            name,
            topic,
            service,
            policy: Arc::default(),
            is_paused: false,
            cursor: start,
            lanes: Lanes::default(),
            held: BTreeMap::new(),
            dead: BTreeMap::new(),
            gone: BTreeSet::new(),
            bytes: 0,
            counters: Counters::default(),
            meter: Meter::default(),
            is_stirred: false,
        }
    }

    /// A queue that begins where the slowest of `others` is, at `slowest`, and wants what they have not delivered from
    /// before that.
    pub(super) fn beside<'a>(
        mut self,
        slowest: Seq,
        others: impl Iterator<Item = &'a Self>,
        gone: impl Iterator<Item = Seq>,
    ) -> Self {
        let start = self.cursor;
        self.cursor = start.max(slowest);
        for other in others {
            let back = other.lanes.all_back().range(..slowest).map(|(seq, waiting)| (*seq, waiting.key));
            let held = other.held.range(..slowest).map(|(seq, held)| (*seq, held.key));
            for (seq, key) in back.chain(held).filter(|(seq, _)| *seq >= start) {
                match key {
                    Some(key) => self.lanes.pass_over_all(&[seq].into_iter().collect(), key),
                    None => self.lanes.insert(seq, Waiting::default()),
                }
            }
            for (key, places) in other.lanes.passed_over_by_key() {
                let mut places = places.clone();
                places.remove_before(start);
                places.remove_from(slowest);
                self.lanes.pass_over_all(&places, key);
            }
        }
        self.gone = gone.filter(|seq| *seq >= self.cursor).collect();
        self
    }

    /// Adds what it wants before `end`, which is not behind its cursor, to `wanted`.
    pub(super) fn add_wanted_before(&self, end: Seq, wanted: &mut SeqSet) {
        let one_by_one = self.lanes.all_back().range(..end).map(|(seq, _)| *seq);
        let one_by_one = one_by_one.chain(self.held.range(..end).map(|(seq, _)| *seq));
        one_by_one.chain(self.dead.range(..end).map(|(seq, _)| *seq)).for_each(|seq| wanted.insert(seq));
        let mut passed_over = self.lanes.passed_over().clone();
        passed_over.remove_from(end);
        wanted.insert_set(&passed_over);
    }

    /// The first message that was never looked at.
    pub(in crate::engine) fn cursor(&self) -> Seq {
        self.cursor
    }

    /// What waits before the cursor.
    pub(in crate::engine) fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// Messages that consumers hold.
    pub(in crate::engine) fn all_held(&self) -> &BTreeMap<Seq, Held> {
        &self.held
    }

    /// Messages that are not delivered any more.
    pub(in crate::engine) fn dead(&self) -> &BTreeMap<Seq, Dead> {
        &self.dead
    }

    /// Messages behind the cursor that it is done with.
    pub(in crate::engine) fn gone(&self) -> &BTreeSet<Seq> {
        &self.gone
    }

    /// About how many bytes its messages have, as they are stored, but for dead letters.
    pub(in crate::engine) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it durably consists of.
    pub(in crate::engine) fn content(&self) -> QueueContent {
        QueueContent {
            policy: Arc::clone(&self.policy),
            is_paused: self.is_paused,
            waiting: self.lanes.all_back().clone(),
            passed_over: self.lanes.passed_over_by_key().map(|(key, places)| (key, places.clone())).collect(),
            held: self.held.clone(),
            dead: self.dead.clone(),
            gone: self.gone.clone(),
        }
    }

    /// A queue as a checkpoint left it.
    pub(super) fn restored(mut self, content: QueueContent) -> Self {
        let QueueContent { policy, is_paused, waiting, passed_over, held, dead, gone } = content;
        waiting.into_iter().for_each(|(seq, waiting)| self.lanes.insert(seq, waiting));
        passed_over.iter().for_each(|(key, places)| self.lanes.pass_over_all(places, *key));
        held.values().filter_map(|held| held.key).for_each(|key| self.lanes.hold(key));
        Self { policy, is_paused, held, dead, gone, ..self }
    }

    /// Whether it is not done with the message.
    pub(in crate::engine) fn wants(&self, seq: Seq) -> bool {
        if seq >= self.cursor {
            return !self.gone.contains(&seq);
        }
        self.lanes.contains(seq) || self.held.contains_key(&seq) || self.dead.contains_key(&seq)
    }

    pub(in crate::engine) fn held(&self, seq: Seq) -> Option<Held> {
        self.held.get(&seq).copied()
    }

    /// How many messages consumers hold.
    pub(in crate::engine) fn held_count(&self) -> usize {
        self.held.len()
    }

    /// How many messages before `next` wait to be handed out, now or later.
    pub(in crate::engine) fn ready_count(&self, next: Seq) -> usize {
        let behind = next.0.saturating_sub(self.cursor.0) - self.gone.len() as u64;
        self.lanes.len() + usize::try_from(behind).unwrap_or(usize::MAX)
    }

    /// Whether there is a message before `next` that could be handed out, as far as that is known without reading it.
    pub(in crate::engine) fn is_ready(&self, next: Seq) -> bool {
        !self.is_paused && (self.lanes.ready().next().is_some() || self.first_fresh(next).is_some())
    }

    /// The first message before `next` that was never looked at.
    pub(in crate::engine) fn first_fresh(&self, next: Seq) -> Option<Seq> {
        (self.cursor.0..next.0).map(Seq).find(|seq| !self.gone.contains(seq))
    }

    /// What has waited long enough for its next delivery can be handed out from now on. Answers whether there was any.
    pub(super) fn wake(&mut self, now: Timestamp) -> bool {
        self.lanes.wake(now)
    }

    /// Takes a message out of wherever it stands. Messages that the cursor passes over on the way wait from now on.
    pub(super) fn take(&mut self, seq: Seq) -> Taken {
        let mut taken = Taken { held: None, first_failed: None, frees: false };
        if seq >= self.cursor {
            self.look_at(seq);
            return taken;
        }
        if let Some(waiting) = self.lanes.remove(seq) {
            (taken.first_failed, taken.frees) = (waiting.first_failed, waiting.key.is_some());
        }
        if let Some(held) = self.held.remove(&seq) {
            (taken.held, taken.first_failed) = (Some(held), held.first_failed);
            taken.frees = self.let_go(held.key);
        }
        self.dead.remove(&seq);
        taken
    }

    /// The queue is done with a message behind its cursor, which stays where it is.
    pub(super) fn skip(&mut self, seq: Seq) {
        if seq >= self.cursor {
            self.gone.insert(seq);
        }
    }

    /// Messages behind the cursor wait from now on, because others of their key come first.
    pub(super) fn pass_over(&mut self, range: Range<Seq>, key: Option<KeyHash>) {
        let range = range.start.max(self.cursor)..range.end;
        if range.is_empty() {
            return;
        }
        self.pass_by(range.start);
        match key {
            Some(key) => {
                let mut begin = range.start;
                for gone in self.gone.range(range.clone()) {
                    self.lanes.pass_over(begin..*gone, key);
                    begin = gone.next();
                }
                self.lanes.pass_over(begin..range.end, key);
                self.cursor = range.end;
                self.gone = self.gone.split_off(&self.cursor);
            }
            None => self.pass_by(range.end),
        }
    }

    /// Moves the cursor behind `seq`.
    fn look_at(&mut self, seq: Seq) {
        self.pass_by(seq);
        self.gone.remove(&seq);
        self.cursor = seq.next();
        self.lanes.look();
    }

    /// Moves the cursor to `end`; what it comes by waits from now on.
    fn pass_by(&mut self, end: Seq) {
        for passed in (self.cursor.0..end.0).map(Seq) {
            if !self.gone.remove(&passed) {
                self.lanes.insert(passed, Waiting::default());
            }
        }
        self.cursor = end;
    }

    /// A consumer holds the message from now on. Answers the lease that it was under, if it was.
    pub(super) fn lease(&mut self, item: &LeaseItem, deadline: Timestamp) -> Option<Held> {
        let LeaseItem { seq, attempt, lease, key } = *item;
        let Taken { held, first_failed, .. } = self.take(seq);
        self.held.insert(seq, Held { attempt, lease, deadline, key, first_failed });
        key.into_iter().for_each(|key| self.lanes.hold(key));
        held
    }

    /// The lease ends at another time. Answers when it would have.
    pub(super) fn extend(&mut self, seq: Seq, deadline: Timestamp) -> Option<Timestamp> {
        let held = self.held.get_mut(&seq)?;
        Some(std::mem::replace(&mut held.deadline, deadline))
    }

    /// The consumer lost its hold: the message waits in its place. Answers the lease that it was under.
    pub(super) fn give_back(&mut self, seq: Seq, change: impl FnOnce(Held) -> Waiting) -> Option<Held> {
        let held = self.held.remove(&seq)?;
        self.lanes.insert(seq, change(held));
        self.let_go(held.key);
        Some(held)
    }

    /// The message is given up. Answers the lease that it was under.
    pub(super) fn bury(&mut self, seq: Seq, at: Timestamp, cause: DeadCause, reason: Arc<str>) -> Option<Held> {
        let held = self.held.remove(&seq)?;
        let Held { attempt: attempts, lease: leases, key, first_failed, .. } = held;
        let first_failed = first_failed.unwrap_or(at);
        self.dead.insert(seq, Dead { attempts, leases, key, first_failed, at, cause, reason });
        self.let_go(key);
        Some(held)
    }

    /// A dead letter waits in its place again, as if it had never been delivered, not before `retry_at`. Answers whether it
    /// was one.
    pub(super) fn revive(&mut self, seq: Seq, retry_at: Option<Timestamp>) -> bool {
        let Some(Dead { key, leases, .. }) = self.dead.remove(&seq) else { return false };
        self.lanes.insert(seq, Waiting { key, leases, retry_at, ..Waiting::default() });
        true
    }

    /// Lets go of everything of some kinds before `end`. Answers which were held or dead, and the leases that ended.
    pub(super) fn purge(&mut self, scope: PurgeScope, end: Seq) -> (Vec<Seq>, Vec<(Seq, Held)>) {
        let (mut left, mut ended) = (Vec::new(), Vec::new());
        if scope.leased {
            ended.extend(self.held.range(..end).map(|(seq, held)| (*seq, *held)));
            for (seq, held) in &ended {
                self.held.remove(seq);
                self.let_go(held.key);
            }
            left.extend(ended.iter().map(|(seq, _)| *seq));
        }
        if scope.dead {
            let dead: Vec<Seq> = self.dead.range(..end).map(|(seq, _)| *seq).collect();
            for seq in &dead {
                self.dead.remove(seq);
            }
            left.extend(dead);
        }
        if scope.ready {
            self.lanes.remove_before(end);
            self.cursor = self.cursor.max(end);
            self.gone = self.gone.split_off(&self.cursor);
        }
        (left, ended)
    }

    /// No message of the key is held any more. Answers whether another one of it is ready now.
    fn let_go(&mut self, key: Option<KeyHash>) -> bool {
        key.is_some_and(|key| self.lanes.let_go(key))
    }

    /// What decides about its future, for comparing two states.
    pub(super) fn fingerprint(&self) -> impl Hash {
        let QueueContent { policy, is_paused, waiting, passed_over, held, dead, gone } = self.content();
        (self.cursor, is_paused, (waiting, passed_over), held, dead, gone, (*policy).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Queue {
        Queue::new(Name::parse("t").expect("valid"), TopicId(0), None, Seq(0))
    }

    fn places(queue: &Queue) -> (Vec<u64>, Vec<u64>) {
        let numbers = |seqs: Vec<Seq>| seqs.into_iter().map(|seq| seq.0).collect();
        let passed_over = numbers(queue.lanes().passed_over().iter().collect());
        (passed_over, numbers(queue.lanes().all_back().keys().copied().collect()))
    }

    #[test]
    fn what_is_gone_is_not_passed_over_and_what_was_left_out_waits_without_a_key() {
        let (mut queue, key) = (queue(), KeyHash::of("k"));
        [1, 5, 7, 9, 12].into_iter().for_each(|gone| queue.skip(Seq(gone)));
        queue.pass_over(Seq(3)..Seq(10), Some(key));
        assert_eq!(places(&queue), (vec![3, 4, 6, 8], vec![0, 2]));
        assert_eq!((queue.cursor(), queue.gone().clone()), (Seq(10), [Seq(12)].into()));
        queue.pass_over(Seq(2)..Seq(10), Some(key));
        queue.pass_over(Seq(9)..Seq(12), Some(key));
        queue.pass_over(Seq(12)..Seq(14), None);
        assert_eq!(places(&queue), (vec![3, 4, 6, 8, 10, 11], vec![0, 2, 13]));
        assert_eq!((queue.cursor(), queue.gone().len()), (Seq(14), 0));
    }

    #[test]
    fn what_a_checkpoint_keeps_of_a_queue_is_all_of_it() {
        let (mut before, key) = (queue(), Some(KeyHash::of("k")));
        before.pass_over(Seq(0)..Seq(9), key);
        let lease = |seq| LeaseItem { seq: Seq(seq), attempt: Attempt(1), lease: LeaseNumber(1), key };
        for item in [0, 1, 2].map(lease) {
            before.lease(&item, Timestamp::EPOCH);
        }
        before.give_back(Seq(0), |held| Waiting { leases: held.lease, key, ..Waiting::default() });
        before.bury(Seq(1), Timestamp::EPOCH, DeadCause::Failed, "because".into());
        before.skip(Seq(11));
        before.is_paused = true;
        let after = Queue { cursor: before.cursor(), ..queue() }.restored(before.content());
        assert_eq!(after.content(), before.content());
        let content = after.content();
        let counts = [content.waiting.len(), content.passed_over.len(), content.held.len(), content.dead.len()];
        assert_eq!((counts, content.gone.len(), content.is_paused), ([1, 1, 1, 1], 1, true));
    }

    #[test]
    fn a_queue_beside_others_wants_what_they_have_not_delivered_each_under_its_key() {
        let (mut other, key) = (queue(), KeyHash::of("k"));
        other.pass_over(Seq(1)..Seq(50), Some(key));
        let lease = |seq| LeaseItem { seq: Seq(seq), attempt: Attempt(1), lease: LeaseNumber(1), key: Some(key) };
        other.lease(&lease(1), Timestamp::EPOCH);
        let new = Queue::new(other.name.clone(), TopicId(0), None, Seq(0));
        let beside = new.beside(Seq(40), [&other].into_iter(), std::iter::empty());
        assert_eq!(places(&beside), ((1..40).collect(), vec![0]));
        assert_eq!(beside.lanes().count_of(key), 39);
        let late = Queue::new(other.name.clone(), TopicId(0), None, Seq(30));
        assert_eq!(
            places(&late.beside(Seq(40), [&other].into_iter(), std::iter::empty())),
            ((30..40).collect(), vec![])
        );
    }
}

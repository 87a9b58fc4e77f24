//! A queue: which messages of its topic it is done with, which are held by consumers, which come next.

use std::{collections::BTreeMap, hash::Hash};

use crate::model::{Attempt, Name, Seq, Timestamp, TopicId};

/// A durable position in a topic.
///
/// ```text
///                 cursor
///   done, held or   │   never handed out
///   given back      ▼
///   ─ ─ H ─ B ─ H ─ ┼ ─ ─ ─ ─ ─ ─►      H held under a lease   B given back, ready again
/// ```
///
/// Invariant: every message of the queue is either at or after the cursor, or in exactly one of `held` and `back`, or
/// the queue is done with it.
#[derive(Debug)]
pub(in crate::engine) struct Queue {
    pub(in crate::engine) name: Name,
    pub(in crate::engine) topic: TopicId,
    /// Whose queue it is; `None`: the topic's own.
    pub(in crate::engine) service: Option<Name>,
    /// The first message that was never handed out; everything from here on is wanted.
    cursor: Seq,
    /// Given back before the cursor, with the number of deliveries so far.
    back: BTreeMap<Seq, Attempt>,
    held: BTreeMap<Seq, Held>,
    /// Whether it stands in the state's list of queues that got something to deliver.
    pub(super) is_stirred: bool,
}

/// A consumer's hold on a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct Held {
    pub(in crate::engine) attempt: Attempt,
    pub(in crate::engine) deadline: Timestamp,
}

impl Queue {
    pub(super) fn new(name: Name, topic: TopicId, service: Option<Name>, start: Seq) -> Self {
        Self { name, topic, service, cursor: start, back: BTreeMap::new(), held: BTreeMap::new(), is_stirred: false }
    }

    /// A queue that begins where the slowest of others is, at `slowest`, and wants `before` of what comes before that.
    pub(super) fn beside(mut self, slowest: Seq, before: impl Iterator<Item = Seq>) -> Self {
        let start = self.cursor;
        self.back = before.filter(|seq| *seq >= start).map(|seq| (seq, Attempt(0))).collect();
        self.cursor = start.max(slowest);
        self
    }

    /// What it wants before `end`, which is not behind its cursor.
    pub(super) fn wanted_before(&self, end: Seq) -> impl Iterator<Item = Seq> + '_ {
        self.back.range(..end).map(|(seq, _)| *seq).chain(self.held.range(..end).map(|(seq, _)| *seq))
    }

    /// The first message that was never handed out.
    pub(in crate::engine) fn cursor(&self) -> Seq {
        self.cursor
    }

    /// Messages that were given back, with the number of deliveries so far.
    pub(in crate::engine) fn back(&self) -> &BTreeMap<Seq, Attempt> {
        &self.back
    }

    /// Messages that consumers hold.
    pub(in crate::engine) fn all_held(&self) -> &BTreeMap<Seq, Held> {
        &self.held
    }

    /// A queue as a checkpoint left it.
    pub(super) fn restored(self, back: BTreeMap<Seq, Attempt>, held: BTreeMap<Seq, Held>) -> Self {
        Self { back, held, ..self }
    }

    /// Whether it is not done with the message.
    pub(super) fn wants(&self, seq: Seq) -> bool {
        seq >= self.cursor || self.back.contains_key(&seq) || self.held.contains_key(&seq)
    }

    /// The messages before `next` that can be handed out, in order, each with the number of its next delivery.
    pub(in crate::engine) fn ready(&self, next: Seq) -> impl Iterator<Item = (Seq, Attempt)> + '_ {
        let back = self.back.iter().map(|(seq, attempts)| (*seq, attempts.next()));
        back.chain((self.cursor.0..next.0).map(|seq| (Seq(seq), Attempt(1))))
    }

    pub(in crate::engine) fn held(&self, seq: Seq) -> Option<Held> {
        self.held.get(&seq).copied()
    }

    /// How many messages consumers hold.
    pub(in crate::engine) fn held_count(&self) -> usize {
        self.held.len()
    }

    /// How many messages before `next` wait to be handed out.
    pub(in crate::engine) fn ready_count(&self, next: Seq) -> usize {
        self.back.len() + usize::try_from(next.0.saturating_sub(self.cursor.0)).unwrap_or(usize::MAX)
    }

    /// Takes a message out of wherever it stands; answers the lease that it was under. Messages that the cursor passes
    /// over on the way are given back.
    pub(super) fn take(&mut self, seq: Seq) -> Option<Held> {
        if seq >= self.cursor {
            self.back.extend((self.cursor.0..seq.0).map(|passed| (Seq(passed), Attempt(0))));
            self.cursor = seq.next();
            return None;
        }
        self.back.remove(&seq);
        self.held.remove(&seq)
    }

    /// A consumer holds the message from now on.
    pub(super) fn lease(&mut self, seq: Seq, held: Held) {
        self.take(seq);
        self.held.insert(seq, held);
    }

    /// The consumer lost its hold: the message is back in its place. Answers the lease that it was under.
    pub(super) fn release(&mut self, seq: Seq) -> Option<Held> {
        let held = self.held.remove(&seq)?;
        self.back.insert(seq, held.attempt);
        Some(held)
    }

    /// What decides about its future, for comparing two states.
    pub(super) fn fingerprint(&self) -> impl Hash {
        let held: Vec<_> = self.held.iter().map(|(seq, held)| (*seq, held.attempt, held.deadline)).collect();
        (self.cursor, self.back.clone(), held)
    }
}

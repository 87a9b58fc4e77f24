//! A queue: which messages of its topic it is done with, which are held by consumers, which come next.

use std::{collections::BTreeMap, hash::Hash};

use super::topic::Log;
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
    /// The first message that was never handed out.
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

    /// A queue that begins where the slowest of `others` is: it wants whatever one of them still wants.
    pub(super) fn beside(mut self, others: impl Iterator<Item = Seq>, log: &Log) -> Self {
        if let Some(slowest) = others.min() {
            let before = log.iter_from(self.cursor).take_while(|(seq, _)| *seq < slowest);
            self.back = before.map(|(seq, _)| (seq, Attempt(0))).collect();
            self.cursor = self.cursor.max(slowest);
        }
        self
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

    /// The messages that can be handed out, in order, each with the number of its next delivery.
    pub(in crate::engine) fn ready<'a>(&'a self, log: &'a Log) -> impl Iterator<Item = (Seq, Attempt)> + 'a {
        let back = self.back.iter().map(|(seq, attempts)| (*seq, attempts.next()));
        back.chain(log.iter_from(self.cursor).map(|(seq, _)| (seq, Attempt(1))))
    }

    pub(in crate::engine) fn held(&self, seq: Seq) -> Option<Held> {
        self.held.get(&seq).copied()
    }

    /// How many messages consumers hold.
    pub(in crate::engine) fn held_count(&self) -> usize {
        self.held.len()
    }

    /// How many messages wait to be handed out.
    pub(in crate::engine) fn ready_count(&self, log: &Log) -> usize {
        self.ready(log).count()
    }

    /// Takes a message out of wherever it stands; answers the lease that it was under. Messages that the cursor passes
    /// over on the way are given back.
    pub(super) fn take(&mut self, seq: Seq, log: &Log) -> Option<Held> {
        if seq >= self.cursor {
            for (passed, _) in log.iter_from(self.cursor).take_while(|(passed, _)| *passed < seq) {
                self.back.insert(passed, Attempt(0));
            }
            self.cursor = seq.next();
            return None;
        }
        self.back.remove(&seq);
        self.held.remove(&seq)
    }

    /// A consumer holds the message from now on.
    pub(super) fn lease(&mut self, seq: Seq, held: Held, log: &Log) {
        self.take(seq, log);
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

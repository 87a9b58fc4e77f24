//! The messages of a queue in the order in which they should be handed out, as far as their keys let them.
//!
//! They come from two sides: what waits before the cursor, in the order of its turns, and what was never looked at, in
//! publish order. Under leases, one message of an ordering key is handed out at a time; what comes behind it is passed
//! over, so that other keys flow. Invariant: the messages of a key come out in publish order.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    iter::Peekable,
};

use crate::{
    engine::{
        journal::PassedItem,
        state::{Queue, Turn, Waiting},
    },
    model::{KeyHash, Seq},
};

/// Where a candidate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Candidate {
    /// It waits before the cursor, or was passed over just now.
    Waiting(Seq, Waiting),
    /// It was never looked at.
    Fresh(Seq),
}

impl Candidate {
    pub(super) fn seq(self) -> Seq {
        match self {
            Self::Waiting(seq, _) | Self::Fresh(seq) => seq,
        }
    }
}

/// Whether a message that was never looked at may be handed out now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Yes,
    PassedOver,
    /// It would have to be passed over, but as many are as may be: nothing behind it is looked at.
    NoRoom,
}

/// How messages are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// One that is handed out keeps the others of its key back.
    Hold,
    /// One that is handed out is done with.
    Pass,
}

pub(super) struct Candidates<'a> {
    queue: &'a Queue,
    keys: Keys,
    ready: Peekable<Box<dyn Iterator<Item = (Turn, Seq)> + 'a>>,
    /// What can be handed out because of what happened since this began.
    freed: BinaryHeap<Reverse<(Turn, Seq)>>,
    /// The first message that was never looked at.
    cursor: Seq,
    /// From this one on none is looked at.
    end: Seq,
    /// Ascending.
    passed_over: Vec<PassedItem>,
    passed_over_max: usize,
    of_keys: HashMap<KeyHash, OfKey>,
}

/// What happened to the messages of one key since this began.
#[derive(Debug, Default)]
struct OfKey {
    passed_over: VecDeque<Seq>,
    /// How many of those that waited before have come out.
    out: usize,
    is_held: bool,
}

impl<'a> Candidates<'a> {
    /// The messages of `queue` before `end`; up to `passed_over_max` are passed over.
    pub(super) fn new(queue: &'a Queue, end: Seq, keys: Keys, passed_over_max: usize) -> Self {
        let lanes = queue.lanes();
        let ready: Box<dyn Iterator<Item = (Turn, Seq)> + 'a> = match keys {
            Keys::Hold => Box::new(lanes.ready()),
            // Nobody has to wait for a turn where nobody is kept waiting.
            Keys::Pass => Box::new(lanes.ready_in_order().map(|seq| (Turn::of(seq), seq))),
        };
        Self {
            queue,
            keys,
            ready: ready.peekable(),
            freed: BinaryHeap::new(),
            cursor: queue.cursor(),
            end,
            passed_over: Vec::new(),
            passed_over_max,
            of_keys: HashMap::new(),
        }
    }

    /// The next one. One that was never looked at comes again unless it is [`admitted`](Self::admit) or dropped.
    pub(super) fn next(&mut self) -> Option<Candidate> {
        let (ready, freed) = (self.ready.peek().copied(), self.freed.peek().map(|Reverse(freed)| *freed));
        let waiting = ready.into_iter().chain(freed).min();
        while self.cursor < self.end && self.queue.gone().contains(&self.cursor) {
            self.cursor = self.cursor.next();
        }
        let fresh = (self.cursor < self.end).then_some(self.cursor);
        match (waiting, fresh) {
            (Some((turn, _)), Some(fresh)) if Turn::of(fresh) < turn => Some(Candidate::Fresh(fresh)),
            (Some(first), _) => {
                if ready == Some(first) {
                    self.ready.next();
                } else {
                    self.freed.pop();
                }
                Some(self.waiting(first.1))
            }
            (None, fresh) => fresh.map(Candidate::Fresh),
        }
    }

    fn waiting(&self, seq: Seq) -> Candidate {
        let passed_over = || {
            let at = self.passed_over.binary_search_by_key(&seq, |item| item.seq).ok()?;
            Some(Waiting { key: self.passed_over[at].key, ..Waiting::default() })
        };
        let waiting = self.queue.lanes().get(seq).copied().or_else(passed_over);
        Candidate::Waiting(seq, waiting.unwrap_or_default())
    }

    /// Decides about a message that was never looked at.
    pub(super) fn admit(&mut self, seq: Seq, key: Option<KeyHash>) -> Admission {
        let Some(key) = key else {
            self.cursor = seq.next();
            return Admission::Yes;
        };
        let (lanes, of_key) = (self.queue.lanes(), self.of_keys.get(&key));
        let (passed_over, out) = of_key.map_or((0, 0), |of_key| (of_key.passed_over.len(), of_key.out));
        let is_held = lanes.is_held(key) || of_key.is_some_and(|of_key| of_key.is_held);
        let is_free = !is_held && lanes.count_of(key) + passed_over == out;
        let turn = lanes.turn_of(key).max(Turn::of(seq));
        let is_its_turn = self.keys == Keys::Pass || turn == Turn::of(seq);
        let has_room = self.passed_over.len() < self.passed_over_max;
        if is_free && (is_its_turn || !has_room) {
            self.cursor = seq.next();
            return Admission::Yes;
        }
        if !has_room {
            self.end = self.cursor;
            return Admission::NoRoom;
        }
        self.cursor = seq.next();
        self.passed_over.push(PassedItem { seq, key: Some(key) });
        self.of_keys.entry(key).or_default().passed_over.push_back(seq);
        if is_free {
            self.freed.push(Reverse((turn, seq)));
        }
        Admission::PassedOver
    }

    /// The candidate is handed out.
    pub(super) fn hand_out(&mut self, candidate: Candidate, key: Option<KeyHash>) {
        let Some(key) = key else { return };
        self.of_keys.entry(key).or_default().is_held |= self.keys == Keys::Hold;
        if let Candidate::Waiting(seq, _) = candidate {
            self.comes_out(seq, key);
        }
        if self.keys == Keys::Pass {
            self.free_next(key, candidate.seq());
        }
    }

    /// The queue will be done with the candidate.
    pub(super) fn drop(&mut self, candidate: Candidate) {
        match candidate {
            Candidate::Fresh(seq) => self.cursor = seq.next(),
            Candidate::Waiting(seq, Waiting { key: Some(key), .. }) => {
                self.comes_out(seq, key);
                self.free_next(key, seq);
            }
            Candidate::Waiting(..) => {}
        }
    }

    /// The candidate is left where it is, and what comes behind it is looked at.
    pub(super) fn leave(&mut self, candidate: Candidate) {
        if let Candidate::Fresh(seq) = candidate {
            self.cursor = seq.next();
        }
    }

    fn comes_out(&mut self, seq: Seq, key: KeyHash) {
        let of_key = self.of_keys.entry(key).or_default();
        if of_key.passed_over.front() == Some(&seq) {
            of_key.passed_over.pop_front();
        } else {
            of_key.out += 1;
        }
    }

    /// The message of this key behind `seq` is a candidate from now on.
    fn free_next(&mut self, key: KeyHash, seq: Seq) {
        let lanes = self.queue.lanes();
        let passed_over = || self.of_keys.get(&key)?.passed_over.front().copied();
        let Some(next) = lanes.after(key, seq).or_else(passed_over) else { return };
        // One that failed keeps its lane until its retry.
        if lanes.get(next).is_none_or(|waiting| waiting.retry_at.is_none()) {
            self.freed.push(Reverse((Turn::of(next), next)));
        }
    }

    /// What was passed over.
    pub(super) fn into_passed_over(self) -> Vec<PassedItem> {
        self.passed_over
    }
}

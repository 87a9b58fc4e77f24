//! The messages of a queue in the order in which they should be handed out, as far as their keys let them.
//!
//! They come from two sides: what waits before the cursor, in the order of its turns, and what was never looked at, in
//! publish order. Under leases, one message of an ordering key is handed out at a time; what comes behind it is passed
//! over, so that other keys flow. Invariant: the messages of a key come out in publish order.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap, VecDeque},
    iter::Peekable,
    ops::Range,
};

use crate::{
    engine::{
        journal::PassedItem,
        state::{Queue, Turn, Waiting},
    },
    model::{KeyHash, Seq},
};

/// What a stretch of neighbours that is passed over takes in memory at most beside its places, in bytes.
const STRETCH_BYTES: usize = 64;

/// What it takes with them: at most two bytes for each, and no more than bitmaps of them.
fn stretch_bytes(count: u32) -> usize {
    const BITMAP_PLACES: u32 = 1 << 16;
    const BITMAP_BYTES: usize = 8 << 10;
    let places = count as usize;
    STRETCH_BYTES + (2 * places).min(BITMAP_BYTES * (1 + places / BITMAP_PLACES as usize))
}

/// Whether another message can be passed over in so many bytes.
pub(in crate::engine) fn has_look_ahead(room: usize) -> bool {
    room >= stretch_bytes(1)
}

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
    freed: BinaryHeap<Reverse<(Turn, Seq, KeyHash)>>,
    /// The first message that was never looked at.
    cursor: Seq,
    /// From this one on none is looked at.
    end: Seq,
    /// How far has been looked since this began.
    looks: u64,
    /// Ascending.
    passed_over: Vec<PassedItem>,
    /// How many bytes more may be taken for what is passed over.
    room: usize,
    of_keys: HashMap<KeyHash, OfKey>,
}

/// What happened to the messages of one key since this began.
#[derive(Debug, Default)]
struct OfKey {
    /// What was passed over and has not come out.
    passed_over: VecDeque<Range<Seq>>,
    /// How many have come out of those that waited before.
    out: usize,
    is_held: bool,
}

impl OfKey {
    fn next(&self) -> Option<Seq> {
        self.passed_over.front().map(|range| range.start)
    }

    /// Takes out the next one.
    fn pop(&mut self, gone: &BTreeSet<Seq>) {
        let Some(range) = self.passed_over.front_mut() else { return };
        range.start = range.start.next();
        while gone.contains(&range.start) {
            range.start = range.start.next();
        }
        if range.is_empty() {
            self.passed_over.pop_front();
        }
    }
}

impl<'a> Candidates<'a> {
    /// The messages of `queue` before `end`; those that are passed over take `room` bytes of memory at most.
    pub(super) fn new(queue: &'a Queue, end: Seq, keys: Keys, room: usize) -> Self {
        let lanes = queue.lanes();
        let ready: Box<dyn Iterator<Item = (Turn, Seq)> + 'a> = match keys {
            Keys::Hold => Box::new(lanes.ready()),
            // Nobody has to wait for a turn where nobody is kept waiting.
            Keys::Pass => Box::new(lanes.ready_in_order().map(|seq| (Turn::default(), seq))),
        };
        Self {
            queue,
            keys,
            ready: ready.peekable(),
            freed: BinaryHeap::new(),
            cursor: queue.cursor(),
            end,
            looks: 0,
            passed_over: Vec::new(),
            room,
            of_keys: HashMap::new(),
        }
    }

    /// How far has been looked.
    fn looks(&self) -> u64 {
        self.queue.lanes().looks() + self.looks
    }

    /// The next one. One that was never looked at comes again unless it is [`admitted`](Self::admit), passed over or
    /// dropped.
    pub(super) fn next(&mut self) -> Option<Candidate> {
        let ready = self.ready.peek().copied();
        let freed = self.freed.peek().map(|Reverse((turn, seq, _))| (*turn, *seq));
        let waiting = ready.into_iter().chain(freed).min();
        while self.cursor < self.end && self.queue.gone().contains(&self.cursor) {
            self.cursor = self.cursor.next();
        }
        let fresh = (self.cursor < self.end).then_some(self.cursor);
        match (waiting, fresh) {
            (Some((turn, _)), Some(fresh)) if self.looks() < turn.looks() => Some(Candidate::Fresh(fresh)),
            (Some(first), _) if ready == Some(first) => {
                let (_, seq) = self.ready.next()?;
                let lanes = self.queue.lanes();
                let key = lanes.key_of_ready(seq);
                Some(Candidate::Waiting(seq, lanes.back(seq).copied().unwrap_or(Waiting { key, ..Waiting::default() })))
            }
            (Some(_), _) => {
                let Reverse((_, seq, key)) = self.freed.pop()?;
                let passed_over = Waiting { key: Some(key), ..Waiting::default() };
                Some(Candidate::Waiting(seq, self.queue.lanes().back(seq).copied().unwrap_or(passed_over)))
            }
            (None, fresh) => fresh.map(Candidate::Fresh),
        }
    }

    /// Decides about a message that was never looked at.
    pub(super) fn admit(&mut self, seq: Seq, key: Option<KeyHash>) -> Admission {
        let admission = key.map_or(Admission::Yes, |key| self.pass_over(seq..seq.next(), key));
        if admission == Admission::Yes {
            self.cursor = seq.next();
            self.looks += 1;
        }
        admission
    }

    /// Passes over messages of one key that were never looked at, from the first one on, unless that one may be handed out.
    pub(super) fn pass_over(&mut self, range: Range<Seq>, key: KeyHash) -> Admission {
        let (lanes, of_key) = (self.queue.lanes(), self.of_keys.get(&key));
        let (is_passed_over, out) = of_key.map_or((false, 0), |of_key| (of_key.next().is_some(), of_key.out));
        let is_held = lanes.is_held(key) || of_key.is_some_and(|of_key| of_key.is_held);
        let is_free = !is_held && !is_passed_over && lanes.count_of(key) == out;
        let turn = lanes.turn_of(key);
        let is_its_turn = self.keys == Keys::Pass || turn.looks() <= self.looks();
        // No more than a record can say.
        let count = u32::try_from(range.end.0 - range.start.0).unwrap_or(u32::MAX);
        let has_room = stretch_bytes(count) <= self.room;
        if is_free && (is_its_turn || !has_room) {
            return Admission::Yes;
        }
        if !has_room {
            self.end = self.cursor;
            return Admission::NoRoom;
        }
        let is_new = !lanes.goes_on(key, range.start);
        self.note_passed(PassedItem { first: range.start, count, key: Some(key) }, is_new);
        self.of_keys.entry(key).or_default().passed_over.push_back(range.start..self.cursor);
        if is_free {
            self.freed.push(Reverse((turn, range.start, key)));
        }
        Admission::PassedOver
    }

    /// Moves behind what is passed over. Neighbours of one key count as one look, however many they are, also those that
    /// were passed over before.
    fn note_passed(&mut self, item: PassedItem, is_new: bool) {
        let end = Seq(item.first.0 + u64::from(item.count));
        self.cursor = end;
        if let Some(last) = self.passed_over.last_mut()
            && last.key == item.key
            && last.end() == Some(item.first)
            && let Some(count) = last.count.checked_add(item.count)
        {
            self.room = (self.room + stretch_bytes(last.count)).saturating_sub(stretch_bytes(count));
            last.count = count;
        } else {
            self.room = self.room.saturating_sub(stretch_bytes(item.count));
            self.looks += u64::from(is_new);
            self.passed_over.push(item);
        }
    }

    /// Whether a message of this key that was never looked at would be passed over.
    pub(super) fn is_busy(&self, key: KeyHash) -> bool {
        let lanes = self.queue.lanes();
        lanes.is_held(key) || self.of_keys.get(&key).is_some_and(|of_key| of_key.is_held)
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
            Candidate::Fresh(seq) => {
                self.cursor = seq.next();
                self.looks += 1;
            }
            Candidate::Waiting(seq, Waiting { key: Some(key), .. }) => {
                self.comes_out(seq, key);
                self.free_next(key, seq);
            }
            Candidate::Waiting(..) => {}
        }
    }

    /// The candidate is left where it is, and what stands at or behind `next` is looked at.
    pub(super) fn leave(&mut self, candidate: Candidate, next: Seq) {
        if let Candidate::Fresh(_) = candidate {
            self.cursor = next;
        }
    }

    fn comes_out(&mut self, seq: Seq, key: KeyHash) {
        let of_key = self.of_keys.entry(key).or_default();
        if of_key.next() == Some(seq) {
            of_key.pop(self.queue.gone());
        } else {
            of_key.out += 1;
        }
    }

    /// The message of this key behind `seq` is a candidate from now on.
    fn free_next(&mut self, key: KeyHash, seq: Seq) {
        let lanes = self.queue.lanes();
        let passed_over = || self.of_keys.get(&key)?.next();
        let Some(next) = lanes.after(key, seq).or_else(passed_over) else { return };
        // One that failed keeps its lane until its retry.
        if lanes.back(next).is_none_or(|waiting| waiting.retry_at.is_none()) {
            self.freed.push(Reverse((Turn::default(), next, key)));
        }
    }

    /// What was passed over.
    pub(super) fn into_passed_over(self) -> Vec<PassedItem> {
        self.passed_over
    }
}

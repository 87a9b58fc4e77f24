//! What waits in a queue before its cursor, and whose turn it is.
//!
//! A message waits here because it was handed out and came back, or because it was passed over: it has an ordering key,
//! and another message of that key was with a consumer, or had its turn just then. Messages of one key form a lane, in
//! publish order; only its head can be handed out, and only while no consumer holds one of the lane. Messages without a
//! key are each on their own.
//!
//! ```text
//!   lane of key A    head ─ ─ ─        ready     when its turn comes
//!   lane of key B    (held) ─ ─        behind    until the consumer is done with it
//!   lane of key C    head ─            retrying  until the head's backoff is over
//!   no key           ─                 ready, or retrying
//! ```
//!
//! Invariant: of each lane at most the head stands in `ready` or `retrying`, and none while the lane is held. Turns are no
//! part of what a restart restores: after one, lanes begin in publish order.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::model::{Attempt, KeyHash, LeaseNumber, Seq, Timestamp};

/// How far ahead of what waits other lanes are looked for, in messages, before a lane that just had its turn has another.
const LOOK_AHEAD: u64 = 1000;

/// A message that waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(in crate::engine) struct Waiting {
    /// Deliveries so far that count.
    pub(in crate::engine) attempts: Attempt,
    /// All leases so far.
    pub(in crate::engine) leases: LeaseNumber,
    pub(in crate::engine) key: Option<KeyHash>,
    /// Not before then.
    pub(in crate::engine) retry_at: Option<Timestamp>,
    /// When the first of its deliveries failed.
    pub(in crate::engine) first_failed: Option<Timestamp>,
}

/// Why a message waits here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// It was handed out.
    Back,
    /// Others of its key come first.
    PassedOver,
}

/// When a message can be handed out at the earliest: before the cursor reaches the place, and in the order of the second
/// number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::engine) struct Turn {
    at: Seq,
    order: u64,
}

impl Turn {
    /// The turn of a message that has not had one: its place.
    pub(in crate::engine) fn of(seq: Seq) -> Self {
        Self { at: seq, order: 0 }
    }
}

#[derive(Debug)]
struct Entry {
    waiting: Waiting,
    cause: Cause,
    spot: Spot,
}

/// Where an entry is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spot {
    Behind,
    Ready(Turn),
    Retrying(Timestamp),
}

#[derive(Debug, Default)]
struct Lane {
    waiting: BTreeSet<Seq>,
    /// How many messages of it consumers hold: one at most, as far as who decides sees to it.
    held_count: u32,
    /// When the next of it has its turn.
    turn: Turn,
    /// Which of it is listed.
    listed: Option<Seq>,
}

/// All that waits.
#[derive(Debug, Default)]
pub(in crate::engine) struct Lanes {
    entries: BTreeMap<Seq, Entry>,
    lanes: HashMap<KeyHash, Lane>,
    ready: BTreeSet<(Turn, Seq)>,
    /// The same in publish order.
    ready_in_order: BTreeSet<Seq>,
    retrying: BTreeSet<(Timestamp, Seq)>,
    /// Lanes with nothing in them that are remembered for their turn, until the cursor has passed it.
    idle: BTreeSet<(Turn, KeyHash)>,
    passed_over_count: usize,
    turns: u64,
}

impl Lanes {
    pub(super) fn insert(&mut self, seq: Seq, waiting: Waiting, cause: Cause) {
        self.remove(seq);
        self.passed_over_count += usize::from(cause == Cause::PassedOver);
        self.entries.insert(seq, Entry { waiting, cause, spot: Spot::Behind });
        match waiting.key {
            Some(key) => {
                self.lanes.entry(key).or_default().waiting.insert(seq);
                self.refresh(key);
            }
            None => self.list(seq),
        }
    }

    pub(super) fn remove(&mut self, seq: Seq) -> Option<Waiting> {
        self.unlist(seq);
        let Entry { waiting, cause, .. } = self.entries.remove(&seq)?;
        self.passed_over_count -= usize::from(cause == Cause::PassedOver);
        if let Some(key) = waiting.key
            && let Some(lane) = self.lanes.get_mut(&key)
        {
            lane.waiting.remove(&seq);
            lane.listed = lane.listed.filter(|listed| *listed != seq);
            self.refresh(key);
        }
        Some(waiting)
    }

    /// A consumer holds a message of this key from now on, and has it from before `cursor`: the next one has its turn when
    /// others have had theirs.
    pub(super) fn hold(&mut self, key: KeyHash, cursor: Seq) {
        let ahead = LOOK_AHEAD.saturating_sub(self.passed_over_count as u64);
        self.turns += 1;
        let turn = Turn { at: Seq(cursor.0.saturating_add(ahead)), order: self.turns };
        let lane = self.lanes.entry(key).or_default();
        self.idle.remove(&(lane.turn, key));
        lane.held_count += 1;
        lane.turn = turn;
        self.refresh(key);
    }

    /// The consumer does not hold the message of this key any more. Answers whether another one of it is ready now.
    pub(super) fn let_go(&mut self, key: KeyHash) -> bool {
        let Some(lane) = self.lanes.get_mut(&key) else { return false };
        lane.held_count = lane.held_count.saturating_sub(1);
        self.refresh(key);
        self.lanes.get(&key).is_some_and(|lane| lane.listed.is_some())
    }

    /// What has waited long enough for its next delivery can be handed out. Answers whether there was anything.
    pub(super) fn wake(&mut self, now: Timestamp) -> bool {
        let mut is_any = false;
        while let Some((_, seq)) = self.retrying.first().copied().filter(|(at, _)| *at <= now) {
            self.unlist(seq);
            let turn = Turn::of(seq);
            if let Some(entry) = self.entries.get_mut(&seq) {
                entry.spot = Spot::Ready(turn);
                self.ready.insert((turn, seq));
                self.ready_in_order.insert(seq);
            }
            is_any = true;
        }
        is_any
    }

    /// Forgets when lanes had their last turn that have nothing in them, once the cursor is behind their next one.
    pub(super) fn forget_idle(&mut self, cursor: Seq) {
        while let Some((turn, key)) = self.idle.first().copied().filter(|(turn, _)| turn.at <= cursor) {
            self.idle.remove(&(turn, key));
            self.lanes.remove(&key);
        }
    }

    /// What can be handed out, in the order in which it should be.
    pub(in crate::engine) fn ready(&self) -> impl Iterator<Item = (Turn, Seq)> + '_ {
        self.ready.iter().copied()
    }

    /// The same in publish order.
    pub(in crate::engine) fn ready_in_order(&self) -> impl Iterator<Item = Seq> + '_ {
        self.ready_in_order.iter().copied()
    }

    pub(in crate::engine) fn get(&self, seq: Seq) -> Option<&Waiting> {
        self.entries.get(&seq).map(|entry| &entry.waiting)
    }

    /// Whether a consumer holds a message of this key.
    pub(in crate::engine) fn is_held(&self, key: KeyHash) -> bool {
        self.lanes.get(&key).is_some_and(|lane| lane.held_count > 0)
    }

    /// How many messages of this key wait here.
    pub(in crate::engine) fn count_of(&self, key: KeyHash) -> usize {
        self.lanes.get(&key).map_or(0, |lane| lane.waiting.len())
    }

    /// When the next message of this key has its turn that comes from behind the cursor.
    pub(in crate::engine) fn turn_of(&self, key: KeyHash) -> Turn {
        self.lanes.get(&key).map_or_else(Turn::default, |lane| lane.turn)
    }

    /// The first message of this key that waits behind `seq`.
    pub(in crate::engine) fn after(&self, key: KeyHash, seq: Seq) -> Option<Seq> {
        self.lanes.get(&key)?.waiting.range(seq.next()..).next().copied()
    }

    /// All, in publish order.
    pub(in crate::engine) fn iter(&self) -> impl Iterator<Item = (Seq, &Waiting)> {
        self.entries.iter().map(|(seq, entry)| (*seq, &entry.waiting))
    }

    /// Those from `begin` on.
    pub(in crate::engine) fn from(&self, begin: Seq) -> impl Iterator<Item = (Seq, &Waiting)> {
        self.entries.range(begin..).map(|(seq, entry)| (*seq, &entry.waiting))
    }

    /// Those before `end`.
    pub(in crate::engine) fn before(&self, end: Seq) -> impl Iterator<Item = (Seq, &Waiting)> {
        self.entries.range(..end).map(|(seq, entry)| (*seq, &entry.waiting))
    }

    pub(in crate::engine) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(in crate::engine) fn contains(&self, seq: Seq) -> bool {
        self.entries.contains_key(&seq)
    }

    /// How many have never been handed out.
    pub(in crate::engine) fn passed_over_count(&self) -> usize {
        self.passed_over_count
    }

    /// What waits for its backoff to be over, the first one first.
    pub(in crate::engine) fn retrying(&self) -> impl Iterator<Item = (Timestamp, Seq)> + '_ {
        self.retrying.iter().copied()
    }

    /// Lists the head of a lane that is not held, and nothing else of it.
    fn refresh(&mut self, key: KeyHash) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let head = if lane.held_count > 0 { None } else { lane.waiting.first().copied() };
        let listed = std::mem::replace(&mut lane.listed, head);
        let idle = (lane.turn, key);
        if lane.waiting.is_empty() && lane.held_count == 0 {
            self.idle.insert(idle);
        } else {
            self.idle.remove(&idle);
        }
        if listed != head {
            listed.into_iter().for_each(|seq| self.unlist(seq));
            head.into_iter().for_each(|seq| self.list(seq));
        }
    }

    fn list(&mut self, seq: Seq) {
        let Some(entry) = self.entries.get_mut(&seq) else { return };
        let own = Turn::of(seq);
        entry.spot = match (entry.waiting.retry_at, entry.waiting.key) {
            (Some(at), _) => Spot::Retrying(at),
            (None, Some(key)) if entry.cause == Cause::PassedOver => {
                Spot::Ready(self.lanes.get(&key).map_or(own, |lane| lane.turn.max(own)))
            }
            (None, _) => Spot::Ready(own),
        };
        match entry.spot {
            Spot::Behind => {}
            Spot::Ready(turn) => {
                self.ready.insert((turn, seq));
                self.ready_in_order.insert(seq);
            }
            Spot::Retrying(at) => drop(self.retrying.insert((at, seq))),
        }
    }

    fn unlist(&mut self, seq: Seq) {
        let Some(entry) = self.entries.get_mut(&seq) else { return };
        match std::mem::replace(&mut entry.spot, Spot::Behind) {
            Spot::Behind => {}
            Spot::Ready(turn) => {
                self.ready.remove(&(turn, seq));
                self.ready_in_order.remove(&seq);
            }
            Spot::Retrying(at) => drop(self.retrying.remove(&(at, seq))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Option<KeyHash> {
        Some(KeyHash::of(text))
    }

    fn passed_over(lanes: &mut Lanes, seq: u64, of: &str) {
        lanes.insert(Seq(seq), Waiting { key: key(of), ..Waiting::default() }, Cause::PassedOver);
    }

    fn ready(lanes: &Lanes) -> Vec<u64> {
        lanes.ready().map(|(_, seq)| seq.0).collect()
    }

    /// Hands out the next one.
    fn take(lanes: &mut Lanes, cursor: u64) -> u64 {
        let (_, seq) = lanes.ready().next().expect("one is ready");
        let waiting = lanes.remove(seq).expect("it waits");
        waiting.key.into_iter().for_each(|key| lanes.hold(key, Seq(cursor)));
        seq.0
    }

    #[test]
    fn only_the_head_of_a_lane_is_ready_and_none_while_one_is_held() {
        let mut lanes = Lanes::default();
        passed_over(&mut lanes, 1, "a");
        passed_over(&mut lanes, 2, "a");
        passed_over(&mut lanes, 3, "b");
        lanes.insert(Seq(4), Waiting::default(), Cause::Back);
        assert_eq!(ready(&lanes), [1, 3, 4]);
        assert_eq!(take(&mut lanes, 5), 1);
        assert_eq!(ready(&lanes), [3, 4]);
        lanes.let_go(KeyHash::of("a"));
        assert_eq!(ready(&lanes), [3, 4, 2]);
        assert!(lanes.remove(Seq(2)).is_some() && lanes.remove(Seq(2)).is_none());
        assert_eq!((ready(&lanes), lanes.len(), lanes.passed_over_count()), (vec![3, 4], 2, 1));
    }

    #[test]
    fn lanes_take_turns_and_what_came_back_is_first() {
        let mut lanes = Lanes::default();
        for (seq, of) in [(0, "a"), (1, "a"), (2, "a"), (3, "b"), (4, "b")] {
            passed_over(&mut lanes, seq, of);
        }
        let mut order = Vec::new();
        assert_eq!(lanes.ready_in_order().collect::<Vec<_>>(), [Seq(0), Seq(3)]);
        for _ in 0..5 {
            let seq = take(&mut lanes, 5);
            order.push(seq);
            lanes.let_go(KeyHash::of(if seq < 3 { "a" } else { "b" }));
        }
        assert_eq!(order, [0, 3, 1, 4, 2]);
        passed_over(&mut lanes, 5, "a");
        let back = Waiting { key: key("b"), attempts: Attempt(1), ..Waiting::default() };
        lanes.insert(Seq(4), back, Cause::Back);
        assert_eq!(ready(&lanes), [4, 5]);
        assert_eq!(lanes.ready_in_order().collect::<Vec<_>>(), [Seq(4), Seq(5)]);
    }

    #[test]
    fn a_head_that_waits_for_its_retry_keeps_its_lane_and_no_other() {
        let mut lanes = Lanes::default();
        let later = |ms| Some(Timestamp::from_millis(ms));
        lanes.insert(Seq(1), Waiting { key: key("a"), retry_at: later(10), ..Waiting::default() }, Cause::Back);
        passed_over(&mut lanes, 2, "a");
        passed_over(&mut lanes, 3, "b");
        lanes.insert(Seq(4), Waiting { retry_at: later(20), ..Waiting::default() }, Cause::Back);
        assert_eq!((ready(&lanes), lanes.retrying().count()), (vec![3], 2));
        assert!(!lanes.wake(Timestamp::from_millis(9)));
        assert!(lanes.wake(Timestamp::from_millis(10)));
        assert_eq!(ready(&lanes), [1, 3]);
        assert!(lanes.wake(Timestamp::from_millis(99)));
        assert_eq!(ready(&lanes), [1, 3, 4]);
        lanes.remove(Seq(1));
        assert_eq!(ready(&lanes), [2, 3, 4]);
    }

    #[test]
    fn a_lane_that_is_empty_is_remembered_until_the_cursor_has_passed_its_turn() {
        let mut lanes = Lanes::default();
        passed_over(&mut lanes, 0, "a");
        assert_eq!(take(&mut lanes, 7), 0);
        lanes.let_go(KeyHash::of("a"));
        lanes.forget_idle(Seq(7 + LOOK_AHEAD - 1));
        assert!(lanes.turn_of(KeyHash::of("a")) > Turn::of(Seq(8)));
        assert!(!lanes.lanes.is_empty());
        lanes.forget_idle(Seq(7 + LOOK_AHEAD));
        assert!(lanes.lanes.is_empty());
        assert_eq!(lanes.turn_of(KeyHash::of("a")), Turn::default());
    }

    #[test]
    fn the_more_was_passed_over_the_less_far_ahead_is_looked() {
        let mut lanes = Lanes::default();
        for seq in 0..LOOK_AHEAD + 5 {
            passed_over(&mut lanes, seq, "a");
        }
        let end = LOOK_AHEAD + 5;
        take(&mut lanes, end);
        assert_eq!(lanes.turn_of(KeyHash::of("a")).at, Seq(end));
    }

    #[test]
    fn what_came_back_does_not_wait_for_the_next_turn_of_its_lane() {
        let mut lanes = Lanes::default();
        for (seq, of) in [(0, "a"), (1, "a"), (2, "b")] {
            passed_over(&mut lanes, seq, of);
        }
        assert_eq!((take(&mut lanes, 3), take(&mut lanes, 3)), (0, 2));
        lanes.let_go(KeyHash::of("a"));
        let back = Waiting { key: key("b"), attempts: Attempt(1), ..Waiting::default() };
        lanes.insert(Seq(2), back, Cause::Back);
        lanes.let_go(KeyHash::of("b"));
        assert_eq!(ready(&lanes), [2, 1], "lane a had its turn before lane b, and yet");
    }

    #[test]
    fn what_is_deleted_behind_the_head_of_a_lane_leaves_the_head_as_it_is() {
        let mut lanes = Lanes::default();
        let retry_at = Some(Timestamp::from_millis(10));
        lanes.insert(Seq(1), Waiting { key: key("a"), retry_at, ..Waiting::default() }, Cause::Back);
        passed_over(&mut lanes, 2, "a");
        assert!(lanes.wake(Timestamp::from_millis(10)));
        assert!(lanes.remove(Seq(2)).is_some());
        assert_eq!((ready(&lanes), lanes.retrying().count()), (vec![1], 0));
        assert!(lanes.remove(Seq(1)).is_some());
        assert_eq!((ready(&lanes), lanes.retrying().count()), (vec![], 0));
    }
}

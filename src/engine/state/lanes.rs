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
//! Of what was passed over only the places are kept, compressed, so that a key with millions of messages holds up no other:
//! see [`SeqSet`]. A stretch of neighbours of one key counts as one look, however long it is.
//!
//! Invariant: of each lane at most the head is listed as ready or retrying, and nothing while the lane is held. Turns are no
//! part of what a restart restores: after one, lanes begin in publish order.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
};

use super::{
    lane::{Lane, Turn},
    listing::{Listing, Spot},
    seq_set::SeqSet,
};
use crate::model::{Attempt, KeyHash, LeaseNumber, Seq, Timestamp};

/// How far ahead of what waits other lanes are looked for before a lane that just had its turn has another: so many
/// messages, or stretches of neighbours of one key.
pub(in crate::engine) const LOOK_AHEAD: u64 = 1000;

/// Most memory, in bytes, that a queue takes for what was passed over; behind that, no other key is looked for. At least
/// 14,000 messages, each of another key, or tens of millions of a few keys.
const PASSED_OVER_BYTES_MAX: usize = 4 << 20;

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

/// All that waits.
#[derive(Debug, Default)]
pub(in crate::engine) struct Lanes {
    /// What came back, and what has no key.
    back: BTreeMap<Seq, Waiting>,
    /// What was passed over, of all lanes.
    passed_over: SeqSet,
    lanes: HashMap<KeyHash, Lane>,
    /// What is not behind another one.
    listing: Listing,
    /// Lanes with nothing in them that are remembered for their turn, until the queue has looked as far.
    idle: BTreeSet<(u64, KeyHash)>,
    /// How far the queue has looked: messages, and stretches of neighbours of one key.
    looks: u64,
    turns: u64,
    stretches: u64,
    passed_over_bytes: usize,
}

impl Lanes {
    /// A message came back, or waits without a key.
    pub(super) fn insert(&mut self, seq: Seq, waiting: Waiting) {
        self.remove(seq);
        self.back.insert(seq, waiting);
        match waiting.key {
            Some(key) => self.change(key, |lane| lane.insert_back(seq)),
            None => self.list(seq, None),
        }
    }

    /// Messages of a key, none of which waits, are passed over.
    pub(super) fn pass_over(&mut self, range: Range<Seq>, key: KeyHash) {
        let before = self.stretches;
        self.passed_over.insert_all(range.clone());
        self.change(key, |lane| lane.pass_over(range));
        self.looks += self.stretches.saturating_sub(before);
        self.forget_idle();
    }

    /// The same of places some of which may wait already.
    pub(super) fn pass_over_all(&mut self, places: &SeqSet, key: KeyHash) {
        self.passed_over.insert_set(places);
        self.change(key, |lane| lane.pass_over_all(places));
    }

    pub(super) fn remove(&mut self, seq: Seq) -> Option<Waiting> {
        if let Some(waiting) = self.back.remove(&seq) {
            self.listing.remove(seq);
            waiting.key.into_iter().for_each(|key| self.change(key, |lane| lane.remove_back(seq)));
            return Some(waiting);
        }
        let key = self.key_of(seq)?;
        self.passed_over.remove(seq);
        self.change(key, |lane| lane.remove_passed_over(seq));
        Some(Waiting { key: Some(key), ..Waiting::default() })
    }

    /// The key of one that was passed over. Takes as long as there are lanes, unless it is the head of one.
    fn key_of(&self, seq: Seq) -> Option<KeyHash> {
        if !self.passed_over.contains(seq) {
            return None;
        }
        let listed = self.listing.key_of(seq);
        let search = || self.lanes.iter().find(|(_, lane)| lane.passed_over().contains(seq)).map(|(key, _)| *key);
        listed.or_else(search)
    }

    /// Takes out all that stands before `end`.
    pub(super) fn remove_before(&mut self, end: Seq) {
        let back: Vec<Seq> = self.back.range(..end).map(|(seq, _)| *seq).collect();
        for seq in back {
            self.remove(seq);
        }
        let is_before = |lane: &Lane| lane.passed_over().first().is_some_and(|first| first < end);
        let keys: Vec<KeyHash> = self.lanes.iter().filter(|(_, lane)| is_before(lane)).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.change(key, |lane| lane.remove_passed_over_before(end)));
        self.passed_over.remove_before(end);
    }

    /// The cursor has moved on by one message.
    pub(super) fn look(&mut self) {
        self.looks += 1;
        self.forget_idle();
    }

    /// A consumer holds a message of this key from now on: the next one has its turn when others have had theirs. What is
    /// known of these by now has been looked ahead for.
    pub(super) fn hold(&mut self, key: KeyHash) {
        self.turns += 1;
        let lane = self.lanes.entry(key).or_default();
        let of_others = self.stretches - lane.stretches();
        let turn = Turn::new(self.turns, self.looks + LOOK_AHEAD.saturating_sub(of_others));
        self.idle.remove(&(lane.turn.looks(), key));
        lane.held_count += 1;
        lane.turn = turn;
        self.refresh(key);
    }

    /// The consumer does not hold the message of this key any more. Answers whether another one of it is ready now.
    pub(super) fn let_go(&mut self, key: KeyHash) -> bool {
        let Some(lane) = self.lanes.get_mut(&key) else { return false };
        lane.held_count = lane.held_count.saturating_sub(1);
        self.refresh(key);
        let is_listed = self.lanes.get(&key).is_some_and(|lane| lane.listed.is_some());
        self.forget_idle();
        is_listed
    }

    /// What has waited long enough for its next delivery can be handed out. Answers whether there was anything.
    pub(super) fn wake(&mut self, now: Timestamp) -> bool {
        self.listing.wake(now)
    }

    /// Forgets when lanes had their last turn that have nothing in them, once their next one has come.
    fn forget_idle(&mut self) {
        while let Some((looks, key)) = self.idle.first().copied().filter(|(looks, _)| *looks <= self.looks) {
            self.idle.remove(&(looks, key));
            self.lanes.remove(&key);
        }
    }

    /// How far the queue has looked.
    pub(in crate::engine) fn looks(&self) -> u64 {
        self.looks
    }

    /// What can be handed out, in the order in which it should be.
    pub(in crate::engine) fn ready(&self) -> impl Iterator<Item = (Turn, Seq)> + '_ {
        self.listing.ready()
    }

    /// The same in publish order.
    pub(in crate::engine) fn ready_in_order(&self) -> impl Iterator<Item = Seq> + '_ {
        self.listing.ready_in_order()
    }

    /// One that came back, or has no key.
    pub(in crate::engine) fn back(&self, seq: Seq) -> Option<&Waiting> {
        self.back.get(&seq)
    }

    /// The key of one that can be handed out.
    pub(in crate::engine) fn key_of_ready(&self, seq: Seq) -> Option<KeyHash> {
        self.listing.key_of(seq)
    }

    /// Whether a consumer holds a message of this key.
    pub(in crate::engine) fn is_held(&self, key: KeyHash) -> bool {
        self.lanes.get(&key).is_some_and(|lane| lane.held_count > 0)
    }

    /// How many messages of this key wait here.
    pub(in crate::engine) fn count_of(&self, key: KeyHash) -> usize {
        self.lanes.get(&key).map_or(0, Lane::len)
    }

    /// Whether the message of this key before `seq` was passed over.
    pub(in crate::engine) fn goes_on(&self, key: KeyHash, seq: Seq) -> bool {
        self.lanes.get(&key).is_some_and(|lane| lane.goes_on(seq))
    }

    /// When the next message of this key has its turn that comes from behind the cursor.
    pub(in crate::engine) fn turn_of(&self, key: KeyHash) -> Turn {
        self.lanes.get(&key).map_or_else(Turn::default, |lane| lane.turn)
    }

    /// The first message of this key that waits behind `seq`.
    pub(in crate::engine) fn after(&self, key: KeyHash, seq: Seq) -> Option<Seq> {
        self.lanes.get(&key)?.after(seq)
    }

    /// Where all of it is, in publish order.
    pub(in crate::engine) fn seqs(&self) -> impl Iterator<Item = Seq> + '_ {
        self.from(Seq(0))
    }

    /// The same from `begin` on.
    pub(in crate::engine) fn from(&self, begin: Seq) -> impl Iterator<Item = Seq> + '_ {
        let mut back = self.back.range(begin..).map(|(seq, _)| *seq).peekable();
        let mut passed_over = self.passed_over.from(begin).peekable();
        std::iter::from_fn(move || match (back.peek(), passed_over.peek()) {
            (Some(one), Some(other)) if other < one => passed_over.next(),
            (Some(_), _) => back.next(),
            (None, _) => passed_over.next(),
        })
    }

    /// What came back and what has no key, in publish order.
    pub(in crate::engine) fn all_back(&self) -> &BTreeMap<Seq, Waiting> {
        &self.back
    }

    /// What was passed over.
    pub(in crate::engine) fn passed_over(&self) -> &SeqSet {
        &self.passed_over
    }

    /// The same by key.
    pub(in crate::engine) fn passed_over_by_key(&self) -> impl Iterator<Item = (KeyHash, &SeqSet)> + '_ {
        let all = self.lanes.iter().map(|(key, lane)| (*key, lane.passed_over()));
        all.filter(|(_, places)| !places.is_empty())
    }

    /// About what that takes in memory, in bytes.
    pub(in crate::engine) fn passed_over_bytes(&self) -> usize {
        self.passed_over_bytes
    }

    /// How many bytes more it may take.
    pub(in crate::engine) fn passed_over_room(&self) -> usize {
        PASSED_OVER_BYTES_MAX.saturating_sub(self.passed_over_bytes)
    }

    pub(in crate::engine) fn len(&self) -> usize {
        self.back.len() + self.passed_over.len()
    }

    pub(in crate::engine) fn contains(&self, seq: Seq) -> bool {
        self.back.contains_key(&seq) || self.passed_over.contains(seq)
    }

    /// What waits for its backoff to be over, the first one first.
    pub(in crate::engine) fn retrying(&self) -> impl Iterator<Item = (Timestamp, Seq)> + '_ {
        self.listing.retrying()
    }

    /// Changes a lane, and what is counted of all along.
    fn change(&mut self, key: KeyHash, change: impl FnOnce(&mut Lane)) {
        let lane = self.lanes.entry(key).or_default();
        let before = (lane.stretches(), lane.passed_over_bytes());
        change(lane);
        self.stretches = self.stretches + lane.stretches() - before.0;
        self.passed_over_bytes = self.passed_over_bytes + lane.passed_over_bytes() - before.1;
        self.refresh(key);
    }

    /// Lists the head of a lane that is not held, and nothing else of it.
    fn refresh(&mut self, key: KeyHash) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let head = if lane.held_count > 0 { None } else { lane.head() };
        let listed = std::mem::replace(&mut lane.listed, head);
        let idle = (lane.turn.looks(), key);
        if lane.is_empty() && lane.held_count == 0 {
            self.idle.insert(idle);
        } else {
            self.idle.remove(&idle);
        }
        if listed != head {
            if let Some(listed) = listed {
                self.listing.remove(listed);
            }
            if let Some(head) = head {
                self.list(head, Some(key));
            }
        }
    }

    fn list(&mut self, seq: Seq, key: Option<KeyHash>) {
        let spot = match self.back.get(&seq) {
            Some(Waiting { retry_at: Some(at), .. }) => Spot::Retrying(*at),
            Some(_) => Spot::Ready(Turn::default()),
            None => Spot::Ready(key.map_or_else(Turn::default, |key| self.turn_of(key))),
        };
        self.listing.insert(seq, spot, key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Option<KeyHash> {
        Some(KeyHash::of(text))
    }

    fn passed_over(lanes: &mut Lanes, seq: u64, of: &str) {
        lanes.pass_over(Seq(seq)..Seq(seq + 1), KeyHash::of(of));
    }

    fn ready(lanes: &Lanes) -> Vec<u64> {
        lanes.ready().map(|(_, seq)| seq.0).collect()
    }

    /// Hands out the next one.
    fn take(lanes: &mut Lanes) -> u64 {
        let (_, seq) = lanes.ready().next().expect("one is ready");
        assert_eq!(lanes.key_of_ready(seq), lanes.key_of(seq).or(lanes.back(seq).and_then(|waiting| waiting.key)));
        let waiting = lanes.remove(seq).expect("it waits");
        waiting.key.into_iter().for_each(|key| lanes.hold(key));
        seq.0
    }

    fn look(lanes: &mut Lanes, count: u64) {
        (0..count).for_each(|_| lanes.look());
    }

    #[test]
    fn only_the_head_of_a_lane_is_ready_and_none_while_one_is_held() {
        let mut lanes = Lanes::default();
        passed_over(&mut lanes, 1, "a");
        passed_over(&mut lanes, 2, "a");
        passed_over(&mut lanes, 3, "b");
        lanes.insert(Seq(4), Waiting::default());
        assert_eq!(ready(&lanes), [1, 3, 4]);
        assert_eq!(take(&mut lanes), 1);
        assert_eq!(ready(&lanes), [3, 4]);
        lanes.let_go(KeyHash::of("a"));
        assert_eq!(ready(&lanes), [3, 4, 2]);
        assert!(lanes.remove(Seq(2)).is_some() && lanes.remove(Seq(2)).is_none());
        assert_eq!((ready(&lanes), lanes.len(), lanes.passed_over().len()), (vec![3, 4], 2, 1));
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
            let seq = take(&mut lanes);
            order.push(seq);
            lanes.let_go(KeyHash::of(if seq < 3 { "a" } else { "b" }));
        }
        assert_eq!(order, [0, 3, 1, 4, 2]);
        passed_over(&mut lanes, 5, "a");
        let back = Waiting { key: key("b"), attempts: Attempt(1), ..Waiting::default() };
        lanes.insert(Seq(4), back);
        assert_eq!(ready(&lanes), [4, 5]);
        assert_eq!(lanes.ready_in_order().collect::<Vec<_>>(), [Seq(4), Seq(5)]);
    }

    #[test]
    fn a_head_that_waits_for_its_retry_keeps_its_lane_and_no_other() {
        let mut lanes = Lanes::default();
        let later = |ms| Some(Timestamp::from_millis(ms));
        lanes.insert(Seq(1), Waiting { key: key("a"), retry_at: later(10), ..Waiting::default() });
        passed_over(&mut lanes, 2, "a");
        passed_over(&mut lanes, 3, "b");
        lanes.insert(Seq(4), Waiting { retry_at: later(20), ..Waiting::default() });
        assert_eq!((ready(&lanes), lanes.retrying().count()), (vec![3], 2));
        assert!(!lanes.wake(Timestamp::from_millis(9)));
        assert!(lanes.wake(Timestamp::from_millis(10)));
        assert_eq!((ready(&lanes), lanes.key_of_ready(Seq(1))), (vec![1, 3], key("a")));
        assert!(lanes.wake(Timestamp::from_millis(99)));
        assert_eq!(ready(&lanes), [1, 3, 4]);
        lanes.remove(Seq(1));
        assert_eq!(ready(&lanes), [2, 3, 4]);
    }

    #[test]
    fn a_lane_that_is_empty_is_remembered_until_the_queue_has_looked_as_far_as_its_turn() {
        let mut lanes = Lanes::default();
        passed_over(&mut lanes, 0, "a");
        assert_eq!(take(&mut lanes), 0);
        lanes.let_go(KeyHash::of("a"));
        look(&mut lanes, LOOK_AHEAD - 1);
        assert!(lanes.turn_of(KeyHash::of("a")).looks() > lanes.looks());
        assert!(!lanes.lanes.is_empty());
        look(&mut lanes, 1);
        assert!(lanes.lanes.is_empty());
        assert_eq!(lanes.turn_of(KeyHash::of("a")), Turn::default());
    }

    #[test]
    fn the_more_is_known_of_others_the_less_far_ahead_is_looked_and_neighbours_count_once() {
        let mut lanes = Lanes::default();
        lanes.pass_over(Seq(0)..Seq(1 << 20), KeyHash::of("a"));
        assert_eq!((lanes.looks(), lanes.passed_over().len()), (1, 1 << 20));
        take(&mut lanes);
        assert_eq!(lanes.turn_of(KeyHash::of("a")).looks(), lanes.looks() + LOOK_AHEAD);
        for n in 0..LOOK_AHEAD {
            passed_over(&mut lanes, (2 << 20) + 2 * n, "b");
        }
        assert_eq!(lanes.looks(), 1 + LOOK_AHEAD);
        take(&mut lanes);
        assert_eq!(lanes.turn_of(KeyHash::of("b")).looks(), lanes.looks() + LOOK_AHEAD - 1);
        lanes.let_go(KeyHash::of("a"));
        take(&mut lanes);
        let turn = lanes.turn_of(KeyHash::of("a"));
        assert_eq!(turn.looks(), lanes.looks() + 1, "of b it knows nearly as much as it looks ahead for");
        // Whoever has more to look for does not have to wait for the others twice.
        lanes.let_go(KeyHash::of("a"));
        lanes.let_go(KeyHash::of("b"));
        assert_eq!(lanes.ready().map(|(_, seq)| seq).collect::<Vec<_>>(), [Seq((2 << 20) + 2), Seq(2)]);
    }

    #[test]
    fn what_came_back_does_not_wait_for_the_next_turn_of_its_lane() {
        let mut lanes = Lanes::default();
        for (seq, of) in [(0, "a"), (1, "a"), (2, "b")] {
            passed_over(&mut lanes, seq, of);
        }
        assert_eq!((take(&mut lanes), take(&mut lanes)), (0, 2));
        lanes.let_go(KeyHash::of("a"));
        let back = Waiting { key: key("b"), attempts: Attempt(1), ..Waiting::default() };
        lanes.insert(Seq(2), back);
        lanes.let_go(KeyHash::of("b"));
        assert_eq!(ready(&lanes), [2, 1], "lane a had its turn before lane b, and yet");
    }

    #[test]
    fn what_is_deleted_behind_the_head_of_a_lane_leaves_the_head_as_it_is() {
        let mut lanes = Lanes::default();
        let retry_at = Some(Timestamp::from_millis(10));
        lanes.insert(Seq(1), Waiting { key: key("a"), retry_at, ..Waiting::default() });
        lanes.pass_over(Seq(2)..Seq(5), KeyHash::of("a"));
        passed_over(&mut lanes, 5, "b");
        assert!(lanes.wake(Timestamp::from_millis(10)));
        assert_eq!(lanes.remove(Seq(3)).map(|waiting| waiting.key), Some(key("a")), "though it is no head");
        assert_eq!((ready(&lanes), lanes.retrying().count()), (vec![1, 5], 0));
        assert!(lanes.remove(Seq(1)).is_some());
        assert_eq!((ready(&lanes), lanes.retrying().count()), (vec![2, 5], 0));
        assert_eq!(lanes.seqs().collect::<Vec<_>>(), [Seq(2), Seq(4), Seq(5)]);
    }

    #[test]
    fn what_stands_before_a_place_leaves_with_all_that_is_counted_of_it() {
        let mut lanes = Lanes::default();
        lanes.insert(Seq(1), Waiting { key: key("a"), leases: LeaseNumber(1), ..Waiting::default() });
        lanes.pass_over(Seq(2)..Seq(9), KeyHash::of("a"));
        lanes.pass_over(Seq(10)..Seq(12), KeyHash::of("b"));
        lanes.insert(Seq(9), Waiting::default());
        lanes.remove_before(Seq(8));
        assert_eq!(lanes.seqs().collect::<Vec<_>>(), [Seq(8), Seq(9), Seq(10), Seq(11)]);
        assert_eq!((ready(&lanes), lanes.len(), lanes.stretches), (vec![8, 9, 10], 4, 2));
        assert_eq!(lanes.from(Seq(10)).count(), 2);
        lanes.remove_before(Seq(99));
        assert_eq!((lanes.len(), lanes.stretches, lanes.passed_over_bytes()), (0, 0, 0));
        assert!(ready(&lanes).is_empty());
    }
}

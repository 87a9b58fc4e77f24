//! A topic: its messages in publish order, as places, and the recent ones themselves.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::Queue;
use crate::{
    engine::{checkpoint::Kind, sealed::Kept},
    model::{Name, QueueId, Seq, Timestamp, TopicPolicy},
};

/// A named, ordered log of messages.
///
/// Which of them are wanted follows from the positions of its queues (see [`Wanted`]); those that no checkpoint has
/// written yet are here, the others in segments.
#[derive(Debug)]
pub(in crate::engine) struct Topic {
    pub(in crate::engine) name: Name,
    /// The queues on it, oldest first.
    pub(in crate::engine) queues: Vec<QueueId>,
    /// Their names, shared with every answer to a publish.
    pub(in crate::engine) queue_names: Arc<[Name]>,
    /// The topic's own queue, once it has one.
    pub(in crate::engine) own: Option<QueueId>,
    /// Whether it is the inbox of a registered service.
    pub(in crate::engine) is_inbox: bool,
    pub(in crate::engine) policy: TopicPolicy,
    /// While it has no queue, what comes from here on is kept for its first one.
    pub(in crate::engine) kept_from: Seq,
    pub(in crate::engine) log: Log,
    /// The number of the next delayed message.
    pub(in crate::engine) next_delayed: Seq,
    /// When each of the delayed messages becomes visible.
    pub(in crate::engine) delayed: BTreeMap<Seq, Timestamp>,
    /// Those of the delayed messages that no checkpoint has written yet.
    pub(in crate::engine) recent_delayed: BTreeMap<Seq, Kept>,
    /// Messages that have become visible but stand among the delayed ones, in a segment, until the next checkpoint.
    pub(super) matured: BTreeSet<Seq>,
}

impl Topic {
    pub(super) fn new(name: Name, next: Seq) -> Self {
        Self {
            name,
            queues: Vec::new(),
            queue_names: Arc::from([]),
            own: None,
            is_inbox: false,
            policy: TopicPolicy::default(),
            kept_from: Seq(0),
            log: Log::new(next),
            next_delayed: Seq(0),
            delayed: BTreeMap::new(),
            recent_delayed: BTreeMap::new(),
            matured: BTreeSet::new(),
        }
    }

    /// Whether it only exists because somebody tried to receive from its name: it never had a message, and nobody
    /// but its own queue reads it. Such a name is still free to become the queue of a service.
    pub(in crate::engine) fn is_placeholder(&self) -> bool {
        let unused = self.log.next == Seq(0) && self.next_delayed == Seq(0);
        unused && !self.is_inbox && self.queues.iter().all(|queue| Some(*queue) == self.own)
    }
}

/// The messages that no checkpoint has written yet, as far as somebody wants them.
#[derive(Debug)]
pub(in crate::engine) struct Log {
    /// The place of the front.
    base: u64,
    slots: VecDeque<Option<Content>>,
    /// The place that the next message gets.
    pub(in crate::engine) next: Seq,
}

/// Where a recent message is.
#[derive(Debug, Clone)]
pub(in crate::engine) enum Content {
    /// Here.
    Here(Kept),
    /// In a segment, among the delayed messages, where it was before it became visible.
    AmongDelayed(Seq),
}

impl Log {
    /// An empty log.
    pub(super) fn new(next: Seq) -> Self {
        Self { base: next.0, slots: VecDeque::new(), next }
    }

    pub(super) fn push(&mut self, content: Content) -> Seq {
        let seq = self.next;
        if self.slots.is_empty() {
            self.base = seq.0;
        }
        self.slots.push_back(Some(content));
        self.next = seq.next();
        seq
    }

    /// Takes the message out, if it is here.
    pub(super) fn remove(&mut self, seq: Seq) -> Option<Content> {
        let place = self.place(seq)?;
        let removed = self.slots[place].take();
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.base += 1;
        }
        removed
    }

    /// About how many messages are here.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Takes out the messages before `end`.
    pub(super) fn remove_before(&mut self, end: Seq) -> Vec<Content> {
        let count = usize::try_from(end.0.saturating_sub(self.base)).unwrap_or(usize::MAX).min(self.slots.len());
        self.base += count as u64;
        let removed = self.slots.drain(..count).flatten().collect();
        if self.slots.is_empty() {
            // What a backlog took is given back.
            self.slots = VecDeque::new();
        }
        removed
    }

    pub(in crate::engine) fn get(&self, seq: Seq) -> Option<&Content> {
        self.slots[self.place(seq)?].as_ref()
    }

    /// The messages that are here, in order.
    pub(in crate::engine) fn iter(&self) -> impl Iterator<Item = (Seq, &Content)> {
        let places = self.base..;
        places.zip(&self.slots).filter_map(|(seq, slot)| Some((Seq(seq), slot.as_ref()?)))
    }

    fn place(&self, seq: Seq) -> Option<usize> {
        let place = usize::try_from(seq.0.checked_sub(self.base)?).ok()?;
        (place < self.slots.len()).then_some(place)
    }
}

/// Which messages of a topic somebody wants.
///
/// A queue wants whatever is at or behind its cursor, so from the earliest cursor on everything is wanted, but what all
/// queues have deleted, and before it only what a queue holds, was given back, passed over or gave up. What a topic
/// without queues has is kept for its first one.
#[derive(Debug)]
pub(in crate::engine) struct Wanted {
    /// Before `from`.
    before: BTreeSet<Seq>,
    from: Seq,
    /// From there on, and wanted by nobody all the same.
    gone: BTreeSet<Seq>,
    next: Seq,
    delayed: BTreeSet<Seq>,
}

impl Wanted {
    pub(super) fn of<'a>(topic: &Topic, queues: impl Iterator<Item = &'a Queue> + Clone) -> Self {
        let from = queues.clone().map(Queue::cursor).min().unwrap_or(topic.kept_from);
        let gone = queues.clone().flat_map(|queue| queue.gone().range(from..));
        let gone = gone.filter(|seq| !queues.clone().any(|queue| queue.wants(**seq))).copied().collect();
        let before = queues.flat_map(|queue| queue.wanted_before(from)).collect();
        let delayed = topic.delayed.keys().chain(&topic.matured).copied().collect();
        Self { before, from, gone, next: topic.log.next, delayed }
    }

    /// How many there are from `first` to `last`.
    pub(in crate::engine) fn count(&self, kind: Kind, first: Seq, last: Seq) -> u64 {
        let end = last.next().min(self.next);
        match kind {
            Kind::Delayed => self.delayed.range(first..=last).count() as u64,
            Kind::Visible => {
                let behind = end.0.saturating_sub(self.from.max(first).0);
                self.before.range(first..=last).count() as u64 + behind
                    - self.gone.range(first..end.max(first)).count() as u64
            }
        }
    }

    /// Those from `first` to `last`.
    pub(super) fn seqs(&self, kind: Kind, first: Seq, last: Seq) -> Vec<Seq> {
        let end = last.next().min(self.next);
        match kind {
            Kind::Delayed => self.delayed.range(first..=last).copied().collect(),
            Kind::Visible => {
                let behind = (self.from.max(first).0..end.0).map(Seq).filter(|seq| !self.gone.contains(seq));
                self.before.range(first..=last).copied().chain(behind).collect()
            }
        }
    }

    /// The earliest one that is visible; the place of the next one if there is none.
    pub(super) fn first(&self) -> Seq {
        let behind = (self.from.0..self.next.0).map(Seq).find(|seq| !self.gone.contains(seq));
        self.before.first().copied().or(behind).unwrap_or(self.next)
    }

    /// Whether a visible one is among them.
    pub(super) fn has_visible(&self, seq: Seq) -> bool {
        let is_behind = seq >= self.from && seq < self.next && !self.gone.contains(&seq);
        is_behind || self.before.contains(&seq)
    }

    /// Those behind the earliest cursor that nobody wants.
    pub(super) fn gone(&self) -> impl Iterator<Item = Seq> + '_ {
        self.gone.iter().copied()
    }

    /// How many there are that are visible.
    pub(super) fn visible_count(&self) -> u64 {
        self.before.len() as u64 + (self.next.0 - self.from.0) - self.gone.len() as u64
    }

    /// Those that are visible.
    pub(super) fn visible(&self) -> impl Iterator<Item = Seq> + '_ {
        let behind = (self.from.0..self.next.0).map(Seq).filter(|seq| !self.gone.contains(seq));
        self.before.iter().copied().chain(behind)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::{
        engine::sealed::Sealed,
        model::{Draft, TopicId},
    };

    fn message(text: &'static str) -> Content {
        let draft = Draft { payload: Bytes::from_static(text.as_bytes()), ..Draft::default() };
        let sealed = Sealed::new(draft, Timestamp::EPOCH, Duration::ZERO);
        Content::Here(sealed.into_kept(Name::parse("t").expect("valid"), Timestamp::EPOCH))
    }

    fn here(log: &Log) -> Vec<u64> {
        log.iter().map(|(seq, _)| seq.0).collect()
    }

    #[test]
    fn messages_leave_one_by_one_or_up_to_a_place() {
        let mut log = Log::new(Seq(7));
        for text in ["a", "b", "c", "d", "e"] {
            log.push(message(text));
        }
        assert!(log.remove(Seq(8)).is_some());
        assert!(log.remove(Seq(8)).is_none());
        assert_eq!(here(&log), [7, 9, 10, 11]);
        assert!(log.remove(Seq(7)).is_some());
        assert_eq!(here(&log), [9, 10, 11]);
        assert_eq!(log.remove_before(Seq(11)).len(), 2);
        assert_eq!(log.remove_before(Seq(5)).len(), 0);
        assert!(log.get(Seq(10)).is_none() && log.get(Seq(11)).is_some());
        assert_eq!(log.remove_before(Seq(99)).len(), 1);
        assert_eq!(log.push(message("f")), Seq(12));
        assert_eq!(here(&log), [12]);
    }

    #[test]
    fn what_no_queue_wanted_is_kept_for_the_first_one() {
        let mut topic = Topic::new(Name::parse("t").expect("valid"), Seq(0));
        topic.log.push(message("a"));
        topic.log.push(message("b"));
        let none = Wanted::of(&topic, std::iter::empty());
        assert_eq!((none.first(), none.visible_count()), (Seq(0), 2));
        assert_eq!(none.count(Kind::Visible, Seq(1), Seq(9)), 1);
        assert_eq!(none.seqs(Kind::Visible, Seq(0), Seq(0)), [Seq(0)]);
    }

    #[test]
    fn wanted_is_what_one_of_the_queues_is_not_done_with() {
        let mut topic = Topic::new(Name::parse("t").expect("valid"), Seq(0));
        for text in ["a", "b", "c", "d", "e", "f"] {
            topic.log.push(message(text));
        }
        let queue = || Queue::new(topic.name.clone(), TopicId(0), None, Seq(0));
        let (mut slow, mut fast) = (queue(), queue());
        for seq in 0..4 {
            if seq < 2 {
                slow.take(Seq(seq));
            }
            fast.take(Seq(seq));
        }
        slow.pass_over(Seq(2), None);
        // One is gone for both, one for one of them.
        slow.skip(Seq(4));
        fast.skip(Seq(4));
        slow.skip(Seq(5));
        let wanted = Wanted::of(&topic, [&slow, &fast].into_iter());
        let has: Vec<bool> = (0..7).map(|seq| wanted.has_visible(Seq(seq))).collect();
        assert_eq!(has, [false, false, true, true, false, true, false]);
        assert_eq!(wanted.visible().collect::<Vec<_>>(), [Seq(2), Seq(3), Seq(5)]);
        assert_eq!(wanted.gone().collect::<Vec<_>>(), [Seq(4)]);
        assert_eq!((wanted.first(), wanted.visible_count()), (Seq(2), 3));
        assert_eq!(wanted.count(Kind::Visible, Seq(0), Seq(99)), 3);
        assert_eq!(wanted.count(Kind::Visible, Seq(3), Seq(4)), 1);
        assert_eq!(wanted.seqs(Kind::Visible, Seq(4), Seq(99)), [Seq(5)]);
    }
}

//! A topic: its messages in publish order, and who still wants each.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{
    engine::sealed::Kept,
    model::{Message, Name, QueueId, Seq, Timestamp},
};

/// A named, ordered log of messages.
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
    pub(in crate::engine) log: Log,
    /// The number of the next delayed message.
    pub(in crate::engine) next_delayed: Seq,
    /// When each of the delayed messages becomes visible.
    pub(in crate::engine) delayed: BTreeMap<Seq, Timestamp>,
    /// From here on, messages were published since the last checkpoint began.
    pub(in crate::engine) unsaved: Seq,
    /// The same for its delayed messages.
    pub(in crate::engine) unsaved_delayed: Seq,
}

impl Topic {
    pub(super) fn new(name: Name) -> Self {
        Self {
            name,
            queues: Vec::new(),
            queue_names: Arc::from([]),
            own: None,
            is_inbox: false,
            log: Log::default(),
            next_delayed: Seq(0),
            delayed: BTreeMap::new(),
            unsaved: Seq(0),
            unsaved_delayed: Seq(0),
        }
    }

    /// Whether it only exists because somebody tried to receive from its name: it never had a message, and nobody
    /// but its own queue reads it. Such a name is still free to become the queue of a service.
    pub(in crate::engine) fn is_placeholder(&self) -> bool {
        let unused = self.log.next == Seq(0) && self.next_delayed == Seq(0);
        unused && !self.is_inbox && self.queues.iter().all(|queue| Some(*queue) == self.own)
    }
}

/// The messages that some queue, or no queue yet, still wants.
///
/// A message leaves when the last queue that got it is done with it. Invariant: the front is a live message, or the
/// log is empty.
#[derive(Debug, Default)]
pub(in crate::engine) struct Log {
    /// The place of the front.
    base: u64,
    slots: VecDeque<Option<Slot>>,
    /// The place that the next message gets.
    pub(in crate::engine) next: Seq,
}

#[derive(Debug)]
struct Slot {
    kept: Kept,
    /// How many queues are not done with it.
    holders: u32,
}

impl Log {
    /// Appends a message for `holders` queues; with none it is kept until the first queue comes.
    pub(super) fn push(&mut self, kept: Kept, holders: usize) -> Seq {
        let seq = self.next;
        if self.slots.is_empty() {
            self.base = seq.0;
        }
        let holders = u32::try_from(holders).expect("queues are bounded far below 2^32");
        self.slots.push_back(Some(Slot { kept, holders }));
        self.next = seq.next();
        seq
    }

    /// One more queue wants every message that is still here.
    pub(super) fn claim_all(&mut self) {
        for slot in self.slots.iter_mut().flatten() {
            slot.holders += 1;
        }
    }

    /// One queue fewer wants the message; answers it if that was the last one.
    pub(super) fn release(&mut self, seq: Seq) -> Option<Kept> {
        let place = self.place(seq)?;
        let slot = self.slots[place].as_mut()?;
        slot.holders = slot.holders.saturating_sub(1);
        if slot.holders > 0 {
            return None;
        }
        let freed = self.slots[place].take().map(|slot| slot.kept);
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.base += 1;
        }
        freed
    }

    pub(in crate::engine) fn get(&self, seq: Seq) -> Option<&Arc<Message>> {
        self.kept(seq).map(|kept| &kept.message)
    }

    pub(in crate::engine) fn kept(&self, seq: Seq) -> Option<&Kept> {
        self.slots[self.place(seq)?].as_ref().map(|slot| &slot.kept)
    }

    pub(super) fn kept_mut(&mut self, seq: Seq) -> Option<&mut Kept> {
        let place = self.place(seq)?;
        self.slots[place].as_mut().map(|slot| &mut slot.kept)
    }

    /// A log as a checkpoint left it: messages in order, each with the number of queues that are not done with it.
    pub(super) fn restored(next: Seq, messages: impl IntoIterator<Item = (Seq, Kept, usize)>) -> Self {
        let mut log = Self { base: next.0, slots: VecDeque::new(), next };
        for (seq, kept, holders) in messages {
            if log.slots.is_empty() {
                log.base = seq.0;
            }
            while log.base + (log.slots.len() as u64) < seq.0 {
                log.slots.push_back(None);
            }
            let holders = u32::try_from(holders).expect("queues are bounded far below 2^32");
            log.slots.push_back(Some(Slot { kept, holders }));
        }
        // Those behind the last one that is kept were done with: their places are not given again.
        if !log.slots.is_empty() {
            while log.base + (log.slots.len() as u64) < next.0 {
                log.slots.push_back(None);
            }
        }
        log
    }

    /// The earliest message still kept; the place of the next one if there is none.
    pub(in crate::engine) fn first(&self) -> Seq {
        if self.slots.is_empty() { self.next } else { Seq(self.base) }
    }

    /// The messages from `from` on, in order.
    pub(in crate::engine) fn iter_from(&self, from: Seq) -> impl Iterator<Item = (Seq, &Kept)> {
        let skip = usize::try_from(from.0.saturating_sub(self.base)).unwrap_or(usize::MAX).min(self.slots.len());
        let base = self.base;
        self.slots
            .range(skip..)
            .enumerate()
            .filter_map(move |(i, slot)| slot.as_ref().map(|s| (Seq(base + (skip + i) as u64), &s.kept)))
    }

    /// How many messages are kept.
    pub(in crate::engine) fn len(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    fn place(&self, seq: Seq) -> Option<usize> {
        let place = usize::try_from(seq.0.checked_sub(self.base)?).ok()?;
        (place < self.slots.len()).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::{engine::sealed::Sealed, model::Draft};

    fn message(text: &'static str) -> Kept {
        let draft = Draft { payload: Bytes::from_static(text.as_bytes()), ..Draft::default() };
        Sealed::new(draft, Duration::ZERO).into_kept(Name::parse("t").expect("valid"), Timestamp::EPOCH)
    }

    fn kept(log: &Log) -> Vec<u64> {
        log.iter_from(Seq(0)).map(|(seq, _)| seq.0).collect()
    }

    #[test]
    fn a_message_leaves_with_the_last_queue_that_wanted_it() {
        let mut log = Log::default();
        for text in ["a", "b", "c"] {
            log.push(message(text), 2);
        }
        log.release(Seq(1));
        assert_eq!(kept(&log), [0, 1, 2]);
        log.release(Seq(1));
        assert_eq!(kept(&log), [0, 2]);
        assert_eq!(log.first(), Seq(0));
        log.release(Seq(0));
        log.release(Seq(0));
        assert_eq!(kept(&log), [2]);
        assert_eq!(log.first(), Seq(2));
        log.release(Seq(0)); // long gone: nothing happens
        assert_eq!(log.len(), 1);
    }

    #[test]
    fn what_no_queue_wanted_is_kept_for_the_first_one() {
        let mut log = Log::default();
        log.push(message("a"), 0);
        assert_eq!(kept(&log), [0]);
        log.claim_all();
        log.release(Seq(0));
        assert_eq!(kept(&log), [] as [u64; 0]);
        assert_eq!(log.first(), Seq(1));
        assert_eq!(log.push(message("b"), 1), Seq(1));
        assert!(log.get(Seq(0)).is_none());
        assert_eq!(log.get(Seq(1)).map(|m| m.payload.as_ref()), Some(b"b".as_slice()));
    }
}

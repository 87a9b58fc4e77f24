//! A topic: its messages in publish order, and who still wants each.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::model::{Message, Name, QueueId, Seq, Timestamp};

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
    pub(super) delayed: BTreeMap<Seq, Timestamp>,
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
    message: Arc<Message>,
    /// How many queues are not done with it.
    holders: u32,
}

impl Log {
    /// Appends a message for `holders` queues; with none it is kept until the first queue comes.
    pub(super) fn push(&mut self, message: Arc<Message>, holders: usize) -> Seq {
        let seq = self.next;
        if self.slots.is_empty() {
            self.base = seq.0;
        }
        let holders = u32::try_from(holders).expect("queues are bounded far below 2^32");
        self.slots.push_back(Some(Slot { message, holders }));
        self.next = seq.next();
        seq
    }

    /// One more queue wants every message that is still here.
    pub(super) fn claim_all(&mut self) {
        for slot in self.slots.iter_mut().flatten() {
            slot.holders += 1;
        }
    }

    /// One queue fewer wants the message.
    pub(super) fn release(&mut self, seq: Seq) {
        let Some(place) = self.place(seq) else { return };
        let Some(slot) = &mut self.slots[place] else { return };
        slot.holders = slot.holders.saturating_sub(1);
        if slot.holders > 0 {
            return;
        }
        self.slots[place] = None;
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.base += 1;
        }
    }

    pub(in crate::engine) fn get(&self, seq: Seq) -> Option<&Arc<Message>> {
        self.slots[self.place(seq)?].as_ref().map(|slot| &slot.message)
    }

    /// The earliest message still kept; the place of the next one if there is none.
    pub(in crate::engine) fn first(&self) -> Seq {
        if self.slots.is_empty() { self.next } else { Seq(self.base) }
    }

    /// The messages from `from` on, in order.
    pub(in crate::engine) fn iter_from(&self, from: Seq) -> impl Iterator<Item = (Seq, &Arc<Message>)> {
        let skip = usize::try_from(from.0.saturating_sub(self.base)).unwrap_or(usize::MAX).min(self.slots.len());
        let base = self.base;
        self.slots
            .range(skip..)
            .enumerate()
            .filter_map(move |(i, slot)| slot.as_ref().map(|s| (Seq(base + (skip + i) as u64), &s.message)))
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
    use bytes::Bytes;

    use super::*;
    use crate::model::{MessageId, Properties};

    fn message(text: &'static str) -> Arc<Message> {
        Arc::new(Message {
            id: MessageId::generate(),
            topic: Name::parse("t").expect("valid"),
            payload: Bytes::from_static(text.as_bytes()),
            properties: Properties::default(),
            published_at: Timestamp::EPOCH,
            expires_at: None,
        })
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

//! What has happened to a message.
//!
//! The state knows what is up with it now; what came before is kept for a while, in memory only: the latest events since
//! this instance opened the store. What went wrong is kept apart from what went well, so that it is not washed away by it.

use std::{collections::VecDeque, sync::Arc};

use super::{MessageState, View};
use crate::{
    engine::{
        checkpoint::{Kind, Place},
        journal::{DeadCause, Reason, Record, ReturnCause},
    },
    model::{Attempt, Message, MessageId, Name, QueueId, Seq, Timestamp, TopicId},
};

/// Most events of each of the two sorts, and most ids: about 15 MiB.
const EVENTS_MAX: usize = 100_000;

/// What has happened to a message, and what is up with it.
#[derive(Debug, Clone)]
pub struct Story {
    /// The message; `None` if every queue is done with it.
    pub message: Option<Arc<Message>>,
    /// The topic that it was published to, if that still exists.
    pub topic: Option<Name>,
    /// When it becomes visible, if it is not.
    pub due: Option<Timestamp>,
    /// What is up with it in each queue of the topic.
    pub queues: Vec<QueueState>,
    /// What happened to it since this instance opened the store, as far as that is remembered, the first first.
    pub events: Vec<Event>,
}

/// What is up with a message in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueState {
    /// The queue.
    pub queue: Name,
    /// What is up; `None` if the queue is done with it, or never got it.
    pub state: Option<MessageState>,
}

/// Something that happened to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// In which queue, if it is about one that still exists.
    pub queue: Option<Name>,
    /// What.
    pub kind: EventKind,
}

/// What can happen to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// It was published.
    Published,
    /// It was published, to become visible later.
    Delayed,
    /// It became visible.
    BecameVisible,
    /// Its publisher, or an operator, took it back before it became visible.
    Cancelled,
    /// It was handed out under a lease.
    Delivered {
        /// Which delivery that counts this was.
        attempt: Attempt,
        /// Until when.
        deadline: Timestamp,
    },
    /// The lease was made to end at another time.
    Extended {
        /// When.
        deadline: Timestamp,
    },
    /// It was handed out and acked at once.
    Received,
    /// Its consumer acked it.
    Acked,
    /// It went back to the queue.
    Returned {
        /// How the lease ended.
        cause: ReturnCause,
        /// What the consumer said; empty if it said nothing.
        reason: Arc<str>,
        /// When it can be delivered again, if not at once.
        retry_at: Option<Timestamp>,
    },
    /// It became a dead letter.
    DeadLettered {
        /// Why.
        cause: DeadCause,
        /// What the consumer said; empty if it said nothing.
        reason: Arc<str>,
    },
    /// It was brought back from the dead letters.
    Redriven,
    /// The queue let go of it without a delivery.
    Dropped {
        /// Why.
        reason: Reason,
    },
}

#[derive(Debug, Clone)]
struct Noted {
    /// How many came before it: many things happen in one moment.
    number: u64,
    at: Timestamp,
    place: Place,
    queue: Option<QueueId>,
    kind: EventKind,
}

/// The latest events.
#[derive(Debug, Default)]
pub(in crate::engine) struct History {
    count: u64,
    went_well: VecDeque<Noted>,
    went_wrong: VecDeque<Noted>,
    ids: VecDeque<(MessageId, Place)>,
    /// What became visible: where it was, and where it is.
    matured: VecDeque<(Place, Place)>,
}

fn push<T>(events: &mut VecDeque<T>, event: T) {
    if events.len() == EVENTS_MAX {
        events.pop_front();
    }
    events.push_back(event);
}

impl History {
    /// Takes note of a record that is applied now; `topic` is that of its queue, if it is about one.
    pub(in crate::engine) fn note(&mut self, at: Timestamp, record: &Record, topic: Option<TopicId>) {
        match record {
            Record::Published { topic, seq, message } => {
                let place = Place { topic: *topic, kind: Kind::Visible, seq: *seq };
                push(&mut self.ids, (message.id, place));
                self.well(at, place, None, EventKind::Published);
            }
            Record::Delayed { topic, seq, message } => {
                let place = Place { topic: *topic, kind: Kind::Delayed, seq: *seq };
                push(&mut self.ids, (message.id, place));
                self.well(at, place, None, EventKind::Delayed);
            }
            Record::Matured { topic, first, delayed } => {
                for (seq, from) in (first.0..).map(Seq).zip(delayed) {
                    let place = Place { topic: *topic, kind: Kind::Visible, seq };
                    push(&mut self.matured, (Place { kind: Kind::Delayed, seq: *from, ..place }, place));
                    self.well(at, place, None, EventKind::BecameVisible);
                }
            }
            Record::DelayedCancelled { topic, seqs } => {
                for seq in seqs {
                    let place = Place { topic: *topic, kind: Kind::Delayed, seq: *seq };
                    self.wrong(at, place, None, EventKind::Cancelled);
                }
            }
            _ => self.note_of_queue(at, record, topic),
        }
    }

    fn note_of_queue(&mut self, at: Timestamp, record: &Record, topic: Option<TopicId>) {
        let Some(topic) = topic else { return };
        let place = |seq: Seq| Place { topic, kind: Kind::Visible, seq };
        match record {
            Record::Leased { queue, deadline, items } => {
                for item in items {
                    let kind = EventKind::Delivered { attempt: item.attempt, deadline: *deadline };
                    self.well(at, place(item.seq), Some(*queue), kind);
                }
            }
            Record::Extended { queue, deadline, seqs } => {
                for seq in seqs {
                    self.well(at, place(*seq), Some(*queue), EventKind::Extended { deadline: *deadline });
                }
            }
            Record::Done { queue, reason, seqs } => {
                for seq in seqs {
                    match reason {
                        Reason::Received => self.well(at, place(*seq), Some(*queue), EventKind::Received),
                        Reason::Acked => self.well(at, place(*seq), Some(*queue), EventKind::Acked),
                        reason => {
                            self.wrong(at, place(*seq), Some(*queue), EventKind::Dropped { reason: *reason });
                        }
                    }
                }
            }
            Record::Returned { queue, cause, reason, items } => {
                let reason = Arc::<str>::from(reason.as_str());
                for item in items {
                    let (cause, reason) = (*cause, Arc::clone(&reason));
                    let kind = EventKind::Returned { cause, reason, retry_at: item.retry_at };
                    self.wrong(at, place(item.seq), Some(*queue), kind);
                }
            }
            Record::Buried { queue, cause, reason, seqs } => {
                let reason = Arc::<str>::from(reason.as_str());
                for seq in seqs {
                    let kind = EventKind::DeadLettered { cause: *cause, reason: Arc::clone(&reason) };
                    self.wrong(at, place(*seq), Some(*queue), kind);
                }
            }
            Record::Revived { queue, seqs, .. } => {
                for seq in seqs {
                    self.wrong(at, place(*seq), Some(*queue), EventKind::Redriven);
                }
            }
            _ => {}
        }
    }

    fn well(&mut self, at: Timestamp, place: Place, queue: Option<QueueId>, kind: EventKind) {
        let noted = self.noted(at, place, queue, kind);
        push(&mut self.went_well, noted);
    }

    fn wrong(&mut self, at: Timestamp, place: Place, queue: Option<QueueId>, kind: EventKind) {
        let noted = self.noted(at, place, queue, kind);
        push(&mut self.went_wrong, noted);
    }

    fn noted(&mut self, at: Timestamp, place: Place, queue: Option<QueueId>, kind: EventKind) -> Noted {
        self.count += 1;
        Noted { number: self.count, at, place, queue, kind }
    }

    /// Where the message of that id was published to, if that was not long ago.
    pub(in crate::engine) fn place_of(&self, id: MessageId) -> Option<Place> {
        let (_, place) = self.ids.iter().rev().find(|(of, _)| *of == id)?;
        Some(self.matured.iter().rev().find(|(from, _)| from == place).map_or(*place, |(_, to)| *to))
    }

    /// What happened to the message at that place.
    fn of(&self, place: Place) -> Vec<&Noted> {
        let before = self.matured.iter().rev().find(|(_, to)| *to == place).map(|(from, _)| *from);
        let is_meant = |noted: &&Noted| noted.place == place || Some(noted.place) == before;
        let (mut well, mut wrong) =
            (self.went_well.iter().filter(is_meant).peekable(), self.went_wrong.iter().filter(is_meant).peekable());
        let mut all = Vec::new();
        loop {
            let is_well_first = match (well.peek(), wrong.peek()) {
                (Some(well), Some(wrong)) => well.number < wrong.number,
                (well, _) => well.is_some(),
            };
            let next = if is_well_first { well.next() } else { wrong.next() };
            match next {
                Some(noted) => all.push(noted),
                None => return all,
            }
        }
    }
}

impl View<'_> {
    /// What is known of the message at that place.
    pub(in crate::engine) fn story(&self, place: Place, message: Option<Arc<Message>>) -> Story {
        let topic = self.state.topic(place.topic);
        let queues = topic.into_iter().flat_map(|topic| {
            let queues = topic.queues.iter().filter_map(|id| self.state.queue(*id));
            queues.map(|queue| QueueState {
                queue: queue.name.clone(),
                state: self.state_of(queue, topic, place.kind, place.seq),
            })
        });
        let event = |noted: &Noted| Event {
            at: noted.at,
            queue: noted.queue.and_then(|id| self.state.queue(id)).map(|queue| queue.name.clone()),
            kind: noted.kind.clone(),
        };
        let due = topic.filter(|_| place.kind == Kind::Delayed).and_then(|topic| topic.delayed.get(&place.seq));
        Story {
            message,
            topic: topic.map(|topic| topic.name.clone()),
            due: due.copied(),
            queues: queues.collect(),
            events: self.history.of(place).into_iter().map(event).collect(),
        }
    }
}

//! Who has asked for messages lately, per queue, for people who look at it.
//!
//! Not here: what consumers get. Invariant: at most [`QUEUES_MAX`] queues and [`PER_QUEUE_MAX`] consumers of each are
//! known; beyond it those who were here longest ago are forgotten, and who is here now is never forgotten for others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::feed::Standing;
use crate::{
    engine::Clock,
    model::{Name, Timestamp},
};

/// Most queues whose consumers are known.
const QUEUES_MAX: usize = 10_000;
/// Most consumers that are known of a queue.
const PER_QUEUE_MAX: usize = 100;
/// How long a consumer is remembered that has gone.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// A consumer of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// As it calls itself, or where it comes from.
    pub name: String,
    /// How it asks.
    pub kind: ConsumerKind,
    /// When it was last here: now, if it is.
    pub last_seen_at: Timestamp,
    /// Messages that it holds over a stream.
    pub outstanding_messages: u64,
    /// Bytes of these.
    pub outstanding_bytes: u64,
    /// Whether it may be given more.
    pub has_credit: bool,
    /// Whether it waits for a message.
    pub is_waiting: bool,
}

/// How a consumer asks for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumerKind {
    /// One request after the other.
    Pull,
    /// Over a stream.
    Stream,
}

/// All of them. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Consumers {
    queues: Arc<Mutex<HashMap<Name, Vec<Seen>>>>,
}

#[derive(Debug)]
struct Seen {
    name: String,
    /// How many requests of it are under way, or what its stream holds.
    presence: Being,
    last_seen_at: Timestamp,
}

#[derive(Debug)]
enum Being {
    Pull { under_way: usize },
    Stream(Arc<Standing>),
    StreamGone,
}

impl Seen {
    fn is_here(&self) -> bool {
        match &self.presence {
            Being::Pull { under_way } => *under_way > 0,
            Being::Stream(_) => true,
            Being::StreamGone => false,
        }
    }
}

/// A consumer that is here. Dropped, it has gone.
#[derive(Debug)]
pub(super) struct Presence {
    consumers: Consumers,
    queue: Name,
    name: String,
    stream: Option<Arc<Standing>>,
    clock: Clock,
}

impl Consumers {
    /// A request of a consumer is under way.
    pub(super) fn pulls(&self, queue: Name, name: String, clock: &Clock) -> Presence {
        let now = clock.now();
        let mut queues = self.lock();
        if let Some(seen) = line_of(&mut queues, &queue, now) {
            let mine = seen.iter_mut().find(|seen| seen.name == name && matches!(seen.presence, Being::Pull { .. }));
            match mine {
                Some(Seen { presence: Being::Pull { under_way }, last_seen_at, .. }) => {
                    *under_way += 1;
                    *last_seen_at = now;
                }
                _ => {
                    enter(seen, Seen { name: name.clone(), presence: Being::Pull { under_way: 1 }, last_seen_at: now })
                }
            }
        }
        drop(queues);
        Presence { consumers: self.clone(), queue, name, stream: None, clock: clock.clone() }
    }

    /// A consumer has opened a stream.
    pub(super) fn streams(&self, queue: Name, name: String, standing: Arc<Standing>, clock: &Clock) -> Presence {
        let now = clock.now();
        if let Some(seen) = line_of(&mut self.lock(), &queue, now) {
            let presence = Being::Stream(Arc::clone(&standing));
            // It is back.
            seen.retain(|seen| seen.name != name || !matches!(seen.presence, Being::StreamGone));
            enter(seen, Seen { name: name.clone(), presence, last_seen_at: now });
        }
        Presence { consumers: self.clone(), queue, name, stream: Some(standing), clock: clock.clone() }
    }

    /// The consumers of a queue, those who are here first.
    pub(super) fn of(&self, queue: &Name, now: Timestamp) -> Vec<Consumer> {
        let mut queues = self.lock();
        let Some(seen) = queues.get_mut(queue) else { return Vec::new() };
        forget_old(seen, now);
        let mut consumers: Vec<_> = seen.iter().map(|seen| (!seen.is_here(), shown(seen, now))).collect();
        drop(queues);
        consumers.sort_by(|(gone, a), (other, b)| {
            (gone, std::cmp::Reverse(a.last_seen_at), &a.name).cmp(&(other, std::cmp::Reverse(b.last_seen_at), &b.name))
        });
        consumers.into_iter().map(|(_, consumer)| consumer).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Vec<Seen>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The consumers of a queue; `None` if too many queues have some.
fn line_of<'a>(queues: &'a mut HashMap<Name, Vec<Seen>>, queue: &Name, now: Timestamp) -> Option<&'a mut Vec<Seen>> {
    if queues.len() >= QUEUES_MAX && !queues.contains_key(queue) {
        queues.retain(|_, seen| {
            forget_old(seen, now);
            !seen.is_empty()
        });
        if queues.len() >= QUEUES_MAX {
            return None;
        }
    }
    Some(queues.entry(queue.clone()).or_default())
}

fn forget_old(seen: &mut Vec<Seen>, now: Timestamp) {
    seen.retain(|seen| seen.is_here() || now.since(seen.last_seen_at) < REMEMBERED_FOR);
}

fn enter(seen: &mut Vec<Seen>, new: Seen) {
    if seen.len() >= PER_QUEUE_MAX {
        let gone = seen.iter().enumerate().filter(|(_, seen)| !seen.is_here());
        let Some((at, _)) = gone.min_by_key(|(_, seen)| seen.last_seen_at) else { return };
        seen.swap_remove(at);
    }
    seen.push(new);
}

fn shown(seen: &Seen, now: Timestamp) -> Consumer {
    let (name, last_seen_at) = (seen.name.clone(), if seen.is_here() { now } else { seen.last_seen_at });
    let gone = Consumer {
        name,
        kind: ConsumerKind::Pull,
        last_seen_at,
        outstanding_messages: 0,
        outstanding_bytes: 0,
        has_credit: false,
        is_waiting: false,
    };
    match &seen.presence {
        Being::Pull { under_way } => Consumer { has_credit: *under_way > 0, is_waiting: *under_way > 0, ..gone },
        Being::StreamGone => Consumer { kind: ConsumerKind::Stream, ..gone },
        Being::Stream(standing) => {
            let (outstanding_messages, outstanding_bytes) = standing.outstanding();
            let has_credit = standing.has_credit();
            let kind = ConsumerKind::Stream;
            Consumer { kind, outstanding_messages, outstanding_bytes, has_credit, is_waiting: has_credit, ..gone }
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let now = self.clock.now();
        let mut queues = self.consumers.lock();
        let Some(seen) = queues.get_mut(&self.queue) else { return };
        let is_mine = |seen: &&mut Seen| {
            seen.name == self.name
                && match (&seen.presence, &self.stream) {
                    (Being::Pull { under_way }, None) => *under_way > 0,
                    (Being::Stream(standing), Some(mine)) => Arc::ptr_eq(standing, mine),
                    _ => false,
                }
        };
        // One that came when there were too many is not there.
        let Some(mine) = seen.iter_mut().find(is_mine) else { return };
        mine.last_seen_at = now;
        match &mut mine.presence {
            Being::Pull { under_way } => *under_way -= 1,
            stream => *stream = Being::StreamGone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).expect("valid")
    }

    fn names(consumers: &Consumers, queue: &str, now: Timestamp) -> Vec<(String, bool)> {
        consumers.of(&name(queue), now).into_iter().map(|c| (c.name, c.is_waiting)).collect()
    }

    #[test]
    fn who_has_gone_is_remembered_for_a_while() {
        let clock = Clock::standing_at(Timestamp::from_millis(1_000_000));
        let consumers = Consumers::default();
        let first = consumers.pulls(name("q"), "a".into(), &clock);
        let second = consumers.pulls(name("q"), "a".into(), &clock);
        let _other = consumers.pulls(name("q"), "b".into(), &clock);
        drop(first);
        assert_eq!(names(&consumers, "q", clock.now()), [("a".into(), true), ("b".into(), true)]);
        drop(second);
        assert_eq!(names(&consumers, "q", clock.now()), [("b".into(), true), ("a".into(), false)]);
        let later = clock.now().after(REMEMBERED_FOR);
        assert_eq!(names(&consumers, "q", later), [("b".into(), true)], "who is here stays");
    }

    #[test]
    fn those_who_were_here_longest_ago_make_room() {
        let clock = Clock::standing_at(Timestamp::from_millis(1_000_000));
        let consumers = Consumers::default();
        let here: Vec<_> =
            (0..PER_QUEUE_MAX - 1).map(|n| consumers.pulls(name("q"), format!("here {n}"), &clock)).collect();
        drop(consumers.pulls(name("q"), "gone".into(), &clock));
        let _new = consumers.pulls(name("q"), "new".into(), &clock);
        let _one_too_many = consumers.pulls(name("q"), "one too many".into(), &clock);
        let seen = names(&consumers, "q", clock.now());
        assert_eq!(seen.len(), PER_QUEUE_MAX);
        assert!(seen.iter().all(|(name, is_here)| *is_here && name != "gone" && name != "one too many"));
        drop(here);
    }
}

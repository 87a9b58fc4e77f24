//! The semantics of the engine, told with lists. Times are whole seconds since the beginning.
//!
//! Not here: where messages are, and what is durable. Known limits of the model: messages that expire go to a topic whose
//! queues have no limit in messages, because it is told nowhere when the engine comes across what has expired.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::NackOutcome;

/// A topic, and the service whose queue on it is meant.
pub(super) type QueueKey = (usize, Option<usize>);

/// After how many deliveries that failed a message is dead, unless a policy says something else.
const ATTEMPTS_MAX: u32 = 5;

/// A message as one queue sees it.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) number: usize,
    /// Its place in its topic.
    pub(super) seq: u64,
    pub(super) key: Option<usize>,
    published: u64,
    expires: Option<u64>,
    pub(super) attempts: u32,
    /// Which lease it is, or was.
    pub(super) leases: u32,
    pub(super) held_until: Option<u64>,
    pub(super) retry_at: u64,
    pub(super) is_dead: bool,
}

impl Item {
    fn waits(&self) -> bool {
        self.held_until.is_none() && !self.is_dead
    }
}

/// A queue, and what was set of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    pub(super) items: Vec<Item>,
    pub(super) is_paused: bool,
    /// Most messages, and whether the oldest make room.
    pub(super) limit: Option<(usize, bool)>,
    pub(super) age_max: Option<u64>,
    /// The shortest and the longest.
    pub(super) backoff: (u64, u64),
}

/// What a message brings along.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Traits {
    pub(super) key: Option<usize>,
    pub(super) ttl: Option<u64>,
}

/// A queue of the topic has as much as it may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// A message that waits for its retry; the engine has drawn lots for when that is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drawn {
    pub(super) queue: QueueKey,
    pub(super) number: usize,
    pub(super) seq: u64,
    /// At most; at least half of it.
    pub(super) backoff: u64,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) now: u64,
    /// Messages visible so far; the number of a message is its place here.
    pub(super) texts: Vec<usize>,
    next_seq: BTreeMap<usize, u64>,
    pub(super) queues: BTreeMap<QueueKey, Queue>,
    /// Of topics without a queue.
    kept: BTreeMap<usize, Vec<Item>>,
    /// Due, order of publishing, topic, when it was published.
    pub(super) delayed: Vec<(u64, usize, usize, u64)>,
    /// Until when a dedup id of a topic is remembered.
    pub(super) once: BTreeMap<(usize, usize), u64>,
    /// What the engine has to be asked about.
    pub(super) drawn: Vec<Drawn>,
}

impl Model {
    /// Publishes one message; those of `leaving` have left before, with it or not at all.
    pub(super) fn publish(
        &mut self,
        topic: usize,
        text: usize,
        traits: Traits,
        leaving: &[(QueueKey, usize)],
    ) -> Result<(), Full> {
        for (key, queue) in self.queues.iter().filter(|((of, _), _)| *of == topic) {
            let stays = |item: &&Item| !item.is_dead && !leaving.contains(&(*key, item.number));
            let (all, held) = queue
                .items
                .iter()
                .filter(stays)
                .fold((0, 0), |(all, held), item| (all + 1, held + usize::from(item.held_until.is_some())));
            match queue.limit {
                Some((max, false)) if all + 1 > max => return Err(Full),
                Some((max, true)) if held + 1 > max => return Err(Full),
                _ => {}
            }
        }
        for (queue, number) in leaving {
            self.queues.get_mut(queue).expect("declared").items.retain(|item| item.number != *number);
        }
        self.add(topic, text, self.now, traits);
        self.make_room(topic);
        Ok(())
    }

    fn add(&mut self, topic: usize, text: usize, published: u64, traits: Traits) {
        let next_seq = self.next_seq.entry(topic).or_default();
        let item = Item {
            number: self.texts.len(),
            seq: *next_seq,
            key: traits.key,
            published,
            expires: traits.ttl.map(|ttl| published + ttl),
            attempts: 0,
            leases: 0,
            held_until: None,
            retry_at: 0,
            is_dead: false,
        };
        *next_seq += 1;
        self.texts.push(text);
        let mut has_queue = false;
        for (_, queue) in self.queues.iter_mut().filter(|((of, _), _)| *of == topic) {
            queue.items.push(item.clone());
            has_queue = true;
        }
        if !has_queue {
            self.kept.entry(topic).or_default().push(item);
        }
    }

    /// The oldest messages that nobody holds go from queues that are over their limit and let them.
    pub(super) fn make_room(&mut self, topic: usize) {
        for (_, queue) in self.queues.iter_mut().filter(|((of, _), _)| *of == topic) {
            let Some((max, true)) = queue.limit else { continue };
            let count = queue.items.iter().filter(|item| !item.is_dead).count();
            let oldest = queue.items.iter().filter(|item| item.waits()).map(|item| item.number);
            let gone: BTreeSet<_> = oldest.take(count.saturating_sub(max)).collect();
            queue.items.retain(|item| !gone.contains(&item.number));
        }
    }

    pub(super) fn declare(&mut self, topic: usize, service: Option<usize>) {
        if self.queues.contains_key(&(topic, service)) {
            return;
        }
        let mut items = self.kept.remove(&topic).unwrap_or_default();
        if service.is_none() {
            // The topic's own queue begins with the earliest message that some queue still wants.
            let others = self.queues.iter().filter(|((of, _), _)| *of == topic);
            let wanted = others.flat_map(|(_, queue)| queue.items.iter()).filter(|item| !item.is_dead);
            let mut wanted: Vec<Item> = wanted.cloned().collect();
            wanted.sort_by_key(|item| item.number);
            wanted.dedup_by_key(|item| item.number);
            let fresh = |item| Item { attempts: 0, leases: 0, held_until: None, retry_at: 0, ..item };
            items.extend(wanted.into_iter().map(fresh));
        }
        self.queues.insert((topic, service), Queue { items, backoff: (0, 600), ..Queue::default() });
    }

    pub(super) fn queue(&mut self, key: QueueKey) -> &mut Queue {
        self.queues.get_mut(&key).expect("declared")
    }

    /// Lets go of what is over its time and would be looked at.
    pub(super) fn drop_expired(&mut self, key: QueueKey) {
        let now = self.now;
        let queue = self.queue(key);
        let age_max = queue.age_max;
        let is_over = |item: &Item| {
            item.expires.is_some_and(|at| at <= now) || age_max.is_some_and(|age| item.published + age <= now)
        };
        queue.items.retain(|item| !item.waits() || !is_over(item));
    }

    /// The numbers of messages that can be handed out, in order. Under leases there is one of each key at most.
    pub(super) fn ready(&self, key: QueueKey) -> Vec<usize> {
        let queue = &self.queues[&key];
        if queue.is_paused {
            return Vec::new();
        }
        let comes_first =
            |item: &Item, other: &Item| other.number < item.number && other.key == item.key && !other.is_dead;
        let is_ready = |item: &&Item| {
            let is_kept_back = item.key.is_some()
                && queue
                    .items
                    .iter()
                    .any(|other| comes_first(item, other) || other.key == item.key && other.held_until.is_some());
            item.waits() && item.retry_at <= self.now && !is_kept_back
        };
        queue.items.iter().filter(is_ready).map(|item| item.number).collect()
    }

    /// Hands out messages that are acked at once: those of a key, too, one after the other.
    pub(super) fn pop(&mut self, key: QueueKey, max: usize) -> Vec<usize> {
        self.declare(key.0, key.1);
        let mut taken = Vec::new();
        while taken.len() < max && !self.queue(key).is_paused {
            self.drop_expired(key);
            let Some(number) = self.ready(key).first().copied() else { break };
            self.queue(key).items.retain(|item| item.number != number);
            taken.push(number);
        }
        taken
    }

    pub(super) fn held(&mut self, key: QueueKey, number: usize, lease: u32) -> Option<&mut Item> {
        let items = &mut self.queue(key).items;
        items.iter_mut().find(|item| item.number == number && item.leases == lease && item.held_until.is_some())
    }

    pub(super) fn ack(&mut self, key: QueueKey, number: usize, lease: u32) -> bool {
        let is_held = self.held(key, number, lease).is_some();
        if is_held {
            self.queue(key).items.retain(|item| item.number != number);
        }
        is_held
    }

    /// `delay`: of a retry; `None`: as the policy says.
    pub(super) fn nack(
        &mut self,
        key: QueueKey,
        number: usize,
        lease: u32,
        outcome: NackOutcome,
        delay: Option<u64>,
    ) -> bool {
        let (now, backoff) = (self.now, self.queue(key).backoff);
        let Some(item) = self.held(key, number, lease) else { return false };
        item.held_until = None;
        match (outcome, delay) {
            (NackOutcome::Release, _) => item.attempts -= 1,
            (NackOutcome::Retry, _) if item.attempts >= ATTEMPTS_MAX => item.is_dead = true,
            (NackOutcome::Retry, Some(seconds)) => item.retry_at = now + seconds,
            (NackOutcome::Retry, None) => {
                let drawn = drawn(key, item, backoff);
                self.drawn.extend(drawn);
            }
            (NackOutcome::DeadLetter, _) => item.is_dead = true,
        }
        true
    }

    pub(super) fn advance(&mut self, seconds: u64) {
        self.now += seconds;
        let now = self.now;
        for (key, queue) in &mut self.queues {
            let backoff = queue.backoff;
            for item in queue.items.iter_mut().filter(|item| item.held_until.is_some_and(|until| until <= now)) {
                item.held_until = None;
                item.is_dead = item.attempts >= ATTEMPTS_MAX;
                if !item.is_dead {
                    self.drawn.extend(drawn(*key, item, backoff));
                }
            }
        }
        let mut due: Vec<_> = self.delayed.iter().copied().filter(|(at, ..)| *at <= now).collect();
        self.delayed.retain(|(at, ..)| *at > now);
        due.sort_unstable();
        for (_, text, topic, published) in &due {
            self.add(*topic, *text, *published, Traits::default());
        }
        due.iter().for_each(|(_, _, topic, _)| self.make_room(*topic));
    }
}

/// How long the policy lets a message wait that has failed, if at all.
fn drawn(queue: QueueKey, item: &Item, (shortest, longest): (u64, u64)) -> Option<Drawn> {
    let backoff = (shortest << (item.attempts - 1)).min(longest);
    (backoff > 0).then_some(Drawn { queue, number: item.number, seq: item.seq, backoff })
}

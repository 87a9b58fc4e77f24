//! Which messages a receive gets, which it passes over, and which are dropped on the way.
//!
//! Nothing is decided about a message that is not in memory: what it is, and so what comes after it, is not known. Except
//! for blocks all of whose messages have one ordering key, of which another one is with a consumer: they are passed over
//! unread.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use super::{
    Step,
    candidates::{Admission, Candidate, Candidates, Keys},
};
use crate::{
    engine::{
        AckMode, Receive,
        checkpoint::{Block, Kind, Place},
        journal::PassedItem,
        reading::{BlockCache, Cached},
        state::{LOOK_AHEAD, State, Whereabouts},
    },
    model::{Attempt, KeyHash, LeaseNumber, Message, Name, QueueId, Seq, Timestamp},
};

/// Most expired and damaged messages that one record drops.
pub(super) const DROPPED_MAX: usize = 10_000;

/// Most blocks that are loaded for one receive: 2 MiB, which is a thousand messages of 1 KiB and more.
const MISSING_MAX: usize = 16;

/// How many messages and blocks one look of a receive takes in at most, so that nobody else waits for it: a millisecond or
/// two. What it was looking for goes on being looked for.
const LOOKS_MAX: usize = 10_000;

/// What is to be handed out.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Wanted {
    /// Most messages.
    pub(in crate::engine) messages_max: usize,
    /// Most bytes of messages, unless the first message alone has more.
    pub(in crate::engine) bytes_max: usize,
    pub(in crate::engine) mode: AckMode,
}

/// What stands behind the messages that were handed out.
#[derive(Debug, Default)]
pub(in crate::engine) enum Next {
    /// Nothing that has to be loaded.
    #[default]
    Nothing,
    /// This block will be asked for soon.
    Ahead(Block),
    /// There is more to look at.
    Further,
    /// The next messages are in these blocks, of which the first one at least is not in memory.
    Missing(Vec<Block>),
    /// The next message is in a block that cannot be read; why.
    Failed(String),
}

/// What a receive would get.
#[derive(Debug, Default)]
pub(super) struct Pick {
    pub(super) messages: Vec<Picked>,
    /// Ascending: what was looked at and is neither handed out nor dropped.
    pub(super) passed_over: Vec<PassedItem>,
    pub(super) expired: Vec<Seq>,
    pub(super) too_old: Vec<Seq>,
    pub(super) damaged: Vec<Seq>,
    pub(super) next: Next,
}

impl Pick {
    pub(super) fn dropped_count(&self) -> usize {
        self.expired.len() + self.too_old.len() + self.damaged.len()
    }
}

/// A message that is to be handed out.
#[derive(Debug)]
pub(super) struct Picked {
    pub(super) seq: Seq,
    pub(super) attempt: Attempt,
    pub(super) lease: LeaseNumber,
    pub(super) key: Option<KeyHash>,
    pub(super) message: Arc<Message>,
}

/// What is known of a message in a block that has messages of one key only, without reading it.
#[derive(Debug, Clone, Copy)]
struct Glance {
    key: KeyHash,
    /// The place behind the block.
    end: Seq,
}

/// What is seen of a message.
enum Sight {
    Whole(Arc<Message>),
    Expired,
    TooOld,
    Damaged,
    Missing(Block),
    Failed(String),
}

/// Where messages are looked for.
struct Eyes<'a> {
    state: &'a State,
    blocks: &'a mut BlockCache,
    now: Timestamp,
    age_max: Option<Duration>,
    topic: &'a Name,
    /// The block that the last message was in.
    last: Option<Block>,
}

impl Eyes<'_> {
    /// What is known of a message without reading it, if that is enough to pass it over.
    fn glance(&self, place: Place) -> Option<Glance> {
        let Whereabouts::Saved(block, _) = self.state.find(place) else { return None };
        let is_as_published = block.first.at(place.seq) == place;
        let key = block.key.filter(|_| is_as_published && !self.is_over(&block))?;
        Some(Glance { key, end: block.last.next() })
    }

    /// Whether all messages of a block are over.
    fn is_over(&self, block: &Block) -> bool {
        self.has_expired(block) || self.is_too_old(block)
    }

    fn has_expired(&self, block: &Block) -> bool {
        block.expires_by.is_some_and(|at| at <= self.now)
    }

    fn is_too_old(&self, block: &Block) -> bool {
        self.age_max.is_some_and(|age| block.origin.until.after(age) <= self.now)
    }

    fn look(&mut self, place: Place) -> Sight {
        let message = match self.state.find(place) {
            Whereabouts::Recent(kept) => Arc::clone(&kept.message),
            Whereabouts::Nowhere => return Sight::Damaged,
            Whereabouts::Saved(block, _) if self.has_expired(&block) => return Sight::Expired,
            Whereabouts::Saved(block, _) if self.is_too_old(&block) => return Sight::TooOld,
            Whereabouts::Saved(block, seq) => match self.blocks.get(&block) {
                None => return Sight::Missing(block),
                Some(Cached::Failed(problem)) => return Sight::Failed(problem.clone()),
                Some(Cached::Loaded(loaded)) => {
                    let Some(message) = loaded.message(seq, self.topic) else { return Sight::Damaged };
                    self.last = Some(block);
                    message
                }
            },
        };
        if message.expires_at.is_some_and(|at| at <= self.now) {
            Sight::Expired
        } else if self.age_max.is_some_and(|age| message.published_at.after(age) <= self.now) {
            Sight::TooOld
        } else {
            Sight::Whole(message)
        }
    }
}

/// A pick in the making.
#[derive(Default)]
struct Picking {
    pick: Pick,
    bytes: usize,
    bytes_max: usize,
    /// Blocks that are not in memory. Behind the first of their messages none is picked.
    missing: Vec<Block>,
    /// Messages behind that.
    left: usize,
    /// How many messages and blocks have been looked at, and how many since the last one that is handed out.
    looks: usize,
    looks_in_vain: u64,
}

impl Picking {
    /// Whether there is enough of everything.
    fn is_over(&self, max: usize) -> bool {
        let is_in_vain = self.looks_in_vain >= LOOK_AHEAD && !self.pick.messages.is_empty();
        let is_enough = self.pick.messages.len() + self.left >= max || self.pick.dropped_count() >= DROPPED_MAX;
        is_enough || is_in_vain || self.looks >= LOOKS_MAX
    }

    /// Passes over what stands in a block of one key, if it may not be handed out; answers whether that is so.
    fn pass_by(&mut self, candidate: Candidate, glance: Option<Glance>, candidates: &mut Candidates<'_>) -> bool {
        let (Candidate::Fresh(seq), Some(Glance { key, end })) = (candidate, glance) else { return false };
        if self.missing.is_empty() {
            return candidates.pass_over(seq..end, key) != Admission::Yes;
        }
        let is_busy = candidates.is_busy(key);
        if is_busy {
            candidates.leave(candidate, end);
        }
        is_busy
    }

    /// Decides about a candidate; breaks if none behind it is to be looked at.
    fn consider(&mut self, candidate: Candidate, sight: Sight, candidates: &mut Candidates<'_>) -> ControlFlow<()> {
        if let Sight::Missing(block) = &sight
            && self.missing.last() != Some(block)
        {
            if self.missing.len() == MISSING_MAX {
                return ControlFlow::Break(());
            }
            self.missing.push(*block);
        }
        if !self.missing.is_empty() {
            self.left += 1;
            candidates.leave(candidate, candidate.seq().next());
            return ControlFlow::Continue(());
        }
        let dropped = match sight {
            Sight::Whole(message) => return self.take(candidate, message, candidates),
            Sight::Failed(problem) => {
                self.pick.next = Next::Failed(problem);
                return ControlFlow::Break(());
            }
            Sight::Expired => &mut self.pick.expired,
            Sight::TooOld => &mut self.pick.too_old,
            Sight::Damaged | Sight::Missing(_) => &mut self.pick.damaged,
        };
        dropped.push(candidate.seq());
        candidates.drop(candidate);
        ControlFlow::Continue(())
    }

    fn take(
        &mut self,
        candidate: Candidate,
        message: Arc<Message>,
        candidates: &mut Candidates<'_>,
    ) -> ControlFlow<()> {
        let bytes = self.bytes + message.bytes();
        if bytes > self.bytes_max && !self.pick.messages.is_empty() {
            return ControlFlow::Break(());
        }
        let seq = candidate.seq();
        let (attempt, lease, key) = match candidate {
            Candidate::Waiting(_, waiting) => (waiting.attempts.next(), waiting.leases.next(), waiting.key),
            Candidate::Fresh(_) => {
                let key = message.properties.ordering_key.as_deref().map(KeyHash::of);
                if candidates.admit(seq, key) != Admission::Yes {
                    return ControlFlow::Continue(());
                }
                (Attempt(1), LeaseNumber(1), key)
            }
        };
        (self.bytes, self.looks_in_vain) = (bytes, 0);
        candidates.hand_out(candidate, key);
        self.pick.messages.push(Picked { seq, attempt, lease, key, message });
        ControlFlow::Continue(())
    }
}

impl Step<'_> {
    /// Finds messages of a queue for a receive.
    pub(super) fn pick(&mut self, id: QueueId, wanted: Wanted) -> Pick {
        self.state.wake(id, self.now);
        let (state, now) = (&*self.state, self.now);
        let Some((queue, topic)) = state.queue_and_topic(id).filter(|(queue, _)| !queue.is_paused) else {
            return Pick::default();
        };
        let place = Place { topic: queue.topic, kind: Kind::Visible, seq: Seq(0) };
        let age_max = queue.policy.limits.or(topic.policy.limits).age_max;
        let mut eyes = Eyes { state, blocks: self.blocks, now, age_max, topic: &topic.name, last: None };
        let room = state.passed_over_room(queue, self.limits);
        let keys = if wanted.mode == AckMode::AtOnce { Keys::Pass } else { Keys::Hold };
        let mut candidates = Candidates::new(queue, topic.log.next, keys, room);
        let bytes_max = wanted.bytes_max.min(Receive::BYTES_MAX);
        let mut picking = Picking { bytes_max, ..Picking::default() };
        let mut has_more = true;
        while !picking.is_over(wanted.messages_max) {
            let Some(candidate) = candidates.next() else {
                has_more = false;
                break;
            };
            picking.looks += 1;
            picking.looks_in_vain += 1;
            let place = place.at(candidate.seq());
            let glance = if matches!(candidate, Candidate::Fresh(_)) { eyes.glance(place) } else { None };
            if picking.pass_by(candidate, glance, &mut candidates) {
                continue;
            }
            if picking.consider(candidate, eyes.look(place), &mut candidates).is_break() {
                break;
            }
        }
        let is_cut_off = has_more && picking.looks >= LOOKS_MAX;
        let Picking { mut pick, missing, .. } = picking;
        pick.passed_over = candidates.into_passed_over();
        if !missing.is_empty() {
            pick.next = Next::Missing(missing);
        } else if let (Next::Nothing, Some(block)) = (&pick.next, eyes.last) {
            // What is read one after the other is read ahead.
            pick.next = state.segments.after(&block).map_or(Next::Nothing, Next::Ahead);
        }
        if is_cut_off && pick.messages.is_empty() && !matches!(pick.next, Next::Missing(_) | Next::Failed(_)) {
            pick.next = Next::Further;
        }
        pick
    }
}

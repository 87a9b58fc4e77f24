//! What records name beside messages: reasons, and messages with something about each.

use std::{num::NonZeroU32, time::Duration};

use super::{Attempt, Seq, Timestamp};
use crate::model::{KeyHash, LeaseNumber};

/// Why a queue is done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// It was acked as it was handed out.
    Received = 1,
    /// Its consumer acked it.
    Acked = 2,
    /// Its time to live was over.
    Expired = 3,
    /// Its segment was damaged, and it with it.
    Damaged = 4,
    /// Somebody deleted it.
    Deleted = 5,
    /// It made room for a newer one.
    Dropped = 6,
    /// It was in the queue for longer than the policy lets it.
    TooOld = 7,
}

/// How leases ended without an ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ReturnCause {
    /// The ack deadline was over.
    DeadlineOver = 1,
    /// The consumer failed.
    Failed = 2,
    /// The consumer gave it back without having tried: the delivery does not count.
    Released = 3,
    /// The consumer was gone before it got it: the delivery does not count.
    Unclaimed = 4,
}

impl ReturnCause {
    /// Whether the delivery counts as one that failed.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::DeadlineOver | Self::Failed)
    }
}

/// Why a message became a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DeadCause {
    /// It was delivered as often as the policy lets it, and the last deadline was over.
    DeadlineOver = 1,
    /// It was delivered as often as the policy lets it, and the last consumer failed.
    Failed = 2,
    /// Its consumer said that it should.
    Rejected = 3,
}

/// What a purge is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PurgeScope {
    /// Messages that wait to be handed out.
    pub ready: bool,
    /// Messages that consumers hold.
    pub leased: bool,
    /// Dead letters.
    pub dead: bool,
}

impl PurgeScope {
    const READY: u8 = 1;
    const LEASED: u8 = 2;
    const DEAD: u8 = 4;

    pub(super) fn bits(self) -> u8 {
        let bit = |is_set, bit| if is_set { bit } else { 0 };
        bit(self.ready, Self::READY) | bit(self.leased, Self::LEASED) | bit(self.dead, Self::DEAD)
    }

    pub(super) fn from_bits(bits: u8) -> Self {
        Self { ready: bits & Self::READY != 0, leased: bits & Self::LEASED != 0, dead: bits & Self::DEAD != 0 }
    }
}

/// How fast messages follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// When the first one comes.
    pub begin: Timestamp,
    /// How many come in a second, at least 1.
    pub per_second: NonZeroU32,
}

impl Pace {
    /// When the one comes that has `before` others before it.
    #[must_use]
    pub fn at(&self, before: u64) -> Timestamp {
        let ms = u128::from(before) * 1000 / u128::from(self.per_second.get());
        self.begin.after(Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX)))
    }
}

/// A message that is leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseItem {
    /// Its place.
    pub seq: Seq,
    /// Which delivery of it that counts this is.
    pub attempt: Attempt,
    /// Which lease of it this is.
    pub lease: LeaseNumber,
    /// Its ordering key.
    pub key: Option<KeyHash>,
}

/// Neighbours of one ordering key that are passed over. Those of them that the queue is done with are not meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassedItem {
    /// The place of the first one.
    pub first: Seq,
    /// How many places there are; at least one.
    pub count: u32,
    /// The ordering key.
    pub key: Option<KeyHash>,
}

impl PassedItem {
    /// The place behind the last one; `None` if there is no such place.
    pub(in crate::engine) fn end(&self) -> Option<Seq> {
        self.first.0.checked_add(u64::from(self.count)).map(Seq)
    }
}

/// A message that goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReturnItem {
    /// Its place.
    pub seq: Seq,
    /// Deliveries so far that count.
    pub attempts: Attempt,
    /// Not before then.
    pub retry_at: Option<Timestamp>,
}

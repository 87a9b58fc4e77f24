//! What waits in a queue and is not behind another message: ready to be handed out, or waiting for its retry.
//!
//! Not here: what is behind what (see [`super::lanes`]).

use std::collections::{BTreeSet, HashMap};

use super::lane::Turn;
use crate::model::{KeyHash, Seq, Timestamp};

/// Where a message is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    Ready(Turn),
    Retrying(Timestamp),
}

/// Invariant: a message stands in one of `ready` and `retrying`, as its spot says, and in `ready_in_order` if it is ready.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Each with its key.
    spots: HashMap<Seq, (Spot, Option<KeyHash>)>,
    ready: BTreeSet<(Turn, Seq)>,
    /// The same in publish order.
    ready_in_order: BTreeSet<Seq>,
    retrying: BTreeSet<(Timestamp, Seq)>,
}

impl Listing {
    pub(super) fn insert(&mut self, seq: Seq, spot: Spot, key: Option<KeyHash>) {
        self.remove(seq);
        self.spots.insert(seq, (spot, key));
        match spot {
            Spot::Ready(turn) => {
                self.ready.insert((turn, seq));
                self.ready_in_order.insert(seq);
            }
            Spot::Retrying(at) => drop(self.retrying.insert((at, seq))),
        }
    }

    /// Answers the key of what was listed.
    pub(super) fn remove(&mut self, seq: Seq) -> Option<KeyHash> {
        let (spot, key) = self.spots.remove(&seq)?;
        match spot {
            Spot::Ready(turn) => {
                self.ready.remove(&(turn, seq));
                self.ready_in_order.remove(&seq);
            }
            Spot::Retrying(at) => drop(self.retrying.remove(&(at, seq))),
        }
        key
    }

    /// What has waited long enough is ready. Answers whether there was anything.
    pub(super) fn wake(&mut self, now: Timestamp) -> bool {
        let mut is_any = false;
        while let Some((_, seq)) = self.retrying.first().copied().filter(|(at, _)| *at <= now) {
            let key = self.key_of(seq);
            self.insert(seq, Spot::Ready(Turn::default()), key);
            is_any = true;
        }
        is_any
    }

    /// The key of what is listed, if it has one.
    pub(super) fn key_of(&self, seq: Seq) -> Option<KeyHash> {
        self.spots.get(&seq).and_then(|(_, key)| *key)
    }

    /// What is ready, in the order of turns.
    pub(super) fn ready(&self) -> impl Iterator<Item = (Turn, Seq)> + '_ {
        self.ready.iter().copied()
    }

    /// The same in publish order.
    pub(super) fn ready_in_order(&self) -> impl Iterator<Item = Seq> + '_ {
        self.ready_in_order.iter().copied()
    }

    /// What waits for its retry, the first one first.
    pub(super) fn retrying(&self) -> impl Iterator<Item = (Timestamp, Seq)> + '_ {
        self.retrying.iter().copied()
    }
}

//! Checkpoints: what the journal has brought so far, written where it need not be replayed from, so that the journal can
//! be cut off.
//!
//! ```text
//!   <data_dir>/MANIFEST               everything but messages, as of a position in the journal; replaced as a whole
//!              segments/<id>.seg      messages that stay; written once, removed as a whole
//! ```
//!
//! A checkpoint writes the messages that came since the last one and are still wanted, side by side per topic, into new
//! segments, syncs them, replaces the manifest, and only then lets the journal forget what came before its position.
//! Messages that were consumed by then are never written twice. A segment of which less than half is still wanted has
//! the rest moved on by the next checkpoint, so that one straggler holds up no more than itself.
//!
//! Invariants: what the manifest names is durable before the manifest is; the journal is cut off, and a segment removed,
//! only when a durable manifest does without them.

mod job;
mod manifest;
mod segment;
mod store;

use std::{collections::BTreeMap, fmt};

pub(super) use job::{Failed, Job, Written};
pub use store::LoadError;
pub(super) use store::{CheckpointStore, is_ours, is_there, load, manifest_path, segments_dir};

use super::state::{Held, Remembered};
use crate::model::{Attempt, MessageId, Name, Seq, Timestamp, TopicId};

/// A segment within a store. Never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SegmentId(pub(super) u32);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// Which of a topic's two sequences a message stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Consumers can see it.
    Visible,
    /// It becomes visible later.
    Delayed,
}

/// The state without its messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) time: Timestamp,
    /// By id; a hole for each that was deleted.
    pub(super) topics: Vec<Option<TopicEntry>>,
    /// By id; a hole for each that was deleted.
    pub(super) queues: Vec<Option<QueueEntry>>,
    pub(super) dedup: Vec<DedupEntry>,
    pub(super) imported: Vec<String>,
    pub(super) segments: Vec<SegmentEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TopicEntry {
    pub(super) name: Name,
    pub(super) is_inbox: bool,
    pub(super) next: Seq,
    pub(super) next_delayed: Seq,
    /// The delayed messages that have not become visible, each with when it does.
    pub(super) delayed: BTreeMap<Seq, Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueueEntry {
    pub(super) topic: TopicId,
    pub(super) service: Option<Name>,
    pub(super) cursor: Seq,
    pub(super) back: BTreeMap<Seq, Attempt>,
    pub(super) held: BTreeMap<Seq, Held>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DedupEntry {
    pub(super) topic: TopicId,
    pub(super) id: String,
    pub(super) message: MessageId,
    pub(super) bytes: u64,
    pub(super) crc: u32,
    pub(super) end: Timestamp,
}

/// A segment that a manifest needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentEntry {
    pub(super) id: SegmentId,
    /// Its length; a segment of another length is damaged.
    pub(super) bytes: u64,
}

impl From<Remembered<'_>> for DedupEntry {
    fn from(used: Remembered<'_>) -> Self {
        let Remembered { topic, id, message, bytes, crc, end } = used;
        Self { topic, id: id.to_owned(), message, bytes, crc, end }
    }
}

impl DedupEntry {
    pub(super) fn as_remembered(&self) -> Remembered<'_> {
        let Self { topic, id, message, bytes, crc, end } = self;
        Remembered { topic: *topic, id, message: *message, bytes: *bytes, crc: *crc, end: *end }
    }
}

//! Checkpoints: what the journal has brought so far, written where it need not be replayed from, so that the journal can
//! be cut off.
//!
//! ```text
//!   <data_dir>/MANIFEST               everything but messages, as of a position in the journal; replaced as a whole
//!              segments/<id>.seg      messages that stay; written once, removed as a whole
//!              segments/<id>.ids      dedup ids; written once, removed when their window is over
//!              segments/<id>.damaged  a segment that was damaged, set aside when nothing in it was wanted any more
//! ```
//!
//! A checkpoint writes the messages that came since the last one and are still wanted, side by side per topic, into new
//! segments, syncs them, replaces the manifest, and only then lets the journal forget what came before its position.
//! Messages that were consumed by then are never written twice. A segment of which less than half is still wanted has
//! the rest moved on by the next checkpoint, so that one straggler holds up no more than itself.
//!
//! Invariants: what the manifest names is durable before the manifest is; the journal is cut off, and a segment removed,
//! only when a durable manifest does without them; a message that is wanted stands in exactly one block.

mod block;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod ids;
mod index;
mod job;
mod manifest;
mod paths;
mod queue_content;
mod segment;
mod store;

use std::{collections::BTreeMap, fmt};

pub(super) use block::{BlockError, LoadedBlock, load_block};
pub(super) use job::{Failed, Job, Removal, Written};
pub(super) use paths::{is_ours, manifest_path, segment_id, segment_path, segments_dir};
pub use store::LoadError;
pub(super) use store::{CheckpointStore, Salvaged, forget_segments, is_there, salvage};

use super::state::QueueContent;
use crate::model::{MessageId, Name, QueueId, Seq, Timestamp, TopicId, TopicPolicy};

/// A segment within a store. Never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SegmentId(pub(super) u32);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// Which of a topic's two sequences a message stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Consumers can see it.
    Visible,
    /// It becomes visible later.
    Delayed,
}

/// Where a message is in its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) topic: TopicId,
    pub(super) kind: Kind,
    pub(super) seq: Seq,
}

impl Place {
    /// Another place in the same sequence.
    pub(super) fn at(self, seq: Seq) -> Self {
        Self { seq, ..self }
    }
}

/// A stretch of a segment that is read at once: messages of one topic, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    /// Its first message.
    pub(super) first: Place,
    /// Its last message. Between the two some may be missing, that nobody wanted when it was written.
    pub(super) last: Seq,
    pub(super) count: u32,
    pub(super) segment: SegmentId,
    /// Where it begins in the segment.
    pub(super) offset: u64,
    pub(super) bytes: u32,
    /// When the last of its messages expires; `None` if one of them never does.
    pub(super) expires_by: Option<Timestamp>,
    pub(super) origin: Origin,
}

/// When the messages of a block were published, and whose ids they have: for finding one by its id, and for dropping what
/// is too old without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    /// The first one.
    pub(super) from: Timestamp,
    /// The last one.
    pub(super) until: Timestamp,
    /// All have ids that the broker has made.
    pub(super) has_own_ids: bool,
}

impl Origin {
    /// Of a block of which nothing is known.
    pub(super) const UNKNOWN: Self = Self { from: Timestamp::EPOCH, until: Timestamp::MAX, has_own_ids: false };

    /// Of one message.
    pub(super) fn of(published_at: Timestamp, id: MessageId) -> Self {
        Self { from: published_at, until: published_at, has_own_ids: id.made_at().is_some() }
    }

    /// Of both.
    pub(super) fn and(self, other: Self) -> Self {
        let (from, until) = (self.from.min(other.from), self.until.max(other.until));
        Self { from, until, has_own_ids: self.has_own_ids && other.has_own_ids }
    }
}

/// The state without its messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) time: Timestamp,
    /// The id that no topic has had yet.
    pub(super) next_topic: TopicId,
    /// By id, ascending.
    pub(super) topics: Vec<(TopicId, TopicEntry)>,
    /// The id that no queue has had yet.
    pub(super) next_queue: QueueId,
    /// By id, ascending.
    pub(super) queues: Vec<(QueueId, QueueEntry)>,
    pub(super) dedup: Vec<IdsEntry>,
    pub(super) imported: Vec<String>,
    /// Files that are being taken over, each with how many of its lines have been read.
    pub(super) importing: BTreeMap<String, u64>,
    pub(super) segments: Vec<SegmentEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TopicEntry {
    pub(super) name: Name,
    pub(super) is_inbox: bool,
    pub(super) policy: TopicPolicy,
    /// While it has no queue, what comes from here on is kept.
    pub(super) kept_from: Seq,
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
    pub(super) content: QueueContent,
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

/// A file of dedup ids that a manifest needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IdsEntry {
    pub(super) id: SegmentId,
    /// Its length; a file of another length is damaged.
    pub(super) bytes: u64,
    /// When the window of the last of its ids is over.
    pub(super) end: Timestamp,
}

/// A segment that a manifest needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentEntry {
    pub(super) id: SegmentId,
    /// Its length; a segment of another length is damaged.
    pub(super) bytes: u64,
}

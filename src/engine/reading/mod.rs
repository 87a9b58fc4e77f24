//! Reading messages back from segments, beside the commit thread.
//!
//! ```text
//!   receive ── not in memory ──► Reading::request ──► threads: load_block ──► Reading::collect ──► receive, again
//!                                                                              │
//!                                         BlockCache (bounded) ◄───────────────┘
//! ```
//!
//! Not here: which message comes next, and what becomes of one that is lost. The commit thread never reads a segment
//! itself: a receive whose message is not in memory stands in line until the block has been loaded. Invariant: a block
//! that somebody stands in line for is being loaded, or is in the cache until they have been served.

mod cache;
mod threads;

use std::{collections::HashMap, path::PathBuf, sync::Arc};

pub(super) use cache::{BlockCache, Cached};

use self::threads::Threads;
use super::{
    checkpoint::{Block, BlockError, LoadedBlock, SegmentId},
    disk::Disk,
    inbox::Inbox,
};
use crate::model::QueueId;

/// A block within a store.
type BlockId = (SegmentId, u64);

fn id_of(block: &Block) -> BlockId {
    (block.segment, block.offset)
}

/// A block that has been loaded, or not.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) block: Block,
    pub(super) loaded: Result<LoadedBlock, BlockError>,
    /// Who stood in line for it, and does so for no other one.
    pub(super) queues: Vec<QueueId>,
}

/// What is being read, and what has been.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) cache: BlockCache,
    threads: Option<Threads>,
    /// Who stands in line for what is being loaded.
    pending: HashMap<BlockId, Vec<QueueId>>,
    /// For how many blocks each of them does.
    awaited: HashMap<QueueId, usize>,
}

impl Reading {
    /// Most blocks that are loaded ahead of need at a time.
    const AHEAD_MAX: usize = 32;

    /// Starts the threads. Without them, nothing is ever loaded: for a journal that has no segments.
    pub(super) fn start(&mut self, disk: Arc<dyn Disk>, data_dir: PathBuf, inbox: &Arc<Inbox>) {
        self.threads = Some(Threads::start(disk, data_dir, Arc::clone(inbox)));
    }

    /// Has the block loaded for a queue that needs it, unless it is in memory.
    pub(super) fn request(&mut self, block: &Block, queue: QueueId) {
        let Some(threads) = self.threads.as_ref().filter(|_| !self.cache.has(block)) else { return };
        let queues = self.pending.entry(id_of(block)).or_insert_with(|| {
            threads.load(*block);
            Vec::new()
        });
        if !queues.contains(&queue) {
            queues.push(queue);
            *self.awaited.entry(queue).or_default() += 1;
        }
    }

    /// Has the block loaded that will be needed next, if there is room for it.
    pub(super) fn request_ahead(&mut self, block: &Block) {
        let Some(threads) = self.threads.as_ref().filter(|_| self.pending.len() < Self::AHEAD_MAX) else { return };
        if !self.cache.has(block) {
            self.pending.entry(id_of(block)).or_insert_with(|| {
                threads.load(*block);
                Vec::new()
            });
        }
    }

    /// What has been loaded since this was last asked.
    pub(super) fn collect(&mut self) -> Vec<Outcome> {
        let Some(threads) = &self.threads else { return Vec::new() };
        let loaded = threads.collect().into_iter().map(|(block, loaded)| {
            let mut queues = self.pending.remove(&id_of(&block)).unwrap_or_default();
            queues.retain(|queue| match self.awaited.get_mut(queue) {
                Some(count) if *count > 1 => {
                    *count -= 1;
                    false
                }
                _ => self.awaited.remove(queue).is_some(),
            });
            Outcome { block, loaded, queues }
        });
        loaded.collect()
    }
}

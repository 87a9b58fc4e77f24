//! The blocks in memory: those that were used last, up to a bound.

use std::collections::{BTreeMap, HashMap};

use super::{BlockId, id_of};
use crate::engine::checkpoint::{Block, LoadedBlock};

/// What is known of a block.
#[derive(Debug)]
pub(in crate::engine) enum Cached {
    Loaded(LoadedBlock),
    /// It cannot be read at this time; why.
    Failed(String),
}

/// Blocks by their place on the disk. A segment never changes and its id is never used again, so nothing here is ever
/// out of date.
#[derive(Debug, Default)]
pub(in crate::engine) struct BlockCache {
    blocks: HashMap<BlockId, (u64, Cached)>,
    /// By when they were used last.
    order: BTreeMap<u64, BlockId>,
    uses: u64,
    bytes: u64,
    /// Those that could not be read.
    failed: Vec<BlockId>,
}

impl BlockCache {
    /// Most bytes that it holds between two rounds of the commit thread: enough for 250 queues that each read a backlog of
    /// their own.
    const BYTES_MAX: u64 = 32 << 20;

    /// The block, if it is known.
    pub(in crate::engine) fn get(&mut self, block: &Block) -> Option<&Cached> {
        let (used, cached) = self.blocks.get_mut(&id_of(block))?;
        if *used != self.uses {
            self.order.remove(used);
            self.uses += 1;
            *used = self.uses;
            self.order.insert(self.uses, id_of(block));
        }
        Some(cached)
    }

    pub(in crate::engine) fn has(&self, block: &Block) -> bool {
        self.blocks.contains_key(&id_of(block))
    }

    /// Takes a block in. It stays at least until [`BlockCache::trim`].
    pub(in crate::engine) fn insert(&mut self, block: &Block, cached: Cached) {
        self.remove(id_of(block));
        self.uses += 1;
        self.bytes += bytes_of(&cached);
        if let Cached::Failed(_) = cached {
            self.failed.push(id_of(block));
        }
        self.order.insert(self.uses, id_of(block));
        self.blocks.insert(id_of(block), (self.uses, cached));
    }

    /// Lets go of what is over the bound, the longest unused first, and of what could not be read: whoever needs it next
    /// tries again.
    pub(in crate::engine) fn trim(&mut self) {
        for id in std::mem::take(&mut self.failed) {
            self.remove(id);
        }
        while self.bytes > Self::BYTES_MAX {
            let Some((_, id)) = self.order.pop_first() else { break };
            self.remove(id);
        }
    }

    fn remove(&mut self, id: BlockId) {
        if let Some((used, cached)) = self.blocks.remove(&id) {
            self.order.remove(&used);
            self.bytes -= bytes_of(&cached);
        }
    }
}

fn bytes_of(cached: &Cached) -> u64 {
    match cached {
        Cached::Loaded(block) => block.memory_bytes(),
        Cached::Failed(_) => 0,
    }
}

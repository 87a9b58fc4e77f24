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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        checkpoint::load_block,
        disk::RealDisk,
        reading::testing::{MIB, block, with_a_segment},
    };

    #[test]
    fn the_longest_unused_go_when_there_are_more_bytes_than_may_be_and_not_before_the_round_is_over() {
        let dir = with_a_segment();
        let loaded = load_block(&RealDisk, dir.path(), &block(1, MIB)).expect("there");
        let mut cache = BlockCache::default();
        let count = u32::try_from(BlockCache::BYTES_MAX).expect("small") / MIB;
        let insert = |cache: &mut BlockCache, n| cache.insert(&block(n, MIB), Cached::Loaded(loaded.clone()));
        let gone = |cache: &BlockCache| (0..=count + 1).filter(|n| !cache.has(&block(*n, MIB))).collect::<Vec<_>>();
        for n in 0..count {
            insert(&mut cache, n);
        }
        cache.trim();
        assert_eq!(gone(&cache), [count, count + 1], "as many as fit");
        // The first is used again, the second is not; the third is taken in anew, and counts once.
        assert!(cache.get(&block(0, MIB)).is_some());
        insert(&mut cache, 2);
        cache.trim();
        assert_eq!(gone(&cache), [count, count + 1]);
        insert(&mut cache, count);
        insert(&mut cache, count + 1);
        assert!(gone(&cache).is_empty(), "somebody stands in line for them");
        cache.trim();
        assert_eq!(gone(&cache), [1, 3]);
        cache.trim();
        assert_eq!(gone(&cache), [1, 3]);
    }

    #[test]
    fn what_could_not_be_read_is_forgotten_with_the_round() {
        let mut cache = BlockCache::default();
        cache.insert(&block(1, MIB), Cached::Failed("so".to_owned()));
        assert!(matches!(cache.get(&block(1, MIB)), Some(Cached::Failed(why)) if why == "so"));
        cache.trim();
        assert!(!cache.has(&block(1, MIB)));
    }
}

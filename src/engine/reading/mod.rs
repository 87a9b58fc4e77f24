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

/// Blocks to read.
#[cfg(test)]
mod testing {
    use super::*;
    use crate::{
        engine::checkpoint::{Kind, Origin, Place},
        model::{Seq, TopicId},
    };

    pub(super) const MIB: u32 = 1 << 20;

    /// A block that begins where segment `n` does.
    pub(super) fn block(n: u32, bytes: u32) -> Block {
        let first = Place { topic: TopicId(0), kind: Kind::Visible, seq: Seq(0) };
        let (segment, origin) = (SegmentId(n), Origin::UNKNOWN);
        Block { first, last: first.seq, count: 0, segment, offset: 0, bytes, expires_by: None, key: None, origin }
    }

    /// A data directory with the first segment, which holds a megabyte of no messages.
    pub(super) fn with_a_segment() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        let segments = dir.path().join("segments");
        std::fs::create_dir(&segments).expect("made");
        std::fs::write(segments.join("00000001.seg"), vec![0; MIB as usize]).expect("written");
        dir
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        testing::{MIB, block, with_a_segment},
        *,
    };
    use crate::engine::disk::{Fault, FaultDisk, Op, Outcome as DiskOutcome, RealDisk, Times};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// What reads, from a disk that waits.
    struct Bench {
        _dir: tempfile::TempDir,
        disk: FaultDisk,
        inbox: Arc<Inbox>,
        reading: Reading,
    }

    impl Bench {
        fn new() -> Self {
            let dir = with_a_segment();
            let disk = FaultDisk::new(RealDisk);
            disk.set(Fault { op: Op::Open, name_end: "", nth: 1, outcome: DiskOutcome::Wait, times: Times::Always });
            let inbox = Arc::new(Inbox::new(1 << 20));
            let mut reading = Reading::default();
            reading.start(Arc::new(disk.clone()), dir.path().to_path_buf(), &inbox);
            Self { _dir: dir, disk, inbox, reading }
        }

        /// Waits for as many blocks; they come in the order in which they were loaded.
        fn collect(&mut self, count: usize) -> Vec<Outcome> {
            let mut outcomes = Vec::new();
            while outcomes.len() < count {
                self.inbox.take(&mut Vec::new(), &mut Vec::new(), Some(PATIENCE));
                outcomes.extend(self.reading.collect());
            }
            outcomes
        }
    }

    impl Drop for Bench {
        /// Else the threads would be waited for in vain.
        fn drop(&mut self) {
            self.disk.heal();
        }
    }

    #[test]
    fn only_so_many_are_loaded_ahead_of_need_and_those_that_are_needed_all_the_same() {
        let mut bench = Bench::new();
        let most = u32::try_from(Reading::AHEAD_MAX).expect("few");
        for n in 1..=most + 1 {
            bench.reading.request_ahead(&block(n, MIB));
            bench.reading.request_ahead(&block(n, MIB));
        }
        assert_eq!(bench.reading.pending.len(), Reading::AHEAD_MAX);
        bench.reading.request(&block(most + 2, MIB), QueueId(7));
        bench.disk.heal();
        let mut outcomes = bench.collect(Reading::AHEAD_MAX + 1);
        outcomes.sort_by_key(|outcome| outcome.block.segment);
        let found: Vec<_> = outcomes.iter().map(|o| (o.block.segment.0, o.loaded.is_ok(), o.queues.len())).collect();
        assert_eq!((found[0], found[1]), ((1, true, 0), (2, false, 0)));
        assert_eq!(found.last(), Some(&(most + 2, false, 1)));
        assert!(bench.reading.pending.is_empty());
        bench.reading.request_ahead(&block(most + 1, MIB));
        assert_eq!(bench.collect(1)[0].block.segment, SegmentId(most + 1), "there is room again");
    }

    #[test]
    fn what_is_in_memory_is_not_loaded_again() {
        let mut bench = Bench::new();
        bench.reading.cache.insert(&block(1, MIB), Cached::Failed(String::new()));
        bench.reading.request_ahead(&block(1, MIB));
        bench.reading.request(&block(1, MIB), QueueId(7));
        assert!(bench.reading.pending.is_empty());
    }

    #[test]
    fn a_queue_that_stands_in_line_for_several_is_told_with_the_last_one() {
        let mut bench = Bench::new();
        let (both, first) = (QueueId(1), QueueId(2));
        for (n, queue) in [(1, both), (1, first), (2, both), (1, both)] {
            bench.reading.request(&block(n, MIB), queue);
        }
        bench.disk.heal();
        let told: Vec<Vec<QueueId>> = bench.collect(2).into_iter().map(|outcome| outcome.queues).collect();
        let all: Vec<QueueId> = told.iter().flatten().copied().collect();
        assert_eq!((all.len(), all.contains(&both), all.contains(&first)), (2, true, true), "{told:?}");
        assert!(told[1].contains(&both), "{told:?}");
        assert!(bench.reading.awaited.is_empty());
    }
}

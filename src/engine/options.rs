//! How an engine is set up.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    checkpoint::CheckpointStore,
    clock::Clock,
    disk::{Disk, RealDisk},
};

/// Settings of an engine. Plain values: checking what a person typed is the configuration's business.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data directory; made if it is missing. Default `broker_data`.
    pub data_dir: PathBuf,
    /// Size of a journal file. Default 64 MiB.
    pub journal_file_bytes: u64,
    /// Most of what is kept in memory for each single one. Defaults: see [`Limits`].
    pub limits: Limits,
    /// How long a dedup id is remembered, also after its message is gone, where the topic does not say so. Default 2 minutes.
    pub dedup_window: Duration,
    /// Whether publishing to a name, or receiving from it, declares it. Default true.
    pub auto_declare: bool,
    /// Most receives that wait at a time; further ones are refused. Default 2,048.
    pub waiters_max: usize,
    /// Most bytes of requests that are under way at a time; further ones wait for room. Default 64 MiB.
    pub inbox_bytes: u32,
    /// How much of the disk is kept free for consumers and checkpoints, in bytes, but never more than a quarter of it:
    /// with less, publishes are refused. Default 1664 MiB, which is twice five journal files and 1 GiB; 0: nothing is.
    pub free_bytes_min: u64,
    /// Where the time is read.
    pub clock: Clock,
    /// Where the files are. Default: the operating system's.
    pub disk: Arc<dyn Disk>,
}

/// Bounds of what takes memory one by one, whatever the size of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most topics, and a quarter of the most queues. Default 100,000.
    pub topics_max: usize,
    /// Most dedup ids remembered at a time. Default 1,000,000, which take about 150 MB.
    pub dedup_ids_max: usize,
    /// Most messages under a lease at a time, over all queues. Default 500,000, which take about 50 MB.
    pub leases_max: usize,
    /// Most messages at a time that become visible later. Default 1,000,000, which take about 100 MB.
    pub delayed_max: usize,
    /// Most dead letters, over all queues; beyond it messages that failed are delivered again. Default 500,000, which take
    /// about 100 MB.
    pub dead_letters_max: usize,
    /// Most memory, in bytes and over all queues, for where messages are that wait for another of their ordering key; beyond
    /// it no further keys are looked for. Default 64 MiB.
    pub passed_over_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            topics_max: 100_000,
            dedup_ids_max: 1_000_000,
            leases_max: 500_000,
            delayed_max: 1_000_000,
            dead_letters_max: 500_000,
            passed_over_bytes_max: 64 << 20,
        }
    }
}

impl Options {
    /// Everything at its default, in that directory.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            journal_file_bytes: 64 << 20,
            limits: Limits::default(),
            dedup_window: Duration::from_secs(120),
            auto_declare: true,
            waiters_max: 2048,
            inbox_bytes: 64 << 20,
            free_bytes_min: (2 * 5 * 64 + 1024) << 20,
            clock: Clock::default(),
            disk: Arc::new(RealDisk),
        }
    }

    /// At how many bytes a segment is closed: the size of a journal file, but from 1 MiB to 64 MiB.
    pub(super) fn segment_bytes(&self) -> u64 {
        self.journal_file_bytes.clamp(1 << 20, CheckpointStore::SEGMENT_BYTES)
    }

    /// Most bytes of the records of one frame: 16.5 MiB, or half of a file where files are small.
    #[must_use]
    pub fn frame_bytes_max(&self) -> usize {
        const BYTES_MAX: u64 = (16 << 20) + (512 << 10); // the largest message, and what comes with it
        usize::try_from(BYTES_MAX.min(self.journal_file_bytes / 2)).unwrap_or(usize::MAX)
    }
}

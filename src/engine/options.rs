//! How an engine is set up.

use std::{path::PathBuf, time::Duration};

use super::clock::Clock;

/// Settings of an engine. Plain values: checking what a person typed is the configuration's business.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data directory; made if it is missing. Default `broker_data`.
    pub data_dir: PathBuf,
    /// Size of a journal file. Default 64 MiB.
    pub journal_file_bytes: u64,
    /// Most topics, and a quarter of the most queues. Default 100,000.
    pub topics_max: usize,
    /// How long a dedup id is remembered, also after its message is gone. Default 2 minutes.
    pub dedup_window: Duration,
    /// Most dedup ids remembered at a time. Default 1,000,000, which take about 150 MB.
    pub dedup_ids_max: usize,
    /// Most receives that wait at a time; further ones are refused. Default 2,048.
    pub waiters_max: usize,
    /// Most bytes of requests that are under way at a time; further ones wait for room. Default 64 MiB.
    pub inbox_bytes: u32,
    /// Where the time is read.
    pub clock: Clock,
}

impl Options {
    /// Everything at its default, in that directory.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            journal_file_bytes: 64 << 20,
            topics_max: 100_000,
            dedup_window: Duration::from_secs(120),
            dedup_ids_max: 1_000_000,
            waiters_max: 2048,
            inbox_bytes: 64 << 20,
            clock: Clock::default(),
        }
    }

    /// Most bytes of the records of one frame: 16.5 MiB, or half of a file where files are small.
    #[must_use]
    pub fn frame_bytes_max(&self) -> usize {
        const BYTES_MAX: u64 = (16 << 20) + (512 << 10); // the largest message, and what comes with it
        usize::try_from(BYTES_MAX.min(self.journal_file_bytes / 2)).unwrap_or(usize::MAX)
    }
}

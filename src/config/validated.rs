//! What may run.

use std::{collections::HashSet, path::PathBuf, time::Duration};

use super::{
    Address, ConfigError, Key, Raw,
    keys::{
        AUTO_DECLARE, BACKEND_CIRCUIT_MAX_FAILURES, BACKEND_CIRCUIT_RESET_SECS, BACKEND_TARGETS, CONCURRENCY_LIMIT,
        CONNECTIONS_MAX, DATA_DIR, DEDUP_WINDOW_SECS, DEV, DRAIN_TIMEOUT_SECS, FREE_BYTES_MIN, GRPC_ADDR,
        JOURNAL_FILE_BYTES, LOG_FILTER, LOG_FORMAT, MESSAGE_BYTES_MAX, REQUEST_TIMEOUT_SECS, REST_ADDR, TOPICS_MAX,
        WAITING_RECEIVES_MAX,
    },
};
use crate::observability::{self, LogFilter, LogFormat};

/// Most entries of `backend_targets`. Each is probed all the time.
const TARGETS_MAX: usize = 64;

/// A frame takes at most a quarter of a journal file, see [`crate::engine::Options`].
const FRAMES_PER_FILE: u64 = 4;

/// What is stored beside a payload: 125 KiB of attributes at most, the names, the headers of frame and file.
const MESSAGE_OVERHEAD_BYTES: u64 = 160 << 10;

/// Files are written in whole pages.
const PAGE_BYTES: u64 = 4096;

/// Settings that were checked, each and together. Made by [`Raw::validate`] only.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Where messages are kept. Default `broker_data`.
    pub data_dir: PathBuf,
    /// Where REST is served. Default `127.0.0.1:8001`.
    pub rest_addr: Address,
    /// Where gRPC is served. Default `127.0.0.1:50051`.
    pub grpc_addr: Address,
    /// The gRPC addresses of the broker's instances, at most 64. Up to one entry: alone. Default `localhost:50051`.
    pub backend_targets: Vec<Address>,
    /// Failures in a row after which an instance's circuit opens, 1 to 1,000,000. Default 5.
    pub backend_circuit_max_failures: u32,
    /// How long it then stays open, 1 ms to 1 day. Default 30 s.
    pub backend_circuit_reset: Duration,
    /// How the process logs. Default text, `info`.
    pub log: observability::Options,
    /// Requests under way at once over both protocols, 1 to 1,000,000. Default 4096.
    pub concurrency_limit: usize,
    /// How long a request may take, 100 ms to 1 h. Default 65 s: a receive may wait for 60.
    pub request_timeout: Duration,
    /// Longest payload in bytes, 1 KiB to 16 MiB. Default 4032 KiB, which a gRPC client can receive as it is set by default.
    pub message_bytes_max: usize,
    /// Most topics, 1 to 10,000,000. Default 100,000.
    pub topics_max: usize,
    /// How long a dedup id is remembered, 1 s to 1 day. Default 2 min.
    pub dedup_window: Duration,
    /// How long requests under way may take to finish at shutdown, up to 1 h. Default 20 s.
    pub drain_timeout: Duration,
    /// Most connections of each port, 1 to 1,000,000. Default 10,000.
    pub connections_max: usize,
    /// Size of each journal file in bytes, 1 MiB to 1 GiB, whole pages of 4 KiB. Default 64 MiB.
    pub journal_file_bytes: u64,
    /// Bytes of the disk that are kept free for consumers, 0 to 1 TiB; at most a quarter of the disk counts. Default
    /// 1664 MiB.
    pub free_bytes_min: u64,
    /// Whether publishing to a name, or receiving from it, declares it. Default true.
    pub auto_declare: bool,
    /// Receives and streams that may wait for messages at once, 1 to 1,000,000. Default 20,000.
    pub waiting_receives_max: usize,
    /// Whether a call may move the broker's clock. Default false.
    pub dev: bool,
}

impl Config {
    /// Whether requests go to no other instance.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.backend_targets.len() < 2
    }

    pub(super) fn from_raw(raw: &Raw) -> Result<Self, ConfigError> {
        let config = Self {
            data_dir: data_dir(raw)?,
            rest_addr: address(raw, &REST_ADDR)?,
            grpc_addr: address(raw, &GRPC_ADDR)?,
            backend_targets: targets(raw)?,
            backend_circuit_max_failures: small(raw, &BACKEND_CIRCUIT_MAX_FAILURES)?,
            backend_circuit_reset: seconds(raw, &BACKEND_CIRCUIT_RESET_SECS)?,
            log: log(raw)?,
            concurrency_limit: size(raw, &CONCURRENCY_LIMIT)?,
            request_timeout: seconds(raw, &REQUEST_TIMEOUT_SECS)?,
            message_bytes_max: size(raw, &MESSAGE_BYTES_MAX)?,
            topics_max: size(raw, &TOPICS_MAX)?,
            dedup_window: seconds(raw, &DEDUP_WINDOW_SECS)?,
            drain_timeout: seconds(raw, &DRAIN_TIMEOUT_SECS)?,
            connections_max: size(raw, &CONNECTIONS_MAX)?,
            journal_file_bytes: pages(raw, &JOURNAL_FILE_BYTES)?,
            free_bytes_min: raw.number(&FREE_BYTES_MIN)?,
            auto_declare: switch(raw, &AUTO_DECLARE)?,
            waiting_receives_max: size(raw, &WAITING_RECEIVES_MAX)?,
            dev: switch(raw, &DEV)?,
        };
        config.check_together(raw)?;
        Ok(config)
    }

    fn check_together(&self, raw: &Raw) -> Result<(), ConfigError> {
        if self.rest_addr == self.grpc_addr && self.rest_addr.port() != 0 {
            let problem = format!("both are {}; each needs a port of its own", self.rest_addr);
            return Err(contradiction(raw, &GRPC_ADDR, &REST_ADDR, problem));
        }
        let needed = FRAMES_PER_FILE * (self.message_bytes_max as u64 + MESSAGE_OVERHEAD_BYTES);
        if self.journal_file_bytes < needed {
            let problem = format!("messages of that length take journal files of {needed} bytes or more");
            return Err(contradiction(raw, &JOURNAL_FILE_BYTES, &MESSAGE_BYTES_MAX, problem));
        }
        Ok(())
    }
}

fn contradiction(raw: &Raw, key: &Key, other: &Key, problem: String) -> ConfigError {
    let (origin, other_origin) = (raw.origin(key), raw.origin(other));
    ConfigError::Contradiction { key: key.name, origin, other: other.name, other_origin, problem }
}

fn data_dir(raw: &Raw) -> Result<PathBuf, ConfigError> {
    match raw.text(&DATA_DIR) {
        "" => Err(raw.bad(&DATA_DIR, "is no directory")),
        path => Ok(PathBuf::from(path)),
    }
}

fn address(raw: &Raw, key: &Key) -> Result<Address, ConfigError> {
    raw.text(key).trim().parse().map_err(|e| raw.bad(key, e))
}

fn targets(raw: &Raw) -> Result<Vec<Address>, ConfigError> {
    let bad = |problem: String| raw.bad(&BACKEND_TARGETS, problem);
    let mut targets = Vec::new();
    // A comma too many is no instance.
    for entry in raw.text(&BACKEND_TARGETS).split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let target: Address = entry.parse().map_err(|e| bad(format!("has an entry `{entry}` that {e}")))?;
        if target.port() == 0 {
            return Err(bad(format!("has an entry `{entry}` with port 0, which nobody can reach")));
        }
        targets.push(target);
    }
    if targets.len() > TARGETS_MAX {
        return Err(bad(format!("has {} entries; at most {TARGETS_MAX} are allowed", targets.len())));
    }
    let mut seen = HashSet::new();
    match targets.iter().find(|target| !seen.insert(*target)) {
        Some(twice) => Err(bad(format!("lists {twice} twice"))),
        None => Ok(targets),
    }
}

fn log(raw: &Raw) -> Result<observability::Options, ConfigError> {
    let format = LogFormat::parse(raw.text(&LOG_FORMAT).trim());
    Ok(observability::Options {
        format: format.ok_or_else(|| raw.bad(&LOG_FORMAT, "is neither text nor json"))?,
        filter: LogFilter::parse(raw.text(&LOG_FILTER)).map_err(|e| raw.bad(&LOG_FILTER, e))?,
    })
}

fn seconds(raw: &Raw, key: &Key) -> Result<Duration, ConfigError> {
    raw.number(key).map(Duration::from_millis)
}

fn size(raw: &Raw, key: &Key) -> Result<usize, ConfigError> {
    let number = raw.number(key)?;
    usize::try_from(number).map_err(|_| raw.bad(key, "is more than this machine can address"))
}

fn pages(raw: &Raw, key: &Key) -> Result<u64, ConfigError> {
    let bytes = raw.number(key)?;
    if bytes % PAGE_BYTES == 0 { Ok(bytes) } else { Err(raw.bad(key, format!("is no multiple of {PAGE_BYTES}"))) }
}

fn switch(raw: &Raw, key: &Key) -> Result<bool, ConfigError> {
    raw.text(key).trim().parse().map_err(|_| raw.bad(key, "is neither true nor false"))
}

fn small(raw: &Raw, key: &Key) -> Result<u32, ConfigError> {
    let number = raw.number(key)?;
    u32::try_from(number).map_err(|_| raw.bad(key, "is too large"))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

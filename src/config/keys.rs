//! The keys: one table that the file, the environment, the flags, the checks and the help all come from.

use std::fmt;

/// One setting: its names, its default, what it may be, what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// In the settings file.
    pub name: &'static str,
    /// In the environment.
    pub variable: &'static str,
    /// On the command line, without its dashes.
    pub flag: &'static str,
    /// The value when it is set nowhere, as one would type it.
    pub default: &'static str,
    /// What it may be.
    pub allowed: Allowed,
    /// What it means.
    pub help: &'static str,
}

/// What a value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// A text of the shape described.
    Text(&'static str),
    /// `true` or `false`; the flag alone means true.
    Switch,
    /// A number within bounds.
    Number {
        /// What is counted.
        unit: Unit,
        /// The least allowed, in the unit's base: milliseconds for [`Unit::Seconds`].
        min: u64,
        /// The most allowed, in the same base.
        max: u64,
    },
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Seconds, down to three decimals; held in milliseconds.
    Seconds,
    /// Bytes; `KiB`, `MiB` and `GiB` may follow the number.
    Bytes,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

const fn count(min: u64, max: u64) -> Allowed {
    Allowed::Number { unit: Unit::Count, min, max }
}

const fn seconds(min_ms: u64, max_ms: u64) -> Allowed {
    Allowed::Number { unit: Unit::Seconds, min: min_ms, max: max_ms }
}

const fn bytes(min: u64, max: u64) -> Allowed {
    Allowed::Number { unit: Unit::Bytes, min, max }
}

pub(super) const DATA_DIR: Key = Key {
    name: "data_dir",
    variable: "BROKER_DATA_DIR",
    flag: "data-dir",
    default: "broker_data",
    allowed: Allowed::Text("a directory"),
    help: "Where messages are kept. Made when it is not there",
};
pub(super) const REST_ADDR: Key = Key {
    name: "rest_addr",
    variable: "BROKER_REST_ADDR",
    flag: "rest-addr",
    default: "127.0.0.1:8001",
    allowed: Allowed::Text("HOST:PORT; port 0 takes a free one"),
    help: "Where REST is served (gRPC is understood there too)",
};
pub(super) const GRPC_ADDR: Key = Key {
    name: "grpc_addr",
    variable: "BROKER_GRPC_ADDR",
    flag: "grpc-addr",
    default: "127.0.0.1:50051",
    allowed: Allowed::Text("HOST:PORT; port 0 takes a free one"),
    help: "Where gRPC is served (REST is understood there too)",
};
pub(super) const BACKEND_TARGETS: Key = Key {
    name: "backend_targets",
    variable: "BACKEND_TARGETS",
    flag: "backend-targets",
    default: "localhost:50051",
    allowed: Allowed::Text("HOST:PORT,… of the instances' gRPC addresses, at most 64"),
    help: "The instances of this broker. Up to one: this process serves alone and forwards nothing",
};
pub(super) const BACKEND_CIRCUIT_MAX_FAILURES: Key = Key {
    name: "backend_circuit_max_failures",
    variable: "BACKEND_CIRCUIT_MAX_FAILURES",
    flag: "backend-circuit-max-failures",
    default: "5",
    allowed: count(1, 1_000_000),
    help: "Failures in a row after which an instance's circuit opens",
};
pub(super) const BACKEND_CIRCUIT_RESET_SECS: Key = Key {
    name: "backend_circuit_reset_secs",
    variable: "BACKEND_CIRCUIT_RESET_SECS",
    flag: "backend-circuit-reset-secs",
    default: "30",
    allowed: seconds(1, 86_400_000),
    help: "How long an instance's circuit stays open before one request tries it again",
};
pub(super) const LOG_FORMAT: Key = Key {
    name: "log_format",
    variable: "BROKER_LOG_FORMAT",
    flag: "log-format",
    default: "text",
    allowed: Allowed::Text("text or json"),
    help: "How log lines look",
};
pub(super) const LOG_FILTER: Key = Key {
    name: "log_filter",
    variable: "BROKER_LOG",
    flag: "log-filter",
    default: "info",
    allowed: Allowed::Text("a level, or module=level,…"),
    help: "Which events are logged",
};
pub(super) const CONCURRENCY_LIMIT: Key = Key {
    name: "concurrency_limit",
    variable: "BROKER_CONCURRENCY_LIMIT",
    flag: "concurrency-limit",
    default: "4096",
    allowed: count(1, 1_000_000),
    help: "Requests under way at once, over both protocols; one more is refused at once",
};
pub(super) const REQUEST_TIMEOUT_SECS: Key = Key {
    name: "request_timeout_secs",
    variable: "BROKER_REQUEST_TIMEOUT_SECS",
    flag: "request-timeout-secs",
    default: "65",
    allowed: seconds(100, 3_600_000),
    help: "How long a request may take. A receive that waits is answered 5 s earlier at the latest",
};
pub(super) const MESSAGE_BYTES_MAX: Key = Key {
    name: "message_bytes_max",
    variable: "BROKER_MESSAGE_BYTES_MAX",
    flag: "message-bytes-max",
    // A gRPC client refuses answers over 4 MiB unless told otherwise, and what travels beside the payload needs room too.
    default: "4032 KiB",
    allowed: bytes(KIB, 16 * MIB),
    help: "Longest payload of a message",
};
pub(super) const TOPICS_MAX: Key = Key {
    name: "topics_max",
    variable: "BROKER_TOPICS_MAX",
    flag: "topics-max",
    default: "100000",
    allowed: count(1, 10_000_000),
    help: "Most topics; publishing to one more is refused",
};
pub(super) const DEDUP_WINDOW_SECS: Key = Key {
    name: "dedup_window_secs",
    variable: "BROKER_DEDUP_WINDOW_SECS",
    flag: "dedup-window-secs",
    default: "120",
    allowed: seconds(1_000, 86_400_000),
    help: "How long a dedup id is remembered",
};
pub(super) const DRAIN_TIMEOUT_SECS: Key = Key {
    name: "drain_timeout_secs",
    variable: "BROKER_DRAIN_TIMEOUT_SECS",
    flag: "drain-timeout-secs",
    default: "20",
    allowed: seconds(0, 3_600_000),
    help: "How long requests under way may take to finish at shutdown",
};
pub(super) const CONNECTIONS_MAX: Key = Key {
    name: "connections_max",
    variable: "BROKER_CONNECTIONS_MAX",
    flag: "connections-max",
    default: "10000",
    allowed: count(1, 1_000_000),
    help: "Most connections of each port; further ones wait to be accepted",
};
pub(super) const JOURNAL_FILE_BYTES: Key = Key {
    name: "journal_file_bytes",
    variable: "BROKER_JOURNAL_FILE_BYTES",
    flag: "journal-file-bytes",
    default: "64 MiB",
    allowed: bytes(MIB, 1024 * MIB),
    help: "Size of each journal file, whole pages of 4 KiB. At least four times the longest message",
};

pub(super) const FREE_BYTES_MIN: Key = Key {
    name: "free_bytes_min",
    variable: "BROKER_FREE_BYTES_MIN",
    flag: "free-bytes-min",
    default: "1664 MiB",
    allowed: bytes(0, 1024 * 1024 * MIB),
    help: "With less of the disk free publishes are refused, so that consumers can go on; at most a quarter of it counts",
};

pub(super) const AUTO_DECLARE: Key = Key {
    name: "auto_declare",
    variable: "BROKER_AUTO_DECLARE",
    flag: "auto-declare",
    default: "true",
    allowed: Allowed::Switch,
    help: "Whether publishing to a name, or receiving from it, declares it; if not, it is not found",
};
pub(super) const WAITING_RECEIVES_MAX: Key = Key {
    name: "waiting_receives_max",
    variable: "BROKER_WAITING_RECEIVES_MAX",
    flag: "waiting-receives-max",
    default: "20000",
    allowed: count(1, 1_000_000),
    help: "Receives and streams that may wait for messages at once; one more is refused at once",
};
pub(super) const DEV: Key = Key {
    name: "dev",
    variable: "BROKER_DEV",
    flag: "dev",
    default: "false",
    allowed: Allowed::Switch,
    help: "Dev mode: a call moves the broker's clock, so that tests need not wait. Not for production",
};

/// Every key there is.
pub const KEYS: [Key; 20] = [
    DATA_DIR,
    REST_ADDR,
    GRPC_ADDR,
    BACKEND_TARGETS,
    BACKEND_CIRCUIT_MAX_FAILURES,
    BACKEND_CIRCUIT_RESET_SECS,
    LOG_FORMAT,
    LOG_FILTER,
    CONCURRENCY_LIMIT,
    REQUEST_TIMEOUT_SECS,
    MESSAGE_BYTES_MAX,
    TOPICS_MAX,
    DEDUP_WINDOW_SECS,
    DRAIN_TIMEOUT_SECS,
    CONNECTIONS_MAX,
    JOURNAL_FILE_BYTES,
    FREE_BYTES_MIN,
    AUTO_DECLARE,
    WAITING_RECEIVES_MAX,
    DEV,
];

/// The keys as a table: key, variable, default, what is allowed.
#[must_use]
pub fn table() -> String {
    let mut text = format!("{:<29} {:<29} {:<16} Allowed\n", "Key", "Variable", "Default");
    for Key { name, variable, default, allowed, .. } in KEYS {
        text.push_str(&format!("{name:<29} {variable:<29} {default:<16} {allowed}\n"));
    }
    text
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Text(shape) => f.write_str(shape),
            Self::Switch => f.write_str("true or false"),
            Self::Number { unit: Unit::Count, min, max } => write!(f, "{min} to {max}"),
            Self::Number { unit: Unit::Seconds, min, max } => {
                write!(f, "{} to {} seconds", Seconds(min), Seconds(max))
            }
            Self::Number { unit: Unit::Bytes, min, max } => write!(f, "{} to {}", Size(min), Size(max)),
        }
    }
}

/// Milliseconds, as seconds with no more decimals than needed.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 1000, self.0 % 1000) {
            (s, 0) => write!(f, "{s}"),
            (s, ms) => f.write_str(format!("{s}.{ms:03}").trim_end_matches('0')),
        }
    }
}

/// Bytes, in the largest unit that leaves no rest.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n > 0 && n % MIB == 0 => write!(f, "{} MiB", n / MIB),
            n if n > 0 && n % KIB == 0 => write!(f, "{} KiB", n / KIB),
            n => write!(f, "{n} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_names_of_a_key_belong_together() {
        for key in KEYS {
            assert_eq!(key.flag, key.name.replace('_', "-"));
            let suffix = key.name.to_uppercase();
            let expected = [suffix.clone(), format!("BROKER_{suffix}"), "BROKER_LOG".to_owned()];
            assert!(expected.contains(&key.variable.to_owned()), "{}", key.variable);
        }
    }

    #[test]
    fn bounds_read_well() {
        assert_eq!(MESSAGE_BYTES_MAX.allowed.to_string(), "1 KiB to 16 MiB");
        assert_eq!(REQUEST_TIMEOUT_SECS.allowed.to_string(), "0.1 to 3600 seconds");
        assert_eq!(CONCURRENCY_LIMIT.allowed.to_string(), "1 to 1000000");
    }
}

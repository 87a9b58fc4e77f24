//! Why a start is refused for its settings.

use std::{fmt, io, path::PathBuf};

/// Where a value was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// The settings file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(&'static str),
    /// A flag of the command line, without its dashes.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(name) => write!(f, "flag --{name}"),
        }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The settings file cannot be read.
    #[error("cannot read the settings file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The settings file is no TOML.
    #[error("{}, line {line}: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        problem: String,
    },
    /// The settings file has a key that does not exist.
    #[error("{}, line {line}: there is no key `{key}`; `campanile serve --help` lists them", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
    },
    /// A value is none that the key may have.
    #[error("{key} ({origin}): `{value}` {problem}")]
    BadValue {
        /// The key, as in the settings file.
        key: &'static str,
        /// Where the value was typed.
        origin: Origin,
        /// The value as it was typed.
        value: String,
        /// What is wrong with it, and what is allowed.
        problem: String,
    },
    /// Two values are each allowed, but not together.
    #[error("{key} ({origin}) contradicts {other} ({other_origin}): {problem}")]
    Contradiction {
        /// One key.
        key: &'static str,
        /// Where its value was typed.
        origin: Origin,
        /// The other key.
        other: &'static str,
        /// Where its value was typed.
        other_origin: Origin,
        /// Why both cannot be.
        problem: String,
    },
}

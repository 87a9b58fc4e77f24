//! What can go wrong in the engine.

use std::path::PathBuf;

use super::{
    checkpoint::LoadError,
    journal::{ReadError, file},
};
use crate::model::NameError;

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// A name would mean two things.
    #[error("{problem}")]
    NameConflict {
        /// Which two, and what to do.
        problem: String,
    },
    /// Two names make one that is too long.
    #[error("{field}: {source}")]
    BadName {
        /// The field, as the API names it.
        field: &'static str,
        /// The rule it breaks.
        source: NameError,
    },
    /// The message does not fit into a frame.
    #[error("the message has {bytes} bytes; at most {max} are allowed")]
    MessageTooLarge {
        /// Its size, with what travels beside the payload.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// There is no queue of that name.
    #[error("queue '{name}' does not exist")]
    NoSuchQueue {
        /// The name.
        name: String,
        /// Those that there are, if it is the name of a topic: a few of them, as a text.
        others: Option<String>,
    },
    /// There is no topic of that name.
    #[error("topic '{name}' does not exist")]
    NoSuchTopic {
        /// The name.
        name: String,
    },
    /// A queue has as much as it may hold. Nothing was stored.
    #[error("queue '{queue}' is full")]
    QueueFull {
        /// Its name.
        queue: String,
    },
    /// The lease of one of the deliveries that were to be settled together has ended. Nothing was done.
    #[error("the lease of delivery {index} has ended")]
    StaleAck {
        /// Which one, from 0.
        index: usize,
    },
    /// One of the ack ids that were to be settled together is none. Nothing was done.
    #[error("ack id {index} is none of this store")]
    UnknownAck {
        /// Which one, from 0.
        index: usize,
    },
    /// The dedup id was used for another message within the window.
    #[error("dedup id {dedup_id:?} was used for another message")]
    DedupMismatch {
        /// In which publication, from 0.
        publication: usize,
        /// Which of its messages, from 0.
        index: usize,
        /// The id.
        dedup_id: String,
    },
    /// A bound is reached.
    #[error("{what}")]
    Full {
        /// Which one.
        what: &'static str,
    },
    /// The next message is on a part of the disk that cannot be read now. Nothing was handed out.
    #[error("the next message cannot be read: {problem}")]
    Unreadable {
        /// The system's answer.
        problem: String,
    },
    /// There is little room on the disk, and what there is is kept for consumers. Nothing was stored.
    #[error(
        "the disk is nearly full: {free_bytes} bytes are free, and {reserve_bytes} are kept for consumers; \
         consume messages, or make room"
    )]
    StorageFull {
        /// Bytes that are free.
        free_bytes: u64,
        /// Bytes that are kept free.
        reserve_bytes: u64,
    },
    /// The engine takes no more requests. This one was not looked at.
    #[error("the engine has stopped")]
    Stopped,
    /// The journal failed while the request was under way: it may or may not have been carried out.
    #[error("the journal failed; the request may or may not have been carried out")]
    OutcomeUnknown,
}

/// Why an engine could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] file::InspectError),
    /// The data directory cannot be locked.
    #[error(transparent)]
    Lock(#[from] file::LockError),
    /// The files of the store do not fit together.
    #[error(transparent)]
    Store(#[from] file::OpenError),
    /// The last checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] LoadError),
    /// The journal cannot be read to its end.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// A file of the broker that this one replaces is damaged.
    #[error("{path}, line {line}: {problem}", path = path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A call to the operating system failed.
    #[error("{what}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
}

impl OpenError {
    /// Whether another process has the store open, and which.
    #[must_use]
    pub fn is_held(&self) -> Option<&str> {
        match self {
            Self::Lock(file::LockError::Held { by }) => Some(by),
            _ => None,
        }
    }
}

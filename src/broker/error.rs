//! What a caller is told when a request is not carried out, whatever the protocol.

use std::borrow::Cow;

use crate::{engine::EngineError, model::MessageId};

/// Why a request was not carried out. Each transport maps it in one exhaustive `match`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// The request itself is wrong; sending it again does not help.
    #[error("{field}: {problem}")]
    InvalidArgument {
        /// The field, as the API names it.
        field: Cow<'static, str>,
        /// What is wrong with it.
        problem: String,
    },
    /// The payload or the batch is over its limit.
    #[error("{field} has {bytes} bytes; at most {max} are allowed")]
    TooLarge {
        /// The field, as the API names it.
        field: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// What the request names does not exist.
    #[error("{what} does not exist")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// A name would mean two things.
    #[error("{problem}")]
    NameConflict {
        /// Which two, and what to do.
        problem: String,
    },
    /// A queue has as much as it may hold. Nothing was stored.
    #[error("queue '{queue}' has as much as it may hold; consume messages, or raise its limits")]
    QueueFull {
        /// Its name.
        queue: String,
    },
    /// The lease of one of the deliveries that were to be settled together has ended. Nothing was done.
    #[error("ack_id: the lease of delivery {index} has ended; nothing was settled or published")]
    StaleAck {
        /// Which one, from 0.
        index: usize,
    },
    /// The dedup id was used for another message within the window.
    #[error("dedup_id: {dedup_id:?} was used for a message with another content")]
    DedupMismatch {
        /// The id.
        dedup_id: String,
    },
    /// A bound of the broker is reached; later it may be free again.
    #[error("{what}")]
    Overloaded {
        /// Which bound.
        what: &'static str,
    },
    /// Nobody answered a request in time. It was published.
    #[error("nobody has answered message {message} in time; it was published")]
    NoReply {
        /// The message that was published.
        message: MessageId,
    },
    /// The broker was not started in dev mode. Nothing was done.
    #[error("the clock can only be moved in dev mode: start the broker with --dev")]
    NotInDevMode,
    /// Another instance is the active one. Nothing was done.
    #[error("this instance is a standby")]
    NotActive,
    /// The broker is shutting down. Nothing was done.
    #[error("the broker is shutting down")]
    Draining,
    /// The store failed while the request was under way: it may or may not have been carried out.
    #[error("the store failed; the request may or may not have been carried out")]
    OutcomeUnknown,
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
    /// The next message is on a part of the disk that cannot be read now. Nothing was handed out.
    #[error("the next message cannot be read from the disk: {problem}")]
    Unreadable {
        /// The system's answer.
        problem: String,
    },
}

impl BrokerError {
    /// The same, said of the entry at `at` of a list.
    #[must_use]
    pub fn at(self, list: &str, at: usize) -> Self {
        match self {
            Self::InvalidArgument { field, problem } => {
                Self::InvalidArgument { field: format!("{list}[{at}].{field}").into(), problem }
            }
            other => other,
        }
    }

    /// A field with something wrong with it.
    pub fn invalid(field: impl Into<Cow<'static, str>>, problem: impl Into<String>) -> Self {
        Self::InvalidArgument { field: field.into(), problem: problem.into() }
    }
}

impl From<EngineError> for BrokerError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::NameConflict { problem } => Self::NameConflict { problem },
            EngineError::BadName { field, source } => Self::invalid(field, source.to_string()),
            EngineError::MessageTooLarge { bytes, max } => Self::TooLarge { field: "message", bytes, max },
            EngineError::NoSuchQueue { name } => Self::NotFound { what: format!("queue '{name}'") },
            EngineError::NoSuchTopic { name } => Self::NotFound { what: format!("topic '{name}'") },
            EngineError::QueueFull { queue } => Self::QueueFull { queue },
            EngineError::StaleAck { index } => Self::StaleAck { index },
            EngineError::UnknownAck { index } => {
                Self::invalid("ack_id", format!("of delivery {index} is not an ack id of this broker"))
            }
            EngineError::DedupMismatch { dedup_id } => Self::DedupMismatch { dedup_id },
            EngineError::Full { what } => Self::Overloaded { what },
            EngineError::Stopped => Self::Draining,
            EngineError::OutcomeUnknown => Self::OutcomeUnknown,
            EngineError::StorageFull { free_bytes, reserve_bytes } => Self::StorageFull { free_bytes, reserve_bytes },
            EngineError::Unreadable { problem } => Self::Unreadable { problem },
        }
    }
}

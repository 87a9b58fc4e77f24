//! What a caller is told when a request is not carried out, whatever the protocol.

use std::borrow::Cow;

use crate::{engine::EngineError, model::MessageId};

/// The field of what is wrong with a message as a whole.
const MESSAGE: &str = "message";

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
        field: Cow<'static, str>,
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// What the request names does not exist.
    #[error("{what} does not exist{hint}")]
    NotFound {
        /// What was looked for.
        what: String,
        /// What there is instead; empty if nothing is known.
        hint: String,
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
    #[error("{field}: its lease has ended; nothing was settled or published")]
    StaleAck {
        /// Which one.
        field: Cow<'static, str>,
    },
    /// The dedup id was used for another message within the window.
    #[error("{field}: {dedup_id:?} was used for a message with another content")]
    DedupMismatch {
        /// Whose it is.
        field: Cow<'static, str>,
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
    /// The field that is wrong, if one is.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::InvalidArgument { field, .. }
            | Self::TooLarge { field, .. }
            | Self::StaleAck { field }
            | Self::DedupMismatch { field, .. } => Some(field),
            _ => None,
        }
    }

    /// The same, with another name for the field that is wrong.
    #[must_use]
    pub fn renamed(mut self, rename: impl FnOnce(&str) -> String) -> Self {
        if let Self::InvalidArgument { field, .. }
        | Self::TooLarge { field, .. }
        | Self::StaleAck { field }
        | Self::DedupMismatch { field, .. } = &mut self
        {
            *field = rename(field).into();
        }
        self
    }

    /// The same, said of the entry at `at` of a list.
    #[must_use]
    pub fn at(self, list: &str, at: usize) -> Self {
        self.renamed(|field| match field {
            // The entry as a whole.
            MESSAGE => format!("{list}[{at}]"),
            _ => format!("{list}[{at}].{field}"),
        })
    }

    /// The same, said of the field `message` of a call.
    #[must_use]
    pub fn in_the_message(self) -> Self {
        self.renamed(|field| if field == MESSAGE { field.to_owned() } else { format!("{MESSAGE}.{field}") })
    }

    /// The same, said of the message of a call that has only one: `messages[0].dedup_id` is `dedup_id` there.
    #[must_use]
    pub fn of_the_message(self) -> Self {
        self.renamed(|field| match field.strip_prefix("messages[0]") {
            Some("") => MESSAGE.to_owned(),
            Some(rest) => rest.trim_start_matches('.').to_owned(),
            None => field.to_owned(),
        })
    }

    /// What was looked for does not exist.
    pub(super) fn not_found(what: String) -> Self {
        Self::NotFound { what, hint: String::new() }
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
            EngineError::MessageTooLarge { bytes, max } => Self::TooLarge { field: MESSAGE.into(), bytes, max },
            EngineError::NoSuchQueue { name, others } => {
                let hint = others.map(|others| format!("; the topic has {others}")).unwrap_or_default();
                Self::NotFound { what: format!("queue '{name}'"), hint }
            }
            EngineError::NoSuchTopic { name } => Self::not_found(format!("topic '{name}'")),
            EngineError::QueueFull { queue } => Self::QueueFull { queue },
            EngineError::StaleAck { index } => Self::StaleAck { field: format!("settlements[{index}].ack_id").into() },
            EngineError::UnknownAck { index } => {
                Self::invalid(format!("settlements[{index}].ack_id"), "is not an ack id of this broker")
            }
            EngineError::DedupMismatch { index, dedup_id, .. } => {
                Self::DedupMismatch { field: format!("messages[{index}].dedup_id").into(), dedup_id }
            }
            EngineError::Full { what } => Self::Overloaded { what },
            EngineError::Stopped => Self::Draining,
            EngineError::OutcomeUnknown => Self::OutcomeUnknown,
            EngineError::StorageFull { free_bytes, reserve_bytes } => Self::StorageFull { free_bytes, reserve_bytes },
            EngineError::Unreadable { problem } => Self::Unreadable { problem },
        }
    }
}

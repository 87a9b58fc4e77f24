//! Why a command failed, and the exit code that says so.

use std::{io, process::ExitCode};

use super::lines::messages;
use crate::{client::ClientError, config::ConfigError};

/// What a supervisor or a script can tell apart.
pub(super) const EXIT_CODES: &str = "Exit codes: 0 done, 1 refused or failed, 2 wrong command line, 3 no broker could be \
                                     reached, or it broke off and nobody knows what was done.";

const WRONG_LINE: u8 = 2;
const NO_ANSWER: u8 = 3;

#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Settings(#[from] ConfigError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{stored} stored, of the others nobody knows", stored = messages(*confirmed))]
    StreamBroke {
        confirmed: u64,
        #[source]
        source: ClientError,
    },
    #[error("{refused} of {all} messages were refused")]
    SomeRefused { refused: u64, all: u64 },
    #[error("line {line} has more than {max} bytes; nothing was sent from there on")]
    LongLine { line: u64, max: u64 },
    #[error("{stale} of the messages that were printed could not be acked in time and will come again")]
    Stale { stale: usize },
    #[error("input or output")]
    Io(#[from] io::Error),
}

impl Failure {
    pub(super) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Client(ClientError::NoAddress | ClientError::Address { .. }) => ExitCode::from(WRONG_LINE),
            Self::Client(ClientError::Unreachable(_) | ClientError::Unknown(_) | ClientError::Ended)
            | Self::StreamBroke { .. } => ExitCode::from(NO_ANSWER),
            Self::Client(_)
            | Self::Settings(_)
            | Self::SomeRefused { .. }
            | Self::LongLine { .. }
            | Self::Stale { .. }
            | Self::Io(_) => ExitCode::FAILURE,
        }
    }
}

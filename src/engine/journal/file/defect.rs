//! What can be wrong with a journal, as it is told to whoever looks into it.
//!
//! The start of a broker names the first of these and stops; a survey names them all.

use std::{
    io,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{super::Position, error::OpenError};

/// Something in a store that no crash explains, with its place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Defect {
    /// A call to the operating system failed.
    #[error("{path} cannot be read", path = path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A file is not what it was made as. Its frames, if it has any, cannot be told from other bytes.
    #[error("{path} is damaged: {problem}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        problem: &'static str,
    },
    /// A file that others need is gone.
    #[error("{path} is missing: {needed_by} needs it", path = path.display(), needed_by = needed_by.display())]
    Missing {
        /// What is not there.
        path: PathBuf,
        /// What shows that it was there.
        needed_by: PathBuf,
    },
    /// A file was written by a version that is not known here.
    #[error("{path} has format version {found}, and this program reads version {known} only", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that is known here.
        known: u32,
    },
    /// A file belongs to another store.
    #[error("{path} belongs to store {found}, not to {expected}", path = path.display())]
    OtherStore {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: Uuid,
        /// Whose it should be.
        expected: Uuid,
    },
    /// Bytes that had been synced are not what was written.
    #[error(
        "{path}, offset {offset}: no valid frame begins here, although one had been synced: that at offset {proof_offset} \
         of {proof} was written after it",
        path = path.display(),
        proof = proof.display()
    )]
    Lost {
        /// The file in which the lost frame began.
        path: PathBuf,
        /// Where it began.
        offset: u64,
        /// The file with the frame that shows it.
        proof: PathBuf,
        /// Where that frame begins.
        proof_offset: u64,
    },
    /// A file continues from an earlier position than the one up to which there are frames before it.
    #[error(
        "{path}, offset {offset}: the file continues from position {from}, but there are frames up to {end} before it",
        path = path.display()
    )]
    Unfounded {
        /// The file.
        path: PathBuf,
        /// Where its first frame begins.
        offset: u64,
        /// From where it continues.
        from: Position,
        /// Up to where there are frames.
        end: Position,
    },
    /// The last checkpoint covers more than the journal has, so that what came after it is gone.
    #[error("{path}: the journal ends before position {from}, from which the checkpoint has it replayed", path = path.display())]
    EndsBefore {
        /// The journal's folder.
        path: PathBuf,
        /// Where replaying was to begin.
        from: Position,
    },
    /// A frame has flags of a newer version.
    #[error("{path}, offset {offset}: the frame has flags of a newer version", path = path.display())]
    NewerFrame {
        /// The file.
        path: PathBuf,
        /// Where the frame begins.
        offset: u64,
    },
}

impl Defect {
    /// For `map_err`: the file or folder that could not be read.
    pub(super) fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Unreadable { path: path.to_path_buf(), source }
    }
}

impl From<OpenError> for Defect {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Io { path, source, .. } => Self::Unreadable { path, source },
            OpenError::Damaged { path, problem } => Self::Damaged { path, problem },
            OpenError::Missing { path, needed_by } => Self::Missing { path, needed_by },
            OpenError::Version { path, found, known } => Self::Version { path, found, known },
            OpenError::OtherStore { path, found, expected } => Self::OtherStore { path, found, expected },
            OpenError::FileBytes { .. } => unreachable!("nothing is made, so no length is asked for"),
        }
    }
}

//! What can be wrong with a data directory, and what to do about it.

use std::{io, path::PathBuf};

use crate::engine::{LoadError, journal::file::Defect};

/// Something that is wrong with a data directory; a broker would not start on it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// There is no such folder. (A broker would make it; whoever asks what is in it has probably mistyped it.)
    #[error("{path} does not exist", path = path.display())]
    NoDirectory {
        /// The folder.
        path: PathBuf,
    },
    /// The folder is somebody else's.
    #[error("{path} is not a data directory of campanile: it holds {found}", path = path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// A name in it that is none of ours.
        found: String,
    },
    /// A file or folder beside the journal cannot be read.
    #[error("{path} cannot be read", path = path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The files of the store are not what they should be.
    #[error(transparent)]
    Store(#[from] Defect),
    /// The last checkpoint cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] LoadError),
    /// A frame whose checksum holds has bytes that are no record.
    #[error(
        "{path}, offset {offset}: record at byte {at} of the frame that begins here: {problem}",
        path = path.display()
    )]
    Undecodable {
        /// The file.
        path: PathBuf,
        /// Where the frame begins.
        offset: u64,
        /// Where the record begins, from the first one of the frame.
        at: usize,
        /// What does not hold.
        problem: &'static str,
    },
    /// A record does not fit what came before it.
    #[error("{path}, offset {offset}: in the frame that begins here {problem}", path = path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Where the frame begins.
        offset: u64,
        /// What does not fit.
        problem: String,
    },
    /// A file of the original broker that waits to be taken over has a line that cannot be read.
    #[error("{path}, line {line}: {problem}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The first such line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}

const CHECK_PATH: &str = "check that the path is right; a broker makes the directory when it starts there";
const OTHER_PATH: &str = "point data_dir to an empty directory, or to the one that was used before";
const MAKE_READABLE: &str = "run this as the user that the broker runs as; if the disk fails, copy what can still be \
                             read before anything else, and restore a copy";
const RESTORE: &str = "restore the directory from a copy; if there is none, keep a copy of the directory as it is, \
                       remove nothing, and ask";
const PUT_BACK: &str = "put the file back if it was moved; else restore the directory from a copy, or keep a copy of \
                        it as it is, and ask";
const TAKE_OUT: &str = "if this file was copied here by mistake, move it to where it came from; if it was STORE, put \
                        the right one back; else restore the directory from a copy";
const NEWER: &str = "start the version of campanile that wrote it, or a later one";
const REPORT: &str = "its checksums hold, so this was written so: keep a copy of the directory, and report it";
const MEND_LINE: &str = "mend or remove the line, or take the file over without it: `campanile import --skip-damaged`";

impl Problem {
    /// What to do, in words.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NoDirectory { .. } => CHECK_PATH,
            Self::Foreign { .. } => OTHER_PATH,
            Self::Unreadable { .. }
            | Self::Store(Defect::Unreadable { .. })
            | Self::Checkpoint(LoadError::Io { .. }) => MAKE_READABLE,
            Self::Store(Defect::Missing { .. } | Defect::EndsBefore { .. }) => PUT_BACK,
            Self::Store(Defect::OtherStore { .. }) | Self::Checkpoint(LoadError::OtherStore { .. }) => TAKE_OUT,
            Self::Checkpoint(LoadError::Damaged { .. }) => RESTORE,
            Self::Store(Defect::Version { .. } | Defect::NewerFrame { .. }) => NEWER,
            Self::Store(Defect::Damaged { .. } | Defect::Lost { .. } | Defect::Unfounded { .. }) => RESTORE,
            Self::Undecodable { .. } | Self::Unfit { .. } => REPORT,
            Self::Line { .. } => MEND_LINE,
        }
    }

    /// One word for the kind of problem, for scripts. Never changes.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoDirectory { .. } => "no_directory",
            Self::Foreign { .. } => "foreign",
            Self::Unreadable { .. }
            | Self::Store(Defect::Unreadable { .. })
            | Self::Checkpoint(LoadError::Io { .. }) => "unreadable",
            Self::Store(Defect::Damaged { .. }) => "damaged_file",
            Self::Checkpoint(LoadError::Damaged { .. }) => "damaged_checkpoint",
            Self::Checkpoint(LoadError::OtherStore { .. }) => "other_store",
            Self::Store(Defect::Missing { .. }) => "missing_file",
            Self::Store(Defect::EndsBefore { .. }) => "missing_frames",
            Self::Store(Defect::Version { .. }) => "unknown_version",
            Self::Store(Defect::OtherStore { .. }) => "other_store",
            Self::Store(Defect::Lost { .. }) => "lost_frame",
            Self::Store(Defect::Unfounded { .. }) => "unfounded_file",
            Self::Store(Defect::NewerFrame { .. }) => "newer_frame",
            Self::Undecodable { .. } => "undecodable_record",
            Self::Unfit { .. } => "unfit_record",
            Self::Line { .. } => "damaged_line",
        }
    }

    /// The file or folder it is about.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        match self {
            Self::NoDirectory { path }
            | Self::Foreign { path, .. }
            | Self::Unreadable { path, .. }
            | Self::Undecodable { path, .. }
            | Self::Unfit { path, .. }
            | Self::Line { path, .. }
            | Self::Store(
                Defect::Unreadable { path, .. }
                | Defect::Damaged { path, .. }
                | Defect::Missing { path, .. }
                | Defect::Version { path, .. }
                | Defect::OtherStore { path, .. }
                | Defect::Lost { path, .. }
                | Defect::Unfounded { path, .. }
                | Defect::EndsBefore { path, .. }
                | Defect::NewerFrame { path, .. },
            )
            | Self::Checkpoint(
                LoadError::Io { path, .. } | LoadError::Damaged { path, .. } | LoadError::OtherStore { path, .. },
            ) => path,
        }
    }

    /// Where in the file, in bytes.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        match self {
            Self::Undecodable { offset, .. }
            | Self::Unfit { offset, .. }
            | Self::Store(
                Defect::Lost { offset, .. } | Defect::Unfounded { offset, .. } | Defect::NewerFrame { offset, .. },
            ) => Some(*offset),
            _ => None,
        }
    }
}

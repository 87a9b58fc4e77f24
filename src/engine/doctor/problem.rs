//! What can be wrong with a data directory, and what to do about it.

use std::{io, path::PathBuf};

use crate::engine::{LoadError, journal::file::Defect};

/// Something that is wrong with a data directory. A broker does not start on it, unless it says otherwise.
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
    /// Messages of a segment are damaged. A broker starts, and reports them as lost when their turn comes.
    #[error("{path}, offset {offset}: {messages} messages of the block that begins here are damaged", path = path.display())]
    DamagedMessages {
        /// The segment.
        path: PathBuf,
        /// Where the block begins.
        offset: u64,
        /// How many.
        messages: u32,
    },
    /// The index of a segment is damaged. A broker starts, and makes it again from the records.
    #[error("{path}: its index is damaged", path = path.display())]
    DamagedIndex {
        /// The segment.
        path: PathBuf,
    },
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
const REPAIR: &str = "restore the directory from a copy; if there is none, `campanile doctor --repair` sets aside what is \
                      damaged and what depends on it, and gives that up";
const PUT_BACK_OR_REPAIR: &str = "put the file back if it was moved; else restore the directory from a copy; if there is \
                                  none, `campanile doctor --repair` gives up what depends on it";
const PUT_BACK: &str = "put the file back if it was moved; else restore the directory from a copy, or keep a copy of \
                        it as it is, and ask";
const TAKE_OUT: &str = "if this file was copied here by mistake, move it to where it came from; if it was STORE, put \
                        the right one back; else restore the directory from a copy";
const LOST: &str = "the other messages are whole, and a broker that starts here delivers them; restore the directory \
                    from a copy if these are needed";
const NOTHING: &str = "nothing: a broker that starts here makes it again; but see whether the disk fails";
const NEWER: &str = "start the version of campanile that wrote it, or a later one";
const REPORT: &str = "its checksums hold, so this was written so: keep a copy of the directory, and report it";
const MEND_LINE: &str = "mend or remove the line, or take the file over without it: `campanile import --skip-damaged`";

/// What a repair does about a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remedy {
    /// Ends the history before it, and sets aside what is behind.
    EndHistory,
    /// Sets the segment, or the file of dedup ids, aside, and goes on without what is in it.
    Without,
    /// Nothing: a broker starts all the same, or it has nothing to do with the store.
    NotNeeded,
    /// It cannot be repaired.
    None,
}

impl Problem {
    /// What a repair does about it.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        let has_ending = |path: &std::path::Path, ending: &str| path.extension().is_some_and(|found| found == ending);
        match self {
            Self::Store(Defect::Lost { .. } | Defect::EndsBefore { .. }) => Remedy::EndHistory,
            Self::Store(Defect::Damaged { path, .. } | Defect::Missing { path, .. }) if has_ending(path, "wal") => {
                Remedy::EndHistory
            }
            Self::Checkpoint(LoadError::Damaged { path, .. }) if has_ending(path, "seg") || has_ending(path, "ids") => {
                Remedy::Without
            }
            Self::DamagedMessages { .. } | Self::DamagedIndex { .. } | Self::Line { .. } => Remedy::NotNeeded,
            Self::NoDirectory { .. }
            | Self::Foreign { .. }
            | Self::Unreadable { .. }
            | Self::Store(_)
            | Self::Checkpoint(_)
            | Self::Undecodable { .. }
            | Self::Unfit { .. } => Remedy::None,
        }
    }

    /// What it is, with everything behind it.
    #[must_use]
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    }

    /// What to do, in words.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NoDirectory { .. } => CHECK_PATH,
            Self::Foreign { .. } => OTHER_PATH,
            Self::Unreadable { .. }
            | Self::Store(Defect::Unreadable { .. })
            | Self::Checkpoint(LoadError::Io { .. }) => MAKE_READABLE,
            Self::Store(Defect::Missing { .. } | Defect::EndsBefore { .. }) if self.remedy() == Remedy::EndHistory => {
                PUT_BACK_OR_REPAIR
            }
            Self::Store(Defect::Missing { .. } | Defect::EndsBefore { .. }) => PUT_BACK,
            Self::Store(Defect::OtherStore { .. }) | Self::Checkpoint(LoadError::OtherStore { .. }) => TAKE_OUT,
            Self::Checkpoint(LoadError::Damaged { .. }) if self.remedy() == Remedy::Without => REPAIR,
            Self::Checkpoint(LoadError::Damaged { .. }) => RESTORE,
            Self::Store(Defect::Version { .. } | Defect::NewerFrame { .. }) => NEWER,
            Self::Store(Defect::Damaged { .. } | Defect::Lost { .. }) if self.remedy() == Remedy::EndHistory => REPAIR,
            Self::Store(Defect::Damaged { .. } | Defect::Lost { .. } | Defect::Unfounded { .. }) => RESTORE,
            Self::DamagedMessages { .. } => LOST,
            Self::DamagedIndex { .. } => NOTHING,
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
            Self::DamagedMessages { .. } => "damaged_messages",
            Self::DamagedIndex { .. } => "damaged_index",
            Self::Undecodable { .. } => "undecodable_record",
            Self::Unfit { .. } => "unfit_record",
            Self::Line { .. } => "damaged_line",
        }
    }

    /// Whether a broker does not start until something has been done about it.
    #[must_use]
    pub fn stops_a_start(&self) -> bool {
        !matches!(self, Self::DamagedMessages { .. } | Self::DamagedIndex { .. })
    }

    /// The file or folder it is about.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        match self {
            Self::NoDirectory { path }
            | Self::Foreign { path, .. }
            | Self::Unreadable { path, .. }
            | Self::DamagedMessages { path, .. }
            | Self::DamagedIndex { path }
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
            Self::DamagedMessages { offset, .. }
            | Self::Undecodable { offset, .. }
            | Self::Unfit { offset, .. }
            | Self::Store(
                Defect::Lost { offset, .. } | Defect::Unfounded { offset, .. } | Defect::NewerFrame { offset, .. },
            ) => Some(*offset),
            _ => None,
        }
    }
}

//! Why a store is not opened.

use std::{
    io,
    path::{Path, PathBuf},
};

use uuid::Uuid;

/// Why a store is not opened. None of these goes away by trying again; each names the path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A call to the operating system failed.
    #[error("cannot {what} {path}", path = path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The options make no sense.
    #[error("a journal file of {file_bytes} bytes is not possible: it takes a multiple of 4096, and at least 16384")]
    FileBytes {
        /// What was asked for.
        file_bytes: u64,
    },
    /// The file is not what was once synced.
    #[error("{path} is damaged: {problem}; see `campanile doctor`", path = path.display())]
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
    /// The file was written by a version that is not known here.
    #[error("{path} has format version {found}, and this program reads version {known} only", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that is known here.
        known: u32,
    },
    /// The file belongs to another store.
    #[error("{path} belongs to store {found}, not to {expected}", path = path.display())]
    OtherStore {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: Uuid,
        /// Whose it should be.
        expected: Uuid,
    },
}

impl OpenError {
    /// For `map_err`: what was being done, and to what.
    pub(super) fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { what, path: path.to_path_buf(), source }
    }
}

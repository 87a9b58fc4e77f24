//! The first look at a data directory, before anything in it is locked or opened.
//!
//! It reads names only, and makes the folder if there is none. The invariant: a folder that somebody uses for something
//! else is never written to.

use std::{
    ffi::OsStr,
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use super::{
    lock::LOCK_NAME,
    store::{journal_dir, store_path},
};

/// What a folder may hold without being somebody else's: the files of the original broker, which are imported.
const IMPORTED_ENDS: [&str; 2] = [".jsonl", ".jsonl.imported"];
/// Every file system of the ext family has it at its root.
const LOST_AND_FOUND: &str = "lost+found";
/// Where repairs put what they take out.
pub(in crate::engine) const SET_ASIDE_NAME: &str = "set-aside";
const WRITE_CHECK_NAME: &str = ".campanile-write-check";
/// Messages are nobody else's business.
const DIR_MODE: u32 = 0o700;

/// What a folder is that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataDir {
    /// Nothing of ours stands in it yet.
    Empty,
    /// A store, or the beginnings of one.
    Ours,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// It is somebody else's.
    #[error("{path} is not a data directory of campanile: it holds {found}", path = path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// A name in it that is none of ours.
        found: String,
    },
    /// There was none, and it cannot be made.
    #[error("cannot make the data directory {path}", path = path.display())]
    NotCreated {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// It cannot be listed.
    #[error("cannot read the data directory {path}", path = path.display())]
    NotReadable {
        /// The folder, or what is in its place.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// No file can be made in it.
    #[error("cannot write to the data directory {path}", path = path.display())]
    NotWritable {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// Looks at the folder `data_dir`, and makes it if there is none.
///
/// # Errors
/// [`InspectError`]: the path, and why it cannot be used.
pub fn inspect(data_dir: &Path) -> Result<DataDir, InspectError> {
    let path = || data_dir.to_path_buf();
    match std::fs::symlink_metadata(data_dir) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(data_dir).map_err(|source| InspectError::NotCreated { path: path(), source })?;
        }
        Err(source) => return Err(InspectError::NotReadable { path: path(), source }),
    }
    let found = classify(data_dir).map_err(|source| InspectError::NotReadable { path: path(), source })?;
    let dir = match found {
        Found::Foreign(found) => return Err(InspectError::Foreign { path: path(), found }),
        Found::Usable(dir) => dir,
    };
    check_write(data_dir).map_err(|source| InspectError::NotWritable { path: path(), source })?;
    Ok(dir)
}

/// What a folder turns out to be by the names in it.
pub(in crate::engine) enum Found {
    Usable(DataDir),
    /// Somebody else's, with the first name that shows it.
    Foreign(String),
}

/// Looks at the names in the folder `data_dir`, and at nothing else.
///
/// # Errors
/// The system's answer.
pub(in crate::engine) fn classify(data_dir: &Path) -> io::Result<Found> {
    let mut foreign = None;
    for entry in std::fs::read_dir(data_dir)? {
        let name = entry?.file_name();
        if is_ours(data_dir, &name) {
            return Ok(Found::Usable(DataDir::Ours));
        }
        if !is_ignored(&name) {
            foreign.get_or_insert_with(|| name.to_string_lossy().into_owned());
        }
    }
    Ok(foreign.map_or(Found::Usable(DataDir::Empty), Found::Foreign))
}

/// Whether a name in the folder `data_dir` is one of a store's.
pub(in crate::engine) fn is_ours(data_dir: &Path, name: &OsStr) -> bool {
    let path = data_dir.join(name);
    name == LOCK_NAME || name == SET_ASIDE_NAME || path == store_path(data_dir) || path == journal_dir(data_dir)
}

fn is_ignored(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    name == LOST_AND_FOUND || bytes.starts_with(b".") || IMPORTED_ENDS.iter().any(|end| bytes.ends_with(end.as_bytes()))
}

/// Makes the folder, with those above it, and their names durable.
fn make(data_dir: &Path) -> io::Result<()> {
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let missing: Vec<_> = data_dir.ancestors().take_while(is_missing).collect();
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(data_dir)?;
    for folder in missing {
        let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(above)?.sync_all()?;
    }
    Ok(())
}

fn check_write(data_dir: &Path) -> io::Result<()> {
    let path = data_dir.join(WRITE_CHECK_NAME);
    OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
    match std::fs::remove_file(&path) {
        // Another process looked at the same moment.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn a_missing_folder_is_made_private() -> TestResult {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("a/b");
        assert_eq!(inspect(&path)?, DataDir::Empty);
        assert_eq!(std::fs::metadata(&path)?.permissions().mode() & 0o777, DIR_MODE);
        assert_eq!(inspect(&path)?, DataDir::Empty);
        assert_eq!(std::fs::read_dir(&path)?.count(), 0, "the check leaves nothing behind");
        Ok(())
    }

    #[test]
    fn what_the_original_broker_left_is_not_foreign() -> TestResult {
        let dir = tempfile::tempdir()?;
        for name in ["orders.jsonl", "x.jsonl.imported", ".hidden"] {
            std::fs::write(dir.path().join(name), "")?;
        }
        std::fs::create_dir(dir.path().join(LOST_AND_FOUND))?;
        assert_eq!(inspect(dir.path())?, DataDir::Empty);
        Ok(())
    }

    #[test]
    fn somebody_elses_folder_is_refused_and_left_alone() -> TestResult {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("holiday.jpg"), "")?;
        match inspect(dir.path()) {
            Err(error @ InspectError::Foreign { .. }) => assert!(error.to_string().ends_with("it holds holiday.jpg")),
            other => panic!("{other:?}"),
        }
        assert_eq!(std::fs::read_dir(dir.path())?.count(), 1);
        for name in ["LOCK", "STORE", "journal"] {
            std::fs::write(dir.path().join(name), "")?;
            assert_eq!(inspect(dir.path())?, DataDir::Ours, "{name}");
            std::fs::remove_file(dir.path().join(name))?;
        }
        Ok(())
    }

    #[test]
    fn a_file_in_its_place_and_a_folder_that_cannot_be_made_are_named() -> TestResult {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("file");
        std::fs::write(&file, "")?;
        assert!(matches!(inspect(&file), Err(InspectError::NotReadable { path, .. }) if path == file));
        assert!(matches!(inspect(&file.join("sub")), Err(InspectError::NotReadable { .. })));
        let nowhere = Path::new("/proc/nowhere");
        assert!(matches!(inspect(nowhere), Err(InspectError::NotCreated { path, .. }) if path == nowhere));
        Ok(())
    }
}

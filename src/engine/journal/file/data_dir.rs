//! The first look at a data directory, before anything in it is locked or opened.
//!
//! It reads names only, and makes the folder if there is none. The invariants: a folder that somebody uses for something
//! else is never written to, and one that was made here is still there after a crash.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
};

use super::{
    lock::LOCK_NAME,
    store::{journal_dir, store_path},
};
use crate::engine::disk::Disk;

/// What a folder may hold without being somebody else's: the files of the original broker, which are imported.
const IMPORTED_ENDS: [&str; 2] = [".jsonl", ".jsonl.imported"];
/// Every file system of the ext family has it at its root.
const LOST_AND_FOUND: &str = "lost+found";
/// Where repairs put what they take out.
pub(in crate::engine) const SET_ASIDE_NAME: &str = "set-aside";
const WRITE_CHECK_NAME: &str = ".campanile-write-check";

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
pub fn inspect(disk: &dyn Disk, data_dir: &Path) -> Result<DataDir, InspectError> {
    let path = || data_dir.to_path_buf();
    match std::fs::symlink_metadata(data_dir) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(disk, data_dir).map_err(|source| InspectError::NotCreated { path: path(), source })?;
        }
        Err(source) => return Err(InspectError::NotReadable { path: path(), source }),
    }
    let found = classify(data_dir).map_err(|source| InspectError::NotReadable { path: path(), source })?;
    let dir = match found {
        Found::Foreign(found) => return Err(InspectError::Foreign { path: path(), found }),
        Found::Usable(dir) => dir,
    };
    check_write(disk, data_dir).map_err(|source| InspectError::NotWritable { path: path(), source })?;
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

/// Makes the folder, with those above it, from the outermost inward; the name of each is durable before the next is made.
fn make(disk: &dyn Disk, data_dir: &Path) -> io::Result<()> {
    for folder in missing(data_dir).into_iter().rev() {
        match disk.create_dir(folder) {
            // Another process made it at the same moment.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        disk.sync_dir(above(folder))?;
    }
    Ok(())
}

/// The folder and those above it, as far as they are not there, innermost first.
fn missing(data_dir: &Path) -> Vec<&Path> {
    data_dir.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).collect()
}

/// The folder that holds a folder's name.
fn above(folder: &Path) -> &Path {
    folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a file and removes it.
fn check_write(disk: &dyn Disk, data_dir: &Path) -> io::Result<()> {
    let path = data_dir.join(WRITE_CHECK_NAME);
    match disk.create(&path) {
        // Another process looks at this moment, or one was killed when it did. Removing it shows as much.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => drop(made?),
    }
    match disk.remove(&path) {
        // Another process looked at the same moment.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::engine::disk::{Fault, FaultDisk, Op, Outcome, RealDisk, Times};

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn a_missing_folder_is_made_private() -> TestResult {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("a/b");
        assert_eq!(inspect(&RealDisk, &path)?, DataDir::Empty);
        assert_eq!(std::fs::metadata(&path)?.permissions().mode() & 0o777, 0o700);
        assert_eq!(inspect(&RealDisk, &path)?, DataDir::Empty);
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
        assert_eq!(inspect(&RealDisk, dir.path())?, DataDir::Empty);
        Ok(())
    }

    #[test]
    fn somebody_elses_folder_is_refused_and_left_alone() -> TestResult {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("holiday.jpg"), "")?;
        match inspect(&RealDisk, dir.path()) {
            Err(error @ InspectError::Foreign { .. }) => assert!(error.to_string().ends_with("it holds holiday.jpg")),
            other => panic!("{other:?}"),
        }
        assert_eq!(std::fs::read_dir(dir.path())?.count(), 1);
        for name in ["LOCK", "STORE", "journal"] {
            std::fs::write(dir.path().join(name), "")?;
            assert_eq!(inspect(&RealDisk, dir.path())?, DataDir::Ours, "{name}");
            std::fs::remove_file(dir.path().join(name))?;
        }
        Ok(())
    }

    #[test]
    fn a_file_in_its_place_and_a_folder_that_cannot_be_made_are_named() -> TestResult {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("file");
        std::fs::write(&file, "")?;
        assert!(matches!(inspect(&RealDisk, &file), Err(InspectError::NotReadable { path, .. }) if path == file));
        assert!(matches!(inspect(&RealDisk, &file.join("sub")), Err(InspectError::NotReadable { .. })));
        let nowhere = Path::new("/proc/nowhere");
        assert!(matches!(inspect(&RealDisk, nowhere), Err(InspectError::NotCreated { path, .. }) if path == nowhere));
        Ok(())
    }

    /// Whether looking fails if this call does, and whether there was such a call.
    fn fails_with(data_dir: &Path, op: Op, name_end: &'static str, kind: io::ErrorKind) -> (bool, bool) {
        let disk = FaultDisk::new(RealDisk);
        disk.set(Fault { op, name_end, nth: 1, outcome: Outcome::Error(kind), times: Times::Once });
        let has_failed = inspect(&disk, data_dir).is_err();
        (has_failed, !disk.is_pending())
    }

    #[test]
    fn the_name_of_every_folder_that_is_made_is_made_durable_and_no_other() -> TestResult {
        for (made, synced) in [("a/b/c", true), ("a/b", true), ("a", true), ("none", false)] {
            let dir = tempfile::tempdir()?;
            std::fs::create_dir(dir.path().join("there"))?;
            let data_dir = dir.path().join("there/a/b/c/d");
            let held = if synced { format!("there/{made}") } else { "none".to_owned() };
            let found = fails_with(&data_dir, Op::SyncDir, held.leak(), io::ErrorKind::Other);
            assert_eq!(found, (synced, synced), "{made}");
        }
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join("there"))?;
        let above_all = fails_with(&dir.path().join("there/a"), Op::SyncDir, "there", io::ErrorKind::Other);
        assert_eq!(above_all, (true, true));
        std::fs::remove_dir(dir.path().join("there/a"))?;
        let parent = dir.path().to_str().ok_or("a path in UTF-8")?.to_owned();
        assert_eq!(
            fails_with(&dir.path().join("there/a"), Op::SyncDir, parent.leak(), io::ErrorKind::Other),
            (false, false)
        );
        Ok(())
    }

    #[test]
    fn the_folders_of_a_relative_path_are_those_that_are_not_there() {
        let path = Path::new("no-such-folder/store");
        assert_eq!(missing(path), [path, Path::new("no-such-folder")]);
        assert_eq!(missing(Path::new("src")), [] as [&Path; 0]);
        assert_eq!((above(path), above(Path::new("store"))), (Path::new("no-such-folder"), Path::new(".")));
    }

    #[test]
    fn another_process_that_looks_at_the_same_moment_does_no_harm() -> TestResult {
        let dir = tempfile::tempdir()?;
        let is_refused = |op, kind| fails_with(dir.path(), op, WRITE_CHECK_NAME, kind) == (true, true);
        assert!(
            !is_refused(Op::Create, io::ErrorKind::AlreadyExists) && !is_refused(Op::Remove, io::ErrorKind::NotFound)
        );
        assert!(is_refused(Op::Create, io::ErrorKind::StorageFull));
        // What that one left is no hindrance.
        assert!(is_refused(Op::Remove, io::ErrorKind::ReadOnlyFilesystem));
        assert_eq!(inspect(&RealDisk, dir.path())?, DataDir::Empty);
        assert_eq!(std::fs::read_dir(dir.path())?.count(), 0);
        let made_meanwhile = dir.path().join("store");
        let disk = FaultDisk::new(RealDisk);
        let outcome = Outcome::Error(io::ErrorKind::AlreadyExists);
        disk.set(Fault { op: Op::CreateDir, name_end: "store", nth: 1, outcome, times: Times::Once });
        assert!(matches!(inspect(&disk, &made_meanwhile), Err(InspectError::NotReadable { .. })), "it was a lie");
        Ok(())
    }
}

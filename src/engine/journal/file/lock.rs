//! The lock on a data directory: one process writes to it at a time.
//!
//! It is the operating system's lock on the file `LOCK`, so it ends with the process, however that ends. The file stays;
//! what it says is for humans only and proves nothing.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

pub(super) const LOCK_NAME: &str = "LOCK";
/// As much of the file as is shown of a lock that somebody else holds.
const SHOWN_BYTES: u64 = 64;

/// Holds the exclusive lock on a data directory until it is dropped.
#[derive(Debug)]
pub struct DirLock {
    /// Closing it gives the lock back.
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process holds it.
    #[error("the data directory is in use by {by}")]
    Held {
        /// What the holder wrote into the file: `pid` and its number.
        by: String,
    },
    /// A call to the operating system failed.
    #[error("cannot lock the data directory")]
    Io(#[from] io::Error),
}

impl DirLock {
    /// Takes the lock on the folder `data_dir`, or says who has it. Never waits.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn acquire(data_dir: &Path) -> Result<Self, LockError> {
        let path = data_dir.join(LOCK_NAME);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held { by: holder(&file)? }),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "pid {}", std::process::id())?;
        writeln!(file, "This campanile process writes to the directory. Removing the file does not unlock it.")?;
        Ok(Self { _file: file })
    }
}

/// Whether the folder `data_dir` has ever been locked. Says nothing about now.
#[must_use]
pub fn has_lock(data_dir: &Path) -> bool {
    data_dir.join(LOCK_NAME).exists()
}

/// The first line of the file, as far as it can be shown.
pub(super) fn holder(mut file: &File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(SHOWN_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let line: String = text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    Ok(if line.is_empty() { "an unknown process".to_owned() } else { line })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_the_lock_and_the_next_one_learns_who() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        assert!(!has_lock(dir.path()));
        std::fs::write(dir.path().join(LOCK_NAME), "left by a process that was killed, with a long line ".repeat(9))?;
        let lock = DirLock::acquire(dir.path())?;
        match DirLock::acquire(dir.path()) {
            Err(LockError::Held { by }) => assert_eq!(by, format!("pid {}", std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(lock);
        assert!(has_lock(dir.path()));
        let _lock = DirLock::acquire(dir.path())?;
        assert!(matches!(DirLock::acquire(&dir.path().join("none")), Err(LockError::Io(_))));
        Ok(())
    }
}

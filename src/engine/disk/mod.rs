//! Every call that the engine makes to a disk, as one trait.
//!
//! It is not a file system of its own: no buffering, no retries, no paths of the broker. The invariant is that engine
//! code reaches the disk through [`Disk`] only, so that a test can stand in its place and tear writes, lose syncs and
//! fill the disk. (The lock, and the names that the first look at a data directory reads, are not part of that: they make
//! nothing durable.)

mod fault;
mod real;
#[cfg(test)]
pub(super) mod sim;

use std::{ffi::OsString, fmt, io, path::Path};

pub use fault::{Fault, FaultDisk, Op, Outcome, Times};
pub use real::RealDisk;

/// Files by path. What is created, renamed or removed is durable after [`Disk::sync_dir`] of its folder, not before.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Opens a file for reading (and syncing).
    ///
    /// # Errors
    /// The system's answer.
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// The system's answer.
    fn open_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Makes a new, empty file that only its owner can read, and opens it for reading and writing.
    ///
    /// # Errors
    /// The system's answer; `AlreadyExists` when there is one.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Makes a folder that only its owner can enter.
    ///
    /// # Errors
    /// The system's answer; `AlreadyExists` when there is one.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name, in one step; a file of that name is replaced.
    ///
    /// # Errors
    /// The system's answer.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The system's answer.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// The system's answer.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// How much room the file system of a path has.
    ///
    /// # Errors
    /// The system's answer.
    fn space(&self, path: &Path) -> io::Result<DiskSpace>;

    /// The names in a folder, in no order.
    ///
    /// # Errors
    /// The system's answer.
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>>;
}

/// The room of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// What this process may still take.
    pub free: u64,
    /// All there is.
    pub total: u64,
}

/// One open file. Writes are durable after [`DiskFile::sync_data`], not before, and in any order until then.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// The system's answer; `UnexpectedEof` when the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// The system's answer. Any part of the bytes may have been written by then.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes what was written durable, and the length with it.
    ///
    /// # Errors
    /// The system's answer. What was written since the last sync may be lost then, although it can still be read, and
    /// a second sync that succeeds says nothing about it: never try again.
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts the file, or makes it longer with zeros.
    ///
    /// # Errors
    /// The system's answer.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// The length in bytes.
    ///
    /// # Errors
    /// The system's answer.
    fn length(&self) -> io::Result<u64>;

    /// Asks that what is cached of this file be forgotten, so that the next read shows what is on the disk. Call
    /// [`DiskFile::sync_data`] before: bytes that were never written out are kept.
    ///
    /// # Errors
    /// The system's answer.
    fn drop_cache(&self) -> io::Result<()>;
}

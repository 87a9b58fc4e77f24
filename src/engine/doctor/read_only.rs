//! A disk that can only be read.
//!
//! The invariant is in the type: whatever code is given a [`ReadOnly`] disk, and whatever it asks for, nothing on the
//! disk behind it changes.

use std::{ffi::OsString, io, path::Path};

use crate::engine::disk::{Disk, DiskFile, DiskSpace};

/// Lets reading through and refuses everything else.
#[derive(Debug)]
pub(super) struct ReadOnly<D> {
    disk: D,
    cache: Cache,
}

/// What becomes of the bytes that the system has cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cache {
    /// They are read as they are: a broker at work has use for them, and they are what it wrote last.
    Kept,
    /// They are forgotten where asked, so that what is read is what the disk holds.
    Dropped,
    /// As a start does: what somebody who has ended left in the cache is written out first, then forgotten.
    WrittenOut,
}

impl<D: Disk> ReadOnly<D> {
    pub(super) fn new(disk: D, cache: Cache) -> Self {
        Self { disk, cache }
    }
}

impl<D: Disk> Disk for ReadOnly<D> {
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(ReadOnlyFile { file: self.disk.open_read(path)?, cache: self.cache }))
    }

    fn open_write(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
        Err(refused())
    }

    fn create(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
        Err(refused())
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn space(&self, path: &Path) -> io::Result<DiskSpace> {
        self.disk.space(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.disk.list(path)
    }
}

#[derive(Debug)]
struct ReadOnlyFile {
    file: Box<dyn DiskFile>,
    cache: Cache,
}

impl DiskFile for ReadOnlyFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(refused())
    }

    /// Nothing was written here. What somebody else wrote is for them to sync, unless they have ended.
    fn sync_data(&self) -> io::Result<()> {
        match self.cache {
            Cache::Kept | Cache::Dropped => Ok(()),
            Cache::WrittenOut => self.file.sync_data(),
        }
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(refused())
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn drop_cache(&self) -> io::Result<()> {
        match self.cache {
            Cache::Kept => Ok(()),
            Cache::Dropped | Cache::WrittenOut => self.file.drop_cache(),
        }
    }
}

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "this disk is only read")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::disk::RealDisk;

    #[test]
    fn everything_but_reading_is_refused() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("a"), "campanile")?;
        let disk = ReadOnly::new(RealDisk, Cache::Dropped);
        assert!(disk.open_write(&path("a")).is_err());
        assert!(disk.create(&path("b")).is_err());
        assert!(disk.create_dir(&path("b")).is_err());
        assert!(disk.rename(&path("a"), &path("b")).is_err());
        assert!(disk.remove(&path("a")).is_err());
        assert!(disk.sync_dir(folder.path()).is_err());
        let file = disk.open_read(&path("a"))?;
        assert!(file.write_all_at(b"x", 0).is_err());
        assert!(file.set_len(0).is_err());
        file.sync_data()?;
        file.drop_cache()?;
        let mut bytes = [0; 9];
        file.read_exact_at(&mut bytes, 0)?;
        assert_eq!((&bytes, file.length()?), (b"campanile", 9));
        assert_eq!(disk.list(folder.path())?, ["a"]);
        Ok(())
    }
}

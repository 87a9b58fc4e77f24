//! The operating system's files.

use std::{
    ffi::OsString,
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use super::{Disk, DiskFile, DiskSpace};

/// Messages are nobody else's business.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// Whether the device is really waited for. Not in the tests of this crate: they cannot see the difference (what a power
/// failure leaves is the simulated disk's business), and on a slow device they would take minutes. The tests over the
/// binary do wait for it.
const SYNCS: bool = !cfg!(test);

/// The disk that the system gives us. Adds nothing to its calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(File::open(path)?)))
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(OpenOptions::new().read(true).write(true).open(path)?)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(DIR_MODE).create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let dir = File::open(path)?;
        if SYNCS { dir.sync_all() } else { Ok(()) }
    }

    fn space(&self, path: &Path) -> io::Result<DiskSpace> {
        let found = rustix::fs::statvfs(path)?;
        // What this crate's tests do does not depend on how full the machine is that they run on.
        let free = if cfg!(test) { found.f_blocks } else { found.f_bavail };
        Ok(DiskSpace { free: free * found.f_frsize, total: found.f_blocks * found.f_frsize })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect()
    }
}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        if SYNCS { self.0.sync_data() } else { Ok(()) }
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    #[cfg(target_os = "linux")]
    fn drop_cache(&self) -> io::Result<()> {
        rustix::fs::fadvise(&self.0, 0, None, rustix::fs::Advice::DontNeed)?;
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn files_are_private_and_calls_do_what_they_say() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        RealDisk.create_dir(&path("sub"))?;
        let file = RealDisk.create(&path("a"))?;
        assert_eq!(RealDisk.create(&path("a")).expect_err("exists").kind(), io::ErrorKind::AlreadyExists);
        file.write_all_at(b"campanile", 3)?;
        file.sync_data()?;
        file.drop_cache()?;
        assert_eq!(file.length()?, 12);
        file.set_len(6)?;
        RealDisk.rename(&path("a"), &path("b"))?;
        RealDisk.sync_dir(folder.path())?;
        let mut bytes = [1; 6];
        RealDisk.open_read(&path("b"))?.read_exact_at(&mut bytes, 0)?;
        assert_eq!(&bytes, b"\0\0\0cam");
        assert_eq!(std::fs::metadata(path("b"))?.permissions().mode() & 0o777, FILE_MODE);
        assert_eq!(std::fs::metadata(path("sub"))?.permissions().mode() & 0o777, DIR_MODE);
        let past_the_end = RealDisk.open_write(&path("b"))?.read_exact_at(&mut bytes, 1);
        assert_eq!(past_the_end.expect_err("too short").kind(), io::ErrorKind::UnexpectedEof);
        let space = RealDisk.space(folder.path())?;
        assert!(space.free <= space.total && space.total > 0, "{space:?}");
        RealDisk.remove(&path("b"))?;
        assert_eq!(RealDisk.list(folder.path())?, ["sub"]);
        Ok(())
    }
}

//! A disk that fails where a test says.
//!
//! It wraps another disk and lets every call through, except those for which a [`Fault`] was set. It does not simulate
//! a crash: files keep whatever was written. One thing it does simulate, since no test could provoke it otherwise: after
//! a sync that failed, what was written can still be read, the next sync succeeds, and once the cache is dropped the
//! bytes from before are back, unless others have been written there meanwhile.

use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

use super::{Disk, DiskFile, DiskSpace};

/// Which call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the calls of `Disk` and `DiskFile`")]
pub enum Op {
    Open,
    Create,
    CreateDir,
    Rename,
    Remove,
    SyncDir,
    List,
    Read,
    Write,
    Sync,
    SetLen,
    Space,
}

/// What happens instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The call does nothing and fails. For a sync: what was not yet synced is lost, although it can still be read
    /// until the cache is dropped.
    Error(io::ErrorKind),
    /// That many bytes are written, then the call fails.
    ShortWrite(usize),
    /// The call waits until the disk is healed, then it succeeds.
    Wait,
}

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// The call fails, the next ones succeed.
    Once,
    /// From that call on, all of its kind fail.
    Always,
}

/// A failure to come.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The kind of call.
    pub op: Op,
    /// The end of the file's (or folder's) name at the time of the call; empty for any.
    pub name_end: &'static str,
    /// Which of those calls, counted from 1 when the fault is set.
    pub nth: u32,
    /// What it does.
    pub outcome: Outcome,
    /// Whether later calls fail too.
    pub times: Times,
}

/// A disk with faults. Clones share them.
#[derive(Debug, Clone)]
pub struct FaultDisk(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inner: Box<dyn Disk>,
    state: Mutex<State>,
    healed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<Fault>,
    files: Vec<FileState>,
    by_path: HashMap<PathBuf, usize>,
    pretended: Option<DiskSpace>,
    /// How often it was healed.
    heals: u64,
}

#[derive(Debug)]
struct FileState {
    path: PathBuf,
    /// What stood there before each write since the last sync.
    unsynced: Vec<Overwritten>,
    /// The same for writes that a failed sync has lost.
    lost: Vec<Overwritten>,
}

#[derive(Debug)]
struct Overwritten {
    offset: u64,
    bytes: Vec<u8>,
}

impl Overwritten {
    /// What is left of it outside of a range.
    fn outside(self, begin: u64, end: u64) -> Vec<Self> {
        let length = self.bytes.len() as u64;
        let within = |at: u64| usize::try_from(at.saturating_sub(self.offset).min(length)).expect("within its bytes");
        let (head, tail) = (self.bytes[..within(begin)].to_vec(), self.bytes[within(end)..].to_vec());
        let behind = Self { offset: self.offset + within(end) as u64, bytes: tail };
        [Self { offset: self.offset, bytes: head }, behind].into_iter().filter(|part| !part.bytes.is_empty()).collect()
    }
}

impl FaultDisk {
    /// A disk without faults so far.
    #[must_use]
    pub fn new(inner: impl Disk + 'static) -> Self {
        Self(Arc::new(Shared { inner: Box::new(inner), state: Mutex::default(), healed: Condvar::new() }))
    }

    /// Adds a failure to come.
    pub fn set(&self, fault: Fault) {
        self.0.state().faults.push(fault);
    }

    /// Whether a failure is still to come.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        !self.0.state().faults.is_empty()
    }

    /// From here on the disk says that it has that much room; with `None` it tells the truth.
    pub fn pretend(&self, space: Option<DiskSpace>) {
        self.0.state().pretended = space;
    }

    /// From here on nothing fails.
    pub fn heal(&self) {
        let mut state = self.0.state();
        state.faults.clear();
        state.heals += 1;
        self.0.healed.notify_all();
    }

    fn file(&self, path: &Path, inner: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        let mut state = self.0.state();
        let next = state.files.len();
        let id = *state.by_path.entry(path.to_path_buf()).or_insert(next);
        if id == next {
            state.files.push(FileState { path: path.to_path_buf(), unsynced: Vec::new(), lost: Vec::new() });
        }
        Box::new(FaultFile { disk: Arc::clone(&self.0), id, inner })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no call panics while it holds the faults")
    }

    /// What becomes of the call. Waits, if that is what it does.
    fn meet(&self, op: Op, path: &Path) -> Option<Outcome> {
        let mut state = self.state();
        let met = state.meet(op, path);
        if met != Some(Outcome::Wait) {
            return met;
        }
        let heals = state.heals;
        while state.heals == heals {
            state = self.healed.wait(state).expect("no call panics while it holds the faults");
        }
        None
    }

    fn check(&self, op: Op, path: &Path) -> io::Result<()> {
        match self.meet(op, path) {
            None | Some(Outcome::Wait) => Ok(()),
            Some(Outcome::Error(kind)) => Err(injected(kind)),
            Some(Outcome::ShortWrite(_)) => Err(injected(io::ErrorKind::WriteZero)),
        }
    }
}

impl State {
    /// Counts the call, and tells what shall become of it.
    fn meet(&mut self, op: Op, path: &Path) -> Option<Outcome> {
        let name = path.as_os_str().as_encoded_bytes();
        let mut met = None;
        self.faults.retain_mut(|fault| {
            if met.is_some() || fault.op != op || !name.ends_with(fault.name_end.as_bytes()) {
                return true;
            }
            fault.nth = fault.nth.saturating_sub(1);
            if fault.nth > 0 {
                return true;
            }
            met = Some(fault.outcome);
            fault.times == Times::Always
        });
        met
    }
}

fn injected(kind: io::ErrorKind) -> io::Error {
    io::Error::new(kind, "injected by a test")
}

impl Disk for FaultDisk {
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.0.check(Op::Open, path)?;
        Ok(self.file(path, self.0.inner.open_read(path)?))
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.0.check(Op::Open, path)?;
        Ok(self.file(path, self.0.inner.open_write(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.0.check(Op::Create, path)?;
        let inner = self.0.inner.create(path)?;
        self.0.state().by_path.remove(path);
        Ok(self.file(path, inner))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.check(Op::CreateDir, path)?;
        self.0.inner.create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.check(Op::Rename, from)?;
        self.0.inner.rename(from, to)?;
        let mut state = self.0.state();
        state.by_path.remove(to);
        if let Some(id) = state.by_path.remove(from) {
            state.files[id].path = to.to_path_buf();
            state.by_path.insert(to.to_path_buf(), id);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.check(Op::Remove, path)?;
        self.0.inner.remove(path)?;
        self.0.state().by_path.remove(path);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.check(Op::SyncDir, path)?;
        self.0.inner.sync_dir(path)
    }

    fn space(&self, path: &Path) -> io::Result<DiskSpace> {
        self.0.check(Op::Space, path)?;
        let pretended = self.0.state().pretended;
        pretended.map_or_else(|| self.0.inner.space(path), Ok)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.0.check(Op::List, path)?;
        self.0.inner.list(path)
    }
}

#[derive(Debug)]
struct FaultFile {
    disk: Arc<Shared>,
    id: usize,
    inner: Box<dyn DiskFile>,
}

impl FaultFile {
    fn path(&self) -> PathBuf {
        self.disk.state().files[self.id].path.clone()
    }

    /// What stands where `bytes_count` bytes are about to be written.
    fn present(&self, offset: u64, bytes_count: usize) -> io::Result<Overwritten> {
        let there = self.inner.length()?.saturating_sub(offset).min(bytes_count as u64);
        let mut bytes = vec![0; usize::try_from(there).map_err(io::Error::other)?];
        self.inner.read_exact_at(&mut bytes, offset)?;
        Ok(Overwritten { offset, bytes })
    }
}

impl DiskFile for FaultFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.check(Op::Read, &self.path())?;
        self.inner.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let path = self.path();
        let (written, answer) = match self.disk.meet(Op::Write, &path) {
            None | Some(Outcome::Wait) => (bytes, Ok(())),
            Some(Outcome::ShortWrite(count)) => {
                (&bytes[..count.min(bytes.len())], Err(injected(io::ErrorKind::WriteZero)))
            }
            Some(Outcome::Error(kind)) => return Err(injected(kind)),
        };
        let before = self.present(offset, written.len())?;
        self.inner.write_all_at(written, offset)?;
        let file = &mut self.disk.state().files[self.id];
        file.unsynced.push(before);
        let end = offset + written.len() as u64;
        file.lost = std::mem::take(&mut file.lost).into_iter().flat_map(|lost| lost.outside(offset, end)).collect();
        answer
    }

    fn sync_data(&self) -> io::Result<()> {
        if let Err(error) = self.disk.check(Op::Sync, &self.path()) {
            let file = &mut self.disk.state().files[self.id];
            file.lost.append(&mut file.unsynced);
            return Err(error);
        }
        self.inner.sync_data()?;
        self.disk.state().files[self.id].unsynced.clear();
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.disk.check(Op::SetLen, &self.path())?;
        self.inner.set_len(bytes)
    }

    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn drop_cache(&self) -> io::Result<()> {
        let lost = std::mem::take(&mut self.disk.state().files[self.id].lost);
        if !lost.is_empty() {
            let file = self.disk.inner.open_write(&self.path())?;
            for before in lost.iter().rev() {
                file.write_all_at(&before.bytes, before.offset)?;
            }
        }
        self.inner.drop_cache()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::RealDisk, *};

    const BAD_SYNC: Fault = Fault {
        op: Op::Sync,
        name_end: ".x",
        nth: 2,
        outcome: Outcome::Error(io::ErrorKind::Other),
        times: Times::Once,
    };

    #[test]
    fn after_a_failed_sync_the_bytes_are_there_until_the_cache_is_dropped() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let disk = FaultDisk::new(RealDisk);
        let file = disk.create(&folder.path().join("a.x"))?;
        disk.set(BAD_SYNC);
        file.write_all_at(b"first", 0)?;
        file.sync_data()?;
        file.write_all_at(b"FI", 0)?;
        file.write_all_at(b"X", 1)?;
        assert!(file.sync_data().is_err());
        let read = || -> io::Result<[u8; 5]> {
            let mut bytes = [0; 5];
            file.read_exact_at(&mut bytes, 0)?;
            Ok(bytes)
        };
        file.sync_data()?;
        assert_eq!(&read()?, b"FXrst", "clean pages show what is not on the disk");
        file.drop_cache()?;
        assert_eq!(&read()?, b"first");
        Ok(())
    }

    #[test]
    fn a_fault_hits_the_call_it_names_and_follows_the_file_through_a_rename() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        let disk = FaultDisk::new(RealDisk);
        let file = disk.create(&path("a.tmp"))?;
        let short = Outcome::ShortWrite(2);
        disk.set(Fault { op: Op::Write, name_end: ".x", nth: 1, outcome: short, times: Times::Always });
        file.write_all_at(b"----", 0)?;
        disk.rename(&path("a.tmp"), &path("a.x"))?;
        assert!(file.write_all_at(b"abcd", 0).is_err());
        assert!(file.write_all_at(b"abcd", 4).is_err());
        disk.heal();
        file.write_all_at(b"!", 5)?;
        assert_eq!(std::fs::read(path("a.x"))?, b"ab--a!");
        Ok(())
    }
}

//! A disk in memory that can lose its power.
//!
//! It keeps what a crash keeps apart from what a crash may lose, and makes the images that a crash may leave behind:
//! only what was synced is certain; of the rest any 512-byte blocks may have arrived, in any order; a file may have
//! grown without its bytes; names may be there or not until their folder is synced. Nothing here is random by itself:
//! the same operations and the same [`Dice`] give the same image.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Disk, DiskFile, DiskSpace};

/// What a disk writes in one piece: the smallest sector in use.
const BLOCK_BYTES: usize = 512;

/// A disk in memory. Clones are the same disk.
#[derive(Debug, Clone)]
pub(in crate::engine) struct SimDisk(Arc<Mutex<Recorder>>);

/// Promises that a disk breaks, to see that somebody notices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::engine) struct Lies {
    /// Syncing a file does nothing.
    pub(in crate::engine) syncs: bool,
    /// Syncing a folder does nothing.
    pub(in crate::engine) folder_syncs: bool,
}

#[derive(Debug)]
struct Recorder {
    now: World,
    lies: Lies,
    /// The state before each operation, and what the note said then.
    moments: Vec<(World, usize)>,
    note: usize,
}

/// Everything on the disk at one moment. Cheap to copy: contents are shared until they change.
#[derive(Debug, Clone, Default)]
pub(in crate::engine) struct World {
    inodes: Vec<Inode>,
    names: Names,
    durable: Names,
    /// Changes of names that a crash may lose, by folder.
    pending: BTreeMap<PathBuf, Vec<NameChange>>,
}

#[derive(Debug, Clone, Default)]
struct Names {
    files: BTreeMap<PathBuf, usize>,
    folders: BTreeSet<PathBuf>,
}

#[derive(Debug, Clone)]
enum NameChange {
    File(PathBuf, usize),
    Folder(PathBuf),
    Removed(PathBuf),
    Renamed(PathBuf, PathBuf, usize),
}

#[derive(Debug, Clone, Default)]
struct Inode {
    live: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    pending: Vec<Arc<Change>>,
}

#[derive(Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

/// Chance that can be repeated: xorshift64*.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Dice(u64);

impl Dice {
    pub(in crate::engine) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(in crate::engine) fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// A number below `n`.
    pub(in crate::engine) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.roll() % n.max(1) as u64).expect("below a usize")
    }
}

/// How much of what is not certain survives.
#[derive(Debug, Clone, Copy)]
enum Survival {
    None,
    All,
    Some,
}

impl Survival {
    fn roll(dice: &mut Dice) -> Self {
        [Self::None, Self::All, Self::Some, Self::Some][dice.below(4)]
    }

    fn spares(self, dice: &mut Dice) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Some => dice.below(2) == 0,
        }
    }
}

impl World {
    /// Whether a crash may lose some name.
    pub(in crate::engine) fn has_unsure_names(&self) -> bool {
        self.pending.values().any(|changes| !changes.is_empty())
    }

    /// One of the images that losing the power at this moment may leave behind.
    pub(in crate::engine) fn crash(&self, dice: &mut Dice) -> Self {
        let mut names = self.durable.clone();
        for changes in self.pending.values() {
            let survival = Survival::roll(dice);
            // Names change in order on a journaling file system, and in any order on others: both occur.
            let prefix = (dice.below(2) == 0).then(|| dice.below(changes.len() + 1));
            for (i, change) in changes.iter().enumerate() {
                if prefix.map_or_else(|| survival.spares(dice), |end| i < end) {
                    names.change(change);
                }
            }
        }
        let folders = names.folders.clone();
        names.files.retain(|path, _| path.parent().is_none_or(|p| folders.contains(p)));
        let inodes = self.inodes.iter().map(|inode| inode.crash(dice)).collect();
        Self { inodes, durable: names.clone(), names, pending: BTreeMap::new() }
    }
}

impl Names {
    fn change(&mut self, change: &NameChange) {
        match change {
            NameChange::File(path, inode) => drop(self.files.insert(path.clone(), *inode)),
            NameChange::Folder(path) => drop(self.folders.insert(path.clone())),
            NameChange::Removed(path) => drop(self.files.remove(path)),
            NameChange::Renamed(from, to, inode) => {
                self.files.remove(from);
                self.files.insert(to.clone(), *inode);
            }
        }
    }
}

impl Inode {
    fn crash(&self, dice: &mut Dice) -> Self {
        if self.pending.is_empty() {
            return self.clone();
        }
        let survival = Survival::roll(dice);
        let filler = [0, 0xa5][dice.below(2)];
        let mut bytes = self.durable.as_ref().clone();
        for change in &self.pending {
            match &**change {
                Change::Length(length) if survival.spares(dice) => bytes.resize(*length, 0),
                Change::Length(_) => {}
                Change::Write { offset, bytes: written } => {
                    // A file may have grown although the bytes that made it grow never arrived.
                    let has_grown = survival.spares(dice);
                    for (i, block) in written.chunks(BLOCK_BYTES).enumerate() {
                        let at = offset + i * BLOCK_BYTES;
                        let arrived = survival.spares(dice);
                        if (arrived || has_grown) && bytes.len() < at + block.len() {
                            bytes.resize(at + block.len(), filler);
                        }
                        if arrived {
                            bytes[at..at + block.len()].copy_from_slice(block);
                        }
                    }
                }
            }
        }
        let content = Arc::new(bytes);
        Self { live: Arc::clone(&content), durable: content, pending: Vec::new() }
    }
}

impl SimDisk {
    /// A disk with one empty folder, which a crash keeps.
    pub(in crate::engine) fn with_folder(path: &Path) -> Self {
        let mut world = World::default();
        world.names.folders.insert(path.to_path_buf());
        world.durable = world.names.clone();
        Self::new(world, Lies::default())
    }

    /// A disk with what an image holds.
    pub(in crate::engine) fn new(now: World, lies: Lies) -> Self {
        Self(Arc::new(Mutex::new(Recorder { now, lies, moments: Vec::new(), note: 0 })))
    }

    /// Which promises it breaks from here on.
    pub(in crate::engine) fn lie(&self, lies: Lies) {
        self.recorder().lies = lies;
    }

    /// What is said at the moments from here on.
    pub(in crate::engine) fn note(&self, note: usize) {
        self.recorder().note = note;
    }

    /// The moments before each operation so far, and now; with what was said then.
    pub(in crate::engine) fn take_moments(&self) -> Vec<(World, usize)> {
        let mut recorder = self.recorder();
        let now = (recorder.now.clone(), recorder.note);
        let mut moments = std::mem::take(&mut recorder.moments);
        moments.push(now);
        moments
    }

    fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the moment, then changes the world.
    fn operate<T>(&self, operation: impl FnOnce(&mut World, Lies) -> io::Result<T>) -> io::Result<T> {
        let mut recorder = self.recorder();
        let moment = (recorder.now.clone(), recorder.note);
        recorder.moments.push(moment);
        let lies = recorder.lies;
        operation(&mut recorder.now, lies)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = *self.recorder().now.names.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_path_buf()
}

impl World {
    fn rename_to(&mut self, folder: &Path, change: NameChange) {
        self.names.change(&change);
        self.pending.entry(folder.to_path_buf()).or_default().push(change);
    }
}

impl Disk for SimDisk {
    fn space(&self, _: &Path) -> io::Result<DiskSpace> {
        Ok(DiskSpace { free: 1 << 40, total: 1 << 40 })
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open(path)
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.operate(|world, _| {
            if world.names.files.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let inode = world.inodes.len();
            world.inodes.push(Inode::default());
            world.rename_to(&folder_of(path), NameChange::File(path.to_path_buf(), inode));
            Ok(())
        })?;
        self.open(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.operate(|world, _| {
            if world.names.folders.contains(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            world.rename_to(&folder_of(path), NameChange::Folder(path.to_path_buf()));
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate(|world, _| {
            let inode = *world.names.files.get(from).ok_or(io::ErrorKind::NotFound)?;
            world.rename_to(&folder_of(to), NameChange::Renamed(from.to_path_buf(), to.to_path_buf(), inode));
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.operate(|world, _| {
            if !world.names.files.contains_key(path) {
                return Err(io::ErrorKind::NotFound.into());
            }
            world.rename_to(&folder_of(path), NameChange::Removed(path.to_path_buf()));
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.operate(|world, lies| {
            if !lies.folder_syncs {
                for change in world.pending.remove(path).unwrap_or_default() {
                    world.durable.change(&change);
                }
            }
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let recorder = self.recorder();
        if !recorder.now.names.folders.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = recorder.now.names.files.keys().filter(|file| file.parent() == Some(path));
        Ok(inside.filter_map(|file| file.file_name().map(OsString::from)).collect())
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl SimFile {
    fn change(&self, change: Change) -> io::Result<()> {
        self.disk.operate(|world, _| {
            let inode = &mut world.inodes[self.inode];
            let live = Arc::make_mut(&mut inode.live);
            match &change {
                Change::Length(length) => live.resize(*length, 0),
                Change::Write { offset, bytes } => {
                    live.resize(live.len().max(offset + bytes.len()), 0);
                    live[*offset..offset + bytes.len()].copy_from_slice(bytes);
                }
            }
            inode.pending.push(Arc::new(change));
            Ok(())
        })
    }
}

fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).expect("the files of a test fit into memory")
}

impl DiskFile for SimFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let live = Arc::clone(&self.disk.recorder().now.inodes[self.inode].live);
        let offset = in_memory(offset);
        let bytes = live.get(offset..offset + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(Change::Write { offset: in_memory(offset), bytes: bytes.to_vec() })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.operate(|world, lies| {
            let inode = &mut world.inodes[self.inode];
            if !lies.syncs {
                inode.durable = Arc::clone(&inode.live);
                inode.pending.clear();
            }
            Ok(())
        })
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.change(Change::Length(in_memory(bytes)))
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.recorder().now.inodes[self.inode].live.len() as u64)
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }
}

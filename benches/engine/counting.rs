//! A disk that counts its syncs, and knows when a checkpoint is written.

use std::{
    ffi::OsString,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use campanile::engine::disk::{Disk, DiskFile, DiskSpace, RealDisk};

/// Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct CountingDisk(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    begun: Instant,
    /// Of journal files that frames go to.
    frames: AtomicU64,
    /// Of files in the making, and of folders.
    preparation: AtomicU64,
    /// Of segments, dedup ids and manifests.
    checkpoints: AtomicU64,
    /// When something of a checkpoint was last written, in microseconds.
    checkpoint_at: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
enum Class {
    Frames,
    Preparation,
    Checkpoint,
}

impl CountingDisk {
    pub(crate) fn new() -> Self {
        let none = AtomicU64::default;
        let counts = Counts {
            begun: Instant::now(),
            frames: none(),
            preparation: none(),
            checkpoints: none(),
            checkpoint_at: none(),
        };
        Self(Arc::new(counts))
    }

    /// Syncs of frames, of preparation, of checkpoints, so far.
    pub(crate) fn syncs(&self) -> [u64; 3] {
        [&self.0.frames, &self.0.preparation, &self.0.checkpoints].map(|count| count.load(Relaxed))
    }

    /// Whether a checkpoint wrote something within the last 20 ms.
    pub(crate) fn is_checkpointing(&self) -> bool {
        let now = micros(self.0.begun);
        let at = self.0.checkpoint_at.load(Relaxed);
        at > 0 && now.saturating_sub(at) < 20_000
    }

    fn file(&self, path: &Path, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let class = match name.rsplit_once('.') {
            _ if name.starts_with("MANIFEST") => Class::Checkpoint,
            Some((_, "seg" | "ids")) => Class::Checkpoint,
            // Made under another name, and appended to under this one, by the same handle.
            Some((_, "tmp" | "spare")) => Class::Frames,
            _ => Class::Preparation,
        };
        Box::new(CountingFile { counts: Arc::clone(&self.0), class, file })
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl Disk for CountingDisk {
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.file(path, RealDisk.open_read(path)?))
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.file(path, RealDisk.open_write(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.file(path, RealDisk.create(path)?))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.preparation.fetch_add(1, Relaxed);
        RealDisk.sync_dir(path)
    }

    fn space(&self, path: &Path) -> io::Result<DiskSpace> {
        RealDisk.space(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        RealDisk.list(path)
    }
}

#[derive(Debug)]
struct CountingFile {
    counts: Arc<Counts>,
    class: Class,
    file: Box<dyn DiskFile>,
}

impl DiskFile for CountingFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if matches!(self.class, Class::Checkpoint) {
            self.counts.checkpoint_at.store(micros(self.counts.begun), Relaxed);
        }
        self.file.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let count = match self.class {
            Class::Frames => &self.counts.frames,
            Class::Preparation => &self.counts.preparation,
            Class::Checkpoint => &self.counts.checkpoints,
        };
        count.fetch_add(1, Relaxed);
        self.file.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.file.drop_cache()
    }
}

//! The checkpoint of a data directory: reading the last one, and beginning the next.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tracing::warn;
use uuid::Uuid;

use super::{
    Block, DedupEntry, Failed, IdsEntry, Job, Removal, SegmentEntry, SegmentId, Written, ids,
    manifest::Bound,
    paths::{
        IDS_ENDING, SEGMENT_ENDING, ids_path, manifest_path, manifest_tmp_path, segment_id, segment_path, segments_dir,
    },
    segment,
};
use crate::engine::{
    disk::{Disk, DiskFile},
    journal::Position,
    state::{Plan, State},
};

/// Whether there is a manifest.
pub(in crate::engine) fn is_there(disk: &dyn Disk, data_dir: &Path) -> bool {
    disk.open_read(&manifest_path(data_dir)).is_ok()
}

/// Why the last checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
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
    /// The file is not what was once synced.
    #[error("{path} is damaged: {problem}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        problem: String,
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

/// Where the checkpoints of a store are kept.
#[derive(Debug)]
pub(in crate::engine) struct CheckpointStore {
    disk: Arc<dyn Disk>,
    data_dir: PathBuf,
    store: Uuid,
    next_segment: SegmentId,
    segment_bytes: u64,
    /// What checkpoints that failed have left.
    orphans: Vec<SegmentId>,
    /// Segments in which something was damaged.
    damaged: BTreeSet<SegmentId>,
}

impl CheckpointStore {
    /// A segment is closed when it has reached this size, unless it is set otherwise: large enough that there are few,
    /// small enough that moving the last messages of one on costs little.
    pub(in crate::engine) const SEGMENT_BYTES: u64 = 64 << 20;

    /// Reads the last checkpoint: the state that it holds, and from where the journal has to be replayed. Makes sure that
    /// it is the one that counts from now on, and removes what an unfinished one has left.
    ///
    /// # Errors
    /// [`LoadError`].
    pub(in crate::engine) fn open(
        disk: Arc<dyn Disk>,
        data_dir: &Path,
        store: Uuid,
    ) -> Result<(Self, State, Position), LoadError> {
        let dir = segments_dir(data_dir);
        let failed = |what, path: &Path| {
            let path = path.to_path_buf();
            move |source| LoadError::Io { what, path, source }
        };
        match disk.create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(failed("make", &dir))?,
        }
        // Whoever put these files in their places may have been killed before that was durable. What only the manifest before
        // this one needs is about to go.
        for folder in [dir.as_path(), data_dir] {
            disk.sync_dir(folder).map_err(failed("sync", folder))?;
        }
        let Loaded { state, position, mended, next_segment } = load(&*disk, data_dir, store)?;
        for segment in mended {
            warn!(%segment, "the index of a segment is damaged: made again from its records");
        }
        let mut opened = Self {
            disk,
            data_dir: data_dir.to_path_buf(),
            store,
            next_segment,
            segment_bytes: Self::SEGMENT_BYTES,
            orphans: Vec::new(),
            damaged: BTreeSet::new(),
        };
        opened.remove_orphans(&state.files())?;
        Ok((opened, state, position))
    }

    /// With segments of another size.
    #[must_use]
    pub(in crate::engine) fn with_segment_bytes(self, segment_bytes: u64) -> Self {
        Self { segment_bytes, ..self }
    }

    /// The size of a segment.
    pub(in crate::engine) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Where a block is read from.
    pub(in crate::engine) fn place(&self) -> (Arc<dyn Disk>, PathBuf) {
        (Arc::clone(&self.disk), self.data_dir.clone())
    }

    /// Something in the segment is damaged: it is to be set aside, not removed.
    pub(in crate::engine) fn is_damaged(&mut self, id: SegmentId) {
        self.damaged.insert(id);
    }

    /// What the next checkpoint has to write, as of `position`, which is where the state stands.
    pub(in crate::engine) fn begin(&self, state: &mut State, position: Position) -> Job {
        let Plan { pieces, stay, go, ids, ids_stay, ids_over } = state.plan_checkpoint(self.segment_bytes);
        let mut manifest = state.manifest();
        (manifest.segments, manifest.dedup) = (stay, ids_stay);
        Job {
            disk: Arc::clone(&self.disk),
            data_dir: self.data_dir.clone(),
            store: self.store,
            position,
            next_segment: self.next_segment,
            segment_bytes: self.segment_bytes,
            manifest,
            pieces,
            ids,
            ids_over,
            unneeded: go,
            damaged: self.damaged.clone(),
            orphans: self.orphans.clone(),
        }
    }

    /// Takes note of what a job has made durable; answers up to where the journal may forget, and which files may go.
    pub(in crate::engine) fn finish(&mut self, state: &mut State, written: Written) -> (Position, Removal) {
        self.next_segment = written.next_segment;
        self.orphans.clear();
        self.damaged.retain(|id| !written.removed.contains(id));
        state.checkpoint_written(&written.segments, &written.removed, &written.ids);
        (written.position, written.into_removal())
    }

    /// Takes note of a job that has failed: what it was to write is for the next one.
    pub(in crate::engine) fn give_up(&mut self, state: &mut State, failed: &Failed) {
        self.next_segment = failed.next_segment;
        self.orphans.clone_from(&failed.orphans);
        state.checkpoint_failed();
    }

    fn remove_orphans(&mut self, needed: &BTreeSet<SegmentId>) -> Result<(), LoadError> {
        let dir = segments_dir(&self.data_dir);
        let failed = |source| LoadError::Io { what: "tidy", path: dir.clone(), source };
        for name in self.disk.list(&dir).map_err(failed)? {
            let path = Path::new(&name);
            let Some(id) = segment_id(path) else { continue };
            // An id that was used, even in vain, is not used again.
            self.next_segment = self.next_segment.max(SegmentId(id.0.saturating_add(1)));
            let is_ours = path.extension().is_some_and(|ending| ending == SEGMENT_ENDING || ending == IDS_ENDING);
            if is_ours && !needed.contains(&id) {
                self.disk.remove(&dir.join(&name)).map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// What a data directory's checkpoint holds.
#[derive(Debug)]
pub(in crate::engine) struct Loaded {
    pub(in crate::engine) state: State,
    /// The journal has to be replayed from here.
    pub(in crate::engine) position: Position,
    /// Segments whose index had to be made again.
    pub(in crate::engine) mended: Vec<SegmentId>,
    next_segment: SegmentId,
}

/// Reads the last checkpoint, and changes nothing. Without one, the state is empty and the journal begins at its start.
///
/// # Errors
/// [`LoadError`].
pub(in crate::engine) fn load(disk: &dyn Disk, data_dir: &Path, store: Uuid) -> Result<Loaded, LoadError> {
    let Salvaged { loaded, unusable } = salvage(disk, data_dir, store)?;
    unusable.into_iter().next().map_or(Ok(loaded), |(_, error)| Err(error))
}

/// As [`load`], but goes on without the segments and files of ids that cannot be used.
///
/// # Errors
/// [`LoadError`], if it is the manifest that cannot be used.
pub(in crate::engine) fn salvage(disk: &dyn Disk, data_dir: &Path, store: Uuid) -> Result<Salvaged, LoadError> {
    let path = manifest_path(data_dir);
    let Some(bound) = read_manifest(disk, data_dir, store)? else {
        let (state, position, next_segment) = (State::default(), Position::START, SegmentId(1));
        let loaded = Loaded { state, position, mended: Vec::new(), next_segment };
        return Ok(Salvaged { loaded, unusable: Vec::new() });
    };
    let (mut segments, mut mended, mut unusable) = (Vec::new(), Vec::new(), Vec::new());
    for entry in &bound.manifest.segments {
        match read_blocks(disk, data_dir, store, *entry) {
            Ok((blocks, is_mended)) => {
                segments.push((*entry, blocks));
                mended.extend(is_mended.then_some(entry.id));
            }
            Err(error) => unusable.push((entry.id, error)),
        }
    }
    let mut ids = bound.ids;
    for entry in &bound.manifest.dedup {
        match read_ids(disk, data_dir, store, *entry) {
            Ok(read) => ids.extend(read),
            Err(error) => unusable.push((entry.id, error)),
        }
    }
    let state = State::restored(bound.manifest, segments, &ids).map_err(|e| damaged(&path, e.to_string()))?;
    let loaded = Loaded { state, position: bound.position, mended, next_segment: bound.next_segment };
    Ok(Salvaged { loaded, unusable })
}

fn read_manifest(disk: &dyn Disk, data_dir: &Path, store: Uuid) -> Result<Option<Bound>, LoadError> {
    let path = manifest_path(data_dir);
    let Some(bytes) = read_file(disk, &path)? else { return Ok(None) };
    let bound = Bound::decode(&bytes).map_err(|problem| damaged(&path, problem))?;
    if bound.store != store {
        return Err(LoadError::OtherStore { path, found: bound.store, expected: store });
    }
    Ok(Some(bound))
}

/// A data directory's checkpoint as far as it can be used.
#[derive(Debug)]
pub(in crate::engine) struct Salvaged {
    /// Without what stands in the segments that cannot be used.
    pub(in crate::engine) loaded: Loaded,
    pub(in crate::engine) unusable: Vec<(SegmentId, LoadError)>,
}

/// Makes a manifest the one that counts, durably.
pub(super) fn replace_manifest(disk: &dyn Disk, data_dir: &Path, bound: &Bound) -> io::Result<()> {
    let (path, tmp) = (manifest_path(data_dir), manifest_tmp_path(data_dir));
    let file = create(disk, &tmp)?;
    file.write_all_at(&bound.encode(), 0)?;
    file.sync_data()?;
    disk.rename(&tmp, &path)?;
    disk.sync_dir(data_dir)
}

/// A new file, in place of what a checkpoint that failed may have left.
pub(super) fn create(disk: &dyn Disk, path: &Path) -> io::Result<Box<dyn DiskFile>> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    disk.create(path)
}

/// Writes a file of dedup ids, durably.
pub(super) fn write_ids(
    disk: &dyn Disk,
    data_dir: &Path,
    store: Uuid,
    id: SegmentId,
    entries: &[DedupEntry],
) -> io::Result<IdsEntry> {
    let bytes = ids::encode(entries, store, id);
    let file = create(disk, &ids_path(data_dir, id))?;
    file.write_all_at(&bytes, 0)?;
    file.sync_data()?;
    disk.sync_dir(&segments_dir(data_dir))?;
    let end = entries.iter().map(|used| used.end).max().unwrap_or_default();
    Ok(IdsEntry { id, bytes: bytes.len() as u64, end })
}

/// Writes the manifest again without these segments and files of ids. What is in them is lost.
///
/// # Errors
/// [`LoadError`].
pub(in crate::engine) fn forget_segments(
    disk: &dyn Disk,
    data_dir: &Path,
    store: Uuid,
    ids: &[SegmentId],
) -> Result<(), LoadError> {
    let path = manifest_path(data_dir);
    let Some(mut bound) = read_manifest(disk, data_dir, store)? else { return Ok(()) };
    let failed = |source| LoadError::Io { what: "write", path, source };
    bound.manifest.segments.retain(|segment| !ids.contains(&segment.id));
    bound.manifest.dedup.retain(|file| !ids.contains(&file.id));
    if !bound.ids.is_empty() {
        // The manifest was of version 1, which had them in it.
        let id = bound.next_segment;
        bound.next_segment = SegmentId(id.0.saturating_add(1));
        let written = write_ids(disk, data_dir, store, id, &std::mem::take(&mut bound.ids));
        match written {
            Ok(file) => bound.manifest.dedup.push(file),
            Err(source) => return Err(failed(source)),
        }
    }
    replace_manifest(disk, data_dir, &bound).map_err(failed)
}

/// The blocks of a segment, and whether its index had to be made again.
fn read_blocks(
    disk: &dyn Disk,
    data_dir: &Path,
    store: Uuid,
    entry: SegmentEntry,
) -> Result<(Vec<Block>, bool), LoadError> {
    let path = segment_path(data_dir, entry.id);
    let failed = |source| LoadError::Io { what: "read", path: path.clone(), source };
    let file = match disk.open_read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damaged(&path, "it is missing")),
        opened => opened.map_err(failed)?,
    };
    let length = file.length().map_err(failed)?;
    if length != entry.bytes {
        return Err(damaged(&path, "it does not have the length that it was written with"));
    }
    let blocks = segment::blocks(&*file, length, store, entry.id).map_err(failed)?;
    blocks.map_err(|problem| damaged(&path, problem))
}

fn read_ids(disk: &dyn Disk, data_dir: &Path, store: Uuid, entry: IdsEntry) -> Result<Vec<DedupEntry>, LoadError> {
    let path = ids_path(data_dir, entry.id);
    let bytes = read_file(disk, &path)?.ok_or_else(|| damaged(&path, "it is missing"))?;
    if bytes.len() as u64 != entry.bytes {
        return Err(damaged(&path, "it does not have the length that it was written with"));
    }
    ids::decode(&bytes, store, entry.id).map_err(|problem| damaged(&path, problem))
}

/// The whole file, past the page cache; `None` if there is none.
fn read_file(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, LoadError> {
    let failed = |source| LoadError::Io { what: "read", path: path.to_path_buf(), source };
    let file = match disk.open_read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    file.sync_data().and_then(|()| file.drop_cache()).map_err(failed)?;
    let length = file.length().map_err(failed)?;
    let mut bytes = vec![0; usize::try_from(length).map_err(|e| failed(io::Error::other(e)))?];
    file.read_exact_at(&mut bytes, 0).map_err(failed)?;
    Ok(Some(bytes))
}

fn damaged(path: &Path, problem: impl Into<String>) -> LoadError {
    LoadError::Damaged { path: path.to_path_buf(), problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{
            checkpoint::Manifest,
            disk::{Fault, FaultDisk, Op, Outcome, RealDisk, Times},
        },
        model::Timestamp,
    };

    #[test]
    fn forgetting_segments_changes_nothing_else() {
        let dir = tempfile::tempdir().expect("a folder");
        let segment = |id| SegmentEntry { id: SegmentId(id), bytes: 100 };
        let ids = |id| IdsEntry { id: SegmentId(id), bytes: 50, end: Timestamp::EPOCH };
        let manifest =
            Manifest { segments: vec![segment(1), segment(2)], dedup: vec![ids(3), ids(4)], ..Manifest::default() };
        let (store, position, next_segment) = (Uuid::from_u128(7), Position(8192), SegmentId(9));
        let mut bound = Bound { store, position, next_segment, manifest, ids: Vec::new() };
        replace_manifest(&RealDisk, dir.path(), &bound).expect("written");
        forget_segments(&RealDisk, dir.path(), store, &[SegmentId(1), SegmentId(4)]).expect("written");
        (bound.manifest.segments, bound.manifest.dedup) = (vec![segment(2)], vec![ids(3)]);
        assert_eq!(read_manifest(&RealDisk, dir.path(), store).expect("readable"), Some(bound));
    }

    #[test]
    fn without_a_durable_folder_for_segments_there_is_no_start() {
        for (op, name_end, is_told) in [(Op::CreateDir, "segments", "make"), (Op::SyncDir, "", "sync")] {
            let (dir, disk) = (tempfile::tempdir().expect("a folder"), FaultDisk::new(RealDisk));
            let outcome = Outcome::Error(io::ErrorKind::PermissionDenied);
            disk.set(Fault { op, name_end, nth: 1, outcome, times: Times::Once });
            let opened = CheckpointStore::open(Arc::new(disk), dir.path(), Uuid::nil());
            assert!(matches!(opened, Err(LoadError::Io { what, .. }) if what == is_told), "{op:?}: {opened:?}");
        }
    }

    #[test]
    fn a_start_removes_what_nobody_needs_and_never_what_was_set_aside() {
        let dir = tempfile::tempdir().expect("a folder");
        let segments = segments_dir(dir.path());
        std::fs::create_dir(&segments).expect("made");
        for ending in [SEGMENT_ENDING, IDS_ENDING, "damaged"] {
            std::fs::write(segments.join(format!("00000001.{ending}")), "").expect("written");
        }
        CheckpointStore::open(Arc::new(RealDisk), dir.path(), Uuid::nil()).expect("opens");
        assert_eq!(RealDisk.list(&segments).expect("listed"), ["00000001.damaged"]);
    }

    #[test]
    fn a_file_that_cannot_be_replaced_is_told_with_the_cause() {
        let (dir, disk) = (tempfile::tempdir().expect("a folder"), FaultDisk::new(RealDisk));
        let path = dir.path().join("file");
        for _ in 0..2 {
            create(&disk, &path).expect("made, also in place of another one");
        }
        let outcome = Outcome::Error(io::ErrorKind::PermissionDenied);
        disk.set(Fault { op: Op::Remove, name_end: "file", nth: 1, outcome, times: Times::Once });
        assert_eq!(create(&disk, &path).expect_err("in the way").kind(), io::ErrorKind::PermissionDenied);
    }
}

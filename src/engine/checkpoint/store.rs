//! The checkpoint of a data directory: reading the last one, and beginning the next.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use uuid::Uuid;

use super::{Failed, Job, SegmentId, Written, manifest::Bound, segment};
use crate::engine::{disk::Disk, journal::Position, state::State};

const MANIFEST_NAME: &str = "MANIFEST";
const MANIFEST_TMP_NAME: &str = "MANIFEST.tmp";
const SEGMENTS_NAME: &str = "segments";
const SEGMENT_ENDING: &str = "seg";

pub(in crate::engine) fn manifest_path(data_dir: &Path) -> PathBuf {
    data_dir.join(MANIFEST_NAME)
}

pub(super) fn manifest_tmp_path(data_dir: &Path) -> PathBuf {
    data_dir.join(MANIFEST_TMP_NAME)
}

pub(in crate::engine) fn segments_dir(data_dir: &Path) -> PathBuf {
    data_dir.join(SEGMENTS_NAME)
}

pub(super) fn segment_path(data_dir: &Path, id: SegmentId) -> PathBuf {
    segments_dir(data_dir).join(format!("{id}.{SEGMENT_ENDING}"))
}

/// Whether a name in a data directory belongs to its checkpoints.
pub(in crate::engine) fn is_ours(name: &OsStr) -> bool {
    [MANIFEST_NAME, MANIFEST_TMP_NAME, SEGMENTS_NAME].iter().any(|ours| name == *ours)
}

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
    #[error("{path} is damaged: {problem}; nothing was changed", path = path.display())]
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
}

impl CheckpointStore {
    /// Reads the last checkpoint: the state that it holds, and from where the journal has to be replayed. Removes what
    /// an unfinished one has left.
    ///
    /// # Errors
    /// [`LoadError`].
    pub(in crate::engine) fn open(
        disk: Arc<dyn Disk>,
        data_dir: &Path,
        store: Uuid,
    ) -> Result<(Self, State, Position), LoadError> {
        let dir = segments_dir(data_dir);
        match disk.create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.and_then(|()| disk.sync_dir(data_dir)).map_err(|source| LoadError::Io {
                what: "make",
                path: dir.clone(),
                source,
            })?,
        }
        let Loaded { state, position, next_segment } = load(&*disk, data_dir, store)?;
        let mut opened = Self { disk, data_dir: data_dir.to_path_buf(), store, next_segment };
        opened.remove_orphans(&state.segment_ids())?;
        Ok((opened, state, position))
    }

    /// What the next checkpoint has to write, as of `position`, which is where the state stands.
    pub(in crate::engine) fn begin(&self, state: &mut State, position: Position) -> Job {
        let (pieces, stay, unneeded) = state.take_unsaved();
        let mut manifest = state.manifest();
        manifest.segments = stay;
        Job {
            disk: Arc::clone(&self.disk),
            data_dir: self.data_dir.clone(),
            store: self.store,
            position,
            next_segment: self.next_segment,
            manifest,
            pieces,
            unneeded,
        }
    }

    /// Takes note of what a job has made durable; answers up to where the journal may forget.
    pub(in crate::engine) fn finish(&mut self, state: &mut State, written: Written) -> Position {
        self.next_segment = written.next_segment;
        for (segment, pieces) in &written.segments {
            state.saved(*segment, pieces);
        }
        state.forget_segments(&written.removed);
        written.position
    }

    /// Takes note of a job that has failed: what it was to write is for the next one.
    pub(in crate::engine) fn give_up(&mut self, state: &mut State, failed: &Failed) {
        self.next_segment = failed.next_segment;
        state.give_back_unsaved(&failed.pieces);
    }

    fn remove_orphans(&mut self, needed: &BTreeSet<SegmentId>) -> Result<(), LoadError> {
        let dir = segments_dir(&self.data_dir);
        let failed = |source| LoadError::Io { what: "tidy", path: dir.clone(), source };
        for name in self.disk.list(&dir).map_err(failed)? {
            let stem = Path::new(&name).file_stem().and_then(|stem| stem.to_str());
            let Some(id) = stem.and_then(|stem| u32::from_str_radix(stem, 16).ok()).map(SegmentId) else { continue };
            // An id that was used, even in vain, is not used again.
            self.next_segment = self.next_segment.max(SegmentId(id.0.saturating_add(1)));
            if !needed.contains(&id) {
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
    next_segment: SegmentId,
}

/// Reads the last checkpoint, and changes nothing. Without one, the state is empty and the journal begins at its start.
///
/// # Errors
/// [`LoadError`].
pub(in crate::engine) fn load(disk: &dyn Disk, data_dir: &Path, store: Uuid) -> Result<Loaded, LoadError> {
    let path = manifest_path(data_dir);
    let Some(bytes) = read_file(disk, &path)? else {
        return Ok(Loaded { state: State::default(), position: Position::START, next_segment: SegmentId(1) });
    };
    let bound = Bound::decode(&bytes).map_err(|problem| damaged(&path, problem))?;
    if bound.store != store {
        return Err(LoadError::OtherStore { path, found: bound.store, expected: store });
    }
    let names: Vec<_> = bound.manifest.topics.iter().map(|t| t.as_ref().map(|t| t.name.clone())).collect();
    let mut segments = Vec::new();
    for entry in &bound.manifest.segments {
        let path = segment_path(data_dir, entry.id);
        let bytes = read_file(disk, &path)?.ok_or_else(|| damaged(&path, "it is missing"))?;
        if bytes.len() as u64 != entry.bytes {
            return Err(damaged(&path, "it does not have the length that it was written with"));
        }
        let pieces = segment::read(&bytes, store, entry.id, &names).map_err(|problem| damaged(&path, problem))?;
        segments.push((*entry, pieces));
    }
    let state = State::restored(bound.manifest, segments).map_err(|e| damaged(&path, e.to_string()))?;
    Ok(Loaded { state, position: bound.position, next_segment: bound.next_segment })
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

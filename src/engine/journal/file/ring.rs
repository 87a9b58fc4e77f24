//! The folder of the journal's files: what stands in it, making a file, and taking one out of use.
//!
//! ```text
//!            zero-filled             header, sync,
//!   nothing ────────────► <id>.tmp ────────────────► <id>.wal ──┐ no longer needed
//!                                    rename, sync     ▲         │
//!                                    of the folder    │         ▼
//!                                                     └─── <id>.spare ──► removed (when there are enough)
//! ```
//!
//! A file is a part of the journal by its name, and gets that name only when it is complete and durable; so there is no
//! half-made part of the journal, and a file being made over is no part of it. Frames of its earlier life do not count:
//! its id and its salt are new. Nothing here decides when a file is not needed any more.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    super::Position,
    error::OpenError,
    file_header::FileHeader,
    file_id::{FileId, Role},
    journal_file::JournalFile,
    store::journal_dir,
};
use crate::engine::disk::{Disk, DiskFile};

/// How many files are kept for later use. More than one checkpoint frees are of no use.
const SPARES_MAX: usize = 4;

/// Zeros are written and synced in pieces of this many bytes, so that neither an end that comes meanwhile nor the sync of
/// a frame is kept waiting. With one sync for the whole file, 64 clients published 0.6 to 0.8 of what they do so, and the
/// slowest of a hundred waited four times as long (measured in turns on one disk).
const ZEROS_BYTES: usize = 1 << 20;

/// The files of a journal, less those that are being read or written.
#[derive(Debug)]
pub(super) struct Ring {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    store: Uuid,
    file_bytes: u64,
    spares: BTreeSet<FileId>,
}

/// What the next file shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) id: FileId,
    pub(super) previous: Option<FileId>,
    pub(super) first: Position,
}

/// A file that is ready for frames.
#[derive(Debug)]
pub(super) struct ReadyFile {
    pub(super) file: Box<dyn DiskFile>,
    pub(super) header: FileHeader,
}

impl Plan {
    /// What comes after the file with this header.
    pub(super) fn after(header: &FileHeader) -> Self {
        Self { id: header.id.next(), previous: Some(header.id), first: header.last() }
    }
}

impl Ring {
    /// Lists the folder, and makes its names durable: of a file that is used again no earlier one may come back. Answers the
    /// journal's files too, in their order, checked against each other.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        data_dir: &Path,
        store: Uuid,
        file_bytes: u64,
    ) -> Result<(Self, Vec<JournalFile>), OpenError> {
        let dir = journal_dir(data_dir);
        disk.sync_dir(&dir).map_err(OpenError::io("sync", &dir))?;
        let mut ids = BTreeSet::new();
        let mut spares = BTreeSet::new();
        for name in disk.list(&dir).map_err(OpenError::io("list", &dir))? {
            match FileId::parse(&name) {
                Some((id, Role::Journal)) => drop(ids.insert(id)),
                Some((id, Role::Spare)) => drop(spares.insert(id)),
                Some((id, Role::Unfinished)) => {
                    let path = id.path(&dir, Role::Unfinished);
                    disk.remove(&path).map_err(OpenError::io("remove", &path))?;
                }
                None => {}
            }
        }
        let mut files: Vec<JournalFile> = Vec::with_capacity(ids.len());
        for id in ids {
            let file = JournalFile::load(&*disk, &dir, id, store)?;
            if let Some(before) = files.last() {
                file.follows(before, &dir)?;
            }
            files.push(file);
        }
        Ok((Self { disk, dir, store, file_bytes, spares }, files))
    }

    /// The last of the files that wait for another use.
    pub(super) fn newest_spare(&self) -> Option<FileId> {
        self.spares.last().copied()
    }

    /// Takes a file out of the journal. Files go from the ends inward, one durable step each: a gap would be damage.
    pub(super) fn park(&mut self, id: FileId) -> io::Result<()> {
        if self.spares.len() >= SPARES_MAX
            && let Some(oldest) = self.spares.pop_first()
        {
            self.disk.remove(&oldest.path(&self.dir, Role::Spare)).map_err(about(&self.dir))?;
        }
        let from = id.path(&self.dir, Role::Journal);
        match self.disk.rename(&from, &id.path(&self.dir, Role::Spare)) {
            // An earlier attempt got this far.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed.map_err(about(&from))?,
        }
        self.disk.sync_dir(&self.dir).map_err(about(&self.dir))?;
        self.spares.insert(id);
        Ok(())
    }

    /// Makes a file for the journal, unless `is_over` says meanwhile that nobody wants it.
    pub(super) fn make(&mut self, plan: Plan, is_over: &dyn Fn() -> bool) -> io::Result<ReadyFile> {
        let (path, file) = match self.reuse()? {
            Some(reused) => reused,
            None => self.zero_filled(plan.id, is_over)?,
        };
        let header = FileHeader {
            store: self.store,
            id: plan.id,
            previous: plan.previous,
            salt: random_u64(),
            first: plan.first,
            file_bytes: self.file_bytes,
        };
        file.write_all_at(&header.encode(), 0).map_err(about(&path))?;
        file.sync_data().map_err(about(&path))?;
        self.disk.rename(&path, &plan.id.path(&self.dir, Role::Journal)).map_err(about(&path))?;
        self.disk.sync_dir(&self.dir).map_err(about(&self.dir))?;
        Ok(ReadyFile { file, header })
    }

    /// A spare of the right length. Those of another length, from before the option was changed, are removed.
    fn reuse(&mut self) -> io::Result<Option<(PathBuf, Box<dyn DiskFile>)>> {
        while let Some(id) = self.spares.pop_first() {
            let path = id.path(&self.dir, Role::Spare);
            let file = self.disk.open_write(&path).map_err(about(&path))?;
            if file.length().map_err(about(&path))? == self.file_bytes {
                return Ok(Some((path, file)));
            }
            self.disk.remove(&path).map_err(about(&path))?;
        }
        Ok(None)
    }

    /// A new file, written once from end to end: writing to a place that was never written costs twice as much. What an
    /// earlier attempt left is of no use.
    fn zero_filled(&self, id: FileId, is_over: &dyn Fn() -> bool) -> io::Result<(PathBuf, Box<dyn DiskFile>)> {
        let path = id.path(&self.dir, Role::Unfinished);
        match self.disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(about(&path)(error)),
            _ => {}
        }
        let file = self.disk.create(&path).map_err(about(&path))?;
        let zeros = vec![0; ZEROS_BYTES];
        let mut offset = 0;
        while offset < self.file_bytes {
            if is_over() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let piece = (self.file_bytes - offset).min(ZEROS_BYTES as u64);
            file.write_all_at(&zeros[..piece as usize], offset).map_err(about(&path))?;
            file.sync_data().map_err(about(&path))?;
            offset += piece;
        }
        Ok((path, file))
    }
}

/// For `map_err`: the error with the path it is about.
fn about(path: &Path) -> impl FnOnce(io::Error) -> io::Error + '_ {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// 64 random bits; the fixed ones of a random UUID's halves do not meet.
fn random_u64() -> u64 {
    let (high, low) = Uuid::new_v4().as_u64_pair();
    high ^ low
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::disk::RealDisk;

    const FILE_BYTES: u64 = 32 << 10;

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    fn open(dir: &Path, file_bytes: u64) -> Result<(Ring, Vec<JournalFile>), OpenError> {
        Ring::open(Arc::new(RealDisk), dir, Uuid::nil(), file_bytes)
    }

    fn plan(id: FileId) -> Plan {
        Plan { id, previous: None, first: Position::START }
    }

    fn names(dir: &Path) -> io::Result<Vec<String>> {
        let names = RealDisk.list(&journal_dir(dir))?;
        let mut names: Vec<_> = names.into_iter().map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names)
    }

    #[test]
    fn a_spare_is_used_again_under_a_new_id_and_what_a_crash_left_is_removed() -> TestResult {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(journal_dir(dir.path()))?;
        let (mut ring, _) = open(dir.path(), FILE_BYTES)?;
        let first = ring.make(plan(FileId::FIRST), &|| false)?;
        assert_eq!(first.file.length()?, FILE_BYTES);
        ring.park(FileId::FIRST)?;
        ring.park(FileId::FIRST)?;
        assert_eq!(names(dir.path())?, ["0000000000000001.spare"]);
        std::fs::write(journal_dir(dir.path()).join("0000000000000002.tmp"), "")?;
        std::fs::write(journal_dir(dir.path()).join("notes.txt"), "")?;

        let (mut ring, files) = open(dir.path(), FILE_BYTES)?;
        assert!(files.is_empty());
        assert_eq!(ring.newest_spare(), Some(FileId::FIRST));
        let second = ring.make(plan(FileId::FIRST.next()), &|| false)?;
        assert_eq!(names(dir.path())?, ["0000000000000002.wal", "notes.txt"]);
        assert_ne!(first.header.salt, second.header.salt);
        let mut page = [0; 4096];
        first.file.read_exact_at(&mut page, 0)?;
        assert_eq!(page, second.header.encode(), "the same file underneath");
        Ok(())
    }

    #[test]
    fn spares_are_few_and_those_of_another_length_go() -> TestResult {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(journal_dir(dir.path()))?;
        let (mut ring, _) = open(dir.path(), FILE_BYTES)?;
        let mut id = FileId::FIRST;
        let mut made = Vec::new();
        for _ in 0..SPARES_MAX + 3 {
            ring.make(plan(id), &|| false)?;
            made.push(id);
            id = id.next();
        }
        for id in made {
            ring.park(id)?;
        }
        assert_eq!(names(dir.path())?.len(), SPARES_MAX);
        let (mut ring, _) = open(dir.path(), FILE_BYTES * 2)?;
        assert_eq!(ring.newest_spare().map(FileId::next), Some(id), "the newest is kept, so that no id comes twice");
        assert_eq!(ring.make(plan(id), &|| false)?.file.length()?, FILE_BYTES * 2);
        assert_eq!(names(dir.path())?.len(), 1);
        Ok(())
    }

    #[test]
    fn making_a_file_stops_when_nobody_wants_it() -> TestResult {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(journal_dir(dir.path()))?;
        let (mut ring, _) = open(dir.path(), FILE_BYTES)?;
        let stopped = ring.make(plan(FileId::FIRST), &|| true).expect_err("nobody wants it");
        assert_eq!(stopped.kind(), io::ErrorKind::Interrupted);
        assert_eq!(names(dir.path())?, ["0000000000000001.tmp"]);
        Ok(())
    }
}

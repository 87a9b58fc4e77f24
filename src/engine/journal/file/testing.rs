//! A folder with a journal in it, and the surgeon's tools.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    super::{Journal as _, Position, ReadError, memory::suite},
    FileJournal, OpenError, Options,
    file_header::FileHeader,
    layout::PAGE_BYTES,
    store::journal_dir,
};
use crate::engine::disk::{FaultDisk, RealDisk};

/// A journal's folder, and the disk through which it is opened.
pub(super) struct Bench {
    dir: tempfile::TempDir,
    pub(super) disk: FaultDisk,
    options: Options,
}

impl Bench {
    /// An empty folder, for journal files of `pages`.
    pub(super) fn new(pages: u64) -> Self {
        let dir = tempfile::tempdir().expect("there is room for a folder");
        Self { dir, disk: FaultDisk::new(RealDisk), options: Options { file_bytes: pages * PAGE_BYTES } }
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn open(&self) -> FileJournal {
        self.try_open().expect("opens")
    }

    pub(super) fn try_open(&self) -> Result<FileJournal, OpenError> {
        FileJournal::open(self.dir(), self.options, Arc::new(self.disk.clone()))
    }

    /// Opens and reads the journal; where reading is refused.
    pub(super) fn corrupt_at(&self, from: Position) -> Option<(String, u64)> {
        match self.open().read(from, &mut |_, _| Ok(())) {
            Ok(()) => None,
            Err(ReadError::Corrupt { place, offset, .. }) => Some((place, offset)),
            Err(error) => panic!("{error:?}"),
        }
    }

    /// The journal's files, in order.
    pub(super) fn wal_files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(journal_dir(self.dir())).expect("the folder is there");
        let paths = entries.map(|entry| entry.expect("readable").path());
        let mut files: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "wal")).collect();
        files.sort();
        files
    }

    /// Leaves the journal's folder as it was when `snapshot` was made.
    pub(super) fn restore(&self, snapshot: &[(PathBuf, Vec<u8>)]) {
        let folder = journal_dir(self.dir());
        std::fs::remove_dir_all(&folder).expect("removed");
        std::fs::create_dir(&folder).expect("made");
        for (path, bytes) in snapshot {
            std::fs::write(path, bytes).expect("written");
        }
    }

    /// All files in the journal's folder.
    pub(super) fn snapshot(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = std::fs::read_dir(journal_dir(self.dir())).expect("the folder is there");
        let paths = entries.map(|entry| entry.expect("readable").path());
        let mut files: Vec<_> = paths.map(|path| (path.clone(), std::fs::read(path).expect("readable"))).collect();
        files.sort();
        files
    }
}

/// What was appended: the position after each frame, and its records.
pub(super) type Written = Vec<(Position, Vec<u8>)>;

/// A journal whose frames have these lengths.
pub(super) fn written(bench: &Bench, lengths: &[usize]) -> Written {
    let mut journal = bench.open();
    suite::read(&mut journal, Position::START);
    let written =
        lengths.iter().zip(1_u8..).map(|(&length, n)| suite::append(&mut journal, &vec![n; length])).collect();
    journal.settle();
    written
}

/// The header in the first page of a file.
pub(super) fn header_of(file: &[u8]) -> FileHeader {
    FileHeader::decode(file.first_chunk().expect("there is a page")).expect("it is a header")
}

/// Changes the bytes of a file.
pub(super) fn operate(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("readable");
    change(&mut bytes);
    std::fs::write(path, bytes).expect("writable");
}

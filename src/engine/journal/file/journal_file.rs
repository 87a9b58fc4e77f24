//! One file of the journal, as it is found at start.
//!
//! Only its header is looked at here. A file is given its name when its header is durable, so a header that does not
//! hold is damage, whatever the file was used for.

use std::{
    io,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{
    super::Position,
    error::OpenError,
    file_header::{self, BadHeader, FileHeader},
    file_id::{FileId, Role},
    layout::PAGE_BYTES,
};
use crate::engine::disk::{Disk, DiskFile};

/// A file of the journal that was there at start; nothing is ever appended to it.
#[derive(Debug)]
pub(super) struct JournalFile {
    pub(super) path: PathBuf,
    pub(super) header: FileHeader,
    pub(super) frames: Frames,
}

/// What is known of a file's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frames {
    Unread,
    /// There are none.
    None,
    /// There are some, and none ends after this position.
    Until(Position),
}

impl JournalFile {
    /// Reads the header of file `id` in the folder `dir`, which must belong to `store`.
    pub(super) fn load(disk: &dyn Disk, dir: &Path, id: FileId, store: Uuid) -> Result<Self, OpenError> {
        let path = id.path(dir, Role::Journal);
        let damaged = |problem| OpenError::Damaged { path: path.clone(), problem };
        let file = open_past_cache(disk, &path).map_err(OpenError::io("open", &path))?;
        let length = file.length().map_err(OpenError::io("read", &path))?;
        if length < PAGE_BYTES {
            return Err(damaged("it ends within its header"));
        }
        let mut page = [0; PAGE_BYTES as usize];
        file.read_exact_at(&mut page, 0).map_err(OpenError::io("read", &path))?;
        let header = FileHeader::decode(&page).map_err(|bad| match bad {
            BadHeader::Damaged(problem) => damaged(problem),
            BadHeader::Version(found) => OpenError::Version { path: path.clone(), found, known: file_header::VERSION },
        })?;
        if header.store != store {
            return Err(OpenError::OtherStore { path, found: header.store, expected: store });
        }
        if header.id != id {
            return Err(damaged("by its header it is another file"));
        }
        if length < header.file_bytes {
            return Err(damaged("it is shorter than it was made"));
        }
        Ok(Self { path, header, frames: Frames::Unread })
    }

    /// Checks that this file is the one that was made after `before`.
    pub(super) fn follows(&self, before: &Self, dir: &Path) -> Result<(), OpenError> {
        let damaged = |problem| OpenError::Damaged { path: self.path.clone(), problem };
        match self.header.previous {
            Some(previous) if previous == before.header.id => {}
            Some(previous) => {
                let path = previous.path(dir, Role::Journal);
                return Err(OpenError::Missing { path, needed_by: self.path.clone() });
            }
            None => return Err(damaged("by its header no file comes before it")),
        }
        if self.header.first < before.header.last() {
            return Err(damaged("it begins before the end of the file before it"));
        }
        Ok(())
    }
}

/// Opens a file so that what is read from it is what its disk holds. The page cache alone proves nothing: after a kill
/// it may hold what was never written out, and after a failed sync what never will be.
pub(super) fn open_past_cache(disk: &dyn Disk, path: &Path) -> io::Result<Box<dyn DiskFile>> {
    let file = disk.open_read(path)?;
    file.sync_data()?;
    file.drop_cache()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            super::memory::suite,
            testing::{Bench, header_of, operate, written},
        },
        *,
    };

    const PAGE: usize = PAGE_BYTES as usize;

    #[test]
    fn a_missing_file_is_missed() {
        let bench = Bench::new(4);
        let written = written(&bench, &[9000; 4]);
        let image = bench.snapshot();
        let files = bench.wal_files();
        assert_eq!(files.len(), 5);
        for (missing, file) in files[..4].iter().enumerate() {
            bench.restore(&image);
            std::fs::remove_file(file).expect("removed");
            if missing == 0 {
                assert!(bench.corrupt_at(Position::START).is_some());
                assert_eq!(suite::read(&mut bench.open(), written[0].0), written[1..]);
            } else {
                match bench.try_open() {
                    Err(OpenError::Missing { path, .. }) => assert_eq!(&path, file),
                    other => panic!("{other:?}"),
                }
            }
        }
        bench.restore(&[]);
        assert!(bench.corrupt_at(written[0].0).is_some(), "a checkpoint knows of more than there is");
        bench.restore(&image[..1]);
        assert!(bench.corrupt_at(written[2].0).is_some());
    }

    #[test]
    fn a_file_that_is_not_what_it_should_be_is_refused_with_its_name() {
        let bench = Bench::new(8);
        written(&bench, &[100, 200]);
        let image = bench.snapshot();
        let path = &image[0].0;
        let refusal = |change: &dyn Fn(&mut Vec<u8>)| {
            bench.restore(&image);
            operate(path, change);
            bench.try_open().expect_err("it was changed")
        };
        for byte in 0..76 {
            match refusal(&|file| file[byte] ^= 4) {
                OpenError::Damaged { path: named, .. } => assert_eq!(&named, path),
                OpenError::Version { path: named, found, .. } => {
                    assert!((8..12).contains(&byte) && &named == path && found != 1);
                }
                other => panic!("byte {byte}: {other:?}"),
            }
        }
        for length in [0, 1, PAGE - 1, PAGE, PAGE * 8 - 1] {
            assert!(matches!(refusal(&|file| file.truncate(length)), OpenError::Damaged { .. }), "{length} bytes");
        }
        let foreign = |file: &mut Vec<u8>| {
            let header = FileHeader { store: uuid::Uuid::nil(), ..header_of(file) };
            file[..PAGE].copy_from_slice(&header.encode());
        };
        assert!(matches!(refusal(&foreign), OpenError::OtherStore { .. }));
        bench.restore(&image);
        std::fs::rename(path, path.with_file_name("000000000000000a.wal")).expect("renamed");
        assert!(matches!(bench.try_open(), Err(OpenError::Damaged { .. })));
    }
}

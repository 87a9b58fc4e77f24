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

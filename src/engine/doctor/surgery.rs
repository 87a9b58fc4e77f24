//! Carrying out a plan on the disk.
//!
//! The invariants: nothing is removed and nothing overwritten of which there is no durable copy; each action is one step
//! that is done or not, and durable before the next one begins.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use uuid::Uuid;

use super::{Action, Plan, RepairError, report};
use crate::engine::{
    checkpoint::{self, LoadError, SegmentId},
    disk::{Disk, DiskFile},
    journal::file,
};

/// Files are copied in pieces of this many bytes.
const PIECE_BYTES: u64 = 1 << 20;

const REPORT_NAME: &str = "REPORT";

/// What a repair works with.
pub(super) struct Surgery {
    disk: Arc<dyn Disk>,
    data_dir: PathBuf,
    store: Uuid,
    /// Where this repair sets things aside.
    aside: PathBuf,
}

type Result<T> = std::result::Result<T, RepairError>;

impl Surgery {
    /// Makes the folder for what is set aside, named for the moment.
    pub(super) fn begin(disk: Arc<dyn Disk>, data_dir: &Path, store: Uuid, moment: &str) -> Result<Self> {
        let root = data_dir.join(file::SET_ASIDE_NAME);
        make_folder(&*disk, &root)?;
        let mut aside = root.join(moment);
        let mut number = 1;
        // Another repair may have begun at the same moment.
        while let Err(error) = disk.create_dir(&aside) {
            if error.kind() != io::ErrorKind::AlreadyExists {
                return Err(failed("make", &aside)(error));
            }
            number += 1;
            aside = root.join(format!("{moment}-{number}"));
        }
        sync_dir(&*disk, &root)?;
        Ok(Self { disk, data_dir: data_dir.to_path_buf(), store, aside })
    }

    /// Where things are set aside.
    pub(super) fn aside(&self) -> &Path {
        &self.aside
    }

    /// Writes down what is to be done, does it, and writes down that it was done.
    pub(super) fn carry_out(&self, plan: &Plan, report: &str) -> Result<()> {
        let path = self.aside.join(REPORT_NAME);
        let failed = failed("write", &path);
        let written = self.disk.create(&path).and_then(|file| {
            file.write_all_at(report.as_bytes(), 0)?;
            file.sync_data()?;
            Ok(file)
        });
        let file = written.map_err(failed)?;
        sync_dir(&*self.disk, &self.aside)?;
        for action in &plan.actions {
            self.act(action)?;
        }
        let finished = file.write_all_at(report::FINISHED.as_bytes(), report.len() as u64);
        finished.and_then(|()| file.sync_data()).map_err(self::failed("write", &path))
    }

    fn act(&self, action: &Action) -> Result<()> {
        match action {
            Action::SetAside { path } => self.set_aside(path),
            Action::Forget { path, files } => {
                self.copy(path)?;
                let ids: Vec<SegmentId> = files.iter().filter_map(|path| checkpoint::segment_id(path)).collect();
                checkpoint::forget_segments(&*self.disk, &self.data_dir, self.store, &ids)?;
                Ok(())
            }
            Action::Mark { path } => {
                match self.disk.create(path) {
                    // By a repair that was broken off.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    made => made.map(drop).map_err(failed("make", path))?,
                }
                sync_dir(&*self.disk, folder_of(path))
            }
            Action::End { path, offset } => {
                self.copy(path)?;
                self.end(path, *offset)
            }
        }
    }

    fn set_aside(&self, path: &Path) -> Result<()> {
        let target = self.target(path)?;
        self.disk.rename(path, &target).map_err(failed("set aside", path))?;
        sync_dir(&*self.disk, folder_of(&target))?;
        sync_dir(&*self.disk, folder_of(path))
    }

    fn copy(&self, path: &Path) -> Result<()> {
        let target = self.target(path)?;
        let from = self.disk.open_read(path).map_err(failed("read", path))?;
        let length = from.length().map_err(failed("read", path))?;
        let to = self.disk.create(&target).map_err(failed("make", &target))?;
        copy(&*from, &*to, length).and_then(|()| to.sync_data()).map_err(failed("copy", path))?;
        sync_dir(&*self.disk, folder_of(&target))
    }

    /// Puts a file in the place of this one that has what stands before `offset`, and zeros.
    fn end(&self, path: &Path, offset: u64) -> Result<()> {
        let failed = || failed("write", path);
        // A start removes a file of this name.
        let tmp = path.with_extension("tmp");
        match self.disk.remove(&tmp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed()(error)),
            _ => {}
        }
        let from = self.disk.open_read(path).map_err(failed())?;
        let length = from.length().map_err(failed())?;
        let to = self.disk.create(&tmp).map_err(failed())?;
        copy(&*from, &*to, offset).map_err(failed())?;
        to.set_len(length).and_then(|()| to.sync_data()).map_err(failed())?;
        self.disk.rename(&tmp, path).map_err(failed())?;
        sync_dir(&*self.disk, folder_of(path))
    }

    /// Where a file goes: to the place among what is set aside that it has in the data directory.
    fn target(&self, path: &Path) -> Result<PathBuf> {
        let inside = path.strip_prefix(&self.data_dir).expect("a repair is about files of the data directory");
        let target = self.aside.join(inside);
        let folder = folder_of(&target);
        if folder != self.aside {
            make_folder(&*self.disk, folder)?;
        }
        Ok(target)
    }
}

fn copy(from: &dyn DiskFile, to: &dyn DiskFile, bytes: u64) -> io::Result<()> {
    let mut piece = Vec::new();
    let mut offset = 0;
    while offset < bytes {
        piece.resize(usize::try_from((bytes - offset).min(PIECE_BYTES)).expect("at most a piece"), 0);
        from.read_exact_at(&mut piece, offset)?;
        to.write_all_at(&piece, offset)?;
        offset += piece.len() as u64;
    }
    Ok(())
}

/// Makes a folder, unless it is there, and its name durable.
fn make_folder(disk: &dyn Disk, path: &Path) -> Result<()> {
    match disk.create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.map_err(failed("make", path))?,
    }
    sync_dir(disk, folder_of(path))
}

fn sync_dir(disk: &dyn Disk, path: &Path) -> Result<()> {
    disk.sync_dir(path).map_err(failed("sync", path))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().expect("files of a data directory are in a folder")
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RepairError {
    let path = path.to_path_buf();
    move |source| RepairError::Io(LoadError::Io { what, path, source })
}

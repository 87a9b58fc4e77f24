//! Reading a journal to see what is in it and everything that is wrong with it, for people.
//!
//! It judges as `recovery` does, which stops at the first defect, and then goes on behind it as far as there is
//! something to hold on to. It changes nothing, and needs no lock: a broker may append meanwhile. What looks like damage
//! is therefore looked at once more, since of two frames the earlier one was written first. The invariant: a journal
//! without defects is one that a start accepts, and one with defects is one that it refuses.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{
    super::Position,
    defect::Defect,
    file_header::FileHeader,
    file_id::{FileId, Role},
    journal_file::JournalFile,
    layout::PAGE_BYTES,
    store::{Store, journal_dir, store_path},
    tail::Tail,
    walk::{Gap, Link, See, Sighting, Walk},
};
use crate::engine::disk::Disk;

/// What stands in the folder of a journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalReport {
    /// Whose journal it is.
    pub store: StoreId,
    /// The files of the journal that can be read, in order.
    pub files: Vec<SurveyedFile>,
    /// Files that wait to be used again.
    pub spares: Vec<PathBuf>,
    /// Files that were being made when the broker ended, or are being made. Worthless.
    pub unfinished: Vec<PathBuf>,
    /// What else is there, and means nothing.
    pub others: Vec<PathBuf>,
    /// Where the last frame ends.
    pub end: Option<HistoryEnd>,
}

/// Which store it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StoreId {
    /// The one that the file `STORE` names.
    Named(Uuid),
    /// The one that the first journal file belongs to; the file `STORE` is gone or damaged.
    Guessed(Uuid),
    /// There is none, or nothing that tells.
    #[default]
    None,
}

/// A file of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurveyedFile {
    /// The file.
    pub path: PathBuf,
    /// The position at which its first frame begins.
    pub first: Position,
    /// Its length by its header.
    pub file_bytes: u64,
    /// Where its last frame ends, from the beginning of the file.
    pub used_bytes: u64,
    /// How many frames it has.
    pub frames: u64,
    /// What stands behind the last one.
    pub tail: Tail,
}

/// Where history ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEnd {
    /// The position after the last frame.
    pub position: Position,
    /// The file that it is in.
    pub path: PathBuf,
    /// Where it ends there.
    pub offset: u64,
}

/// Looks at the journal in `data_dir` from a position on, and tells `see` what it meets; from the first frame there is, if
/// it is not known from where a start would read it.
pub(in crate::engine) fn survey(
    disk: &dyn Disk,
    data_dir: &Path,
    from: Option<Position>,
    see: &mut See<'_>,
) -> JournalReport {
    let mut report = JournalReport::default();
    let dir = journal_dir(data_dir);
    let store = Store::load(disk, data_dir);
    let ids = match (list(disk, &dir, &mut report), &store) {
        (Ok(ids), _) => ids,
        (Err(error), Ok(Some(_))) if error.kind() == io::ErrorKind::NotFound => {
            see(Sighting::Defect(Defect::Missing { path: dir.clone(), needed_by: store_path(data_dir) }));
            BTreeSet::new()
        }
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
        (Err(error), _) => {
            see(Sighting::Defect(Defect::unreadable(&dir)(error)));
            BTreeSet::new()
        }
    };
    report.store = match &store {
        Ok(Some(store)) => StoreId::Named(store.uuid),
        Ok(None) | Err(_) => guess_store(disk, &dir, &ids),
    };
    match store {
        Ok(Some(_)) => {}
        Ok(None) if is_bare(&report, &ids) => {}
        Ok(None) => see(Sighting::Defect(Defect::Missing { path: store_path(data_dir), needed_by: dir.clone() })),
        Err(error) => see(Sighting::Defect(error.into())),
    }
    let uuid = match report.store {
        StoreId::Named(uuid) | StoreId::Guessed(uuid) => uuid,
        // No file has a header that can be read, so this one is not compared.
        StoreId::None => Uuid::nil(),
    };
    let links = load(disk, &dir, &ids, uuid, see);
    if links.is_empty() {
        // All may have been given up for a checkpoint and be spares now.
        if let Some(from) = from.filter(|from| *from > Position::START && report.spares.is_empty()) {
            see(Sighting::Defect(Defect::EndsBefore { path: dir, from }));
        }
        return report;
    }
    // As a start does: without a checkpoint, no file was given up. If there are frames, the walk tells that they begin
    // late; if a header cannot be read, that has been told.
    let is_from_start = from == Some(Position::START) && links.len() == ids.len();
    let first = links.first().filter(|_| is_from_start).map(|link| &link.file);
    let before = first.and_then(|first| Some((first.header.previous?.path(&dir, Role::Journal), first.path.clone())));
    let mut walk = Walk::new(disk, &dir, links, from, see);
    walk.run();
    (report.files, report.end) = walk.finish();
    if let Some((path, needed_by)) = before.filter(|_| report.files.iter().all(|file| file.frames == 0)) {
        see(Sighting::Defect(Defect::Missing { path, needed_by }));
    }
    report
}

/// Whether nothing shows that there ever was a store.
fn is_bare(report: &JournalReport, ids: &BTreeSet<FileId>) -> bool {
    ids.is_empty() && report.spares.is_empty() && report.unfinished.is_empty()
}

/// The ids of the journal's files, in order; the other names go into the report.
fn list(disk: &dyn Disk, dir: &Path, report: &mut JournalReport) -> io::Result<BTreeSet<FileId>> {
    let mut ids = BTreeSet::new();
    for name in disk.list(dir)? {
        match FileId::parse(&name) {
            Some((id, Role::Journal)) => drop(ids.insert(id)),
            Some((_, Role::Spare)) => report.spares.push(dir.join(name)),
            Some((_, Role::Unfinished)) => report.unfinished.push(dir.join(name)),
            None => report.others.push(dir.join(name)),
        }
    }
    for paths in [&mut report.spares, &mut report.unfinished, &mut report.others] {
        paths.sort();
    }
    Ok(ids)
}

/// The store that the first file with a header belongs to.
fn guess_store(disk: &dyn Disk, dir: &Path, ids: &BTreeSet<FileId>) -> StoreId {
    let store = |id: &FileId| {
        let mut page = [0; PAGE_BYTES as usize];
        disk.open_read(&id.path(dir, Role::Journal)).ok()?.read_exact_at(&mut page, 0).ok()?;
        Some(FileHeader::decode(&page).ok()?.store)
    };
    ids.iter().find_map(store).map_or(StoreId::None, StoreId::Guessed)
}

/// The files that can be read, checked against each other.
fn load(disk: &dyn Disk, dir: &Path, ids: &BTreeSet<FileId>, store: Uuid, see: &mut See<'_>) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::with_capacity(ids.len());
    let mut unusable = BTreeSet::new();
    for id in ids {
        let file = match JournalFile::load(disk, dir, *id, store) {
            Ok(file) => file,
            Err(error) => {
                see(Sighting::Defect(error.into()));
                unusable.insert(*id);
                continue;
            }
        };
        let mut gap = Gap::Unexplained;
        if file.header.previous.is_some_and(|previous| unusable.contains(&previous)) {
            gap = Gap::Explained;
        } else if let Some(before) = links.last()
            && let Err(error) = file.follows(&before.file, dir)
        {
            see(Sighting::Defect(error.into()));
            gap = Gap::Explained;
        }
        links.push(Link { file, gap });
    }
    links
}

//! What has to be taken out of a damaged journal so that a start accepts what is left: its longest beginning that is whole.
//!
//! It only says so, and changes nothing. The invariants: no frame that a start would have read before the damage is taken
//! out; and files go from the ends inward, so that a journal of which only some are out yet is either still refused or
//! what it is to become.
//!
//! ```text
//!   | file | (gap) | file     | frame | ??? | frame |  | file | (gap) | file |
//!   └─ out, not    │ from ──► └─ whole ┘ └─ out: the   └──────── out ───────┘
//!      needed      │                        file is cut
//! ```

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{
    super::Position,
    file_id::{FileId, Role},
    journal_file::{JournalFile, open_past_cache},
    scan::Scan,
    store::journal_dir,
};
use crate::engine::disk::Disk;

/// What is to be taken out of a journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::engine) struct Cut {
    /// Is to be made before anything is taken out: an empty file by which the ids of what is taken out are not used again.
    pub(in crate::engine) marker: Option<PathBuf>,
    /// Files, in the order in which they go.
    pub(in crate::engine) out: Vec<PathBuf>,
    /// The last file that stays, if there are frames in it behind the damage, and where it is to end.
    pub(in crate::engine) end: Option<(PathBuf, u64)>,
}

/// What is to be taken out of the journal in `data_dir`, which is read from position `from` on; `whole` is where the last
/// frame before the damage ends, if there is one.
///
/// # Errors
/// The system's answer.
pub(in crate::engine) fn cut(
    disk: &dyn Disk,
    data_dir: &Path,
    store: Uuid,
    from: Position,
    whole: Option<&(PathBuf, u64)>,
) -> io::Result<Cut> {
    let dir = journal_dir(data_dir);
    let (mut ids, mut spares) = (BTreeSet::new(), BTreeSet::new());
    for name in disk.list(&dir)? {
        match FileId::parse(&name) {
            Some((id, Role::Journal)) => drop(ids.insert(id)),
            Some((id, Role::Spare)) => drop(spares.insert(id)),
            Some((_, Role::Unfinished)) | None => {}
        }
    }
    let files =
        Files { dir: &dir, list: ids.iter().map(|id| (*id, JournalFile::load(disk, &dir, *id, store).ok())).collect() };
    let Some((kept, last_offset)) = files.kept(from, whole) else {
        let out = files.paths(0..files.list.len()).rev().collect();
        let newest = ids.last().copied().unwrap_or(FileId::FIRST);
        let is_marked = spares.last().is_some_and(|spare| *spare >= newest);
        let marker = (!is_marked).then(|| newest.path(&dir, Role::Spare));
        return Ok(Cut { marker, out, end: None });
    };
    let (begin, last) = (*kept.start(), *kept.end());
    let out = files.paths(last + 1..files.list.len()).rev().chain(files.paths(0..begin)).collect();
    let newest_kept = spares.last().copied().max(Some(files.list[last].0));
    let newest = ids.last().copied().filter(|newest| Some(*newest) > newest_kept);
    let marker = newest.map(|newest| newest.path(&dir, Role::Spare));
    let mut end = None;
    if let (Some(offset), Some(file)) = (last_offset, &files.list[last].1) {
        let scan = Scan::new(open_past_cache(disk, &file.path)?, &file.header);
        let is_followed = scan.later_frame(offset, file.header.position_at(offset))?.is_some();
        end = is_followed.then(|| (file.path.clone(), offset));
    }
    Ok(Cut { marker, out, end })
}

/// All files of the journal, those with a header that holds with what it says.
struct Files<'a> {
    dir: &'a Path,
    list: Vec<(FileId, Option<JournalFile>)>,
}

impl Files<'_> {
    /// The files that stay, and where the frames of the last one end; `None` if there are none that have to.
    fn kept(
        &self,
        from: Position,
        whole: Option<&(PathBuf, u64)>,
    ) -> Option<(std::ops::RangeInclusive<usize>, Option<u64>)> {
        let loaded = |at: usize| self.list[at].1.as_ref();
        let needed = (0..self.list.len()).find(|at| loaded(*at).is_some_and(|file| file.header.last() > from))?;
        let (last, offset) = match whole {
            Some((path, offset)) => {
                ((0..self.list.len()).find(|at| loaded(*at).is_some_and(|f| f.path == *path))?, *offset)
            }
            None => (needed, loaded(needed)?.header.offset_of(from)?),
        };
        let follows = |at: usize| {
            let (before, after) = (loaded(at - 1), loaded(at));
            before.zip(after).is_some_and(|(before, after)| after.follows(before, self.dir).is_ok())
        };
        let begin = (1..=needed).rev().find(|at| !follows(*at)).unwrap_or(0);
        // A file that is missing between two of which nothing is missing never held a frame: but a start asks for it.
        let end = (needed + 1..=last).find(|at| !follows(*at)).map_or(last, |gap| gap - 1);
        Some((begin..=end, (end == last).then_some(offset)))
    }

    fn paths(&self, range: std::ops::Range<usize>) -> impl DoubleEndedIterator<Item = PathBuf> + '_ {
        self.list[range].iter().map(|(id, _)| id.path(self.dir, Role::Journal))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            super::memory::suite,
            testing::{Bench, Written, header_of, operate, written},
        },
        *,
    };
    use crate::engine::disk::RealDisk;

    const PAGE: usize = 4096;

    /// What is to be done about a journal, with where the whole frames end as an offset in a file.
    fn cut_of(bench: &Bench, from: Position, whole: Option<(usize, u64)>, files: &[PathBuf]) -> Cut {
        let store = super::super::store_uuid(bench.dir()).expect("readable").expect("there is one");
        let whole = whole.map(|(file, offset)| (files[file].clone(), offset));
        cut(&RealDisk, bench.dir(), store, from, whole.as_ref()).expect("readable")
    }

    /// Does it, and reads what is left.
    fn assert_leaves(bench: &Bench, cut: &Cut, from: Position, expected: &[(Position, Vec<u8>)]) {
        if let Some(marker) = &cut.marker {
            std::fs::write(marker, "").expect("written");
        }
        for path in cut.out.iter().filter(|path| path.exists()) {
            std::fs::remove_file(path).expect("removed");
        }
        if let Some((path, offset)) = &cut.end {
            operate(path, |file| file[usize::try_from(*offset).expect("small")..].fill(0));
        }
        let newest = bench.wal_files().last().map(|path| header_of(&std::fs::read(path).expect("readable")).id);
        let mut journal = bench.open();
        assert_eq!(suite::read(&mut journal, from), expected);
        suite::append(&mut journal, b"goes on");
        journal.settle();
        drop(journal);
        assert!(bench.wal_files().len() > usize::from(newest.is_some()));
    }

    /// Five files of two frames each, and a prepared one.
    fn five_files(bench: &Bench) -> (Written, Vec<PathBuf>) {
        let written = written(bench, &[9000; 10]);
        let files = bench.wal_files();
        assert_eq!(files.len(), 6);
        (written, files)
    }

    #[test]
    fn damage_in_files_that_are_not_needed_any_more_takes_them_out_and_nothing_else() {
        let bench = Bench::new(7);
        let (written, files) = five_files(&bench);
        let image = bench.snapshot();
        // The third file is the first that is needed.
        let (from, whole) = (written[4].0, Some((4, PAGE as u64 * 7)));
        for damaged in [0, 1] {
            for is_gone in [false, true] {
                bench.restore(&image);
                match is_gone {
                    true => std::fs::remove_file(&files[damaged]).expect("removed"),
                    false => operate(&files[damaged], |file| file[60] ^= 1),
                }
                let cut = cut_of(&bench, from, whole, &files);
                let out = if is_gone { &files[..damaged] } else { &files[..=damaged] };
                assert_eq!(cut.out[1..], *out, "and the prepared one, which holds nothing");
                assert_eq!(cut.end, None);
                assert_leaves(&bench, &cut, from, &written[5..]);
            }
        }
    }

    #[test]
    fn the_history_ends_before_what_is_damaged_and_no_file_number_comes_twice() {
        let bench = Bench::new(7);
        let (written, files) = five_files(&bench);
        // The second frame of the second file.
        operate(&files[1], |file| file[PAGE * 4 + 70] ^= 1);
        let cut = cut_of(&bench, Position::START, Some((1, PAGE as u64 * 4)), &files);
        assert_eq!(cut.out, files[2..].iter().rev().cloned().collect::<Vec<_>>());
        assert_eq!(cut.marker, Some(files[5].with_extension("spare")));
        // No later frame of this file shows the loss.
        assert_eq!(cut.end, None);
        assert_leaves(&bench, &cut, Position::START, &written[..3]);
        let next = files[5].with_file_name("0000000000000007.wal");
        assert_eq!(bench.wal_files().iter().find(|path| **path > files[1]), Some(&next));
    }

    #[test]
    fn a_file_with_frames_behind_the_damage_is_cut() {
        let bench = Bench::new(7);
        let (written, files) = five_files(&bench);
        operate(&files[1], |file| file[PAGE + 70] ^= 1);
        let from = written[1].0;
        let cut = cut_of(&bench, from, None, &files);
        assert_eq!(cut.end, Some((files[1].clone(), PAGE as u64)));
        assert_leaves(&bench, &cut, from, &[]);
    }

    #[test]
    fn without_the_file_that_reading_begins_in_all_go() {
        let bench = Bench::new(7);
        let (written, files) = five_files(&bench);
        std::fs::remove_file(&files[2]).expect("removed");
        let from = written[4].0;
        let cut = cut_of(&bench, from, None, &files);
        assert_eq!((cut.out.len(), cut.end.clone()), (5, None));
        assert_leaves(&bench, &cut, from, &[]);
    }

    #[test]
    fn a_marker_is_made_only_where_no_file_that_stays_has_as_high_a_number() {
        let bench = Bench::new(7);
        let (written, files) = five_files(&bench);
        let image = bench.snapshot();
        let newest = files[5].with_extension("spare");
        let marker = |spare: Option<u8>, from: Position, whole: Option<(usize, u64)>, is_gone: bool| {
            bench.restore(&image);
            if let Some(number) = spare {
                std::fs::write(files[0].with_file_name(format!("{number:016x}.spare")), "").expect("written");
            }
            if is_gone {
                std::fs::remove_file(&files[2]).expect("removed");
            }
            cut_of(&bench, from, whole, &files).marker
        };
        let (start, damaged) = (Position::START, Some((1, PAGE as u64)));
        assert_eq!(marker(None, start, Some((5, PAGE as u64)), false), None, "all stay");
        assert_eq!(marker(None, start, damaged, false), Some(newest.clone()));
        assert_eq!(marker(Some(3), start, damaged, false), Some(newest.clone()));
        assert_eq!(marker(Some(6), start, damaged, false), None);
        assert_eq!(marker(Some(9), start, damaged, false), None);
        // None stays.
        let from = written[4].0;
        assert_eq!(marker(None, from, None, true), Some(newest.clone()));
        assert_eq!(marker(Some(3), from, None, true), Some(newest));
        assert_eq!(marker(Some(6), from, None, true), None);
        assert_eq!(marker(Some(9), from, None, true), None);
    }
}

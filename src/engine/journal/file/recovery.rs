//! Reading the whole journal at start: where its history ends, and whether all of it is there.
//!
//! ```text
//!   file 7                                    file 9 (8 was made and never used)
//!   | header | frame | frame | torn …  0 …  | | header | frame | frame | 0 …            |
//!                            ▲                         ▲               ▲
//!                            H: nothing was            begins with     the end
//!                            acknowledged here         prev durable = H
//! ```
//!
//! Where no valid frame begins, at H, either a write was cut off by a crash, or bytes that had been synced are damaged.
//! The first leaves nothing behind that knows of more than H; the second does: a later frame that says "more than up to
//! H had been synced before me", in the same file or in a later one. So, exactly:
//!
//! - a later frame in the same file with `prev_durable` > H: refuse;
//! - the first frame of a later file is written when everything before it is durable, and says where that ended: if
//!   that is not the H at which reading stopped, refuse;
//! - otherwise what is at H, if anything, was never acknowledged.
//!
//! One case is left of which nothing on the disk tells: damage to the very last frame of all, if it came before the mark
//! that is written behind it once nothing is appended for 20 ms. It looks like a write that was cut off and is taken for
//! one, although that frame may have been acknowledged; `campanile doctor` tells of each such tail. A second copy of the
//! last frame would close the gap, at the price of a second write for every commit.
//!
//! Nothing is ever appended at H. A frame written there could be as long as the torn one, and then what had been written
//! behind the torn one, valid in itself, would be read as its successor after the next crash. Each start begins a new
//! file, under an id for which no frame exists.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    super::{Position, ReadError, Visit},
    frame_header::FrameKind,
    journal_file::{Frames, JournalFile, open_past_cache},
    layout::{FILE_HEADER_BYTES, PAGE_BYTES},
    scan::Scan,
};
use crate::engine::disk::Disk;

const ADVICE: &str = "nothing was changed; see `campanile doctor`";

/// Hands the frames from `from` on to `visit` and answers the end. `files` are all of the journal's, in order; each
/// learns what frames it has.
///
/// # Errors
/// [`ReadError`], also that of `visit`.
pub(super) fn replay(
    disk: &dyn Disk,
    dir: &Path,
    files: &mut [JournalFile],
    from: Position,
    visit: &mut Visit<'_>,
) -> Result<Position, ReadError> {
    if !from.0.is_multiple_of(PAGE_BYTES) {
        return Err(corrupt(dir, 0, format!("position {from}, from which it was to be read, is none of this journal")));
    }
    if files.last().is_some_and(|newest| newest.header.last() < from) {
        return Err(ends_before(dir, from));
    }
    let mut history = History { end: from, stop: None };
    for file in files {
        if file.header.last() <= from {
            file.frames = Frames::Until(from);
            continue;
        }
        file.frames = history.read_file(disk, file, visit)?;
    }
    Ok(history.end)
}

/// The journal in the folder `dir` has lost what came before `from`.
pub(super) fn ends_before(dir: &Path, from: Position) -> ReadError {
    corrupt(dir, 0, format!("the journal ends before position {from}, from which it was to be read"))
}

/// The journal was to be read from its start, and this is not its first file.
pub(super) fn begins_late(first: &JournalFile) -> ReadError {
    let problem = "the files before this one are missing, and no checkpoint does without them";
    corrupt(&first.path, 0, problem.to_owned())
}

/// How far reading has come.
struct History {
    end: Position,
    /// Where the frame that begins at `end` would have to be; `None` before the first file.
    stop: Option<Place>,
}

struct Place {
    path: PathBuf,
    offset: u64,
}

impl History {
    fn read_file(&mut self, disk: &dyn Disk, file: &JournalFile, visit: &mut Visit<'_>) -> Result<Frames, ReadError> {
        let io = |source: io::Error| ReadError::Io { what: format!("cannot read {}", file.path.display()), source };
        let mut scan = Scan::new(open_past_cache(disk, &file.path).map_err(io)?, &file.header);
        let mut offset = file.header.offset_of(self.end).unwrap_or(FILE_HEADER_BYTES);
        let mut frames = if offset == FILE_HEADER_BYTES { Frames::None } else { Frames::Until(self.end) };
        while let Some(frame) = scan.frame_at(offset).map_err(io)? {
            self.check_link(file, offset, frame.prev_durable)?;
            match frame.kind {
                FrameKind::Records => {}
                FrameKind::Mark => break,
                FrameKind::Unknown => {
                    return Err(corrupt(&file.path, offset, "the frame has flags of a newer version".to_owned()));
                }
            }
            offset += frame.frame_bytes();
            self.end = Position(file.header.position_at(offset).0);
            frames = Frames::Until(self.end);
            visit(self.end, scan.records(&frame))?;
        }
        if let Some(later) = scan.later_frame(offset, self.end).map_err(io)? {
            let problem = format!("no valid frame begins here, but one was synced before that at offset {later}");
            return Err(corrupt(&file.path, offset, problem));
        }
        if frames != Frames::None || self.stop.is_none() {
            self.stop = Some(Place { path: file.path.clone(), offset });
        }
        Ok(frames)
    }

    /// A frame says up to where everything was durable before it; so that must have been read.
    fn check_link(&self, file: &JournalFile, offset: u64, prev_durable: Position) -> Result<(), ReadError> {
        if prev_durable > self.end {
            let problem = format!(
                "no valid frame begins here, at position {}, but the one at offset {offset} of {} was written when \
                 everything up to {prev_durable} had been synced",
                self.end,
                file.path.display()
            );
            let (path, offset) = self.stop.as_ref().map_or((&file.path, offset), |stop| (&stop.path, stop.offset));
            return Err(corrupt(path, offset, problem));
        }
        if offset == FILE_HEADER_BYTES && prev_durable < self.end {
            let problem =
                format!("the file continues from position {prev_durable}, but there are frames up to {}", self.end);
            return Err(corrupt(&file.path, offset, problem));
        }
        Ok(())
    }
}

fn corrupt(path: &Path, offset: u64, problem: String) -> ReadError {
    ReadError::Corrupt { place: path.display().to_string(), offset, problem: format!("{problem}; {ADVICE}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{
            super::{Journal as _, memory::suite},
            file_header::FileHeader,
            file_id::FileId,
            frame_header::FrameHeader,
            testing::{Bench, Written, header_of, operate, written},
        },
        *,
    };
    use crate::engine::disk::{Fault, Op, Outcome, Times};

    const PAGE: usize = PAGE_BYTES as usize;

    /// The journal holds `written` now, can be appended to, and that stays so.
    fn assert_holds(bench: &Bench, written: &Written) {
        let mut journal = bench.open();
        assert_eq!(suite::read(&mut journal, Position::START), *written);
        let mut expected = written.clone();
        expected.push(suite::append(&mut journal, &[0xaa; 5000]));
        expected.push(suite::append(&mut journal, b"another"));
        drop(journal);
        for _ in 0..2 {
            let mut journal = bench.open();
            assert_eq!(suite::read(&mut journal, Position::START), expected);
            expected.push(suite::append(&mut journal, b"and one more"));
        }
    }

    #[test]
    fn a_frame_that_was_cut_off_anywhere_is_left_out_and_the_rest_is_kept() {
        let bench = Bench::new(16);
        let mut kept = written(&bench, &[100, 6000, 10_000]);
        let last = kept.pop().expect("three were written");
        let image = bench.snapshot();
        let begin = PAGE * 4;
        assert_eq!(header_of(&image[0].1).position_at(begin as u64), kept[1].0);
        for cut in (0..PAGE * 3).step_by(512) {
            for filler in [0, 0xff] {
                bench.restore(&image);
                operate(&bench.wal_files()[0], |file| file[begin + cut..begin + PAGE * 3].fill(filler));
                if cut >= 64 + 10_000 {
                    assert_eq!(suite::read(&mut bench.open(), Position::START).last(), Some(&last));
                } else {
                    assert_holds(&bench, &kept);
                }
            }
        }
    }

    #[test]
    fn a_frame_of_which_one_sector_is_missing_is_left_out() {
        let bench = Bench::new(16);
        let mut kept = written(&bench, &[100, 10_000]);
        kept.pop();
        let image = bench.snapshot();
        for sector in 0..10_000 / 512 {
            bench.restore(&image);
            let begin = PAGE * 2 + sector * 512;
            operate(&bench.wal_files()[0], |file| file[begin..begin + 512].fill(0));
            assert_holds(&bench, &kept);
        }
    }

    #[test]
    fn a_flipped_bit_in_a_frame_that_was_synced_is_refused_and_the_place_named() {
        let bench = Bench::new(8);
        // Two files: three frames in the first, of 1, 2 and 3 pages, then two in the second.
        written(&bench, &[1000, 5000, 10_000, 10_000, 500]);
        let image = bench.snapshot();
        let frames = [(0, 1, 1000), (0, 2, 5000), (0, 4, 10_000), (1, 1, 10_000)];
        for (file, page, length) in frames {
            let begin = page * PAGE;
            for byte in (0..64).chain((64..64 + length).step_by(97)).chain([64 + length - 1]) {
                bench.restore(&image);
                let path = &bench.wal_files()[file];
                operate(path, |bytes| bytes[begin + byte] ^= 1 << (byte % 8));
                let place = Some((path.display().to_string(), begin as u64));
                assert_eq!(bench.corrupt_at(Position::START), place, "byte {byte} of the frame at page {page}");
            }
        }
    }

    #[test]
    fn damage_before_the_position_that_is_read_from_does_not_matter() {
        let bench = Bench::new(8);
        let written = written(&bench, &[1000, 5000, 10_000, 10_000, 500]);
        operate(&bench.wal_files()[0], |file| file[PAGE + 70] ^= 1);
        assert!(bench.corrupt_at(Position::START).is_some());
        assert_eq!(suite::read(&mut bench.open(), written[0].0), written[1..]);
    }

    #[test]
    fn frames_that_were_lost_as_a_whole_are_missed() {
        let bench = Bench::new(8);
        written(&bench, &[1000, 5000, 10_000, 10_000, 500]);
        let image = bench.snapshot();
        let path = bench.wal_files()[0].display().to_string();
        for (pages, offset) in [(1..2, PAGE), (2..4, PAGE * 2), (4..7, PAGE * 4), (1..8, PAGE)] {
            bench.restore(&image);
            operate(&bench.wal_files()[0], |file| file[pages.start * PAGE..pages.end * PAGE].fill(0));
            assert_eq!(bench.corrupt_at(Position::START), Some((path.clone(), offset as u64)));
        }
    }

    #[test]
    fn a_mark_shows_damage_to_the_last_frame_and_the_next_frame_takes_its_place() {
        for lengths in [[100, 5000].as_slice(), &[100, 5 * PAGE + 1000]] {
            let bench = Bench::new(8);
            let mut journal = bench.open();
            suite::read(&mut journal, Position::START);
            let mut written: Written =
                lengths.iter().map(|&length| suite::append(&mut journal, &vec![5; length])).collect();
            journal.settle();
            let unmarked = bench.snapshot();
            let fault = |op| {
                let outcome = Outcome::Error(io::ErrorKind::Other);
                Fault { op, name_end: ".wal", nth: 1, outcome, times: Times::Always }
            };
            // It waits for no sync.
            bench.disk.set(fault(Op::Sync));
            journal.idle();
            let marked = bench.snapshot();
            assert_ne!(marked, unmarked);
            // Once is enough.
            bench.disk.set(fault(Op::Write));
            journal.idle();
            bench.disk.heal();
            written.push(suite::append(&mut journal, b"in its place"));
            drop(journal);
            assert_eq!(suite::read(&mut bench.open(), Position::START), written);

            let damage = |file: &mut Vec<u8>| file[PAGE * 2 + 100] ^= 1;
            bench.restore(&marked);
            assert_holds(&bench, &written[..2].to_vec());
            bench.restore(&marked);
            operate(&bench.wal_files()[0], damage);
            let place = bench.wal_files()[0].display().to_string();
            assert_eq!(bench.corrupt_at(Position::START), Some((place, PAGE_BYTES * 2)));
            bench.restore(&unmarked);
            operate(&bench.wal_files()[0], damage);
            assert_holds(&bench, &written[..1].to_vec());
        }
    }

    #[test]
    fn an_idle_start_covers_the_frames_of_the_last_run() {
        let bench = Bench::new(8);
        let kept = written(&bench, &[100, 5000]);
        let mut journal = bench.open();
        suite::read(&mut journal, Position::START);
        journal.settle();
        journal.idle();
        drop(journal);
        let image = bench.snapshot();
        operate(&bench.wal_files()[0], |file| file[PAGE * 2 + 100] ^= 1);
        assert!(bench.corrupt_at(Position::START).is_some());
        bench.restore(&image);
        assert_holds(&bench, &kept);
    }

    /// Writes a frame that nothing acknowledged, as a crash may leave it behind.
    fn plant(file: &mut [u8], at: usize, prev_durable: Position, records: &[u8]) {
        let header = header_of(file);
        let frame = FrameHeader::of_records(&header, prev_durable, 1, records);
        file[at..at + 64].copy_from_slice(&frame.encode(&header, at as u64));
        file[at + 64..at + 64 + records.len()].copy_from_slice(records);
    }

    #[test]
    fn what_stands_behind_a_torn_frame_does_not_come_back_to_life() {
        let bench = Bench::new(16);
        let mut kept = written(&bench, &[100]);
        // Frame H at page 2 was torn; H+1 at page 3, in flight with it, arrived whole.
        let durable = kept[0].0;
        operate(&bench.wal_files()[0], |file| plant(file, PAGE * 3, durable, b"never acknowledged"));
        let mut journal = bench.open();
        assert_eq!(suite::read(&mut journal, Position::START), kept);
        kept.push(suite::append(&mut journal, b"as long as the frame H"));
        // The crash comes before the file that is prepared next is of any use.
        drop(journal);
        assert_holds(&bench, &kept);
    }

    #[test]
    fn a_frame_of_which_the_next_file_knows_nothing_is_refused() {
        let bench = Bench::new(8);
        let kept = written(&bench, &[100]);
        let mut journal = bench.open();
        suite::read(&mut journal, Position::START);
        suite::append(&mut journal, b"continues after the first");
        drop(journal);
        operate(&bench.wal_files()[0], |file| plant(file, PAGE * 2, kept[0].0, b"from nowhere"));
        let place = bench.wal_files()[1].display().to_string();
        assert_eq!(bench.corrupt_at(Position::START), Some((place, PAGE_BYTES)));
    }

    #[test]
    fn bytes_of_a_payload_are_never_taken_for_a_frame() {
        let bench = Bench::new(16);
        let mut kept = written(&bench, &[100]);
        let image = std::fs::read(&bench.wal_files()[0]).expect("readable");
        let real = header_of(&image);
        let mut journal = bench.open();
        suite::read(&mut journal, Position::START);
        // Somebody who knows everything but the salt aims at page 2 and the ones after it of the file to come.
        let first = Position(real.last().0 * 2);
        let forged = FileHeader { salt: 0, id: FileId::FIRST.next().next(), first, ..real };
        let mut payload = vec![0; PAGE * 6];
        for page in 1..5 {
            let at = page * PAGE - 64;
            let frame = FrameHeader::of_records(&forged, Position(u64::MAX), 1, b"forged");
            let offset = (page + 1) * PAGE;
            payload[at..at + 64].copy_from_slice(&frame.encode(&forged, offset as u64));
            payload[at + 64..at + 70].copy_from_slice(b"forged");
        }
        // And copies a frame of the file at hand.
        payload[PAGE * 5 - 64..PAGE * 5].copy_from_slice(&image[PAGE..PAGE + 64]);
        let whole = suite::append(&mut journal, &payload);
        journal.settle();
        drop(journal);
        let file = &bench.wal_files()[1];
        let header = header_of(&std::fs::read(file).expect("readable"));
        assert_eq!((header.id, header.first), (forged.id, forged.first), "the aim was good");
        let image = bench.snapshot();
        operate(&bench.wal_files()[1], |file| file[PAGE + 10] ^= 1);
        assert_holds(&bench, &kept);
        bench.restore(&image);
        kept.push(whole);
        assert_holds(&bench, &kept);
    }

    #[test]
    fn the_frames_of_a_recycled_file_are_not_read_again() {
        let bench = Bench::new(8);
        let mut journal = bench.open();
        suite::read(&mut journal, Position::START);
        let old = (0..7).map(|n| suite::append(&mut journal, &[n; 100])).last().expect("seven").0;
        let _ = suite::append(&mut journal, b"in the second file");
        journal.settle();
        assert!(journal.trim(old).is_ok());
        journal.settle();
        // The first file becomes the fourth, its frames still in place.
        let from = (0..13).map(|n| suite::append(&mut journal, &[n; 100])).last().expect("some").0;
        journal.settle();
        let kept = [suite::append(&mut journal, b"one"), suite::append(&mut journal, b"two")];
        drop(journal);
        let path = bench.wal_files().into_iter().find(|path| path.ends_with("0000000000000004.wal")).expect("there");
        let file = std::fs::read(&path).expect("readable");
        assert!(file[PAGE * 5..].starts_with(b"CPFR"), "a frame of the file's first life");
        assert_eq!(suite::read(&mut bench.open(), from), kept);
        // Also when the frame in front of them is torn, and they look like its successors.
        operate(&path, |file| file[PAGE * 2 + 65] ^= 1);
        assert_eq!(suite::read(&mut bench.open(), from), kept[..1]);
    }

    #[test]
    fn a_newer_kind_of_frame_is_not_taken_for_a_torn_one() {
        let bench = Bench::new(8);
        let kept = written(&bench, &[100]);
        operate(&bench.wal_files()[0], |file| {
            let header = header_of(file);
            let frame = FrameHeader { kind: FrameKind::Unknown, ..FrameHeader::of_mark(&header, kept[0].0) };
            file[PAGE * 2..PAGE * 2 + 64].copy_from_slice(&frame.encode(&header, PAGE_BYTES * 2));
        });
        assert_eq!(bench.corrupt_at(Position::START).map(|(_, offset)| offset), Some(PAGE_BYTES * 2));
    }

    #[test]
    fn a_read_error_is_no_end_of_the_journal() {
        let bench = Bench::new(8);
        written(&bench, &[100, 9000, 100]);
        for nth in 1..12 {
            let mut journal = bench.open();
            let outcome = Outcome::Error(io::ErrorKind::Other);
            bench.disk.set(Fault { op: Op::Read, name_end: ".wal", nth, outcome, times: Times::Once });
            let read = journal.read(Position::START, &mut |_, _| Ok(()));
            bench.disk.heal();
            if nth <= 5 {
                assert!(matches!(read, Err(ReadError::Io { .. })), "{nth}: {read:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

        #[test]
        fn arbitrary_bytes_are_refused_or_ignored_but_never_believed(
            bytes in prop::collection::vec(any::<u8>(), 0..3 * PAGE),
            at in 0..7 * PAGE,
            with_header: bool,
        ) {
            let bench = Bench::new(8);
            written(&bench, &[]);
            operate(&bench.wal_files()[0], |file| {
                let begin = if with_header { PAGE + at } else { at };
                let end = (begin + bytes.len()).min(file.len());
                file[begin.min(end)..end].copy_from_slice(&bytes[..end.saturating_sub(begin)]);
            });
            if let Ok(mut journal) = bench.try_open() {
                let mut frames = 0;
                let read = journal.read(Position::START, &mut |_, _| { frames += 1; Ok(()) });
                prop_assert!(read.is_ok() && frames == 0);
            }
        }

        #[test]
        fn whatever_is_damaged_what_is_read_is_the_beginning_of_what_was_written(
            file in 0_usize..2,
            damage in prop::collection::vec((0..8 * PAGE, any::<u8>()), 1..20),
        ) {
            let bench = Bench::new(8);
            let written = written(&bench, &[1000, 5000, 10_000, 10_000, 500]);
            // The header of the very last frame is the only proof of the frame before it.
            let proof = PAGE * 4..PAGE * 4 + 64;
            let damage = damage.iter().filter(|(at, _)| file == 0 || !proof.contains(at));
            operate(&bench.wal_files()[file], |bytes| damage.for_each(|&(at, byte)| bytes[at] = byte));
            let Ok(mut journal) = bench.try_open() else { return Ok(()) };
            let mut frames = Vec::new();
            let read = journal.read(Position::START, &mut |after, records| {
                frames.push((after, records.to_vec()));
                Ok(())
            });
            prop_assert_eq!(&frames[..], &written[..frames.len()]);
            prop_assert!(read.is_err() || frames.len() >= written.len() - 1);
        }
    }
}

//! The journal in files: its states, and what each call means in them.
//!
//! ```text
//!   open ──► Unread ── read ──► Writing ── a write or sync fails ──► Poisoned
//! ```
//!
//! Reading is `recovery`, appending is `writer`, the files themselves are `ring`. The invariant kept here: after a call
//! to the disk has failed, no other follows.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    super::{AppendError, FrameBuf, Journal, Position, ReadError, Visit},
    error::OpenError,
    file_id::FileId,
    journal_file::{Frames, JournalFile},
    layout::{FILE_HEADER_BYTES, FRAME_BYTES_MAX, Options, PAGE_BYTES},
    recovery,
    ring::{Plan, Ring},
    store::{Store, journal_dir},
    writer::{Sealed, Writer},
};
#[cfg(test)]
use super::{
    ring::ReadyFile,
    seeded::{self, Mistake},
};
use crate::engine::disk::Disk;

/// A [`Journal`] in a ring of files on the local disk.
///
/// Whoever opens one holds the [`DirLock`](super::DirLock) on the data directory for as long as the journal lives.
#[derive(Debug)]
pub struct FileJournal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    store: Store,
    frame_bytes_max: u64,
    /// The files that were there at start, without those that never held a frame.
    files: Vec<JournalFile>,
    state: State,
}

#[derive(Debug)]
enum State {
    Unread { ring: Ring },
    Writing(Writer),
    Poisoned { end: Position },
}

impl FileJournal {
    /// Opens the store in the folder `data_dir`, or makes one. The journal is to be read then.
    ///
    /// # Errors
    /// [`OpenError`], before anything was changed if the cause was there before.
    pub fn open(data_dir: &Path, options: Options, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        if !options.are_valid() {
            return Err(OpenError::FileBytes { file_bytes: options.file_bytes });
        }
        let store = Store::open_or_create(&*disk, data_dir)?;
        let (ring, files) = Ring::open(Arc::clone(&disk), data_dir, store.uuid, options.file_bytes)?;
        let frame_bytes_max = FRAME_BYTES_MAX.min(options.file_bytes - FILE_HEADER_BYTES);
        let dir = journal_dir(data_dir);
        Ok(Self { disk, dir, store, frame_bytes_max, files, state: State::Unread { ring } })
    }

    /// Which store this is, for as long as it exists.
    #[must_use]
    pub fn store_uuid(&self) -> Uuid {
        self.store.uuid
    }

    /// The store's secret, for what it signs.
    #[must_use]
    pub fn secret(&self) -> &[u8; 32] {
        &self.store.secret
    }

    /// The most bytes of records that a frame can hold. Appending a longer one is a bug, and panics.
    #[must_use]
    pub fn records_bytes_max(&self) -> u64 {
        self.frame_bytes_max - FrameBuf::HEADER_BYTES as u64
    }

    /// Begins a new file for what comes after `end`, and takes out of the journal what the last start prepared in vain.
    fn begin(&mut self, end: Position) -> Result<(), ReadError> {
        let State::Unread { ring } = &mut self.state else { return Ok(()) };
        let io = |source| ReadError::Io { what: "cannot begin a new journal file".to_owned(), source };
        let newest = self.files.last().map(|file| file.header.id).max(ring.newest_spare());
        let first = self.files.last().map_or(end, |file| file.header.last()).max(end);
        while let Some(unused) = self.files.pop_if(|file| file.frames == Frames::None) {
            let id = unused.header.id;
            if let Err(error) = ring.park(id) {
                self.files.push(unused);
                return Err(io(error));
            }
        }
        let plan = Plan {
            id: newest.map_or(FileId::FIRST, FileId::next),
            previous: self.files.last().map(|file| file.header.id),
            first,
        };
        let sealed = self.files.iter().map(|file| Sealed {
            id: file.header.id,
            end: match file.frames {
                Frames::Until(last) => last,
                Frames::None => Position::START,
                Frames::Unread => end,
            },
        });
        let sealed = sealed.collect();
        let State::Unread { ring } = std::mem::replace(&mut self.state, State::Poisoned { end }) else { return Ok(()) };
        self.state = State::Writing(Writer::start(ring, sealed, plan, end).map_err(io)?);
        #[cfg(test)]
        if seeded::is_made(Mistake::AppendsBehindTear) {
            self.go_on_behind_tear(end).map_err(io)?;
        }
        Ok(())
    }

    /// The mistake of that name.
    #[cfg(test)]
    fn go_on_behind_tear(&mut self, end: Position) -> io::Result<()> {
        let (State::Writing(writer), Some(last)) = (&mut self.state, self.files.last()) else { return Ok(()) };
        let Some(offset) = last.header.offset_of(end) else { return Ok(()) };
        let file = self.disk.open_write(&last.path)?;
        let mut page = [0; PAGE_BYTES as usize];
        if offset + PAGE_BYTES < last.header.file_bytes {
            file.read_exact_at(&mut page, offset)?;
        }
        if page.iter().any(|byte| *byte > 0) {
            writer.go_on_in(ReadyFile { file, header: last.header.clone() }, offset + PAGE_BYTES);
        }
        Ok(())
    }

    /// The thread behind it works only while somebody waits for it.
    #[cfg(test)]
    pub(in crate::engine) fn hold(&self) {
        if let State::Writing(writer) = &self.state {
            writer.hold();
        }
    }

    /// Waits until the thread behind it has nothing to do.
    #[cfg(test)]
    pub(in crate::engine) fn settle(&self) {
        if let State::Writing(writer) = &self.state {
            writer.settle();
        }
    }

    fn poison(&mut self) {
        let end = self.end();
        self.state = State::Poisoned { end };
    }
}

impl Journal for FileJournal {
    fn read(&mut self, from: Position, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        match &self.state {
            State::Unread { ring } => {
                if self.files.is_empty() && from > Position::START && ring.newest_spare().is_none() {
                    return Err(recovery::ends_before(&self.dir, from));
                }
                // Files go once a checkpoint does without them, so without one there is none that had a predecessor.
                if from == Position::START
                    && let Some(first) = self.files.first().filter(|file| file.header.previous.is_some())
                {
                    return Err(recovery::begins_late(first));
                }
            }
            State::Writing(writer) => assert!(writer.is_fresh(), "the journal is read before the first append"),
            State::Poisoned { .. } => {
                return Err(ReadError::Io { what: "the journal has failed".to_owned(), source: poisoned() });
            }
        }
        let end = recovery::replay(&*self.disk, &self.dir, &mut self.files, from, visit)?;
        self.begin(end)
    }

    fn end(&self) -> Position {
        match &self.state {
            State::Unread { .. } => Position::START,
            State::Writing(writer) => writer.end(),
            State::Poisoned { end } => *end,
        }
    }

    fn append(&mut self, frame: &mut FrameBuf, expected: Position) -> Result<Position, AppendError> {
        let unknown = |source| AppendError::Unknown { at: expected, source };
        let writer = match &mut self.state {
            State::Writing(writer) => writer,
            State::Unread { .. } => panic!("the journal is read before the first append"),
            State::Poisoned { .. } => return Err(unknown(poisoned())),
        };
        let frame_bytes = ((FrameBuf::HEADER_BYTES + frame.records().len()) as u64).next_multiple_of(PAGE_BYTES);
        assert!(frame_bytes <= self.frame_bytes_max, "a frame of {frame_bytes} bytes fits no journal file");
        if expected != writer.end() {
            return Err(AppendError::Fenced { at: expected });
        }
        writer.append(frame).map_err(|source| {
            self.poison();
            unknown(source)
        })
    }

    fn is_long(&self) -> bool {
        matches!(&self.state, State::Writing(writer) if writer.is_long())
    }

    fn is_full(&self) -> bool {
        matches!(&self.state, State::Writing(writer) if writer.is_full())
    }

    fn idle(&mut self) {
        // A mark that fails fails the next append: that is where somebody is there to be told.
        if let State::Writing(writer) = &mut self.state
            && writer.mark().is_err()
        {
            self.poison();
        }
    }

    fn trim(&mut self, before: Position) -> io::Result<()> {
        match &mut self.state {
            State::Writing(writer) => writer.trim(before),
            State::Unread { .. } | State::Poisoned { .. } => Ok(()),
        }
    }
}

fn poisoned() -> io::Error {
    io::Error::other("an earlier call to the disk failed; only a restart can tell what it holds")
}

#[cfg(test)]
mod tests {
    use super::{
        super::{super::memory::suite, testing::Bench},
        *,
    };
    use crate::engine::disk::{Fault, Op, Outcome, RealDisk, Times};

    const ERROR: Outcome = Outcome::Error(io::ErrorKind::Other);

    fn fault(op: Op, name_end: &'static str, nth: u32) -> Fault {
        Fault { op, name_end, nth, outcome: ERROR, times: Times::Once }
    }

    fn assert_unknown(journal: &mut FileJournal) {
        let end = journal.end();
        let appended = journal.append(&mut suite::frame(b"unknown"), end);
        assert!(matches!(appended, Err(AppendError::Unknown { at, .. }) if at == end), "{appended:?}");
    }

    #[test]
    fn it_keeps_what_every_journal_promises() {
        for pages in [4, 5, 8, 64] {
            let bench = Bench::new(pages);
            suite::run(|| bench.open());
        }
    }

    #[test]
    fn the_store_is_the_same_after_a_restart() {
        let bench = Bench::new(8);
        let (uuid, secret) = {
            let journal = bench.open();
            (journal.store_uuid(), *journal.secret())
        };
        let journal = bench.open();
        assert_eq!((journal.store_uuid(), *journal.secret()), (uuid, secret));
        assert_eq!(super::super::store_uuid(bench.dir()).expect("readable"), Some(uuid));
    }

    #[test]
    fn an_impossible_file_length_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        for file_bytes in [0, 4096, 12 << 10, (32 << 10) + 1] {
            let opened = FileJournal::open(dir.path(), Options { file_bytes }, Arc::new(RealDisk));
            assert!(matches!(opened, Err(OpenError::FileBytes { .. })), "{file_bytes}");
        }
    }

    #[test]
    fn the_largest_frame_fits() {
        let bench = Bench::new(8);
        let mut journal = bench.open();
        suite::read(&mut journal, Position::START);
        let largest = vec![7; usize::try_from(journal.records_bytes_max()).expect("small")];
        let written = [b"x".as_slice(), &largest, &largest, b"y"].map(|records| suite::append(&mut journal, records));
        drop(journal);
        assert_eq!(suite::read(&mut bench.open(), Position::START), written);
    }

    #[test]
    #[should_panic(expected = "fits no journal file")]
    fn a_larger_frame_is_a_bug_of_the_caller() {
        let bench = Bench::new(8);
        let mut journal = bench.open();
        suite::read(&mut journal, Position::START);
        let too_large = vec![7; usize::try_from(journal.records_bytes_max()).expect("small") + 1];
        suite::append(&mut journal, &too_large);
    }

    #[test]
    fn after_a_failed_sync_nothing_is_taken_and_a_restart_sees_what_the_disk_holds() {
        let bench = Bench::new(8);
        let mut journal = bench.open();
        suite::read(&mut journal, Position::START);
        let first = suite::append(&mut journal, b"first");
        bench.disk.set(fault(Op::Sync, ".wal", 1));
        assert_unknown(&mut journal);
        // From here on the disk works, and the lost frame could be read from the page cache.
        assert_unknown(&mut journal);
        journal.idle();
        assert!(journal.trim(first.0).is_ok());
        assert!(journal.read(Position::START, &mut |_, _| Ok(())).is_err());
        assert_eq!(journal.end(), first.0);
        drop(journal);
        let mut journal = bench.open();
        assert_eq!(suite::read(&mut journal, Position::START), std::slice::from_ref(&first));
        let second = suite::append(&mut journal, b"second");
        drop(journal);
        assert_eq!(suite::read(&mut bench.open(), Position::START), [first, second]);
    }

    #[test]
    fn after_a_failed_write_nothing_is_taken_and_the_file_is_not_appended_to() {
        for outcome in [ERROR, Outcome::ShortWrite(1), Outcome::ShortWrite(512), Outcome::ShortWrite(4096)] {
            let bench = Bench::new(8);
            let mut journal = bench.open();
            suite::read(&mut journal, Position::START);
            let first = suite::append(&mut journal, b"first");
            bench.disk.set(Fault { outcome, ..fault(Op::Write, ".wal", 1) });
            let lost = journal.append(&mut suite::frame(&[9; 9000]), first.0);
            assert!(matches!(lost, Err(AppendError::Unknown { .. })), "{outcome:?}: {lost:?}");
            let files = bench.wal_files();
            assert_unknown(&mut journal);
            drop(journal);
            let mut journal = bench.open();
            assert_eq!(suite::read(&mut journal, Position::START), std::slice::from_ref(&first), "{outcome:?}");
            let torn = std::fs::read(&files[0]).expect("readable");
            let second = suite::append(&mut journal, b"second");
            assert_eq!(std::fs::read(&files[0]).expect("readable"), torn);
            drop(journal);
            assert_eq!(suite::read(&mut bench.open(), Position::START), [first, second]);
        }
    }

    #[test]
    fn a_file_that_cannot_be_prepared_fails_the_append_that_needs_it() {
        let calls = [
            (Op::Create, ".tmp", 2),
            // Zeros and a header each, and each is synced: the third and fourth are those of the second file.
            (Op::Write, ".tmp", 3),
            (Op::Write, ".tmp", 4),
            (Op::Sync, ".tmp", 3),
            (Op::Sync, ".tmp", 4),
            (Op::Rename, ".tmp", 2),
            (Op::SyncDir, "journal", 2),
        ];
        for ((op, name_end, nth), is_idle) in calls.into_iter().flat_map(|call| [(call, false), (call, true)]) {
            let bench = Bench::new(8);
            let mut journal = bench.open();
            bench.disk.set(fault(op, name_end, nth));
            suite::read(&mut journal, Position::START);
            let room = usize::try_from(journal.records_bytes_max()).expect("small");
            let first = suite::append(&mut journal, &vec![1; room]);
            if is_idle {
                journal.settle();
                journal.idle();
            }
            assert_unknown(&mut journal);
            assert_unknown(&mut journal);
            drop(journal);
            assert_eq!(suite::read(&mut bench.open(), Position::START), [first], "{op:?}");
        }
    }

    #[test]
    fn a_disk_that_was_full_for_a_while_does_no_harm_and_one_that_is_full_fails_the_append() {
        for (times, idles) in [(Times::Once, 0), (Times::Once, 1), (Times::Always, 0), (Times::Always, 2)] {
            for (op, name_end, nth) in [(Op::Write, ".tmp", 3), (Op::Sync, ".tmp", 3), (Op::SyncDir, "journal", 2)] {
                let bench = Bench::new(8);
                let mut journal = bench.open();
                let outcome = Outcome::Error(io::ErrorKind::StorageFull);
                bench.disk.set(Fault { op, name_end, nth, outcome, times });
                suite::read(&mut journal, Position::START);
                let room = usize::try_from(journal.records_bytes_max()).expect("small");
                let mut written = vec![suite::append(&mut journal, &vec![1; room])];
                for _ in 0..idles {
                    journal.settle();
                    journal.idle();
                }
                if times == Times::Once {
                    written.push(suite::append(&mut journal, &vec![2; room]));
                } else {
                    assert_unknown(&mut journal);
                }
                drop(journal);
                bench.disk.heal();
                assert_eq!(suite::read(&mut bench.open(), Position::START), written, "{op:?}, {times:?}");
            }
        }
    }

    #[test]
    fn a_position_that_is_none_is_refused() {
        let bench = Bench::new(8);
        let mut journal = bench.open();
        suite::read(&mut journal, Position::START);
        suite::append(&mut journal, b"longer than a byte");
        drop(journal);
        assert_eq!(bench.corrupt_at(Position(1)).map(|(_, offset)| offset), Some(0));
    }

    #[test]
    fn a_start_that_cannot_prepare_its_file_fails_the_first_append() {
        for nth in [1, 2] {
            let bench = Bench::new(8);
            let mut journal = bench.open();
            bench.disk.set(fault(Op::Write, ".tmp", nth));
            suite::read(&mut journal, Position::START);
            journal.settle();
            journal.idle();
            assert_unknown(&mut journal);
        }
    }

    #[test]
    fn ending_does_not_wait_for_a_file_that_nobody_needs() {
        let dir = tempfile::tempdir().expect("a folder");
        let options = Options { file_bytes: 64 << 30 };
        let mut journal = FileJournal::open(dir.path(), options, Arc::new(RealDisk)).expect("opens");
        suite::read(&mut journal, Position::START);
        drop(journal);
    }

    #[test]
    fn what_could_not_be_trimmed_is_trimmed_the_next_time_and_never_out_of_order() {
        let bench = Bench::new(4);
        let mut journal = bench.open();
        suite::read(&mut journal, Position::START);
        let written: Vec<_> = (0..4).map(|n| suite::append(&mut journal, &[n; 9000])).collect();
        journal.settle();
        assert_eq!(bench.wal_files().len(), 5);
        bench.disk.set(fault(Op::Rename, ".wal", 1));
        assert!(journal.trim(written[1].0).is_ok(), "it fails behind the caller's back");
        journal.settle();
        assert_eq!(bench.wal_files().len(), 5);
        assert!(journal.trim(written[1].0).is_err(), "who learns of it with the next call");
        journal.settle();
        assert_eq!(bench.wal_files().len(), 3, "which has done the work of both");
        assert!(journal.trim(written[1].0).is_ok());
        drop(journal);
        assert_eq!(suite::read(&mut bench.open(), written[1].0), written[2..]);
    }

    #[test]
    fn files_are_used_again_and_frames_of_their_earlier_life_do_not_come_back() {
        let bench = Bench::new(8);
        let mut journal = bench.open();
        suite::read(&mut journal, Position::START);
        let mut from = Position::START;
        for round in 0..40_u8 {
            from = suite::append(&mut journal, &[round; 3000]).0;
            assert!(journal.trim(from).is_ok());
        }
        journal.settle();
        let count = std::fs::read_dir(journal_dir(bench.dir())).expect("listed").count();
        assert!(count <= 4, "{count} files");
        let next = suite::append(&mut journal, b"next");
        drop(journal);
        let last_file = bench.wal_files().into_iter().next_back().expect("there are some");
        let bytes = std::fs::read(last_file).expect("readable");
        assert!(bytes.len() > 4096);
        assert_eq!(suite::read(&mut bench.open(), from), [next]);
        let mut before = None;
        for _ in 0..3 {
            let mut journal = bench.open();
            suite::read(&mut journal, from);
            journal.settle();
            let files = bench.wal_files();
            if let Some(before) = before.replace(files.clone()) {
                assert_eq!(files.len(), before.len(), "a start that appends nothing leaves no file behind");
                assert!(files.last() > before.last(), "and yet it has a file of its own");
            }
        }
    }
}

//! A journal in memory: for tests, and for what need not outlive the process.
//!
//! Nothing is durable. Its positions count frames, so whoever takes a position for a number of bytes is found out.

use std::{
    io, mem,
    sync::{Arc, Mutex, MutexGuard},
};

use super::{AppendError, FrameBuf, Journal, Position, ReadError, Visit};

/// A [`Journal`] whose frames are in memory.
///
/// A clone has the same frames and is another writer of them, as after a restart: it is to be read first, and as soon as
/// it has appended, its sibling is fenced off.
#[derive(Debug)]
pub struct MemoryJournal {
    frames: Arc<Mutex<Frames>>,
    state: State,
    next: NextAppend,
}

#[derive(Debug, Default)]
struct Frames {
    /// How many have been trimmed away.
    trimmed: u64,
    kept: Vec<Arc<[u8]>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unread,
    Writing { end: Position },
    Poisoned { end: Position },
}

/// What the next append comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NextAppend {
    /// It succeeds.
    #[default]
    Stored,
    /// [`AppendError::Fenced`].
    Fenced,
    /// [`AppendError::Unknown`], and a restart will find the frame.
    UnknownStored,
    /// [`AppendError::Unknown`], and a restart will not find the frame.
    UnknownLost,
}

impl MemoryJournal {
    /// An empty journal.
    #[must_use]
    pub fn new() -> Self {
        Self { frames: Arc::default(), state: State::Unread, next: NextAppend::Stored }
    }

    /// Decides what the next append of this writer comes to.
    pub fn set_next(&mut self, next: NextAppend) {
        self.next = next;
    }

    /// A journal of its own with the same frames: what is appended to one of them is not in the other.
    #[must_use]
    pub fn copied(&self) -> Self {
        let frames = self.frames();
        let copy = Frames { trimmed: frames.trimmed, kept: frames.kept.clone() };
        Self { frames: Arc::new(Mutex::new(copy)), state: State::Unread, next: NextAppend::Stored }
    }

    fn frames(&self) -> MutexGuard<'_, Frames> {
        self.frames.lock().expect("nobody panics with the frames in hand")
    }
}

impl Clone for MemoryJournal {
    fn clone(&self) -> Self {
        Self { frames: Arc::clone(&self.frames), state: State::Unread, next: NextAppend::Stored }
    }
}

impl Default for MemoryJournal {
    fn default() -> Self {
        Self::new()
    }
}

impl Frames {
    fn end(&self) -> Position {
        Position(self.trimmed + self.kept.len() as u64)
    }

    /// How many of the kept frames end at `position` or earlier; `None` when there is no such position.
    fn index(&self, position: Position) -> Option<usize> {
        let index = usize::try_from(position.0.checked_sub(self.trimmed)?).ok()?;
        (index <= self.kept.len()).then_some(index)
    }
}

impl Journal for MemoryJournal {
    fn read(&mut self, from: Position, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        let kept = {
            let frames = self.frames();
            let index = frames.index(from).ok_or_else(|| ReadError::Corrupt {
                place: "memory".to_owned(),
                offset: from.0,
                problem: "there are no frames from here on".to_owned(),
            })?;
            frames.kept[index..].to_vec()
        };
        let mut end = from;
        for frame in kept {
            end = Position(end.0 + 1);
            visit(end, &frame)?;
        }
        self.state = State::Writing { end };
        Ok(())
    }

    fn end(&self) -> Position {
        match self.state {
            State::Unread => Position::START,
            State::Writing { end } | State::Poisoned { end } => end,
        }
    }

    fn append(&mut self, frame: &mut FrameBuf, expected: Position) -> Result<Position, AppendError> {
        let unknown = |problem| AppendError::Unknown { at: expected, source: io::Error::other(problem) };
        let end = match self.state {
            State::Writing { end } => end,
            State::Unread => panic!("the journal is read before the first append"),
            State::Poisoned { .. } => return Err(unknown("an earlier append failed")),
        };
        let next = mem::take(&mut self.next);
        let mut frames = self.frames();
        if next == NextAppend::Fenced || expected != end || expected != frames.end() {
            return Err(AppendError::Fenced { at: expected });
        }
        if next != NextAppend::UnknownLost {
            frames.kept.push(frame.records().into());
        }
        drop(frames);
        if next == NextAppend::Stored {
            let end = Position(end.0 + 1);
            self.state = State::Writing { end };
            Ok(end)
        } else {
            self.state = State::Poisoned { end };
            Err(unknown("the next append was set to fail"))
        }
    }

    fn is_long(&self) -> bool {
        false
    }

    fn is_full(&self) -> bool {
        false
    }

    fn idle(&mut self) {}

    fn trim(&mut self, before: Position) -> io::Result<()> {
        let mut frames = self.frames();
        if let Some(index) = frames.index(before) {
            frames.kept.drain(..index);
            frames.trimmed = before.0;
        }
        Ok(())
    }
}

/// What every journal promises, as tests that run over each of them.
#[cfg(test)]
pub(super) mod suite {
    use super::*;

    /// What a journal holds from `from` on. The journal can be appended to then.
    pub(in super::super) fn read(journal: &mut impl Journal, from: Position) -> Vec<(Position, Vec<u8>)> {
        let mut frames = Vec::new();
        let read = journal.read(from, &mut |after, records| {
            frames.push((after, records.to_vec()));
            Ok(())
        });
        read.expect("an undamaged journal can be read");
        frames
    }

    /// A frame that holds `records`.
    pub(in super::super) fn frame(records: &[u8]) -> FrameBuf {
        let mut frame = FrameBuf::new();
        frame.push_raw(records);
        frame
    }

    /// Appends `records` at the end.
    pub(in super::super) fn append(journal: &mut impl Journal, records: &[u8]) -> (Position, Vec<u8>) {
        let mut frame = frame(records);
        let after = journal.append(&mut frame, journal.end()).expect("nothing fails");
        assert_eq!(frame.records(), records, "the frame is left as it was");
        assert_eq!(journal.end(), after);
        (after, records.to_vec())
    }

    /// Runs all of it; `open` opens the same journal again and again, with what the last one left.
    pub(in super::super) fn run<J: Journal>(mut open: impl FnMut() -> J) {
        let mut written = frames_come_back_after_every_restart(&mut open);
        a_writer_that_has_lost_track_is_fenced(&mut open, &mut written);
        reading_begins_and_ends_where_it_is_told(&mut open, &written);
        what_is_trimmed_is_gone_and_the_rest_is_not(&mut open, written);
    }

    fn frames_come_back_after_every_restart<J: Journal>(open: &mut impl FnMut() -> J) -> Vec<(Position, Vec<u8>)> {
        let mut written = Vec::new();
        for restart in 0..5_u8 {
            let mut journal = open();
            assert_eq!(read(&mut journal, Position::START), written);
            assert_eq!(journal.end(), written.last().map_or(Position::START, |(after, _)| *after));
            for length in [0, 1, 4031, 4032, 4033, 9000] {
                written.push(append(&mut journal, &vec![restart + 1; length]));
                journal.idle();
                journal.idle();
            }
        }
        assert!(written.is_sorted_by(|a, b| a.0 < b.0), "positions rise");
        written
    }

    fn a_writer_that_has_lost_track_is_fenced<J: Journal>(
        open: &mut impl FnMut() -> J,
        written: &mut Vec<(Position, Vec<u8>)>,
    ) {
        let mut journal = open();
        read(&mut journal, Position::START);
        let before = journal.end();
        written.push(append(&mut journal, b"mine"));
        let stale = journal.append(&mut frame(b"stale"), before);
        assert!(matches!(stale, Err(AppendError::Fenced { at }) if at == before));
        drop(journal);
        assert_eq!(read(&mut open(), Position::START), *written);
    }

    fn reading_begins_and_ends_where_it_is_told<J: Journal>(
        open: &mut impl FnMut() -> J,
        written: &[(Position, Vec<u8>)],
    ) {
        for (done, (after, _)) in written.iter().enumerate() {
            assert_eq!(read(&mut open(), *after), written[done + 1..]);
        }
        let mut visits = 0;
        let stopped = open().read(Position::START, &mut |_, _| {
            visits += 1;
            Err(ReadError::Corrupt { place: "here".to_owned(), offset: 7, problem: "seen enough".to_owned() })
        });
        assert!(matches!(stopped, Err(ReadError::Corrupt { offset: 7, .. })));
        assert_eq!(visits, 1);
    }

    fn what_is_trimmed_is_gone_and_the_rest_is_not<J: Journal>(
        open: &mut impl FnMut() -> J,
        mut written: Vec<(Position, Vec<u8>)>,
    ) {
        for _ in 0..3 {
            let from = written[written.len() / 2].0;
            let mut journal = open();
            written.retain(|(after, _)| *after > from);
            assert_eq!(read(&mut journal, from), written);
            journal.trim(from).expect("nothing fails");
            written.push(append(&mut journal, b"after the trim"));
            drop(journal);
            assert_eq!(read(&mut open(), from), written);
        }
        let mut journal = open();
        let end = written.last().expect("there are some").0;
        read(&mut journal, end);
        journal.trim(end).expect("nothing fails");
        drop(journal);
        let mut journal = open();
        assert_eq!(read(&mut journal, end), []);
        assert_eq!(journal.end(), end);
        assert!(append(&mut journal, b"next").0 > end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_what_every_journal_promises() {
        let journal = MemoryJournal::new();
        suite::run(|| journal.clone());
    }

    #[test]
    fn it_fails_as_it_is_told() {
        let mut journal = MemoryJournal::new();
        suite::read(&mut journal, Position::START);
        let first = suite::append(&mut journal, b"first");
        journal.set_next(NextAppend::Fenced);
        assert!(matches!(journal.append(&mut suite::frame(b"no"), first.0), Err(AppendError::Fenced { .. })));
        journal.set_next(NextAppend::UnknownLost);
        for _ in 0..2 {
            assert!(matches!(journal.append(&mut suite::frame(b"no"), first.0), Err(AppendError::Unknown { .. })));
        }
        let mut restarted = journal.clone();
        assert_eq!(suite::read(&mut restarted, Position::START), [first]);
        restarted.set_next(NextAppend::UnknownStored);
        let end = restarted.end();
        assert!(matches!(restarted.append(&mut suite::frame(b"found"), end), Err(AppendError::Unknown { .. })));
        assert_eq!(suite::read(&mut restarted.clone(), end)[0].1, b"found");
    }

    #[test]
    fn the_second_writer_fences_the_first() {
        let mut first = MemoryJournal::new();
        suite::read(&mut first, Position::START);
        let mut second = first.clone();
        suite::read(&mut second, Position::START);
        suite::append(&mut second, b"taken over");
        let late = first.append(&mut suite::frame(b"late"), Position::START);
        assert!(matches!(late, Err(AppendError::Fenced { .. })));
    }
}

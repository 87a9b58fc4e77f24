//! Appending: where the next frame goes, and putting it there.
//!
//! One frame is in flight at a time, so what a frame says about the one before it, that it is durable, is true. An error
//! of any call leaves the file in a state that nobody knows; the owner drops the writer then, and never asks it again.

use std::{collections::VecDeque, io};

use super::{
    super::{FrameBuf, Position},
    file_id::FileId,
    frame_header::FrameHeader,
    layout::{FILE_HEADER_BYTES, PAGE_BYTES},
    preparer::Preparer,
    ring::{Plan, ReadyFile, Ring},
};

const HEADER_BYTES: usize = FrameBuf::HEADER_BYTES;
/// With the file that is appended to and the one that is prepared, this makes a ring of four or five files.
const SEALED_MAX: usize = 3;
/// Files that may be behind it while a checkpoint is being written: 1 GiB with files of 64 MiB.
const SEALED_LIMIT: usize = 16;
const PAGE: usize = PAGE_BYTES as usize;

/// The end of a journal that has been read.
#[derive(Debug)]
pub(super) struct Writer {
    preparer: Preparer,
    /// The files before the one that is appended to, oldest first.
    sealed: VecDeque<Sealed>,
    /// `None` until the first append takes the file that is being prepared.
    active: Option<Active>,
    /// What is being prepared.
    next: Plan,
    end: Position,
    /// A mark says that everything up to here is durable.
    covered: Position,
}

/// A file that is not appended to any more.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) id: FileId,
    /// None of its frames ends after this.
    pub(super) end: Position,
}

/// The file that is appended to.
#[derive(Debug)]
struct Active {
    ready: ReadyFile,
    /// Where the next frame goes.
    offset: u64,
}

impl Active {
    fn room_bytes(&self) -> u64 {
        self.ready.header.file_bytes - self.offset
    }
}

impl Writer {
    /// Starts the preparation of `first`, the file for the frames after `end`.
    pub(super) fn start(ring: Ring, sealed: VecDeque<Sealed>, first: Plan, end: Position) -> io::Result<Self> {
        let preparer = Preparer::start(ring, first)?;
        Ok(Self { preparer, sealed, active: None, next: first, end, covered: Position::START })
    }

    pub(super) fn end(&self) -> Position {
        self.end
    }

    /// Enough full files are behind it that a checkpoint is worth its while.
    pub(super) fn is_long(&self) -> bool {
        self.sealed.len() >= SEALED_MAX
    }

    /// So many files are behind it that replaying them would take too long.
    pub(super) fn is_full(&self) -> bool {
        self.sealed.len() >= SEALED_LIMIT
    }

    /// Nothing has been appended yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.active.is_none()
    }

    /// Fills in the header of `frame`, writes it and syncs it. Its records are left as they were.
    pub(super) fn append(&mut self, frame: &mut FrameBuf) -> io::Result<Position> {
        let end = self.end;
        let padded = (HEADER_BYTES + frame.records().len()).next_multiple_of(PAGE);
        let active = self.active_with_room(padded as u64)?;
        let (file, header) = (&active.ready.file, &active.ready.header);
        let frame_header = FrameHeader::of_frame(header, end, frame).encode(header, active.offset);
        file.write_all_at(frame.finish(&frame_header, PAGE), active.offset)?;
        file.sync_data()?;
        active.offset += padded as u64;
        self.end = header.position_at(active.offset);
        Ok(self.end)
    }

    /// Leaves a mark after the last frame, unless there is one or no file is ready for it. Does not sync, and does not
    /// move the end: the next frame takes the mark's place.
    pub(super) fn mark(&mut self) -> io::Result<()> {
        if self.covered == self.end {
            return Ok(());
        }
        if self.active.as_ref().is_none_or(|active| active.room_bytes() == 0) {
            match self.preparer.try_take() {
                None => return Ok(()),
                Some(Err(error)) if error.kind() == io::ErrorKind::StorageFull => {
                    self.preparer.want(self.next);
                    return Ok(());
                }
                Some(ready) => self.switch_to(ready?),
            }
        }
        let end = self.end;
        let active = self.active_with_room(PAGE_BYTES)?;
        let header = FrameHeader::of_mark(&active.ready.header, end).encode(&active.ready.header, active.offset);
        let mut page = [0; PAGE];
        page[..HEADER_BYTES].copy_from_slice(&header);
        active.ready.file.write_all_at(&page, active.offset)?;
        self.covered = end;
        Ok(())
    }

    /// Takes the files whose frames all end at `before` or earlier out of the journal.
    pub(super) fn trim(&mut self, before: Position) -> io::Result<()> {
        let done = self.sealed.iter().take_while(|file| file.end <= before).count();
        self.preparer.retire(self.sealed.drain(..done).map(|file| file.id))
    }

    /// The file for a frame of `frame_bytes`; if they do not fit the current one, its rest stays unused.
    fn active_with_room(&mut self, frame_bytes: u64) -> io::Result<&mut Active> {
        if self.active.as_ref().is_none_or(|active| active.room_bytes() < frame_bytes) {
            let ready = match self.preparer.take() {
                // That was when the file was to be ready ahead of time. It is tried again, from the beginning.
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    self.preparer.want(self.next);
                    self.preparer.take()?
                }
                taken => taken?,
            };
            self.switch_to(ready);
        }
        Ok(self.active.as_mut().expect("there is a file after the switch to one"))
    }

    fn switch_to(&mut self, ready: ReadyFile) {
        self.next = Plan::after(&ready.header);
        self.preparer.want(self.next);
        if let Some(full) = self.active.replace(Active { ready, offset: FILE_HEADER_BYTES }) {
            self.sealed.push_back(Sealed { id: full.ready.header.id, end: self.end });
        }
    }

    /// Goes on in a file that has been read. For a mistake that is made on purpose.
    #[cfg(test)]
    pub(super) fn go_on_in(&mut self, ready: ReadyFile, offset: u64) {
        self.sealed.pop_back();
        self.end = ready.header.position_at(offset);
        self.next = Plan::after(&ready.header);
        // What was being prepared comes after an end that is not the end any more.
        let _ = self.preparer.take();
        self.preparer.want(self.next);
        self.active = Some(Active { ready, offset });
    }

    /// The thread behind it works only while somebody waits for it.
    #[cfg(test)]
    pub(super) fn hold(&self) {
        self.preparer.hold();
    }

    /// Waits until the thread behind it has nothing to do.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        self.preparer.settle();
    }
}

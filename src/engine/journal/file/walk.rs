//! Reading every frame of a journal, and going on where one is missing.
//!
//! ```text
//!   | frame | frame | ??? | frame |     file missing     | frame | …
//!   └─ Reach::Whole ┘     └─ Reach::Behind: seen and counted, but what came before is not all known
//! ```
//!
//! What proves a loss is said in `recovery`. Behind a loss the frame that proves it is the next to be believed; its
//! checksum and its place are as good as those of any other.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    super::Position,
    defect::Defect,
    file_header::FileHeader,
    file_id::Role,
    frame_header::{FrameHeader, FrameKind},
    journal_file::{JournalFile, open_past_cache},
    layout::FILE_HEADER_BYTES,
    scan::Scan,
    survey::{HistoryEnd, SurveyedFile},
    tail::Tail,
};
use crate::engine::disk::Disk;

/// Whether everything before a frame is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Reach {
    /// All frames before it have been seen.
    Whole,
    /// Some are gone.
    Behind,
}

/// What is met while reading, in the order of the journal; defects of whole files come first.
#[derive(Debug)]
pub(in crate::engine) enum Sighting<'a> {
    Frame {
        path: &'a Path,
        offset: u64,
        /// Where it ends in the file.
        end: u64,
        reach: Reach,
        records: &'a [u8],
    },
    Defect(Defect),
}

pub(super) type See<'a> = dyn FnMut(Sighting<'_>) + 'a;

/// A file, and how it hangs together with what came before it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) file: JournalFile,
    pub(super) gap: Gap,
}

/// Whether it is known why frames are missing before a file, should they be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    Unexplained,
    Explained,
}

/// Reading all frames.
pub(super) struct Walk<'a, 'b> {
    disk: &'a dyn Disk,
    dir: PathBuf,
    links: Vec<Link>,
    /// One for each link.
    files: Vec<SurveyedFile>,
    end: Position,
    /// Where the frame that begins at `end` would have to be; `None` before the first file.
    stop: Option<Place>,
    reach: Reach,
    /// What is known of the way to the next file's first frame.
    gap: Gap,
    see: &'a mut See<'b>,
}

/// Where reading stands: the number of a file in the list, and an offset in it.
#[derive(Debug, Clone, Copy)]
struct Place {
    file: usize,
    offset: u64,
}

/// Where to go on.
enum Next {
    File,
    /// A broker appended there meanwhile.
    Back(Place),
}

/// What comes next in a file.
enum Found {
    Frame(FrameHeader),
    /// No more frames.
    End,
    /// As in [`Next`].
    Back(Place),
}

impl<'a, 'b> Walk<'a, 'b> {
    /// To read from the frame that begins at `from`; `None` if it is not known where a start would begin: then from the
    /// first frame there is, of which what came before is unknown.
    pub(super) fn new(
        disk: &'a dyn Disk,
        dir: &Path,
        links: Vec<Link>,
        from: Option<Position>,
        see: &'a mut See<'b>,
    ) -> Self {
        let unread = |link: &Link| SurveyedFile {
            path: link.file.path.clone(),
            first: link.file.header.first,
            file_bytes: link.file.header.file_bytes,
            used_bytes: FILE_HEADER_BYTES,
            frames: 0,
            tail: Tail::Unread,
        };
        let files = links.iter().map(unread).collect();
        let (reach, gap) = match from {
            Some(_) => (Reach::Whole, Gap::Unexplained),
            None => (Reach::Behind, Gap::Explained),
        };
        let end = from.unwrap_or(Position::START);
        Self { disk, dir: dir.to_path_buf(), links, files, end, stop: None, reach, gap, see }
    }

    /// Reads everything.
    pub(super) fn run(&mut self) {
        // Files before the position are there to be used again, and are not needed.
        let first = self.links.iter().position(|link| link.file.header.last() > self.end);
        let Some(first) = first else { return self.run_out() };
        let offset = self.links[first].file.header.offset_of(self.end).unwrap_or(FILE_HEADER_BYTES);
        let mut at = Place { file: first, offset };
        while at.file < self.links.len() {
            if self.links[at.file].gap == Gap::Explained {
                self.gap = Gap::Explained;
            }
            at = match self.read_file(at) {
                Ok(Next::Back(place)) => place,
                Ok(Next::File) => Place { file: at.file + 1, offset: FILE_HEADER_BYTES },
                Err(source) => {
                    self.report(Defect::unreadable(&self.files[at.file].path)(source));
                    self.gap = Gap::Explained;
                    Place { file: at.file + 1, offset: FILE_HEADER_BYTES }
                }
            };
        }
    }

    /// No file reaches the position from which reading was to begin.
    fn run_out(&mut self) {
        let last = self.links.last().map_or(Position::START, |link| link.file.header.last());
        if last < self.end {
            self.report(Defect::EndsBefore { path: self.dir.clone(), from: self.end });
        }
    }

    /// What has been found out about the files, and where the last frame ends.
    pub(super) fn finish(self) -> (Vec<SurveyedFile>, Option<HistoryEnd>) {
        let end = self.stop.map(|stop| HistoryEnd {
            position: self.end,
            path: self.files[stop.file].path.clone(),
            offset: stop.offset,
        });
        (self.files, end)
    }

    fn report(&mut self, defect: Defect) {
        (self.see)(Sighting::Defect(defect));
    }

    /// Reads the frames of a file from a place on, and what stands behind them.
    fn read_file(&mut self, at: Place) -> io::Result<Next> {
        let header = self.links[at.file].file.header.clone();
        let path = self.files[at.file].path.clone();
        let mut scan = Scan::new(open_past_cache(self.disk, &path)?, &header);
        let mut here = at;
        loop {
            let found = match self.next_frame(&mut scan, &header, &mut here)? {
                Found::Frame(found) => found,
                Found::Back(place) => return Ok(Next::Back(place)),
                Found::End => break,
            };
            if let Some(place) = self.check_link(here, found.prev_durable)? {
                return Ok(Next::Back(place));
            }
            match found.kind {
                FrameKind::Records => {}
                FrameKind::Mark => break,
                FrameKind::Unknown => {
                    self.report(Defect::NewerFrame { path: path.clone(), offset: here.offset });
                    self.gap = Gap::Explained;
                    return Ok(Next::File);
                }
            }
            let (offset, end) = (here.offset, here.offset + found.frame_bytes());
            let (reach, records) = (self.reach, scan.records(&found));
            (self.see)(Sighting::Frame { path: &path, offset, end, reach, records });
            here.offset = end;
            self.end = header.position_at(here.offset);
            self.stop = Some(here);
            self.files[at.file].frames += 1;
            self.files[at.file].used_bytes = here.offset;
        }
        self.stop.get_or_insert(here);
        self.files[at.file].tail = Tail::read(&*self.disk.open_read(&path)?, &header, here.offset)?;
        Ok(Next::File)
    }

    /// The frame at a place, or the next one behind what was lost there.
    fn next_frame(&mut self, scan: &mut Scan<'_>, header: &FileHeader, here: &mut Place) -> io::Result<Found> {
        loop {
            if let Some(frame) = scan.frame_at(here.offset)? {
                return Ok(Found::Frame(frame));
            }
            let Some(later) = scan.later_frame(here.offset, self.end)? else { return Ok(Found::End) };
            // A broker at work may have written both meanwhile.
            if let Some(frame) = scan.frame_at(here.offset)? {
                return Ok(Found::Frame(frame));
            }
            let proof = Place { offset: later, ..*here };
            match self.stop {
                // The frame here is not whole, but its header tells of more than was read before this file.
                Some(stop) if later == here.offset && stop.file != here.file => {
                    if self.has_grown(stop)? {
                        return Ok(Found::Back(stop));
                    }
                    self.lose(stop, proof);
                }
                _ => self.lose(*here, proof),
            }
            let position = header.position_at(later);
            if self.end >= position {
                // No writer makes a frame that tells of what comes after itself: nothing here can be relied on.
                return Ok(Found::End);
            }
            (here.offset, self.end) = (later, position);
            self.stop = Some(*here);
        }
    }

    /// A frame says up to where everything was durable before it; so that must have been read. Answers where to read
    /// on if that has changed meanwhile.
    fn check_link(&mut self, here: Place, prev_durable: Position) -> io::Result<Option<Place>> {
        let is_first = here.offset == FILE_HEADER_BYTES;
        if prev_durable > self.end {
            if let Some(stop) = self.stop
                && stop.file != here.file
                && self.has_grown(stop)?
            {
                return Ok(Some(stop));
            }
            match (self.stop, self.links[here.file].file.header.previous) {
                _ if is_first && self.gap == Gap::Explained => self.reach = Reach::Behind,
                (None, Some(previous)) => {
                    let path = previous.path(&self.dir, Role::Journal);
                    self.report(Defect::Missing { path, needed_by: self.files[here.file].path.clone() });
                    self.reach = Reach::Behind;
                }
                (stop, _) => self.lose(stop.unwrap_or(here), here),
            }
            (self.end, self.stop) = (prev_durable, Some(here));
        } else if is_first && prev_durable < self.end {
            if self.gap == Gap::Unexplained {
                let (path, offset) = (self.files[here.file].path.clone(), here.offset);
                self.report(Defect::Unfounded { path, offset, from: prev_durable, end: self.end });
            }
            self.reach = Reach::Behind;
        }
        self.gap = Gap::Unexplained;
        Ok(None)
    }

    /// Whether a frame begins now where none did.
    fn has_grown(&self, stop: Place) -> io::Result<bool> {
        let file = &self.links[stop.file].file;
        let mut scan = Scan::new(self.disk.open_read(&file.path)?, &file.header);
        Ok(scan.frame_at(stop.offset)?.is_some_and(|frame| frame.kind == FrameKind::Records))
    }

    /// What stood at a place is gone, as a later frame shows.
    fn lose(&mut self, at: Place, proof: Place) {
        self.reach = Reach::Behind;
        if at.file != proof.file && self.gap == Gap::Explained {
            return;
        }
        self.files[at.file].tail = Tail::Lost { offset: at.offset };
        self.report(Defect::Lost {
            path: self.files[at.file].path.clone(),
            offset: at.offset,
            proof: self.files[proof.file].path.clone(),
            proof_offset: proof.offset,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            super::memory::suite,
            survey::survey,
            testing::{Bench, header_of, operate},
        },
        *,
    };
    use crate::engine::disk::RealDisk;

    const PAGE: usize = FILE_HEADER_BYTES as usize;

    /// The defects of the journal, and how many frames are seen on both sides of the first gap.
    fn seen(bench: &Bench) -> (Vec<Defect>, u32, u32) {
        let (mut defects, mut whole, mut behind) = (Vec::new(), 0, 0);
        survey(&RealDisk, bench.dir(), Some(Position::START), &mut |sighting| match sighting {
            Sighting::Defect(defect) => defects.push(defect),
            Sighting::Frame { reach: Reach::Whole, .. } => whole += 1,
            Sighting::Frame { reach: Reach::Behind, .. } => behind += 1,
        });
        (defects, whole, behind)
    }

    /// Appends a frame in one run, and another one in the next.
    fn two_runs(bench: &Bench) -> Position {
        let mut journal = bench.open();
        suite::read(&mut journal, Position::START);
        let (end, _) = suite::append(&mut journal, b"one");
        journal.settle();
        drop(journal);
        let mut journal = bench.open();
        suite::read(&mut journal, Position::START);
        suite::append(&mut journal, b"two");
        journal.settle();
        drop(journal);
        end
    }

    fn plant(file: &mut [u8], page: usize, frame: &FrameHeader) {
        let header = header_of(file);
        file[page * PAGE..page * PAGE + 64].copy_from_slice(&frame.encode(&header, (page * PAGE) as u64));
    }

    #[test]
    fn a_frame_of_which_the_next_file_knows_nothing_is_told() {
        let bench = Bench::new(8);
        let end = two_runs(&bench);
        assert!(matches!(seen(&bench), (defects, 2, 0) if defects.is_empty()));
        operate(&bench.wal_files()[0], |file| {
            let frame = FrameHeader::of_records(&header_of(file), end, 0, &[]);
            plant(file, 2, &frame);
        });
        let (defects, whole, behind) = seen(&bench);
        assert!(matches!(&defects[..], [Defect::Unfounded { from, .. }] if *from == end), "{defects:?}");
        assert_eq!((whole, behind), (2, 1));
    }

    #[test]
    fn files_that_end_before_the_position_are_told_and_those_that_end_at_it_are_not() {
        let bench = Bench::new(16);
        two_runs(&bench);
        let newest = bench.wal_files().pop().expect("there is one");
        let last = header_of(&std::fs::read(newest).expect("readable")).last();
        for (beyond, count) in [(0, 0), (1, 1), (PAGE as u64, 1)] {
            let (from, mut defects) = (Position(last.0 + beyond), Vec::new());
            survey(&RealDisk, bench.dir(), Some(from), &mut |sighting| match sighting {
                Sighting::Defect(defect) => defects.push(defect),
                Sighting::Frame { .. } => panic!("there is no frame from there on"),
            });
            assert_eq!(defects.len(), count, "{beyond}: {defects:?}");
            assert!(
                defects.iter().all(|defect| matches!(defect, Defect::EndsBefore { from: told, .. } if *told == from))
            );
        }
    }

    #[test]
    fn a_newer_kind_of_frame_is_told_and_the_next_file_read() {
        let bench = Bench::new(8);
        let end = two_runs(&bench);
        operate(&bench.wal_files()[0], |file| {
            let frame = FrameHeader { kind: FrameKind::Unknown, ..FrameHeader::of_mark(&header_of(file), end) };
            plant(file, 2, &frame);
        });
        let (defects, whole, behind) = seen(&bench);
        assert!(matches!(&defects[..], [Defect::NewerFrame { offset, .. }] if *offset == 2 * FILE_HEADER_BYTES));
        assert_eq!(whole + behind, 2);
    }

    #[test]
    fn a_frame_that_tells_of_what_comes_after_it_ends_the_reading_of_its_file() {
        let bench = Bench::new(8);
        two_runs(&bench);
        operate(&bench.wal_files()[1], |file| {
            let frame = FrameHeader::of_records(&header_of(file), Position(u64::MAX), 1, b"not there");
            plant(file, 2, &frame);
        });
        assert!(bench.corrupt_at(Position::START).is_some());
        let (defects, whole, behind) = seen(&bench);
        assert!(matches!(&defects[..], [Defect::Lost { .. }]), "{defects:?}");
        assert_eq!((whole, behind), (2, 0));
    }
}

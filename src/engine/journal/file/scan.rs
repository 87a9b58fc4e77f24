//! Reading the frames of one file.
//!
//! It finds frames, checked to the last bit, and tells where there is none; what that means is decided in `recovery`.
//! Nothing is allocated for a length before the checksum over that length holds and the file is known to be that long.

use std::io;

use super::{
    super::FrameBuf,
    super::Position,
    file_header::FileHeader,
    frame_header::FrameHeader,
    layout::{FILE_HEADER_BYTES, PAGE_BYTES},
};
use crate::engine::disk::DiskFile;

const HEADER_BYTES: usize = FrameBuf::HEADER_BYTES;
const PAGE: usize = PAGE_BYTES as usize;
/// How much is read at once in search of a later frame: few calls, and little memory.
const WINDOW_BYTES: u64 = 256 << 10;
const _: () = assert!(WINDOW_BYTES.is_multiple_of(PAGE_BYTES));

/// A file that is being read.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    file: Box<dyn DiskFile>,
    header: &'a FileHeader,
    /// The frame that was read last.
    frame: Vec<u8>,
}

impl<'a> Scan<'a> {
    /// `file` is at least as long as its header says.
    pub(super) fn new(file: Box<dyn DiskFile>, header: &'a FileHeader) -> Self {
        Self { file, header, frame: vec![0; PAGE] }
    }

    /// The frame that begins at `offset`, if a whole one does.
    pub(super) fn frame_at(&mut self, offset: u64) -> io::Result<Option<FrameHeader>> {
        if offset < FILE_HEADER_BYTES || self.header.file_bytes.saturating_sub(offset) < PAGE_BYTES {
            return Ok(None);
        }
        self.frame.resize(PAGE, 0);
        self.file.read_exact_at(&mut self.frame, offset)?;
        let Some(header) = decode(&self.frame, self.header, offset) else {
            return Ok(None);
        };
        let frame_bytes = usize::try_from(header.frame_bytes()).map_err(io::Error::other)?;
        self.frame.resize(frame_bytes, 0);
        self.file.read_exact_at(&mut self.frame[PAGE..], offset + PAGE_BYTES)?;
        Ok(header.matches(self.header, self.records(&header)).then_some(header))
    }

    /// The records of the frame that was read last.
    pub(super) fn records(&self, header: &FrameHeader) -> &[u8] {
        &self.frame[HEADER_BYTES..HEADER_BYTES + header.records_bytes as usize]
    }

    /// Where, from `offset` on, there is a frame that was written when more than up to `end` had been synced.
    ///
    /// Its header is proof enough. No copy of one counts, however it got there: it is bound to its place, to this file,
    /// and to a salt that nobody outside knows.
    pub(super) fn later_frame(&self, mut offset: u64, end: Position) -> io::Result<Option<u64>> {
        let mut window = Vec::new();
        while offset < self.header.file_bytes {
            let bytes = WINDOW_BYTES.min(self.header.file_bytes - offset);
            window.resize(bytes as usize, 0);
            self.file.read_exact_at(&mut window, offset)?;
            for page in window.chunks_exact(PAGE) {
                if decode(page, self.header, offset).is_some_and(|frame| frame.prev_durable > end) {
                    return Ok(Some(offset));
                }
                offset += PAGE_BYTES;
            }
        }
        Ok(None)
    }
}

fn decode(page: &[u8], file: &FileHeader, offset: u64) -> Option<FrameHeader> {
    let bytes = page.first_chunk::<HEADER_BYTES>().expect("a page is longer than a header");
    FrameHeader::decode(bytes, file, offset)
}

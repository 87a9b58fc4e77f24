//! What stands behind the last frame of a file.
//!
//! It decides nothing: that there is no later frame in the file has been found out before. The difference matters to
//! people only, because nothing that is found here was ever acknowledged.

use std::io;

use super::{
    super::FrameBuf,
    file_header::FileHeader,
    frame_header::{FrameHeader, FrameKind},
    layout::PAGE_BYTES,
};
use crate::engine::disk::DiskFile;

/// How much is read at once.
const WINDOW_BYTES: u64 = 256 << 10;

/// What stands behind the last frame of a journal file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// Nothing.
    Blank,
    /// A mark that says that everything before it had been synced.
    Marked,
    /// The beginning of a frame that is not there as a whole: a write that a crash cut off. (Damage to the very last
    /// frame, if it came before the mark that would prove it, looks the same.)
    Torn {
        /// Where it begins.
        offset: u64,
        /// Its length, as far as it can be told.
        bytes: u64,
    },
    /// Bytes that belong to no frame of this file: of its earlier use, or of a write that a crash cut off.
    Leftovers {
        /// Where they begin.
        offset: u64,
        /// Their length, in whole pages.
        bytes: u64,
    },
    /// Frames had been synced here, and are not there any more.
    Lost {
        /// Where they began.
        offset: u64,
    },
    /// It was not read, because of a defect before it.
    Unread,
}

impl Tail {
    /// Looks at what begins at `offset`, where no frame of records does.
    pub(super) fn read(file: &dyn DiskFile, header: &FileHeader, offset: u64) -> io::Result<Self> {
        if header.file_bytes.saturating_sub(offset) < PAGE_BYTES {
            return Ok(Self::Blank);
        }
        let mut first = [0; FrameBuf::HEADER_BYTES];
        file.read_exact_at(&mut first, offset)?;
        let frame = FrameHeader::decode(&first, header, offset);
        if let Some(frame) = frame {
            let torn = Self::Torn { offset, bytes: frame.frame_bytes() };
            return Ok(if frame.kind == FrameKind::Mark { Self::Marked } else { torn });
        }
        let bytes = bytes_in_use(file, header, offset)?;
        Ok(match bytes {
            0 => Self::Blank,
            _ if FrameHeader::is_in_place(&first, header, offset) => Self::Torn { offset, bytes },
            _ => Self::Leftovers { offset, bytes },
        })
    }
}

/// How far it is from `offset` to the end of the last page that is not zero.
fn bytes_in_use(file: &dyn DiskFile, header: &FileHeader, offset: u64) -> io::Result<u64> {
    let (mut at, mut end) = (offset, offset);
    let mut window = Vec::new();
    while at < header.file_bytes {
        window.resize(WINDOW_BYTES.min(header.file_bytes - at) as usize, 0);
        file.read_exact_at(&mut window, at)?;
        for page in window.chunks(PAGE_BYTES as usize) {
            at += page.len() as u64;
            if page.iter().any(|byte| *byte != 0) {
                end = at;
            }
        }
    }
    Ok(end - offset)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            super::{Position, memory::suite},
            testing::{Bench, header_of, operate},
        },
        *,
    };
    use crate::engine::disk::{Disk as _, RealDisk};

    const PAGE: usize = PAGE_BYTES as usize;

    #[test]
    fn what_stands_behind_the_last_frame_is_told_apart() {
        let bench = Bench::new(8);
        let mut journal = bench.open();
        suite::read(&mut journal, Position::START);
        suite::append(&mut journal, b"one");
        suite::append(&mut journal, &[7; 6000]);
        journal.settle();
        drop(journal);
        let path = bench.wal_files()[0].clone();
        let image = std::fs::read(&path).expect("readable");
        // The second frame takes the pages 2 and 3.
        let offset = PAGE_BYTES * 2;
        let tail = |at: u64, change: &dyn Fn(&mut Vec<u8>)| {
            operate(&path, |file| {
                file.clone_from(&image);
                change(file);
            });
            let file = RealDisk.open_read(&path).expect("opens");
            Tail::read(&*file, &header_of(&image), at).expect("readable")
        };
        assert_eq!(tail(PAGE_BYTES * 4, &|_| {}), Tail::Blank);
        assert_eq!(tail(PAGE_BYTES * 8, &|_| {}), Tail::Blank, "the end of the file");
        let torn = Tail::Torn { offset, bytes: PAGE_BYTES * 2 };
        assert_eq!(tail(offset, &|file| file[PAGE * 3..].fill(0)), torn, "its length is in its header");
        assert_eq!(tail(offset, &|file| file[PAGE * 2 + 12] ^= 1), torn, "its length is guessed");
        let leftovers = Tail::Leftovers { offset, bytes: PAGE_BYTES * 2 };
        assert_eq!(tail(offset, &|file| file[PAGE * 2..PAGE * 3].fill(0)), leftovers);
        let mark = |file: &mut Vec<u8>| {
            let header = header_of(file);
            let mark = FrameHeader::of_mark(&header, header.position_at(offset));
            file[PAGE * 2..PAGE * 2 + 64].copy_from_slice(&mark.encode(&header, offset));
        };
        assert_eq!(tail(offset, &mark), Tail::Marked);
        let last = PAGE_BYTES * 7;
        let leftovers = Tail::Leftovers { offset: last, bytes: PAGE_BYTES };
        assert_eq!(tail(last, &|file| file[PAGE * 7] = 1), leftovers, "the last page counts");
    }
}

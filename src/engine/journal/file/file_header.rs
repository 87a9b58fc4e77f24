//! The first page of a journal file.
//!
//! ```text
//! 0        8         12     16      32        40         48     56         64           72       76          4096
//! | magic  | version | 0    | store | file id | previous | salt | first    | file bytes | crc32c | 0         |
//! | 8 × u8 | u32     | u32  | uuid  | u64     | u64      | u64  | u64      | u64        | u32    |           |
//! ```
//!
//! Little-endian. *Previous* is the id of the file before it, 0 for none. *First* is the position at which the file's
//! first frame begins. The checksum covers everything in front of it.
//!
//! It is written once, before the file gets its name as a part of the journal, so a crash cannot leave half of one.

use uuid::Uuid;

#[cfg(test)]
use super::seeded::{self, Mistake};
use super::{
    super::Position,
    file_id::FileId,
    layout::{FILE_HEADER_BYTES, PAGE_BYTES},
};

const MAGIC: [u8; 8] = *b"CAMPJRNL";
/// Another number is another format: this code does not read it.
pub(super) const VERSION: u32 = 1;
/// What the checksum covers.
const COVERED_BYTES: usize = 72;

/// The header of a journal file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) store: Uuid,
    pub(super) id: FileId,
    pub(super) previous: Option<FileId>,
    /// Random. Goes into the checksum of every frame, so that nobody outside can make up bytes that pass for one.
    pub(super) salt: u64,
    pub(super) first: Position,
    pub(super) file_bytes: u64,
}

/// The page is no header that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// Written by a version that is not known here.
    Version(u32),
    /// What does not hold.
    Damaged(&'static str),
}

impl FileHeader {
    pub(super) fn encode(&self) -> [u8; PAGE_BYTES as usize] {
        let mut page = [0; PAGE_BYTES as usize];
        page[..8].copy_from_slice(&MAGIC);
        page[8..12].copy_from_slice(&VERSION.to_le_bytes());
        page[16..32].copy_from_slice(self.store.as_bytes());
        page[32..40].copy_from_slice(&self.id.get().to_le_bytes());
        page[40..48].copy_from_slice(&self.previous.map_or(0, FileId::get).to_le_bytes());
        page[48..56].copy_from_slice(&self.salt.to_le_bytes());
        page[56..64].copy_from_slice(&self.first.0.to_le_bytes());
        page[64..72].copy_from_slice(&self.file_bytes.to_le_bytes());
        let crc = crc32c::crc32c(&page[..COVERED_BYTES]);
        page[COVERED_BYTES..COVERED_BYTES + 4].copy_from_slice(&crc.to_le_bytes());
        page
    }

    /// # Errors
    /// [`BadHeader`]; every number in a header that is accepted is within its bounds.
    pub(super) fn decode(page: &[u8; PAGE_BYTES as usize]) -> Result<Self, BadHeader> {
        if page[..8] != MAGIC {
            return Err(BadHeader::Damaged("the header does not begin as one"));
        }
        let version = u32_at(page, 8);
        if version != VERSION {
            return Err(BadHeader::Version(version));
        }
        if crc32c::crc32c(&page[..COVERED_BYTES]) != u32_at(page, COVERED_BYTES) {
            return Err(BadHeader::Damaged("the header's checksum does not match"));
        }
        let store = page[16..32].try_into().map(Uuid::from_bytes).expect("16 bytes");
        let id = FileId::new(u64_at(page, 32)).ok_or(BadHeader::Damaged("the header's file id is 0"))?;
        let (first, file_bytes) = (u64_at(page, 56), u64_at(page, 64));
        if file_bytes < FILE_HEADER_BYTES + PAGE_BYTES || !file_bytes.is_multiple_of(PAGE_BYTES) {
            return Err(BadHeader::Damaged("the header's length is impossible"));
        }
        if first.checked_add(file_bytes).is_none() || !first.is_multiple_of(PAGE_BYTES) {
            return Err(BadHeader::Damaged("the header's first position is impossible"));
        }
        let previous = FileId::new(u64_at(page, 40));
        Ok(Self { store, id, previous, salt: u64_at(page, 48), first: Position(first), file_bytes })
    }

    /// The position at the end of the file: that of a frame which ends with the file.
    pub(super) fn last(&self) -> Position {
        Position(self.first.0 + (self.file_bytes - FILE_HEADER_BYTES))
    }

    /// The position of a frame that begins at `offset`.
    pub(super) fn position_at(&self, offset: u64) -> Position {
        Position(self.first.0 + (offset - FILE_HEADER_BYTES))
    }

    /// Where a frame at `position` begins; `None` when it does not begin in this file.
    pub(super) fn offset_of(&self, position: Position) -> Option<u64> {
        let within = self.first <= position && position < self.last();
        within.then(|| FILE_HEADER_BYTES + (position.0 - self.first.0))
    }

    /// What the checksums of this file's frames begin with.
    pub(super) fn seed(&self) -> u32 {
        #[cfg(test)]
        if seeded::is_made(Mistake::ForgetsLives) {
            return 0;
        }
        crc32c::crc32c_append(crc32c::crc32c(&self.salt.to_le_bytes()), &self.id.get().to_le_bytes())
    }
}

fn u32_at(page: &[u8], at: usize) -> u32 {
    page[at..at + 4].try_into().map(u32::from_le_bytes).expect("4 bytes")
}

fn u64_at(page: &[u8], at: usize) -> u64 {
    page[at..at + 8].try_into().map(u64::from_le_bytes).expect("8 bytes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> FileHeader {
        FileHeader {
            store: Uuid::from_u128(7),
            id: FileId::FIRST.next(),
            previous: Some(FileId::FIRST),
            salt: 0x0102_0304_0506_0708,
            first: Position(PAGE_BYTES * 3),
            file_bytes: PAGE_BYTES * 4,
        }
    }

    #[test]
    fn the_format_is_the_one_that_was_written_before() {
        let page = header().encode();
        assert_eq!(&page[..16], b"CAMPJRNL\x01\0\0\0\0\0\0\0");
        assert_eq!(page[32], 2);
        assert_eq!(page[40], 1);
        assert_eq!(page[48..56], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(u32_at(&page, 72), 0xe016_72a5);
        assert_eq!(header().seed(), 0x7a0b_f360);
        assert_eq!(FileHeader::decode(&page), Ok(header()));
    }

    #[test]
    fn no_bit_of_a_header_can_flip_unnoticed() {
        for bit in 0..COVERED_BYTES * 8 {
            let mut page = header().encode();
            page[bit / 8] ^= 1 << (bit % 8);
            assert!(FileHeader::decode(&page).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut page = header().encode();
        page[8] = 2;
        assert_eq!(FileHeader::decode(&page), Err(BadHeader::Version(2)));
    }

    #[test]
    fn a_file_has_room_for_a_frame_and_ends_with_a_page() {
        let lengths = [(0, false), (PAGE_BYTES, false), (2 * PAGE_BYTES, true), (2 * PAGE_BYTES + 1, false)];
        for (file_bytes, is_possible) in lengths.into_iter().chain([(3 * PAGE_BYTES, true), (PAGE_BYTES + 512, false)])
        {
            let header = FileHeader { file_bytes, ..header() };
            assert_eq!(FileHeader::decode(&header.encode()).is_ok(), is_possible, "{file_bytes}");
        }
    }

    proptest! {
        #[test]
        fn impossible_numbers_are_refused_even_with_a_good_checksum(first: u64, file_bytes: u64) {
            let header = FileHeader { first: Position(first), file_bytes, ..header() };
            if let Ok(header) = FileHeader::decode(&header.encode()) {
                prop_assert!(header.last().0.is_multiple_of(PAGE_BYTES));
            }
        }
    }
}

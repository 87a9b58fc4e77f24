//! The first 64 bytes of a frame.
//!
//! ```text
//! 0       4            8         12      16        24         32             40      44            48        64
//! | magic | header crc | records | count | file id | position | prev durable | flags | records crc | 0       | records … | 0 … |
//! | u32   | u32        | u32     | u32   | u64     | u64      | u64          | u32   | u32         |         |
//! ```
//!
//! Little-endian; a frame begins at a multiple of 4 KiB and is padded to one. *Records* and *records crc* are the length
//! and the checksum of the bytes after the header, *position* that of the frame's own beginning, *prev durable* the
//! position up to which everything had been synced when the frame was written. The header's checksum covers bytes 8 to
//! 64. Both checksums are crc32c and begin with [`FileHeader::seed`], so a frame is one in its file only: not in another
//! that has the same sectors later, and not inside somebody's payload.

#[cfg(test)]
use super::seeded::{self, Mistake};
use super::{
    super::{FrameBuf, Position},
    file_header::FileHeader,
    layout::PAGE_BYTES,
};

const MAGIC: u32 = u32::from_le_bytes(*b"CPFR");
const HEADER_BYTES: usize = FrameBuf::HEADER_BYTES;
const _: () = assert!(HEADER_BYTES == 64, "the ruler above");

/// There are no records: the frame only says that what is before it was synced. The next frame takes its place.
const FLAG_MARK: u32 = 1;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameKind {
    Records,
    Mark,
    /// It has flags that this version does not know.
    Unknown,
}

/// The header of a frame, without what follows from its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) kind: FrameKind,
    pub(super) records_bytes: u32,
    pub(super) count: u32,
    pub(super) prev_durable: Position,
    pub(super) records_crc: u32,
}

impl FrameHeader {
    /// The header for a frame.
    pub(super) fn of_frame(file: &FileHeader, prev_durable: Position, frame: &FrameBuf) -> Self {
        let records_crc = frame.records_crc(file.seed());
        Self { records_crc, ..Self::of_length(prev_durable, frame.count(), frame.records().len()) }
    }

    /// The header for `records`.
    pub(super) fn of_records(file: &FileHeader, prev_durable: Position, count: u32, records: &[u8]) -> Self {
        let records_crc = crc32c::crc32c_append(file.seed(), records);
        Self { records_crc, ..Self::of_length(prev_durable, count, records.len()) }
    }

    fn of_length(prev_durable: Position, count: u32, records_bytes: usize) -> Self {
        let records_bytes = u32::try_from(records_bytes).expect("a frame that fits a file has less than 4 GiB");
        Self { kind: FrameKind::Records, records_bytes, count, prev_durable, records_crc: 0 }
    }

    /// The header of a mark.
    pub(super) fn of_mark(file: &FileHeader, prev_durable: Position) -> Self {
        Self { kind: FrameKind::Mark, ..Self::of_records(file, prev_durable, 0, &[]) }
    }

    /// The bytes, for a frame at `offset` in `file`.
    pub(super) fn encode(&self, file: &FileHeader, offset: u64) -> [u8; HEADER_BYTES] {
        let flags = match self.kind {
            FrameKind::Records => 0,
            FrameKind::Mark => FLAG_MARK,
            FrameKind::Unknown => u32::MAX,
        };
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.records_bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.count.to_le_bytes());
        bytes[16..24].copy_from_slice(&file.id.get().to_le_bytes());
        bytes[24..32].copy_from_slice(&file.position_at(offset).0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.prev_durable.0.to_le_bytes());
        bytes[40..44].copy_from_slice(&flags.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.records_crc.to_le_bytes());
        let crc = crc32c::crc32c_append(file.seed(), &bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header of a frame at `offset` in `file`; `None` when there is none. One that is accepted fits the file.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES], file: &FileHeader, offset: u64) -> Option<Self> {
        let u32_at = |at: usize| bytes[at..at + 4].try_into().map(u32::from_le_bytes).expect("4 bytes");
        let u64_at = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes).expect("8 bytes");
        if !Self::is_in_place(bytes, file, offset) || u32_at(4) != crc32c::crc32c_append(file.seed(), &bytes[8..]) {
            return None;
        }
        let header = Self {
            kind: match u32_at(40) {
                0 => FrameKind::Records,
                FLAG_MARK => FrameKind::Mark,
                _ => FrameKind::Unknown,
            },
            records_bytes: u32_at(8),
            count: u32_at(12),
            prev_durable: Position(u64_at(32)),
            records_crc: u32_at(44),
        };
        (header.frame_bytes() <= file.file_bytes - offset).then_some(header)
    }

    /// Whether the bytes say that they are the header of a frame at `offset` in `file`. No proof without the checksum.
    pub(super) fn is_in_place(bytes: &[u8; HEADER_BYTES], file: &FileHeader, offset: u64) -> bool {
        let u64_at = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes).expect("8 bytes");
        #[cfg(test)]
        if seeded::is_made(Mistake::ForgetsLives) {
            return bytes[..4] == MAGIC.to_le_bytes();
        }
        bytes[..4] == MAGIC.to_le_bytes() && u64_at(16) == file.id.get() && u64_at(24) == file.position_at(offset).0
    }

    /// The length of the whole frame in the file.
    pub(super) fn frame_bytes(&self) -> u64 {
        (HEADER_BYTES as u64 + u64::from(self.records_bytes)).next_multiple_of(PAGE_BYTES)
    }

    /// Whether `records` are those that the header was written for.
    pub(super) fn matches(&self, file: &FileHeader, records: &[u8]) -> bool {
        self.records_crc == crc32c::crc32c_append(file.seed(), records)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::{super::file_id::FileId, *};

    fn file() -> FileHeader {
        FileHeader {
            store: Uuid::nil(),
            id: FileId::FIRST,
            previous: None,
            salt: 42,
            first: Position(PAGE_BYTES * 100),
            file_bytes: PAGE_BYTES * 8,
        }
    }

    #[test]
    fn the_format_is_the_one_that_was_written_before() {
        let header = FrameHeader::of_records(&file(), Position(PAGE_BYTES * 100), 1, b"records");
        let bytes = header.encode(&file(), PAGE_BYTES * 2);
        assert_eq!(&bytes[..4], b"CPFR");
        assert_eq!(bytes[8..25], [7, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            bytes[25..28],
            [0x50, 0x06, 0],
            "position: the 102nd page, one in front of it being the file's header"
        );
        assert_eq!(bytes[4..8], [171, 46, 187, 229]);
        assert_eq!(bytes[44..48], [52, 70, 78, 125]);
        assert_eq!(FrameHeader::decode(&bytes, &file(), PAGE_BYTES * 2), Some(header));
        assert!(header.matches(&file(), b"records") && !header.matches(&file(), b"recordz"));
    }

    #[test]
    fn a_frame_is_one_in_its_own_place_of_its_own_file_only() {
        let bytes = FrameHeader::of_mark(&file(), Position::START).encode(&file(), PAGE_BYTES);
        assert!(FrameHeader::decode(&bytes, &file(), PAGE_BYTES).is_some());
        assert_eq!(FrameHeader::decode(&bytes, &file(), PAGE_BYTES * 2), None, "another place");
        let other_salt = FileHeader { salt: 43, ..file() };
        assert_eq!(FrameHeader::decode(&bytes, &other_salt, PAGE_BYTES), None, "another life of the file");
        let other_id = FileHeader { id: FileId::FIRST.next(), ..file() };
        assert_eq!(FrameHeader::decode(&bytes, &other_id, PAGE_BYTES), None, "another file");
    }

    #[test]
    fn a_length_beyond_the_file_is_refused_even_with_a_good_checksum() {
        let mut header = FrameHeader::of_records(&file(), Position::START, 1, b"");
        let room = u32::try_from(PAGE_BYTES * 7).expect("small");
        for (records_bytes, fits) in [(room - 64, true), (room - 63, false), (u32::MAX, false)] {
            header.records_bytes = records_bytes;
            let bytes = header.encode(&file(), PAGE_BYTES);
            assert_eq!(FrameHeader::decode(&bytes, &file(), PAGE_BYTES).is_some(), fits, "{records_bytes}");
        }
    }

    proptest! {
        #[test]
        fn no_bit_of_a_header_can_flip_unnoticed(bit in 0..HEADER_BYTES * 8, count: u32, prev_durable: u64) {
            let header = FrameHeader::of_records(&file(), Position(prev_durable), count, b"records");
            let mut bytes = header.encode(&file(), PAGE_BYTES);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(FrameHeader::decode(&bytes, &file(), PAGE_BYTES), None);
        }
    }
}

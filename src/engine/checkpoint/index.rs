//! The index at the end of a segment: which block has which messages.
//!
//! ```text
//!   … records │ entry │ entry │ … │ trailer          end of the segment ─┐
//!                                                                        ▼
//! entry    0       4      5     6   8       16     24       32      36      40           48     56      64    72
//!          | topic | kind | own | 0 | first | last | offset | bytes | count | expires by | from | until | key |
//! trailer  0              8      12           16
//!          | index offset | crc  | magic      |
//! ```
//!
//! All numbers are little-endian. *crc* is the CRC-32C of the entries and of *index offset*. *expires by* is in
//! milliseconds since 1970, 0 if one of the block's messages never expires; *from* and *until* are when the first and the
//! last of them was published; *own* is 1 if the broker has made the ids of all; *key* is the hash of the ordering key of
//! all, 0 if there is no such one. In version 3 an entry has no *key*, in version 2 it ends with *expires by* and has no
//! *own*; a segment of the first version has no index.

use std::io;

use super::{Block, Kind, Origin, Place, SegmentId};
use crate::{
    engine::{
        disk::DiskFile,
        journal::{RECORD_HEADER_BYTES, wire::Reader},
    },
    model::{KeyHash, Seq, Timestamp, TopicId},
};

const MAGIC: [u8; 4] = *b"CPIX";
pub(super) const ENTRY_BYTES: usize = 72;
const ENTRY_BYTES_WITHOUT_KEYS: usize = 64;
const ENTRY_BYTES_WITHOUT_ORIGIN: usize = 48;
const TRAILER_BYTES: usize = 16;

/// Appends the index of a segment whose records end at `offset`.
pub(super) fn encode(blocks: &[Block], offset: u64, out: &mut Vec<u8>) {
    let begin = out.len();
    for block in blocks {
        out.extend_from_slice(&block.first.topic.0.to_le_bytes());
        out.extend_from_slice(&[block.first.kind as u8, u8::from(block.origin.has_own_ids), 0, 0]);
        out.extend_from_slice(&block.first.seq.0.to_le_bytes());
        out.extend_from_slice(&block.last.0.to_le_bytes());
        out.extend_from_slice(&block.offset.to_le_bytes());
        out.extend_from_slice(&block.bytes.to_le_bytes());
        out.extend_from_slice(&block.count.to_le_bytes());
        out.extend_from_slice(&block.expires_by.map_or(0, Timestamp::as_millis).to_le_bytes());
        out.extend_from_slice(&block.origin.from.as_millis().to_le_bytes());
        out.extend_from_slice(&block.origin.until.as_millis().to_le_bytes());
        out.extend_from_slice(&KeyHash::bits(block.key).to_le_bytes());
    }
    let crc = checksum(&out[begin..], offset);
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&MAGIC);
}

/// How the entries of an index are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entries {
    /// As they are now.
    Full,
    /// As in version 3.
    WithoutKeys,
    /// As in version 2.
    WithoutOrigin,
}

impl Entries {
    fn bytes(self) -> usize {
        match self {
            Self::Full => ENTRY_BYTES,
            Self::WithoutKeys => ENTRY_BYTES_WITHOUT_KEYS,
            Self::WithoutOrigin => ENTRY_BYTES_WITHOUT_ORIGIN,
        }
    }
}

/// Reads the index of a segment of `length` bytes; `None` if it is damaged.
///
/// # Errors
/// The system's answer.
pub(super) fn read(
    file: &dyn DiskFile,
    length: u64,
    id: SegmentId,
    entries: Entries,
) -> io::Result<Option<Vec<Block>>> {
    let Some(end) = length.checked_sub(TRAILER_BYTES as u64) else { return Ok(None) };
    let mut trailer = [0; TRAILER_BYTES];
    file.read_exact_at(&mut trailer, end)?;
    let Ok((offset, crc)) = decode_trailer(&trailer) else { return Ok(None) };
    // Bounded by the file's length, whatever the trailer says.
    let bytes = end.checked_sub(offset).filter(|bytes| bytes.is_multiple_of(entries.bytes() as u64));
    let Some(bytes) = bytes.and_then(|bytes| usize::try_from(bytes).ok()) else { return Ok(None) };
    let mut found = vec![0; bytes];
    file.read_exact_at(&mut found, offset)?;
    if checksum(&found, offset) != crc {
        return Ok(None);
    }
    let blocks: Result<Vec<_>, _> =
        found.chunks_exact(entries.bytes()).map(|entry| decode_entry(entry, id, entries)).collect();
    // So whoever makes room for a block makes no more than the segment has.
    let is_inside =
        |block: &Block| block.offset.checked_add(u64::from(block.bytes)).is_some_and(|block_end| block_end <= offset);
    Ok(blocks.ok().filter(|blocks| blocks.iter().all(is_inside)))
}

fn checksum(entries: &[u8], offset: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(entries), &offset.to_le_bytes())
}

fn decode_trailer(bytes: &[u8]) -> Result<(u64, u32), &'static str> {
    let mut reader = Reader::new(bytes);
    let (offset, crc) = (reader.u64()?, reader.u32()?);
    if reader.array()? == MAGIC { Ok((offset, crc)) } else { Err("it has no index") }
}

pub(super) fn decode_entry(bytes: &[u8], segment: SegmentId, entries: Entries) -> Result<Block, &'static str> {
    let mut reader = Reader::new(bytes);
    let topic = TopicId(reader.u32()?);
    let kind = match reader.u8()? {
        0 => Kind::Visible,
        1 => Kind::Delayed,
        _ => return Err("it has a block of an unknown kind"),
    };
    let has_own_ids = reader.u8()? == 1;
    reader.skip(2)?;
    let first = Place { topic, kind, seq: Seq(reader.u64()?) };
    let (last, offset) = (Seq(reader.u64()?), reader.u64()?);
    let (bytes, count) = (reader.u32()?, reader.u32()?);
    // So whoever walks through a block does so within what there is.
    let has_room = u64::from(count) * RECORD_HEADER_BYTES as u64 <= u64::from(bytes);
    if last < first.seq || u64::from(count) > (last.0 - first.seq.0).saturating_add(1) || !has_room {
        return Err("it has a block that cannot be");
    }
    let expires_by = Some(reader.u64()?).filter(|ms| *ms > 0).map(Timestamp::from_millis);
    let origin = match entries {
        Entries::WithoutOrigin => Origin::UNKNOWN,
        Entries::Full | Entries::WithoutKeys => {
            let (from, until) = (Timestamp::from_millis(reader.u64()?), Timestamp::from_millis(reader.u64()?));
            Origin { from, until, has_own_ids }
        }
    };
    let key = if entries == Entries::Full { KeyHash::from_bits(reader.u64()?) } else { None };
    Ok(Block { first, last, count, segment, offset, bytes, expires_by, key, origin })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::disk::{Disk as _, RealDisk};

    const ID: SegmentId = SegmentId(3);
    const RECORDS_END: usize = 64 + 3 * 400;

    fn blocks() -> Vec<Block> {
        let block = |n: u64| Block {
            first: Place { topic: TopicId(1), kind: Kind::Delayed, seq: Seq(n * 10) },
            last: Seq(n * 10 + 7),
            count: 5,
            segment: ID,
            offset: 64 + n * 400,
            bytes: 400,
            expires_by: (n > 0).then(|| Timestamp::from_millis(n)),
            key: (n == 1).then(|| KeyHash::of("k")),
            origin: Origin {
                from: Timestamp::from_millis(n + 5),
                until: Timestamp::from_millis(n + 6),
                has_own_ids: n > 1,
            },
        };
        (0..3).map(block).collect()
    }

    fn read_back(bytes: &[u8]) -> Option<Vec<Block>> {
        let dir = tempfile::tempdir().expect("a folder");
        let file = RealDisk.create(&dir.path().join("f")).expect("made");
        file.write_all_at(bytes, 0).expect("written");
        read(&*file, bytes.len() as u64, ID, Entries::Full).expect("readable")
    }

    #[test]
    fn an_index_comes_back_as_it_went_and_any_changed_byte_and_any_cut_is_noticed() {
        let mut bytes = vec![7; RECORDS_END];
        encode(&blocks(), RECORDS_END as u64, &mut bytes);
        assert_eq!(read_back(&bytes), Some(blocks()));
        for at in RECORDS_END..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert_eq!(read_back(&changed), None, "byte {at}");
            assert_eq!(read_back(&bytes[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn blocks_that_reach_out_of_their_segment_or_hold_more_than_they_have_room_for_are_refused() {
        let with = |change: fn(&mut Block)| {
            let mut changed = blocks();
            change(&mut changed[2]);
            let mut bytes = vec![7; RECORDS_END];
            encode(&changed, RECORDS_END as u64, &mut bytes);
            read_back(&bytes).is_some()
        };
        assert!(with(|_| ()));
        assert!(!with(|block| block.bytes += 1));
        assert!(!with(|block| block.offset = u64::MAX));
        assert!(!with(|block| block.bytes = 5 * RECORD_HEADER_BYTES as u32 - 1));
        assert!(!with(|block| block.count = 9));
        assert!(!with(|block| block.last = Seq(block.first.seq.0 - 1)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

        #[test]
        fn arbitrary_bytes_are_no_index(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), has_magic: bool) {
            if has_magic {
                bytes.extend_from_slice(&MAGIC);
            }
            prop_assert_eq!(read_back(&bytes), None);
        }
    }
}

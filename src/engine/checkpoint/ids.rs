//! A file of dedup ids: those that came since the checkpoint before.
//!
//! ```text
//! 0       8         12   16   20           36
//! | magic | version | id | crc | store uuid | entry | entry | …
//!
//! entry   topic u32 | id: length u32, bytes | message uuid | payload bytes u64 | payload crc u32 | end u64
//! ```
//!
//! All numbers are little-endian. *crc* is the CRC-32C of everything else. A file is written once, and removed when the
//! window of the last of its ids is over; so a checkpoint writes each id once, however long the window is.

use uuid::Uuid;

use super::{DedupEntry, SegmentId};
use crate::{
    engine::journal::wire::{Reader, put_text},
    model::{MessageId, Timestamp, TopicId},
};

const MAGIC: [u8; 8] = *b"CPDEDUP\n";
const VERSION: u32 = 1;
const CRC_AT: usize = 16;

pub(super) fn encode(entries: &[DedupEntry], store: Uuid, id: SegmentId) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + entries.len() * 96);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&id.0.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(store.as_bytes());
    entries.iter().for_each(|entry| put(&mut out, entry));
    let crc = checksum(&out);
    out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    out
}

/// # Errors
/// What does not hold.
pub(super) fn decode(bytes: &[u8], store: Uuid, id: SegmentId) -> Result<Vec<DedupEntry>, &'static str> {
    let mut reader = Reader::new(bytes);
    if reader.array()? != MAGIC {
        return Err("it does not begin as one");
    }
    if reader.u32()? != VERSION {
        return Err("its format version is not known here");
    }
    let (found, crc) = (SegmentId(reader.u32()?), reader.u32()?);
    if crc != checksum(bytes) {
        return Err("its checksum does not match");
    }
    if (Uuid::from_bytes(reader.array()?), found) != (store, id) {
        return Err("it is another file under this name");
    }
    let mut entries = Vec::new();
    while reader.remaining() > 0 {
        entries.push(take(&mut reader)?);
    }
    Ok(entries)
}

/// A file with these bytes behind its head.
#[cfg(any(test, fuzzing))]
pub(super) fn with_checksum(bytes: &[u8], store: Uuid, id: SegmentId) -> Vec<u8> {
    let mut out = encode(&[], store, id);
    out.extend_from_slice(bytes);
    let crc = checksum(&out);
    out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    out
}

fn checksum(bytes: &[u8]) -> u32 {
    let behind = bytes.get(CRC_AT + 4..).unwrap_or_default();
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..CRC_AT]), behind)
}

pub(super) fn put(out: &mut Vec<u8>, used: &DedupEntry) {
    out.extend_from_slice(&used.topic.0.to_le_bytes());
    put_text(out, &used.id);
    out.extend_from_slice(used.message.0.as_bytes());
    out.extend_from_slice(&used.bytes.to_le_bytes());
    out.extend_from_slice(&used.crc.to_le_bytes());
    out.extend_from_slice(&used.end.as_millis().to_le_bytes());
}

pub(super) fn take(reader: &mut Reader<'_>) -> Result<DedupEntry, &'static str> {
    Ok(DedupEntry {
        topic: TopicId(reader.u32()?),
        id: reader.text()?,
        message: MessageId(Uuid::from_bytes(reader.array()?)),
        bytes: reader.u64()?,
        crc: reader.u32()?,
        end: Timestamp::from_millis(reader.u64()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_as_they_went_and_any_changed_byte_and_any_cut_is_noticed() {
        let entry = |n: u32| DedupEntry {
            topic: TopicId(n),
            id: "x".repeat(n as usize),
            message: MessageId(Uuid::from_u128(7)),
            bytes: 3,
            crc: n,
            end: Timestamp::from_millis(8),
        };
        let (entries, store, id) = ((0..4).map(entry).collect::<Vec<_>>(), Uuid::from_u128(1), SegmentId(2));
        let bytes = encode(&entries, store, id);
        assert_eq!(decode(&bytes, store, id), Ok(entries));
        assert!(decode(&bytes, store, SegmentId(3)).is_err() && decode(&bytes, Uuid::nil(), id).is_err());
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(decode(&changed, store, id).is_err(), "byte {at}");
            assert!(decode(&bytes[..at], store, id).is_err(), "cut at {at}");
        }
    }
}

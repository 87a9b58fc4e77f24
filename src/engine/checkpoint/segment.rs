//! A segment: messages that a checkpoint has written, side by side per topic.
//!
//! ```text
//! 0       8         12   16           32    36        64
//! | magic | version | id | store uuid | crc | 0 …     | record | record | … | index
//! ```
//!
//! *crc* is the CRC-32C of what stands before it. The records are those of the journal, with their checksums (see
//! [`crate::engine::journal::Record`]); the [`index`] says which stretch of them, a block, has which messages. A segment
//! is written once and never changed. The indexes of versions 2 and 3 say less of each block.
//!
//! What is damaged costs no more than itself: a record whose checksum does not match is left out, and behind one whose
//! very length cannot be trusted, reading goes on with the next header that is whole. A damaged index is made again from
//! the records. Segments of version 1, which have no index, are read in the same way.

use std::{collections::HashSet, io};

use uuid::Uuid;

use super::{
    Block, Origin, Place, SegmentId, block,
    index::{self, Entries},
};
use crate::{
    engine::{
        disk::DiskFile,
        journal::{MessageBody, MessageHeader, RECORD_HEADER_BYTES, Record},
    },
    model::{KeyHash, Timestamp},
};

const MAGIC: [u8; 8] = *b"CPSEGMT\n";
/// The version that is written.
const VERSION: u32 = 4;
/// One whose index does not say which blocks have messages of one ordering key only.
const VERSION_WITHOUT_KEYS: u32 = 3;
/// One whose index does not say when its messages were published.
const VERSION_WITHOUT_ORIGIN: u32 = 2;
/// One without an index.
const VERSION_WITHOUT_INDEX: u32 = 1;
pub(super) const HEADER_BYTES: usize = 64;
const COVERED_BYTES: usize = 32;

/// Written and synced in pieces of this size, so that no frame of the journal waits behind more than one.
const PIECE_BYTES: usize = 1 << 20;

/// A block is closed when it has reached this size: small enough to be read for one message, large enough that the index
/// of ten million messages of 1 KiB takes less than 16 MiB of memory.
const BLOCK_BYTES_TARGET: u64 = 128 << 10;

fn header(store: Uuid, id: SegmentId, version: u32) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    bytes[12..16].copy_from_slice(&id.0.to_le_bytes());
    bytes[16..32].copy_from_slice(store.as_bytes());
    let crc = crc32c::crc32c(&bytes[..COVERED_BYTES]);
    bytes[COVERED_BYTES..36].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// What decides how long a message is kept, and what it waits for.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::engine) struct Keeping {
    pub(in crate::engine) expires_at: Option<Timestamp>,
    pub(in crate::engine) key: Option<KeyHash>,
}

/// A segment in the making.
#[derive(Debug)]
pub(super) struct Writer {
    file: Box<dyn DiskFile>,
    id: SegmentId,
    buffer: Vec<u8>,
    /// Where the buffer goes.
    offset: u64,
    blocks: Vec<Block>,
    /// The last of the blocks may grow.
    is_open: bool,
}

impl Writer {
    pub(super) fn new(file: Box<dyn DiskFile>, store: Uuid, id: SegmentId) -> Self {
        let buffer = header(store, id, VERSION).to_vec();
        Self { file, id, buffer, offset: 0, blocks: Vec::new(), is_open: false }
    }

    /// Adds a message that comes after those before it in the same block.
    pub(super) fn push(&mut self, place: Place, body: &MessageBody<'_>, keeping: Keeping) -> io::Result<()> {
        let Keeping { expires_at, key } = keeping;
        let origin = Origin::of(body.published_at, body.id());
        let begin = self.bytes();
        Record::encode_message(place, body, &mut self.buffer);
        let bytes = u32::try_from(self.bytes() - begin).expect("records are far below 4 GiB");
        match self.blocks.last_mut().filter(|_| self.is_open) {
            Some(block) => {
                block.last = place.seq;
                block.count += 1;
                block.bytes += bytes;
                block.expires_by = block.expires_by.zip(expires_at).map(|(a, b)| a.max(b));
                block.key = block.key.filter(|of_all| Some(*of_all) == key);
                block.origin = block.origin.and(origin);
            }
            None => {
                let (segment, offset) = (self.id, begin);
                let (last, count, expires_by) = (place.seq, 1, expires_at);
                self.blocks.push(Block { first: place, last, count, segment, offset, bytes, expires_by, key, origin });
                self.is_open = true;
            }
        }
        if self.blocks.last().is_some_and(|block| u64::from(block.bytes) >= BLOCK_BYTES_TARGET) {
            self.end_block();
        }
        if self.buffer.len() >= PIECE_BYTES { self.flush() } else { Ok(()) }
    }

    /// What comes next stands in another block.
    pub(super) fn end_block(&mut self) {
        self.is_open = false;
    }

    pub(super) fn bytes(&self) -> u64 {
        self.offset + self.buffer.len() as u64
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.offset)?;
        self.file.sync_data()?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes it durable; answers its length and its blocks.
    pub(super) fn finish(mut self) -> io::Result<(u64, Vec<Block>)> {
        let end = self.bytes();
        index::encode(&self.blocks, end, &mut self.buffer);
        self.flush()?;
        Ok((self.offset, self.blocks))
    }
}

/// The blocks of a segment of `length` bytes, in the order in which they stand there, and whether the index had to be
/// made again although there should be one.
///
/// # Errors
/// What does not hold, or the system's answer.
pub(super) fn blocks(
    file: &dyn DiskFile,
    length: u64,
    store: Uuid,
    id: SegmentId,
) -> io::Result<Result<(Vec<Block>, bool), &'static str>> {
    if length < HEADER_BYTES as u64 {
        return Ok(Err("it ends within its header"));
    }
    let mut found = [0; HEADER_BYTES];
    file.read_exact_at(&mut found, 0)?;
    if found == header(store, id, VERSION_WITHOUT_INDEX) {
        return scan(file, length, id).map(|blocks| Ok((blocks, false)));
    }
    let entries = if found == header(store, id, VERSION) {
        Entries::Full
    } else if found == header(store, id, VERSION_WITHOUT_KEYS) {
        Entries::WithoutKeys
    } else if found == header(store, id, VERSION_WITHOUT_ORIGIN) {
        Entries::WithoutOrigin
    } else {
        return Ok(Err("its header is not the one that was written"));
    };
    match index::read(file, length, id, entries)? {
        Some(blocks) => Ok(Ok((blocks, false))),
        None => scan(file, length, id).map(|blocks| Ok((blocks, true))),
    }
}

/// Makes the index from the headers of the records. Every block has all the messages from its first to its last.
fn scan(file: &dyn DiskFile, length: u64, id: SegmentId) -> io::Result<Vec<Block>> {
    let mut blocks: Vec<Block> = Vec::new();
    // Segments of version 1 may have a message twice, after a checkpoint that failed.
    let mut seen = HashSet::new();
    let mut window = Window { file, length, begin: 0, bytes: Vec::new() };
    let mut at = HEADER_BYTES as u64;
    while at + RECORD_HEADER_BYTES as u64 <= length {
        let header = MessageHeader::decode(window.at(at)?).filter(|found| at + found.length as u64 <= length);
        let Some(header) = header else {
            at += 1;
            continue;
        };
        let bytes = u32::try_from(header.length).expect("a record's length is a u32 on disk");
        at += header.length as u64;
        if !seen.insert(header.place) {
            continue;
        }
        let begin = at - header.length as u64;
        match blocks.last_mut() {
            Some(block)
                if block.first.at(header.place.seq) == header.place
                    && block.last.next() == header.place.seq
                    && block.offset + u64::from(block.bytes) == begin
                    && u64::from(block.bytes) < BLOCK_BYTES_TARGET =>
            {
                (block.last, block.count, block.bytes) = (header.place.seq, block.count + 1, block.bytes + bytes);
            }
            _ => blocks.push(Block {
                first: header.place,
                last: header.place.seq,
                count: 1,
                segment: id,
                offset: begin,
                bytes,
                expires_by: None,
                key: None,
                origin: Origin::UNKNOWN,
            }),
        }
    }
    Ok(blocks)
}

/// A piece of a file at a time, for reading headers one after the other.
struct Window<'a> {
    file: &'a dyn DiskFile,
    length: u64,
    begin: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// The bytes from `at` on, at least a record's header if there are as many.
    fn at(&mut self, at: u64) -> io::Result<&[u8]> {
        let is_inside = at >= self.begin && at + RECORD_HEADER_BYTES as u64 <= self.begin + self.bytes.len() as u64;
        if !is_inside {
            let bytes = usize::try_from((self.length - at).min(PIECE_BYTES as u64)).expect("at most a piece");
            self.bytes.resize(bytes, 0);
            block::read_what_can_be_read(self.file, &mut self.bytes, at)?;
            self.begin = at;
        }
        Ok(&self.bytes[usize::try_from(at - self.begin).expect("inside the piece")..])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        engine::{
            checkpoint::Kind,
            disk::{Disk as _, RealDisk},
            sealed::Sealed,
        },
        model::{Draft, Name, Seq, TopicId},
    };

    const ID: SegmentId = SegmentId(7);
    const STORE: Uuid = Uuid::from_u128(5);

    /// What an index that was made again from the records knows of a block.
    fn known(blocks: &[Block]) -> Vec<(Place, Seq, u32, u64, u32)> {
        blocks.iter().map(|block| (block.first, block.last, block.count, block.offset, block.bytes)).collect()
    }

    #[test]
    fn an_index_that_is_made_again_has_the_blocks_that_were_written() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("f");
        let mut writer = Writer::new(RealDisk.create(&path).expect("made"), STORE, ID);
        // Of two megabytes: several blocks of a topic, and pieces that end within records. The second topic goes on where
        // the first one ends, and the third leaves out places.
        for (topic, seqs) in [(0, (0..20).collect::<Vec<u64>>()), (1, (20..23).collect()), (2, vec![0, 1, 5, 6])] {
            for seq in seqs {
                // Two records are a block, to the byte.
                let draft = Draft { payload: vec![b'x'; 65_480].into(), ..Draft::default() };
                let sealed = Sealed::new(draft, Timestamp::EPOCH, Duration::ZERO);
                let kept = sealed.into_kept(Name::parse("t").expect("valid"), Timestamp::EPOCH);
                if (topic, seq) == (2, 5) {
                    writer.end_block();
                }
                let place = Place { topic: TopicId(topic), kind: Kind::Visible, seq: Seq(seq) };
                writer.push(place, &kept.body(), Keeping::default()).expect("written");
            }
            writer.end_block();
        }
        let (length, written) = writer.finish().expect("synced");
        assert_eq!((written.len(), u64::from(written[0].bytes)), (14, BLOCK_BYTES_TARGET));
        let read = |expected_again| {
            let file = RealDisk.open_read(&path).expect("there");
            let (blocks, is_made_again) = blocks(&*file, length, STORE, ID).expect("readable").expect("a segment");
            assert_eq!(is_made_again, expected_again);
            known(&blocks)
        };
        assert_eq!(read(false), known(&written));
        let mut bytes = std::fs::read(&path).expect("readable");
        *bytes.last_mut().expect("not empty") ^= 1;
        std::fs::write(&path, bytes).expect("damaged");
        assert_eq!(read(true), known(&written));
    }
}

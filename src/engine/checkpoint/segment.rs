//! A segment: messages that a checkpoint has written, side by side per topic.
//!
//! ```text
//! 0       8         12   16           32    36        64
//! | magic | version | id | store uuid | crc | 0 …     | record | record | …
//! ```
//!
//! *crc* is the CRC-32C of what stands before it. The records are those of the journal, with their checksums (see
//! [`Record`]). A segment is written once and never changed.

use std::io;

use uuid::Uuid;

use super::{Kind, SegmentId};
use crate::{
    engine::{
        disk::DiskFile,
        journal::{Record, RecordIter},
        sealed::Kept,
        state::Piece,
    },
    model::{Name, Seq, TopicId},
};

const MAGIC: [u8; 8] = *b"CPSEGMT\n";
const VERSION: u32 = 1;
pub(super) const HEADER_BYTES: usize = 64;
const COVERED_BYTES: usize = 32;

/// Written and synced in pieces of this size, so that no frame of the journal waits behind more than one.
const PIECE_BYTES: usize = 1 << 20;

pub(super) fn header(store: Uuid, id: SegmentId) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&id.0.to_le_bytes());
    bytes[16..32].copy_from_slice(store.as_bytes());
    let crc = crc32c::crc32c(&bytes[..COVERED_BYTES]);
    bytes[COVERED_BYTES..36].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// A segment in the making.
#[derive(Debug)]
pub(super) struct Writer {
    file: Box<dyn DiskFile>,
    buffer: Vec<u8>,
    /// Where the buffer goes.
    offset: u64,
}

impl Writer {
    pub(super) fn new(file: Box<dyn DiskFile>, store: Uuid, id: SegmentId) -> Self {
        Self { file, buffer: header(store, id).to_vec(), offset: 0 }
    }

    pub(super) fn push(&mut self, topic: TopicId, kind: Kind, seq: Seq, kept: &Kept) -> io::Result<()> {
        Record::encode_kept(kind, topic, seq, kept, &mut self.buffer);
        if self.buffer.len() >= PIECE_BYTES { self.flush() } else { Ok(()) }
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

    /// Makes it durable; answers its length.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        Ok(self.offset)
    }
}

/// Reads the messages of a segment. `names` are those of the topics by id; messages of a topic that is gone are left out.
///
/// # Errors
/// What does not hold.
pub(super) fn read(bytes: &[u8], store: Uuid, id: SegmentId, names: &[Option<Name>]) -> Result<Vec<Piece>, String> {
    let (found, records) = bytes.split_at_checked(HEADER_BYTES).ok_or("it ends within its header")?;
    if found != header(store, id) {
        return Err("its header is not the one that was written".into());
    }
    let mut pieces: Vec<Piece> = Vec::new();
    for record in RecordIter::new(records) {
        let (time, record) = record.map_err(|e| e.to_string())?;
        let (topic, kind, seq, message) = match record {
            Record::Published { topic, seq, message } => (topic, Kind::Visible, seq, message),
            Record::Delayed { topic, seq, message } => (topic, Kind::Delayed, seq, message),
            _ => return Err("it holds a record that is no message".into()),
        };
        let Some(Some(name)) = names.get(topic.0 as usize) else { continue };
        let entry = (seq, message.into_kept(name.clone(), time));
        match pieces.last_mut() {
            Some(piece) if piece.topic == topic && piece.kind == kind => piece.messages.push(entry),
            _ => pieces.push(Piece { topic, kind, messages: vec![entry] }),
        }
    }
    Ok(pieces)
}

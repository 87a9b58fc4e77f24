//! The buffer in which a frame is put together: once, in the place from which it is written.

use super::Record;
use crate::model::Timestamp;

/// A frame in the making: room for the header that a journal puts in front, then the records.
///
/// The room lets a journal write header and records with one call and no copy. The buffer is reused from frame to
/// frame, so it is allocated once.
#[derive(Debug)]
pub struct FrameBuf {
    /// [`FrameBuf::HEADER_BYTES`] of room, then the records.
    bytes: Vec<u8>,
    count: u32,
}

impl FrameBuf {
    /// The room in front of the records, in bytes.
    pub const HEADER_BYTES: usize = 64;

    /// An empty frame.
    #[must_use]
    pub fn new() -> Self {
        Self { bytes: vec![0; Self::HEADER_BYTES], count: 0 }
    }

    /// Adds a record that happened at `time`.
    pub fn push(&mut self, record: &Record, time: Timestamp) {
        record.encode(time, &mut self.bytes);
        self.count += 1;
    }

    /// The encoded records.
    #[must_use]
    pub fn records(&self) -> &[u8] {
        &self.bytes[Self::HEADER_BYTES..]
    }

    /// How many records there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Room and records as one piece, for a journal to fill in its header and to pad at the end.
    pub fn as_vec_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Begins the next frame. A buffer that one huge record has blown up is given back to the system.
    pub fn clear(&mut self) {
        const KEPT_BYTES: usize = 8 << 20; // twice the size at which a commit is closed
        self.bytes.truncate(Self::HEADER_BYTES);
        self.bytes.shrink_to(KEPT_BYTES);
        self.count = 0;
    }
}

impl Default for FrameBuf {
    fn default() -> Self {
        Self::new()
    }
}

//! The buffer in which a frame is put together: once, in the place from which it is written.

use super::Record;
use crate::model::Timestamp;

/// A frame in the making: room for the header that a journal puts in front, then the records.
///
/// The room lets a journal write header and records with one call and no copy. The buffer is reused from frame to
/// frame, so it is allocated once.
#[derive(Debug)]
pub struct FrameBuf {
    /// [`FrameBuf::HEADER_BYTES`] of room, the records, and padding once it has been [finished](FrameBuf::finish).
    bytes: Vec<u8>,
    /// Where the records end.
    end: usize,
    count: u32,
    /// How many of the records' bytes `sum` covers.
    summed_bytes: usize,
    /// The CRC-32C of these.
    sum: u32,
}

impl FrameBuf {
    /// The room in front of the records, in bytes.
    pub const HEADER_BYTES: usize = 64;

    /// So many bytes of records are summed at a time while they are still in the processor's cache. Of a frame of 4 MiB
    /// that was summed as a whole, the sum took a tenth of the time of its write and sync.
    const SUMMED_BYTES_STEP: usize = 128 << 10;

    /// An empty frame.
    #[must_use]
    pub fn new() -> Self {
        Self { bytes: vec![0; Self::HEADER_BYTES], end: Self::HEADER_BYTES, count: 0, summed_bytes: 0, sum: 0 }
    }

    /// Adds a record that happened at `time`.
    pub fn push(&mut self, record: &Record, time: Timestamp) {
        self.push_bytes(|bytes| record.encode(time, bytes));
        self.count += 1;
    }

    /// Adds bytes of which nothing is known, and that are no record.
    #[cfg(test)]
    pub(super) fn push_raw(&mut self, raw: &[u8]) {
        self.push_bytes(|bytes| bytes.extend_from_slice(raw));
    }

    fn push_bytes(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.truncate(self.end);
        put(&mut self.bytes);
        self.end = self.bytes.len();
        let rest = &self.bytes[Self::HEADER_BYTES + self.summed_bytes..];
        if rest.len() >= Self::SUMMED_BYTES_STEP {
            self.sum = crc32c::crc32c_append(self.sum, rest);
            self.summed_bytes += rest.len();
        }
    }

    /// The encoded records.
    #[must_use]
    pub fn records(&self) -> &[u8] {
        &self.bytes[Self::HEADER_BYTES..self.end]
    }

    /// The CRC-32C of the records, begun with `seed`.
    #[must_use]
    pub fn records_crc(&self, seed: u32) -> u32 {
        let summed = crc32c::crc32c_combine(seed, self.sum, self.summed_bytes);
        crc32c::crc32c_append(summed, &self.records()[self.summed_bytes..])
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

    /// The frame as it is written: behind this header, with zeros up to a multiple of `unit` bytes. The records stay as
    /// they are, and more can be added.
    pub fn finish(&mut self, header: &[u8; Self::HEADER_BYTES], unit: usize) -> &[u8] {
        self.bytes[..Self::HEADER_BYTES].copy_from_slice(header);
        self.bytes.resize(self.end.next_multiple_of(unit), 0);
        &self.bytes
    }

    /// Begins the next frame. A buffer that one huge record has blown up is given back to the system.
    pub fn clear(&mut self) {
        const KEPT_BYTES: usize = 8 << 20; // twice the size at which a commit is closed
        self.bytes.truncate(Self::HEADER_BYTES);
        self.bytes.shrink_to(KEPT_BYTES);
        (self.end, self.count, self.summed_bytes, self.sum) = (Self::HEADER_BYTES, 0, 0, 0);
    }
}

impl Default for FrameBuf {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_all_records_however_they_came_and_whatever_it_begins_with() {
        for lengths in [&[][..], &[1], &[100, 127 << 10], &[128 << 10], &[40_000; 20], &[300_000, 7, 500_000]] {
            let mut frame = FrameBuf::new();
            for round in 0..2 {
                let mut all = Vec::new();
                for (n, length) in lengths.iter().enumerate() {
                    let raw: Vec<u8> = (0..*length).map(|at| (at * 31 + n + round) as u8).collect();
                    frame.push_raw(&raw);
                    all.extend_from_slice(&raw);
                    // As if the frame had been tried before.
                    let written = frame.finish(&[9; FrameBuf::HEADER_BYTES], 4096);
                    assert!(written.len().is_multiple_of(4096) && written[64..].starts_with(&all));
                    assert!(written[64 + all.len()..].iter().all(|byte| *byte == 0), "padding");
                }
                assert_eq!(frame.records(), all);
                for seed in [0, 1, 0xdead_beef] {
                    assert_eq!(frame.records_crc(seed), crc32c::crc32c_append(seed, &all), "{lengths:?}");
                }
                frame.clear();
            }
        }
    }
}

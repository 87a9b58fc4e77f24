//! The records of a frame, one after the other.
//!
//! Invariant: every byte belongs to a record whose checksums hold, or the iteration ends with an error that says where.

use super::Record;
use crate::model::Timestamp;

/// Bytes that are no records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("record at byte {at}: {problem}")]
pub struct DecodeError {
    /// Where the record begins, from the first record of the frame.
    pub at: usize,
    /// What does not hold.
    pub problem: &'static str,
}

/// The records of a frame, with their times.
#[derive(Debug)]
pub struct RecordIter<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> RecordIter<'a> {
    /// Over the records of one frame.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
}

impl Iterator for RecordIter<'_> {
    type Item = Result<(Timestamp, Record), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.bytes.len() {
            return None;
        }
        match Record::decode(&self.bytes[self.at..]) {
            Ok((time, record, length)) => {
                self.at += length;
                Some(Ok((time, record)))
            }
            Err(problem) => {
                let at = self.at;
                self.at = self.bytes.len();
                Some(Err(DecodeError { at, problem }))
            }
        }
    }
}

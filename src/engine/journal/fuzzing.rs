//! Whatever bytes stand in a frame: read without a panic, and what is read is what would be written.

use super::{Record, RecordIter, record};
use crate::{engine::state::State, model::Timestamp};

/// Records, one after the other, each behind its length in one byte: with the lengths and checksums that they should
/// have, so that what stands behind these is reached.
pub(in crate::engine) fn with_checksums(mut bytes: &[u8]) -> Vec<u8> {
    let mut records = Vec::with_capacity(bytes.len());
    while let Some((length, rest)) = bytes.split_first() {
        let (piece, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        let begin = records.len();
        records.extend_from_slice(piece);
        record::make_right(&mut records[begin..]);
        bytes = rest;
    }
    records
}

/// The records of a frame, applied to an empty state.
pub fn records(bytes: &[u8]) {
    let records = with_checksums(bytes);
    let mut state = State::default();
    for read in RecordIter::new(&records) {
        let Ok((time, record)) = read else { return };
        let mut again = Vec::new();
        record.encode(time, &mut again);
        let (time_again, record_again, length) = Record::decode(&again).expect("it was written now");
        assert_eq!((time_again, &record_again, length), (time, &record, again.len()));
        // A state that refuses a record is of no use after it.
        if state.apply(time, record).is_err() {
            return;
        }
        assert!(state.time >= time || time > Timestamp::from_millis(u64::MAX));
        state.digest();
    }
}

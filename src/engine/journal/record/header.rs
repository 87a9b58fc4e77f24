//! The header of a record, and what stands for what in it.

use crate::model::{Seq, Timestamp};

/// The bytes of a record's header.
pub const HEADER_BYTES: usize = 40;

/// Discriminants on disk. Never reused; 2 is reserved for messages whose payload is in a file of its own.
pub(in crate::engine::journal) mod kind {
    pub(in crate::engine::journal) const PUBLISHED: u8 = 1;
    pub(in crate::engine::journal) const DONE: u8 = 3;
    /// As version 2 wrote it: without the number of the lease and the key.
    pub(in crate::engine::journal) const LEASED_PLAIN: u8 = 4;
    pub(in crate::engine::journal) const RELEASED: u8 = 5;
    pub(in crate::engine::journal) const DELAYED: u8 = 6;
    pub(in crate::engine::journal) const MATURED: u8 = 7;
    pub(in crate::engine::journal) const TOPIC_CREATED: u8 = 8;
    pub(in crate::engine::journal) const TOPIC_DELETED: u8 = 9;
    pub(in crate::engine::journal) const QUEUE_CREATED: u8 = 10;
    pub(in crate::engine::journal) const SERVICE_REGISTERED: u8 = 12;
    pub(in crate::engine::journal) const IMPORT_BEGUN: u8 = 13;
    pub(in crate::engine::journal) const IMPORTED: u8 = 14;
    pub(in crate::engine::journal) const IMPORT_ENDED: u8 = 15;
    pub(in crate::engine::journal) const IMPORT_ADVANCED: u8 = 16;
    pub(in crate::engine::journal) const LEASED: u8 = 17;
    /// As version 3 wrote it: one by one.
    pub(in crate::engine::journal) const PASSED_OVER_PLAIN: u8 = 18;
    pub(in crate::engine::journal) const RETURNED: u8 = 19;
    pub(in crate::engine::journal) const BURIED: u8 = 20;
    pub(in crate::engine::journal) const REVIVED: u8 = 21;
    pub(in crate::engine::journal) const EXTENDED: u8 = 22;
    pub(in crate::engine::journal) const PURGED: u8 = 23;
    pub(in crate::engine::journal) const TOPIC_POLICY_SET: u8 = 24;
    pub(in crate::engine::journal) const QUEUE_POLICY_SET: u8 = 25;
    pub(in crate::engine::journal) const QUEUE_PAUSED: u8 = 26;
    pub(in crate::engine::journal) const QUEUE_RESUMED: u8 = 27;
    pub(in crate::engine::journal) const QUEUE_DELETED: u8 = 28;
    pub(in crate::engine::journal) const DELAYED_CANCELLED: u8 = 29;
    pub(in crate::engine::journal) const TOPIC_TRIMMED: u8 = 30;
    pub(in crate::engine::journal) const PASSED_OVER: u8 = 31;
}

/// The header without the length and the checksums.
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) subject: u32,
    pub(super) seq: Seq,
}

impl Header {
    /// Fills in the header of a record whose body stands behind it.
    pub(super) fn finish(&self, record: &mut [u8], time: Timestamp, body_crc: u32, head_bytes: usize) {
        let length = u32_of(record.len());
        let fields = &mut record[..HEADER_BYTES];
        fields[0..4].copy_from_slice(&length.to_le_bytes());
        fields[8] = self.kind;
        fields[9] = self.flags;
        fields[12..16].copy_from_slice(&self.subject.to_le_bytes());
        fields[16..24].copy_from_slice(&self.seq.0.to_le_bytes());
        fields[24..32].copy_from_slice(&time.as_millis().to_le_bytes());
        fields[32..36].copy_from_slice(&body_crc.to_le_bytes());
        fields[36..40].copy_from_slice(&u32_of(head_bytes).to_le_bytes());
        let crc = header_crc(fields);
        fields[4..8].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Gives the record that `bytes` are the length and the checksums that it should have, if they are long enough for one.
#[cfg(any(test, fuzzing))]
pub(in crate::engine::journal) fn make_right(bytes: &mut [u8]) {
    let length = u32_of(bytes.len());
    let Some((fields, body)) = bytes.split_at_mut_checked(HEADER_BYTES) else { return };
    fields[0..4].copy_from_slice(&length.to_le_bytes());
    fields[32..36].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    let crc = header_crc(fields);
    fields[4..8].copy_from_slice(&crc.to_le_bytes());
}

pub(in crate::engine::journal) fn header_crc(fields: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&fields[0..4]), &fields[8..HEADER_BYTES])
}

pub(super) fn u32_of(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("records are far below 4 GiB")
}

//! Reading a record. Whatever stands there, nothing is allocated by a count that was not checked against what there is.

use std::num::NonZeroU32;

use super::{
    Attempt, DeadCause, LeaseItem, Pace, PassedItem, PurgeScope, QueueId, Reason, Record, ReturnCause, ReturnItem, Seq,
    Timestamp, TopicId,
    header::{HEADER_BYTES, Header, header_crc, kind},
    policy,
};
use crate::{
    engine::{journal::wire::Reader, sealed::Sealed},
    model::{KeyHash, LeaseNumber},
};

type Result<T> = std::result::Result<T, &'static str>;

/// Most messages that one record may name; the encoder is fed by batches far below it.
const SEQS_MAX: u64 = 1 << 20;

impl Record {
    /// Reads the record that `bytes` begin with: its time, and its length.
    pub(in crate::engine::journal) fn decode(bytes: &[u8]) -> Result<(Timestamp, Self, usize)> {
        let fields = bytes.get(..HEADER_BYTES).ok_or("ends within a header")?;
        let mut reader = Reader::new(fields);
        let (length, crc) = (reader.u32()? as usize, reader.u32()?);
        if crc != header_crc(fields) {
            return Err("the header's checksum does not match");
        }
        let body = bytes.get(HEADER_BYTES..length).ok_or("its length is out of range")?;
        let (kind, flags) = (reader.u8()?, reader.u8()?);
        reader.skip(2)?;
        let header = Header { kind, flags, subject: reader.u32()?, seq: Seq(reader.u64()?) };
        let time = Timestamp::from_millis(reader.u64()?);
        let (body_crc, head_bytes) = (reader.u32()?, reader.u32()? as usize);
        if crc32c::crc32c(body) != body_crc {
            return Err("the body's checksum does not match");
        }
        let record = Self::decode_body(&header, head_bytes, body_crc, body)?;
        Ok((time, record, length))
    }

    fn decode_body(header: &Header, head_bytes: usize, body_crc: u32, body: &[u8]) -> Result<Self> {
        let (topic, queue) = (TopicId(header.subject), QueueId(header.subject));
        let sealed = || Sealed::decode(head_bytes, body_crc, body);
        let mut reader = Reader::new(body);
        let record = match header.kind {
            kind::PUBLISHED => return Ok(Self::Published { topic, seq: header.seq, message: sealed()? }),
            kind::DELAYED => return Ok(Self::Delayed { topic, seq: header.seq, message: sealed()? }),
            kind::IMPORTED => return Ok(Self::Imported { topic, message: sealed()? }),
            kind::TOPIC_CREATED => Self::TopicCreated { topic, name: reader.name()? },
            kind::TOPIC_DELETED => Self::TopicDeleted { topic },
            kind::TOPIC_TRIMMED => Self::TopicTrimmed { topic, end: header.seq },
            kind::TOPIC_POLICY_SET => Self::TopicPolicySet { topic, policy: policy::decode_topic_policy(&mut reader)? },
            kind::SERVICE_REGISTERED => Self::ServiceRegistered { topic },
            kind::QUEUE_CREATED => {
                let topic = TopicId(reader.u32()?);
                let service = reader.optional_name()?;
                Self::QueueCreated { queue, topic, service, start: header.seq }
            }
            kind::QUEUE_POLICY_SET => Self::QueuePolicySet { queue, policy: policy::decode_queue_policy(&mut reader)? },
            kind::QUEUE_PAUSED => Self::QueuePaused { queue },
            kind::QUEUE_RESUMED => Self::QueueResumed { queue },
            kind::QUEUE_DELETED => Self::QueueDeleted { queue },
            kind::MATURED => Self::Matured { topic, first: header.seq, delayed: take_runs(&mut reader)? },
            kind::DELAYED_CANCELLED => Self::DelayedCancelled { topic, seqs: take_runs(&mut reader)? },
            kind::DONE => Self::Done { queue, reason: reason(header.flags)?, seqs: take_runs(&mut reader)? },
            kind::PASSED_OVER_PLAIN => Self::PassedOver { queue, items: take_all(&mut reader, 16, plain_passed_item)? },
            kind::PASSED_OVER => Self::PassedOver { queue, items: take_all(&mut reader, 20, passed_item)? },
            kind::LEASED_PLAIN => {
                let deadline = Timestamp::from_millis(reader.u64()?);
                Self::Leased { queue, deadline, items: take_all(&mut reader, 12, plain_lease_item)? }
            }
            kind::LEASED => {
                let deadline = Timestamp::from_millis(reader.u64()?);
                Self::Leased { queue, deadline, items: take_all(&mut reader, 24, lease_item)? }
            }
            kind::EXTENDED => {
                let deadline = Timestamp::from_millis(reader.u64()?);
                Self::Extended { queue, deadline, seqs: take_runs(&mut reader)? }
            }
            kind::RETURNED => {
                let (cause, reason) = (return_cause(header.flags)?, reader.text()?);
                Self::Returned { queue, cause, reason, items: take_all(&mut reader, 20, return_item)? }
            }
            kind::BURIED => {
                let (cause, reason) = (dead_cause(header.flags)?, reader.text()?);
                Self::Buried { queue, cause, reason, seqs: take_runs(&mut reader)? }
            }
            kind::REVIVED => {
                let (begin, per_second) = (Timestamp::from_millis(reader.u64()?), NonZeroU32::new(reader.u32()?));
                let pace = per_second.map(|per_second| Pace { begin, per_second });
                Self::Revived { queue, pace, seqs: take_runs(&mut reader)? }
            }
            kind::PURGED => Self::Purged { queue, scope: PurgeScope::from_bits(header.flags), end: header.seq },
            kind::RELEASED => Self::Released { queue, seqs: take_runs(&mut reader)? },
            kind::IMPORT_BEGUN => Self::ImportBegun { source: reader.text()? },
            kind::IMPORT_ENDED => Self::ImportEnded { source: reader.text()? },
            kind::IMPORT_ADVANCED => Self::ImportAdvanced { source: reader.text()?, lines: header.seq.0 },
            _ => return Err("unknown record type"),
        };
        reader.finish()?;
        Ok(record)
    }
}

fn reason(flags: u8) -> Result<Reason> {
    use Reason::{Acked, Damaged, Deleted, Dropped, Expired, Received, TooOld};
    let all = [Received, Acked, Expired, Damaged, Deleted, Dropped, TooOld];
    all.into_iter().find(|reason| *reason as u8 == flags).ok_or("unknown reason")
}

fn return_cause(flags: u8) -> Result<ReturnCause> {
    use ReturnCause::{DeadlineOver, Failed, Released, Unclaimed};
    let all = [DeadlineOver, Failed, Released, Unclaimed];
    all.into_iter().find(|cause| *cause as u8 == flags).ok_or("unknown cause")
}

fn dead_cause(flags: u8) -> Result<DeadCause> {
    DeadCause::from_bits(flags).ok_or("unknown cause")
}

impl DeadCause {
    /// The one that is written as this number.
    pub(in crate::engine) fn from_bits(bits: u8) -> Option<Self> {
        [Self::DeadlineOver, Self::Failed, Self::Rejected].into_iter().find(|cause| *cause as u8 == bits)
    }
}

/// As many items of a fixed length as there are.
fn take_all<'a, T>(
    reader: &mut Reader<'a>,
    item_bytes: usize,
    take: impl Fn(&mut Reader<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut items = Vec::with_capacity(reader.remaining() / item_bytes);
    while reader.remaining() > 0 {
        items.push(take(reader)?);
    }
    Ok(items)
}

/// As version 3 wrote it, one by one.
fn plain_passed_item(reader: &mut Reader<'_>) -> Result<PassedItem> {
    Ok(PassedItem { first: Seq(reader.u64()?), count: 1, key: KeyHash::from_bits(reader.u64()?) })
}

fn passed_item(reader: &mut Reader<'_>) -> Result<PassedItem> {
    let (first, count) = (Seq(reader.u64()?), reader.u32()?);
    Ok(PassedItem { first, count, key: KeyHash::from_bits(reader.u64()?) })
}

/// Before leases had numbers of their own, every delivery counted.
fn plain_lease_item(reader: &mut Reader<'_>) -> Result<LeaseItem> {
    let (seq, attempt) = (Seq(reader.u64()?), Attempt(reader.u32()?));
    Ok(LeaseItem { seq, attempt, lease: LeaseNumber(attempt.0), key: None })
}

fn lease_item(reader: &mut Reader<'_>) -> Result<LeaseItem> {
    Ok(LeaseItem {
        seq: Seq(reader.u64()?),
        attempt: Attempt(reader.u32()?),
        lease: LeaseNumber(reader.u32()?),
        key: KeyHash::from_bits(reader.u64()?),
    })
}

fn return_item(reader: &mut Reader<'_>) -> Result<ReturnItem> {
    let (seq, attempts, retry_at) = (Seq(reader.u64()?), Attempt(reader.u32()?), reader.u64()?);
    Ok(ReturnItem { seq, attempts, retry_at: Some(retry_at).filter(|ms| *ms > 0).map(Timestamp::from_millis) })
}

fn take_runs(reader: &mut Reader<'_>) -> Result<Vec<Seq>> {
    let mut seqs = Vec::new();
    while reader.remaining() > 0 {
        let (first, count) = (reader.u64()?, u64::from(reader.u32()?));
        let end = first.checked_add(count).ok_or("a run of messages is out of range")?;
        if seqs.len() as u64 + count > SEQS_MAX {
            return Err("names too many messages");
        }
        seqs.extend((first..end).map(Seq));
    }
    Ok(seqs)
}

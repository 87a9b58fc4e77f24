//! Writing a record.
//!
//! Bodies, of those that have one beside a message's:
//!
//! ```text
//! runs             first seq u64, count u32, one after the other
//! topic created    name
//! queue created    topic u32, service (empty: none)
//! leased           deadline u64 | seq u64, attempt u32, lease u32, key u64 (0: none), one after the other
//! extended         deadline u64 | runs
//! passed over      first u64, count u32, key u64 (0: none), one after the other; before version 4: seq u64, key u64
//! returned         reason | seq u64, attempts u32, retry at u64 (0: at once), one after the other      flags: cause
//! buried           reason | runs                                                                flags: cause
//! revived          begin u64, per second u32 (0: at once) | runs
//! done, matured, released, delayed cancelled               runs                                 flags of done: reason
//! policies         see `policy`
//! import …         file
//! ```
//!
//! A text has its length (u32) before it.

use super::{
    QueueId, Record, Seq, Timestamp,
    header::{HEADER_BYTES, Header, kind, u32_of},
    policy,
};
use crate::{
    engine::{
        checkpoint::{Kind, Place},
        journal::{MessageBody, wire::put_text},
        sealed::Sealed,
    },
    model::{KeyHash, Name},
};

impl Record {
    /// Appends the record, as of `time`, to `out`.
    pub fn encode(&self, time: Timestamp, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + HEADER_BYTES, 0);
        let header = self.header();
        let (body_crc, head_bytes) = match self.message() {
            Some(message) => {
                out.extend_from_slice(&message.head);
                out.extend_from_slice(&message.payload);
                (message.body_crc, message.head.len())
            }
            None => {
                self.encode_body(out);
                (crc32c::crc32c(&out[start + HEADER_BYTES..]), 0)
            }
        };
        header.finish(&mut out[start..], time, body_crc, head_bytes);
    }

    /// Appends the record of a message that was published before.
    pub(in crate::engine) fn encode_message(place: Place, body: &MessageBody<'_>, out: &mut Vec<u8>) {
        let kind = match place.kind {
            Kind::Visible => kind::PUBLISHED,
            Kind::Delayed => kind::DELAYED,
        };
        let start = out.len();
        out.resize(start + HEADER_BYTES, 0);
        out.extend_from_slice(body.head);
        out.extend_from_slice(body.payload);
        let header = Header { kind, flags: 0, subject: place.topic.0, seq: place.seq };
        header.finish(&mut out[start..], body.published_at, body.crc, body.head.len());
    }

    /// The queue that it is about.
    pub(in crate::engine) fn queue(&self) -> Option<QueueId> {
        match self {
            Self::QueueCreated { queue, .. }
            | Self::QueuePolicySet { queue, .. }
            | Self::QueuePaused { queue }
            | Self::QueueResumed { queue }
            | Self::QueueDeleted { queue }
            | Self::Done { queue, .. }
            | Self::PassedOver { queue, .. }
            | Self::Leased { queue, .. }
            | Self::Extended { queue, .. }
            | Self::Returned { queue, .. }
            | Self::Released { queue, .. }
            | Self::Buried { queue, .. }
            | Self::Revived { queue, .. }
            | Self::Purged { queue, .. } => Some(*queue),
            _ => None,
        }
    }

    fn message(&self) -> Option<&Sealed> {
        match self {
            Self::Published { message, .. } | Self::Delayed { message, .. } | Self::Imported { message, .. } => {
                Some(message)
            }
            _ => None,
        }
    }

    fn header(&self) -> Header {
        let header = |kind, subject, seq| Header { kind, flags: 0, subject, seq };
        let of_queue = |kind, queue: &QueueId| header(kind, queue.0, Seq(0));
        let none = Seq(0);
        match self {
            Self::TopicCreated { topic, .. } => header(kind::TOPIC_CREATED, topic.0, none),
            Self::TopicDeleted { topic } => header(kind::TOPIC_DELETED, topic.0, none),
            Self::TopicTrimmed { topic, end } => header(kind::TOPIC_TRIMMED, topic.0, *end),
            Self::TopicPolicySet { topic, .. } => header(kind::TOPIC_POLICY_SET, topic.0, none),
            Self::QueueCreated { queue, start, .. } => header(kind::QUEUE_CREATED, queue.0, *start),
            Self::QueuePolicySet { queue, .. } => of_queue(kind::QUEUE_POLICY_SET, queue),
            Self::QueuePaused { queue } => of_queue(kind::QUEUE_PAUSED, queue),
            Self::QueueResumed { queue } => of_queue(kind::QUEUE_RESUMED, queue),
            Self::QueueDeleted { queue } => of_queue(kind::QUEUE_DELETED, queue),
            Self::ServiceRegistered { topic } => header(kind::SERVICE_REGISTERED, topic.0, none),
            Self::Published { topic, seq, .. } => header(kind::PUBLISHED, topic.0, *seq),
            Self::Delayed { topic, seq, .. } => header(kind::DELAYED, topic.0, *seq),
            Self::DelayedCancelled { topic, .. } => header(kind::DELAYED_CANCELLED, topic.0, none),
            Self::Matured { topic, first, .. } => header(kind::MATURED, topic.0, *first),
            Self::Done { queue, reason, .. } => Header { flags: *reason as u8, ..of_queue(kind::DONE, queue) },
            Self::PassedOver { queue, .. } => of_queue(kind::PASSED_OVER, queue),
            Self::Leased { queue, .. } => of_queue(kind::LEASED, queue),
            Self::Extended { queue, .. } => of_queue(kind::EXTENDED, queue),
            Self::Returned { queue, cause, .. } => Header { flags: *cause as u8, ..of_queue(kind::RETURNED, queue) },
            Self::Buried { queue, cause, .. } => Header { flags: *cause as u8, ..of_queue(kind::BURIED, queue) },
            Self::Revived { queue, .. } => of_queue(kind::REVIVED, queue),
            Self::Purged { queue, scope, end } => Header { flags: scope.bits(), ..header(kind::PURGED, queue.0, *end) },
            Self::Released { queue, .. } => of_queue(kind::RELEASED, queue),
            Self::ImportBegun { .. } => header(kind::IMPORT_BEGUN, 0, none),
            Self::Imported { topic, .. } => header(kind::IMPORTED, topic.0, none),
            Self::ImportEnded { .. } => header(kind::IMPORT_ENDED, 0, none),
            Self::ImportAdvanced { lines, .. } => header(kind::IMPORT_ADVANCED, 0, Seq(*lines)),
        }
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::TopicCreated { name, .. } => put_text(out, name.as_str()),
            Self::TopicPolicySet { policy, .. } => policy::encode_topic_policy(out, policy),
            Self::QueuePolicySet { policy, .. } => policy::encode_queue_policy(out, policy),
            Self::QueueCreated { topic, service, .. } => {
                put_u32(out, topic.0);
                put_text(out, service.as_ref().map_or("", Name::as_str));
            }
            Self::Matured { delayed: seqs, .. }
            | Self::Done { seqs, .. }
            | Self::DelayedCancelled { seqs, .. }
            | Self::Released { seqs, .. } => put_runs(out, seqs),
            Self::PassedOver { items, .. } => {
                for item in items {
                    put_u64(out, item.first.0);
                    put_u32(out, item.count);
                    put_u64(out, KeyHash::bits(item.key));
                }
            }
            Self::Leased { deadline, items, .. } => {
                put_u64(out, deadline.as_millis());
                for item in items {
                    put_u64(out, item.seq.0);
                    put_u32(out, item.attempt.0);
                    put_u32(out, item.lease.0);
                    put_u64(out, KeyHash::bits(item.key));
                }
            }
            Self::Extended { deadline, seqs, .. } => {
                put_u64(out, deadline.as_millis());
                put_runs(out, seqs);
            }
            Self::Returned { reason, items, .. } => {
                put_text(out, reason);
                for item in items {
                    put_u64(out, item.seq.0);
                    put_u32(out, item.attempts.0);
                    put_u64(out, item.retry_at.map_or(0, Timestamp::as_millis));
                }
            }
            Self::Revived { pace, seqs, .. } => {
                put_u64(out, pace.map_or(0, |pace| pace.begin.as_millis()));
                put_u32(out, pace.map_or(0, |pace| pace.per_second.get()));
                put_runs(out, seqs);
            }
            Self::Buried { reason, seqs, .. } => {
                put_text(out, reason);
                put_runs(out, seqs);
            }
            Self::ImportBegun { source } | Self::ImportEnded { source } | Self::ImportAdvanced { source, .. } => {
                put_text(out, source);
            }
            Self::TopicDeleted { .. }
            | Self::TopicTrimmed { .. }
            | Self::QueuePaused { .. }
            | Self::QueueResumed { .. }
            | Self::QueueDeleted { .. }
            | Self::Purged { .. }
            | Self::ServiceRegistered { .. }
            | Self::Published { .. }
            | Self::Delayed { .. }
            | Self::Imported { .. } => {}
        }
    }
}

fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

/// Runs of consecutive numbers: first u64, count u32.
fn put_runs(out: &mut Vec<u8>, seqs: &[Seq]) {
    for run in seqs.chunk_by(|a, b| a.0 + 1 == b.0) {
        put_u64(out, run[0].0);
        put_u32(out, u32_of(run.len()));
    }
}

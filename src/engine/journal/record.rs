//! Records: the changes of state, as they stand in a frame.
//!
//! A record holds everything that applying it needs (ids, time, random choices), so the same records give the same
//! state anywhere. All numbers are little-endian.
//!
//! ```text
//! 0        4            8      9       10         12        16    24        32         36          40
//! | length | header crc | type | flags | reserved | subject | seq | time ms | body crc | head len | body …
//! ```
//!
//! *length* counts the whole record; *header crc* is the CRC-32C of everything else in the header, so it covers the
//! length and, through *body crc*, the body; *subject* is a topic or a queue. The body of a message is its head
//! (see [`Sealed`]) and then its payload; *body crc* is computed once, where the message enters, and stays with it.

use crate::{
    engine::{
        checkpoint::{Kind, Place},
        sealed::Sealed,
    },
    model::{Attempt, Name, QueueId, Seq, Timestamp, TopicId},
};

use super::{
    MessageBody,
    wire::{Reader, put_text},
};

/// A change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A topic came into being.
    TopicCreated {
        /// Its id, one more than any before.
        topic: TopicId,
        /// Its name.
        name: Name,
    },
    /// A topic, its queues and its messages went away.
    TopicDeleted {
        /// Which one.
        topic: TopicId,
    },
    /// A queue came into being.
    QueueCreated {
        /// Its id, one more than any before.
        queue: QueueId,
        /// The topic it is a position in.
        topic: TopicId,
        /// Whose queue it is; `None`: the topic's own.
        service: Option<Name>,
        /// The first message that it gets.
        start: Seq,
    },
    /// A service registered; the topic is its inbox.
    ServiceRegistered {
        /// The topic of the service's name.
        topic: TopicId,
    },
    /// A message was published.
    Published {
        /// To which topic.
        topic: TopicId,
        /// Its place there.
        seq: Seq,
        /// The message.
        message: Sealed,
    },
    /// A message was published that becomes visible later.
    Delayed {
        /// To which topic.
        topic: TopicId,
        /// Its place among the topic's delayed messages.
        seq: Seq,
        /// The message.
        message: Sealed,
    },
    /// Delayed messages became visible: they joined their topic.
    Matured {
        /// Their topic.
        topic: TopicId,
        /// The place in the topic of the first one.
        first: Seq,
        /// Their places among the delayed messages, in the order in which they joined.
        delayed: Vec<Seq>,
    },
    /// A queue is done with messages.
    Done {
        /// Which queue.
        queue: QueueId,
        /// Why.
        reason: Reason,
        /// Which messages, ascending.
        seqs: Vec<Seq>,
    },
    /// Consumers hold messages until a deadline.
    Leased {
        /// Whose messages.
        queue: QueueId,
        /// Until when.
        deadline: Timestamp,
        /// Which messages, and which delivery of each this is.
        items: Vec<(Seq, Attempt)>,
    },
    /// Leases ended without an ack; the messages are back in their places.
    Released {
        /// Whose messages.
        queue: QueueId,
        /// Which messages.
        seqs: Vec<Seq>,
    },
    /// A file of the broker that this one replaces is being taken over: what came of these lines stands in the frames up
    /// to this one.
    ImportAdvanced {
        /// Which file, with its length and checksum.
        source: String,
        /// How many of its lines have been read.
        lines: u64,
    },
    /// A file was being taken over in the way of version 1; what an unfinished one left is forgotten. Not written any
    /// more.
    ImportBegun {
        /// Which file, with its length and checksum.
        source: String,
    },
    /// A message of that file. It is invisible until the import has ended. Not written any more.
    Imported {
        /// To which topic.
        topic: TopicId,
        /// The message, with the id that it had.
        message: Sealed,
    },
    /// All messages of the file are here.
    ImportEnded {
        /// Which file, as it began.
        source: String,
    },
}

/// Why a queue is done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// It was acked as it was handed out.
    Received = 1,
    /// Its consumer acked it.
    Acked = 2,
    /// Its time to live was over.
    Expired = 3,
    /// Its segment was damaged, and it with it.
    Damaged = 4,
}

/// The bytes of a record's header.
pub const HEADER_BYTES: usize = 40;

/// Discriminants on disk. Never reused; 2 is reserved for messages whose payload is in a file of its own.
pub(super) mod kind {
    pub(in crate::engine::journal) const PUBLISHED: u8 = 1;
    pub(in crate::engine::journal) const DONE: u8 = 3;
    pub(in crate::engine::journal) const LEASED: u8 = 4;
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
}

/// The header without the length and the checksums.
struct Header {
    kind: u8,
    flags: u8,
    subject: u32,
    seq: Seq,
}

impl Header {
    /// Fills in the header of a record whose body stands behind it.
    fn finish(&self, record: &mut [u8], time: Timestamp, body_crc: u32, head_bytes: usize) {
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

impl Record {
    /// Reads the record that `bytes` begin with: its time, and its length.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Timestamp, Self, usize), &'static str> {
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
        let none = Seq(0);
        match self {
            Self::TopicCreated { topic, .. } => header(kind::TOPIC_CREATED, topic.0, none),
            Self::TopicDeleted { topic } => header(kind::TOPIC_DELETED, topic.0, none),
            Self::QueueCreated { queue, start, .. } => header(kind::QUEUE_CREATED, queue.0, *start),
            Self::ServiceRegistered { topic } => header(kind::SERVICE_REGISTERED, topic.0, none),
            Self::Published { topic, seq, .. } => header(kind::PUBLISHED, topic.0, *seq),
            Self::Delayed { topic, seq, .. } => header(kind::DELAYED, topic.0, *seq),
            Self::Matured { topic, first, .. } => header(kind::MATURED, topic.0, *first),
            Self::Done { queue, reason, .. } => Header { flags: *reason as u8, ..header(kind::DONE, queue.0, none) },
            Self::Leased { queue, .. } => header(kind::LEASED, queue.0, none),
            Self::Released { queue, .. } => header(kind::RELEASED, queue.0, none),
            Self::ImportBegun { .. } => header(kind::IMPORT_BEGUN, 0, none),
            Self::Imported { topic, .. } => header(kind::IMPORTED, topic.0, none),
            Self::ImportEnded { .. } => header(kind::IMPORT_ENDED, 0, none),
            Self::ImportAdvanced { lines, .. } => header(kind::IMPORT_ADVANCED, 0, Seq(*lines)),
        }
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::TopicCreated { name, .. } => put_text(out, name.as_str()),
            Self::QueueCreated { topic, service, .. } => {
                out.extend_from_slice(&topic.0.to_le_bytes());
                put_text(out, service.as_ref().map_or("", Name::as_str));
            }
            Self::Matured { delayed: seqs, .. } | Self::Done { seqs, .. } | Self::Released { seqs, .. } => {
                put_runs(out, seqs);
            }
            Self::Leased { deadline, items, .. } => {
                out.extend_from_slice(&deadline.as_millis().to_le_bytes());
                for (seq, attempt) in items {
                    out.extend_from_slice(&seq.0.to_le_bytes());
                    out.extend_from_slice(&attempt.0.to_le_bytes());
                }
            }
            Self::ImportBegun { source } | Self::ImportEnded { source } | Self::ImportAdvanced { source, .. } => {
                put_text(out, source);
            }
            Self::TopicDeleted { .. }
            | Self::ServiceRegistered { .. }
            | Self::Published { .. }
            | Self::Delayed { .. }
            | Self::Imported { .. } => {}
        }
    }

    fn decode_body(header: &Header, head_bytes: usize, body_crc: u32, body: &[u8]) -> Result<Self, &'static str> {
        let (topic, queue) = (TopicId(header.subject), QueueId(header.subject));
        let sealed = || Sealed::decode(head_bytes, body_crc, body);
        let mut reader = Reader::new(body);
        let record = match header.kind {
            kind::PUBLISHED => return Ok(Self::Published { topic, seq: header.seq, message: sealed()? }),
            kind::DELAYED => return Ok(Self::Delayed { topic, seq: header.seq, message: sealed()? }),
            kind::IMPORTED => return Ok(Self::Imported { topic, message: sealed()? }),
            kind::TOPIC_CREATED => Self::TopicCreated { topic, name: reader.name()? },
            kind::TOPIC_DELETED => Self::TopicDeleted { topic },
            kind::SERVICE_REGISTERED => Self::ServiceRegistered { topic },
            kind::QUEUE_CREATED => {
                let topic = TopicId(reader.u32()?);
                let service = reader.optional_name()?;
                Self::QueueCreated { queue, topic, service, start: header.seq }
            }
            kind::MATURED => Self::Matured { topic, first: header.seq, delayed: take_runs(&mut reader)? },
            kind::DONE => {
                let reason = match header.flags {
                    1 => Reason::Received,
                    2 => Reason::Acked,
                    3 => Reason::Expired,
                    4 => Reason::Damaged,
                    _ => return Err("unknown reason"),
                };
                Self::Done { queue, reason, seqs: take_runs(&mut reader)? }
            }
            kind::LEASED => {
                let deadline = Timestamp::from_millis(reader.u64()?);
                let mut items = Vec::with_capacity(reader.remaining() / 12);
                while reader.remaining() > 0 {
                    items.push((Seq(reader.u64()?), Attempt(reader.u32()?)));
                }
                Self::Leased { queue, deadline, items }
            }
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

/// Gives the record that `bytes` are the length and the checksums that it should have, if they are long enough for one.
#[cfg(any(test, fuzzing))]
pub(super) fn make_right(bytes: &mut [u8]) {
    let length = u32_of(bytes.len());
    let Some((fields, body)) = bytes.split_at_mut_checked(HEADER_BYTES) else { return };
    fields[0..4].copy_from_slice(&length.to_le_bytes());
    fields[32..36].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    let crc = header_crc(fields);
    fields[4..8].copy_from_slice(&crc.to_le_bytes());
}

pub(super) fn header_crc(fields: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&fields[0..4]), &fields[8..HEADER_BYTES])
}

fn u32_of(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("records are far below 4 GiB")
}

/// Most messages that one record may name; the encoder is fed by batches far below it.
const SEQS_MAX: u64 = 1 << 20;

/// Runs of consecutive numbers: first u64, count u32.
fn put_runs(out: &mut Vec<u8>, seqs: &[Seq]) {
    for run in seqs.chunk_by(|a, b| a.0 + 1 == b.0) {
        out.extend_from_slice(&run[0].0.to_le_bytes());
        out.extend_from_slice(&u32_of(run.len()).to_le_bytes());
    }
}

fn take_runs(reader: &mut Reader<'_>) -> Result<Vec<Seq>, &'static str> {
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

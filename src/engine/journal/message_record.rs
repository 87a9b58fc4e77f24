//! The record of a message, read without taking it apart: for messages in segments.

use uuid::Uuid;

use super::{
    record::{HEADER_BYTES, header_crc, kind},
    wire::Reader,
};
use crate::{
    engine::checkpoint::{Kind, Place},
    model::{MessageId, Seq, Timestamp, TopicId},
};

/// The body of a message's record, as it was when the message entered.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct MessageBody<'a> {
    /// Everything but the payload, encoded.
    pub(in crate::engine) head: &'a [u8],
    pub(in crate::engine) payload: &'a [u8],
    /// CRC-32C over both.
    pub(in crate::engine) crc: u32,
    pub(in crate::engine) published_at: Timestamp,
}

impl MessageBody<'_> {
    /// The message's id, which its head begins with.
    pub(in crate::engine) fn id(&self) -> MessageId {
        let bytes = self.head.first_chunk().copied().unwrap_or_default();
        MessageId(Uuid::from_bytes(bytes))
    }
}

/// Where a message's record stands in a piece of a segment, and what its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct MessageHeader {
    pub(in crate::engine) place: Place,
    pub(in crate::engine) published_at: Timestamp,
    /// Of the whole record.
    pub(in crate::engine) length: usize,
    pub(in crate::engine) head_bytes: usize,
    pub(in crate::engine) body_crc: u32,
}

impl MessageHeader {
    /// Reads the header that `bytes` begin with, and nothing of the body; `None` if it is damaged, or not that of a
    /// message.
    pub(in crate::engine) fn decode(bytes: &[u8]) -> Option<Self> {
        let fields = bytes.get(..HEADER_BYTES)?;
        let mut reader = Reader::new(fields);
        let (length, crc) = (reader.u32().ok()? as usize, reader.u32().ok()?);
        if crc != header_crc(fields) || length < HEADER_BYTES {
            return None;
        }
        let kind = match reader.u8().ok()? {
            kind::PUBLISHED => Kind::Visible,
            kind::DELAYED => Kind::Delayed,
            _ => return None,
        };
        reader.skip(3).ok()?;
        let (topic, seq) = (TopicId(reader.u32().ok()?), Seq(reader.u64().ok()?));
        let published_at = Timestamp::from_millis(reader.u64().ok()?);
        let (body_crc, head_bytes) = (reader.u32().ok()?, reader.u32().ok()? as usize);
        let place = Place { topic, kind, seq };
        (head_bytes <= length - HEADER_BYTES).then_some(Self { place, published_at, length, head_bytes, body_crc })
    }

    /// The body, if it is whole.
    pub(in crate::engine) fn body<'a>(&self, record: &'a [u8]) -> Option<MessageBody<'a>> {
        let body = record.get(HEADER_BYTES..self.length)?;
        let (head, payload) = body.split_at_checked(self.head_bytes)?;
        let crc = self.body_crc;
        (crc32c::crc32c(body) == crc).then_some(MessageBody { head, payload, crc, published_at: self.published_at })
    }
}

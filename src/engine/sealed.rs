//! A message ready for the journal: encoded and checksummed on the publisher's task, not on the commit thread.
//!
//! The head of a message, before its payload, is its id (16 bytes) and then one field after the other:
//!
//! ```text
//! 0     1        5
//! | tag | length | value …
//! ```
//!
//! A field that is absent is not written; an unknown tag is damage, since new tags come with a new format version.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use uuid::Uuid;

use super::journal::{
    MessageBody,
    wire::{Reader, put_text},
};
use crate::model::{Draft, Due, Message, MessageId, Name, Properties, Timestamp};

/// A message, its encoded head, and the checksum over head and payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The message's id.
    pub id: MessageId,
    /// What travels beside the payload.
    pub properties: Properties,
    /// The publisher's own id, and how long a second one counts as the same message.
    pub dedup: Option<Dedup>,
    /// When the message becomes visible.
    pub due: Due,
    /// How long it may be delivered.
    pub ttl: Option<Duration>,
    /// The publisher's bytes.
    pub payload: Bytes,
    /// Everything but the payload, encoded.
    pub head: Bytes,
    /// CRC-32C over head and payload.
    pub body_crc: u32,
}

/// A dedup id with its window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dedup {
    /// The publisher's id.
    pub id: String,
    /// How long it is remembered.
    pub window: Duration,
}

mod tag {
    pub(super) const CONTENT_TYPE: u8 = 1;
    pub(super) const ATTRIBUTE: u8 = 2;
    pub(super) const ORDERING_KEY: u8 = 3;
    pub(super) const REPLY_TO: u8 = 4;
    pub(super) const CORRELATION_ID: u8 = 5;
    pub(super) const DEDUP: u8 = 6;
    pub(super) const DELAY_MS: u8 = 7;
    pub(super) const DELIVER_AT_MS: u8 = 8;
    pub(super) const TTL_MS: u8 = 9;
    pub(super) const TRACEPARENT: u8 = 10;
    pub(super) const TRACESTATE: u8 = 11;
}

impl Sealed {
    /// Encodes a draft under a new id, of that moment.
    #[must_use]
    pub fn new(draft: Draft, now: Timestamp, dedup_window: Duration) -> Self {
        Self::with_id(MessageId::generate(now), draft, dedup_window)
    }

    /// Encodes a draft under the id that it has already.
    #[must_use]
    pub fn with_id(id: MessageId, draft: Draft, dedup_window: Duration) -> Self {
        let Draft { payload, properties, dedup_id, due, ttl } = draft;
        let dedup = dedup_id.map(|id| Dedup { id, window: dedup_window });
        let mut head = Vec::with_capacity(64);
        head.extend_from_slice(id.0.as_bytes());
        encode_head(&mut head, &properties, dedup.as_ref(), due, ttl);
        // A copy of its own: the transport's buffer may hold much more than this message.
        let payload = Bytes::copy_from_slice(&payload);
        let body_crc = crc32c::crc32c_append(crc32c::crc32c(&head), &payload);
        Self { id, properties, dedup, due, ttl, payload, head: head.into(), body_crc }
    }

    /// Reads a body whose checksum has been verified.
    pub(super) fn decode(head_bytes: usize, body_crc: u32, body: &[u8]) -> Result<Self, &'static str> {
        let (head, payload) = body.split_at_checked(head_bytes).ok_or("its head is longer than its body")?;
        Self::of_parts(Bytes::copy_from_slice(head), Bytes::copy_from_slice(payload), body_crc)
    }

    /// Reads a head; neither it nor the payload is copied.
    pub(super) fn of_parts(head: Bytes, payload: Bytes, body_crc: u32) -> Result<Self, &'static str> {
        let fields = head.clone();
        let mut reader = Reader::new(&fields);
        let mut sealed = Self {
            id: MessageId(Uuid::from_bytes(reader.array()?)),
            properties: Properties::default(),
            dedup: None,
            due: Due::Now,
            ttl: None,
            payload,
            head,
            body_crc,
        };
        while reader.remaining() > 0 {
            sealed.decode_field(&mut reader)?;
        }
        Ok(sealed)
    }

    fn decode_field(&mut self, reader: &mut Reader<'_>) -> Result<(), &'static str> {
        let tag = reader.u8()?;
        let length = reader.u32()? as usize;
        let value = reader.take(length)?;
        let mut parts = Reader::new(value);
        let text =
            || std::str::from_utf8(value).map(|t| Some(t.to_owned())).map_err(|_| "has a text that is not UTF-8");
        match tag {
            tag::CONTENT_TYPE => self.properties.content_type = text()?,
            tag::ORDERING_KEY => self.properties.ordering_key = text()?,
            tag::REPLY_TO => self.properties.reply_to = text()?,
            tag::CORRELATION_ID => self.properties.correlation_id = text()?,
            tag::ATTRIBUTE => self.properties.attributes.push((parts.text()?, parts.text()?)),
            tag::DEDUP => {
                self.dedup = Some(Dedup { window: Duration::from_millis(parts.u64()?), id: parts.text()? });
            }
            tag::DELAY_MS => self.due = Due::After(Duration::from_millis(parts.u64()?)),
            tag::DELIVER_AT_MS => self.due = Due::At(Timestamp::from_millis(parts.u64()?)),
            tag::TRACEPARENT => self.properties.traceparent = text()?,
            tag::TRACESTATE => self.properties.tracestate = text()?,
            tag::TTL_MS => self.ttl = Some(Duration::from_millis(parts.u64()?)),
            _ => return Err("has a field of an unknown tag"),
        }
        Ok(())
    }

    /// The bytes that the record of this message takes beside its header.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.head.len() + self.payload.len()
    }

    /// When the message becomes visible if it is published at `now`; `None`: at once.
    #[must_use]
    pub fn matures_at(&self, now: Timestamp) -> Option<Timestamp> {
        let at = match self.due {
            Due::Now => return None,
            Due::After(delay) => now.after(delay),
            Due::At(at) => at,
        };
        (at > now).then_some(at)
    }

    /// The message as published to `topic` at `now`.
    pub(super) fn into_kept(self, topic: Name, now: Timestamp) -> Kept {
        let message = Message {
            id: self.id,
            topic,
            payload: self.payload,
            properties: self.properties,
            published_at: now,
            expires_at: self.ttl.map(|ttl| now.after(ttl)),
        };
        let body_bytes = u32::try_from(self.head.len() + message.payload.len()).unwrap_or(u32::MAX);
        Kept { message: Arc::new(message), head: self.head, body_crc: self.body_crc, body_bytes }
    }
}

/// A published message as the state keeps it until a checkpoint has written it: what consumers get, and what it takes to
/// write it down again.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) message: Arc<Message>,
    /// Everything but the payload, encoded.
    pub(super) head: Bytes,
    /// CRC-32C over head and payload, of when the message entered.
    pub(super) body_crc: u32,
    /// The length of head and payload. Here, so that whoever adds up many need not look at the messages.
    body_bytes: u32,
}

impl Kept {
    /// About what it takes in memory.
    pub(super) fn memory_bytes(&self) -> u64 {
        /// The message's own fields, reference counts, a place in a list, and what the allocator adds to each of these.
        const OVERHEAD_BYTES: u64 = 400;
        OVERHEAD_BYTES + u64::from(self.body_bytes)
    }

    /// What its record takes.
    pub(super) fn record_bytes(&self) -> u64 {
        super::journal::RECORD_HEADER_BYTES as u64 + u64::from(self.body_bytes)
    }

    /// What stands in its record.
    pub(super) fn body(&self) -> MessageBody<'_> {
        let (head, payload, crc) = (&self.head, &self.message.payload, self.body_crc);
        MessageBody { head, payload, crc, published_at: self.message.published_at }
    }
}

fn encode_head(head: &mut Vec<u8>, p: &Properties, dedup: Option<&Dedup>, due: Due, ttl: Option<Duration>) {
    for (tag, text) in [
        (tag::CONTENT_TYPE, &p.content_type),
        (tag::ORDERING_KEY, &p.ordering_key),
        (tag::REPLY_TO, &p.reply_to),
        (tag::CORRELATION_ID, &p.correlation_id),
        (tag::TRACEPARENT, &p.traceparent),
        (tag::TRACESTATE, &p.tracestate),
    ] {
        if let Some(text) = text {
            put_field(head, tag, |out| out.extend_from_slice(text.as_bytes()));
        }
    }
    for (name, value) in &p.attributes {
        put_field(head, tag::ATTRIBUTE, |out| {
            put_text(out, name);
            put_text(out, value);
        });
    }
    if let Some(dedup) = dedup {
        put_field(head, tag::DEDUP, |out| {
            out.extend_from_slice(&millis(dedup.window).to_le_bytes());
            put_text(out, &dedup.id);
        });
    }
    match due {
        Due::Now => {}
        Due::After(delay) => put_field(head, tag::DELAY_MS, |out| out.extend(millis(delay).to_le_bytes())),
        Due::At(at) => put_field(head, tag::DELIVER_AT_MS, |out| out.extend(at.as_millis().to_le_bytes())),
    }
    if let Some(ttl) = ttl {
        put_field(head, tag::TTL_MS, |out| out.extend(millis(ttl).to_le_bytes()));
    }
}

fn put_field(out: &mut Vec<u8>, tag: u8, value: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    value(out);
    let length = u32::try_from(out.len() - at - 4).expect("fields are far below 4 GiB");
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

//! The bytes of a manifest.
//!
//! ```text
//! 0        8         12     16           32         40          44
//! | magic  | version | crc  | store uuid | position | next seg. | body …
//!
//! body       time u64 | next topic u32 | topics | next queue u32 | queues | ids files | imported | segments | importing
//! topic      id u32 | name | inbox u8 | policy | kept from u64 | next u64 | next delayed u64 | delayed
//! delayed    seq u64 | due u64
//! queue      id u32 | topic u32 | service (empty: none) | cursor u64 | its content, see `queue_content`
//! ids file   id u32 | bytes u64 | end u64
//! imported   file
//! segment    id u32 | bytes u64
//! importing  file | lines u64
//! ```
//!
//! All numbers are little-endian, times in milliseconds since 1970. Each list has its count (u32) before it, a text and a
//! policy their length (u32); the fields of a policy are those of the journal. *crc* is the CRC-32C of everything after it;
//! *next topic*, *next queue* and *next seg.* are the ids that none has had yet.
//!
//! Version 3 has no ids of topics and queues: each list has all that there ever were, in their order, with a u8 before it
//! that says whether it is still there (1) or was deleted (0); and no *next topic* and *next queue*, which are the lengths
//! of these lists; and what was passed over stands one by one. Version 2 also has no policies and no *kept from*, and of a
//! queue's messages only how often each that is back was delivered, and which are held. Version 1 also has the dedup ids
//! themselves in place of their files, and ends with the segments.

use uuid::Uuid;

use super::{
    DedupEntry, IdsEntry, Manifest, QueueEntry, SegmentEntry, SegmentId, TopicEntry, ids,
    queue_content::{put_content, take_content, take_content_of_version_3, take_plain_content},
};
use crate::{
    engine::journal::{
        Position, decode_topic_policy, encode_topic_policy,
        wire::{Reader, put_text},
    },
    model::{Name, QueueId, Seq, Timestamp, TopicId},
};

const MAGIC: [u8; 8] = *b"CPMANIF\n";
/// Where what the checksum covers begins.
const COVERED_FROM: usize = 16;

/// The versions that are read; the last one is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
enum Version {
    /// With the dedup ids in it.
    WithIds = 1,
    /// Without policies, keys and dead letters.
    Plain = 2,
    /// With a hole for each topic and queue that was deleted, and what was passed over one by one.
    WithHoles = 3,
    Current = 4,
}

impl Version {
    fn from_number(number: u32) -> Option<Self> {
        [Self::WithIds, Self::Plain, Self::WithHoles, Self::Current]
            .into_iter()
            .find(|version| *version as u32 == number)
    }
}

/// A manifest with what it is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) store: Uuid,
    /// Replaying begins here.
    pub(super) position: Position,
    pub(super) next_segment: SegmentId,
    pub(super) manifest: Manifest,
    /// Dedup ids that stand in no file yet: of a manifest of version 1.
    pub(super) ids: Vec<DedupEntry>,
}

impl Bound {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4096);
        out.extend_from_slice(&MAGIC);
        put_u32(&mut out, Version::Current as u32);
        put_u32(&mut out, 0);
        out.extend_from_slice(self.store.as_bytes());
        put_u64(&mut out, self.position.0);
        put_u32(&mut out, self.next_segment.0);
        encode_body(&mut out, &self.manifest);
        let crc = crc32c::crc32c(&out[COVERED_FROM..]);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// # Errors
    /// What does not hold.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut reader = Reader::new(bytes);
        if reader.array()? != MAGIC {
            return Err("it does not begin as one");
        }
        let version = Version::from_number(reader.u32()?).ok_or("its format version is not known here")?;
        let crc = reader.u32()?;
        if crc != crc32c::crc32c(&bytes[COVERED_FROM..]) {
            return Err("its checksum does not match");
        }
        let store = Uuid::from_bytes(reader.array()?);
        let position = Position(reader.u64()?);
        let next_segment = SegmentId(reader.u32()?);
        let (manifest, ids) = decode_body(&mut reader, version)?;
        reader.finish()?;
        Ok(Self { store, position, next_segment, manifest, ids })
    }
}

/// A manifest of some version with these bytes behind its checksum: the first byte tells which.
#[cfg(any(test, fuzzing))]
pub(super) fn with_checksum(bytes: &[u8]) -> Vec<u8> {
    let (version, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let mut out = MAGIC.to_vec();
    put_u32(&mut out, 4 - u32::from(version % 4));
    put_u32(&mut out, crc32c::crc32c(rest));
    out.extend_from_slice(rest);
    out
}

fn encode_body(out: &mut Vec<u8>, manifest: &Manifest) {
    put_u64(out, manifest.time.as_millis());
    put_u32(out, manifest.next_topic.0);
    put_list(out, &manifest.topics, |out, (id, topic)| {
        put_u32(out, id.0);
        put_topic(out, topic);
    });
    put_u32(out, manifest.next_queue.0);
    put_list(out, &manifest.queues, |out, (id, queue)| {
        put_u32(out, id.0);
        put_queue(out, queue);
    });
    put_list(out, &manifest.dedup, |out, file| {
        put_u32(out, file.id.0);
        put_u64(out, file.bytes);
        put_u64(out, file.end.as_millis());
    });
    put_list(out, &manifest.imported, |out, source| put_text(out, source));
    put_list(out, &manifest.segments, |out, segment| {
        put_u32(out, segment.id.0);
        put_u64(out, segment.bytes);
    });
    put_list(out, &manifest.importing, |out, (source, lines)| {
        put_text(out, source);
        put_u64(out, *lines);
    });
}

fn decode_body(reader: &mut Reader<'_>, version: Version) -> Result<(Manifest, Vec<DedupEntry>), &'static str> {
    let (mut manifest, mut ids) = (Manifest { time: take_time(reader)?, ..Manifest::default() }, Vec::new());
    let (next, topics) = take_numbered(reader, version, take_topic)?;
    (manifest.next_topic, manifest.topics) = (TopicId(next), with_ids(topics, TopicId));
    let (next, queues) = take_numbered(reader, version, take_queue)?;
    (manifest.next_queue, manifest.queues) = (QueueId(next), with_ids(queues, QueueId));
    if version == Version::WithIds {
        ids = take_list(reader, ids::take)?;
    } else {
        manifest.dedup = take_list(reader, |reader| {
            let (id, bytes) = (SegmentId(reader.u32()?), reader.u64()?);
            Ok(IdsEntry { id, bytes, end: take_time(reader)? })
        })?;
    }
    manifest.imported = take_list(reader, Reader::text)?;
    manifest.segments =
        take_list(reader, |reader| Ok(SegmentEntry { id: SegmentId(reader.u32()?), bytes: reader.u64()? }))?;
    if version != Version::WithIds {
        manifest.importing = take_list(reader, |reader| Ok((reader.text()?, reader.u64()?)))?;
    }
    Ok((manifest, ids))
}

fn put_topic(out: &mut Vec<u8>, topic: &TopicEntry) {
    put_text(out, topic.name.as_str());
    out.push(u8::from(topic.is_inbox));
    put_sized(out, |out| encode_topic_policy(out, &topic.policy));
    put_u64(out, topic.kept_from.0);
    put_u64(out, topic.next.0);
    put_u64(out, topic.next_delayed.0);
    put_list(out, &topic.delayed, |out, (seq, due)| {
        put_u64(out, seq.0);
        put_u64(out, due.as_millis());
    });
}

fn take_topic(reader: &mut Reader<'_>, version: Version) -> Result<TopicEntry, &'static str> {
    let (name, is_inbox) = (reader.name()?, reader.u8()? != 0);
    let (policy, kept_from) = match version {
        Version::WithIds | Version::Plain => Default::default(),
        Version::WithHoles | Version::Current => (decode_topic_policy(&mut take_sized(reader)?)?, take_seq(reader)?),
    };
    Ok(TopicEntry {
        name,
        is_inbox,
        policy,
        kept_from,
        next: take_seq(reader)?,
        next_delayed: take_seq(reader)?,
        delayed: take_list(reader, |reader| Ok((take_seq(reader)?, take_time(reader)?)))?,
    })
}

fn put_queue(out: &mut Vec<u8>, queue: &QueueEntry) {
    put_u32(out, queue.topic.0);
    put_text(out, queue.service.as_ref().map_or("", Name::as_str));
    put_u64(out, queue.cursor.0);
    put_content(out, &queue.content);
}

fn take_queue(reader: &mut Reader<'_>, version: Version) -> Result<QueueEntry, &'static str> {
    let (topic, service, cursor) = (TopicId(reader.u32()?), reader.optional_name()?, take_seq(reader)?);
    let content = match version {
        Version::WithIds | Version::Plain => take_plain_content(reader)?,
        Version::WithHoles => take_content_of_version_3(reader)?,
        Version::Current => take_content(reader)?,
    };
    Ok(QueueEntry { topic, service, cursor, content })
}

/// Something with its length in front.
pub(super) fn put_sized(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    put_u32(out, 0);
    put(out);
    let length = u32::try_from(out.len() - at - 4).expect("far below 4 GiB");
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

pub(super) fn take_sized<'a>(reader: &mut Reader<'a>) -> Result<Reader<'a>, &'static str> {
    let length = reader.u32()? as usize;
    Ok(Reader::new(reader.take(length)?))
}

pub(super) fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

pub(super) fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

pub(super) fn take_seq(reader: &mut Reader<'_>) -> Result<Seq, &'static str> {
    reader.u64().map(Seq)
}

pub(super) fn take_time(reader: &mut Reader<'_>) -> Result<Timestamp, &'static str> {
    reader.u64().map(Timestamp::from_millis)
}

pub(super) fn put_list<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, mut put: impl FnMut(&mut Vec<u8>, T)) {
    let at = out.len();
    put_u32(out, 0);
    let mut count: u32 = 0;
    for item in items {
        put(out, item);
        count += 1;
    }
    out[at..at + 4].copy_from_slice(&count.to_le_bytes());
}

/// Grows with what is read, not with what the count says.
pub(super) fn take_list<'a, T, C: FromIterator<T>>(
    reader: &mut Reader<'a>,
    mut take: impl FnMut(&mut Reader<'a>) -> Result<T, &'static str>,
) -> Result<C, &'static str> {
    let count = reader.u32()?;
    (0..count).map(|_| take(reader)).collect()
}

/// Things with their numbers, and the one that none has had yet.
type Numbered<T> = (u32, Vec<(u32, T)>);

fn take_numbered<'a, T>(
    reader: &mut Reader<'a>,
    version: Version,
    take: impl Fn(&mut Reader<'a>, Version) -> Result<T, &'static str>,
) -> Result<Numbered<T>, &'static str> {
    if version == Version::Current {
        let next = reader.u32()?;
        return Ok((next, take_list(reader, |reader| Ok((reader.u32()?, take(reader, version)?)))?));
    }
    let (mut next, mut things) = (0, Vec::new());
    for _ in 0..reader.u32()? {
        match reader.u8()? {
            0 => {}
            1 => things.push((next, take(reader, version)?)),
            _ => return Err("it has an entry that is neither there nor not"),
        }
        next += 1;
    }
    Ok((next, things))
}

fn with_ids<I, T>(numbered: Vec<(u32, T)>, id: impl Fn(u32) -> I) -> Vec<(I, T)> {
    numbered.into_iter().map(|(number, thing)| (id(number), thing)).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use proptest::prelude::*;

    use super::*;
    use crate::{engine::checkpoint::queue_content, model::TopicPolicy};

    fn example() -> Bound {
        let name = |text| Name::parse(text).expect("valid");
        let topic = TopicEntry {
            name: name("a.b"),
            is_inbox: true,
            policy: TopicPolicy { dedup_window: Some(Duration::from_secs(9)), ..TopicPolicy::default() },
            kept_from: Seq(3),
            next: Seq(7),
            next_delayed: Seq(2),
            delayed: BTreeMap::from([(Seq(1), Timestamp::from_millis(99))]),
        };
        let queue = QueueEntry {
            topic: TopicId(1),
            service: Some(name("s")),
            cursor: Seq(5),
            content: queue_content::example(),
        };
        let dedup = IdsEntry { id: SegmentId(2), bytes: 70, end: Timestamp::from_millis(8) };
        let manifest = Manifest {
            time: Timestamp::from_millis(1234),
            next_topic: TopicId(3),
            topics: vec![(TopicId(1), topic)],
            next_queue: QueueId(9),
            queues: vec![(QueueId(0), queue)],
            dedup: vec![dedup],
            imported: vec!["x.jsonl".into()],
            importing: BTreeMap::from([("y.jsonl".into(), 7)]),
            segments: vec![SegmentEntry { id: SegmentId(3), bytes: 4096 }],
        };
        let (position, next_segment) = (Position(77), SegmentId(4));
        Bound { store: Uuid::from_u128(9), position, next_segment, manifest, ids: Vec::new() }
    }

    #[test]
    fn a_manifest_comes_back_as_it_went() {
        assert_eq!(Bound::decode(&example().encode()), Ok(example()));
    }

    #[test]
    fn a_million_that_are_gone_take_no_room() {
        let mut bound = example();
        let before = bound.encode().len();
        (bound.manifest.next_topic, bound.manifest.next_queue) = (TopicId(1_000_000), QueueId(2_000_000));
        assert_eq!(bound.encode().len(), before);
        assert_eq!(Bound::decode(&bound.encode()), Ok(bound));
    }

    #[test]
    fn any_changed_byte_and_any_cut_is_noticed() {
        let bytes = example().encode();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(Bound::decode(&changed).is_err(), "byte {at}");
            assert!(Bound::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused_without_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 44..300)) {
            // As if somebody had made the checksum match.
            bytes[..12].copy_from_slice(&example().encode()[..12]);
            let crc = crc32c::crc32c(&bytes[COVERED_FROM..]);
            bytes[12..16].copy_from_slice(&crc.to_le_bytes());
            let _ = Bound::decode(&bytes);
        }
    }
}

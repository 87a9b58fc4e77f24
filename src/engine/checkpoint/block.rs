//! Reading one block back from its segment.

use std::{io, path::Path, sync::Arc};

use bytes::Bytes;

use super::{Block, paths, segment::Keeping};
use crate::{
    engine::{
        disk::{Disk, DiskFile},
        journal::{MessageBody, MessageHeader, RECORD_HEADER_BYTES},
        sealed::Sealed,
    },
    model::{KeyHash, Message, MessageId, Name, Seq, Timestamp},
};

/// The unit in which a disk fails to read, in bytes.
const PAGE_BYTES: usize = 4 << 10;

/// Why a block could not be read at all.
#[derive(Debug)]
pub(in crate::engine) enum BlockError {
    /// Its segment is not there. It may have been moved on meanwhile.
    NotThere,
    /// The system's answer.
    Io(io::Error),
}

/// A block in memory: the messages of it that are whole.
#[derive(Debug, Clone)]
pub(in crate::engine) struct LoadedBlock {
    bytes: Bytes,
    /// In order: where each message stands in `bytes`.
    messages: Vec<(MessageHeader, u32)>,
    /// How many of the messages that were written are not there any more.
    pub(in crate::engine) damaged: u32,
}

/// Reads a block, and verifies every message in it.
///
/// # Errors
/// [`BlockError`], if nothing of it can be read.
pub(in crate::engine) fn load_block(
    disk: &dyn Disk,
    data_dir: &Path,
    block: &Block,
) -> Result<LoadedBlock, BlockError> {
    let file = match disk.open_read(&paths::segment_path(data_dir, block.segment)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(BlockError::NotThere),
        opened => opened.map_err(BlockError::Io)?,
    };
    let mut bytes = vec![0; block.bytes as usize];
    read_what_can_be_read(&*file, &mut bytes, block.offset).map_err(BlockError::Io)?;
    Ok(LoadedBlock::of(block, bytes.into()))
}

/// Fills `buffer`; pages that the disk cannot read any more become zeros, unless there are no others.
pub(super) fn read_what_can_be_read(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let Err(failure) = file.read_exact_at(buffer, offset) else { return Ok(()) };
    let mut some = false;
    // In pages of the file, so that one bad page costs what stands in it and no more.
    let to_page = PAGE_BYTES - usize::try_from(offset % PAGE_BYTES as u64).expect("below a page");
    let (head, rest) = buffer.split_at_mut(to_page.min(buffer.len()));
    let mut at = offset;
    for page in std::iter::once(head).chain(rest.chunks_mut(PAGE_BYTES)) {
        match file.read_exact_at(page, at) {
            Ok(()) => some = true,
            Err(_) => page.fill(0),
        }
        at += page.len() as u64;
    }
    if some { Ok(()) } else { Err(failure) }
}

impl LoadedBlock {
    pub(super) fn of(block: &Block, bytes: Bytes) -> Self {
        let room = (block.count as usize).min(bytes.len() / RECORD_HEADER_BYTES);
        let mut messages: Vec<(MessageHeader, u32)> = Vec::with_capacity(room);
        // Whether every record so far has told where the next one begins. Once one has not, what looks like a record may
        // stand in somebody's payload, and is believed only if it is whole.
        let (mut at, mut is_led) = (0, true);
        while at < bytes.len() {
            let rest = &bytes[at..];
            let header = MessageHeader::decode(rest).filter(|found| found.place == block.first.at(found.place.seq));
            let is_whole = header.is_some_and(|header| header.body(rest).is_some());
            let Some(header) = header.filter(|_| is_led || is_whole) else {
                // No message: the next one that is whole is looked for at every byte.
                (at, is_led) = (at + 1, false);
                continue;
            };
            if is_whole {
                // What looked like a message inside of a damaged one gives way to those that follow it.
                while messages.pop_if(|(before, _)| before.place.seq >= header.place.seq).is_some() {}
                messages.push((header, u32::try_from(at).expect("a block's length is a u32")));
            }
            at += header.length;
        }
        let found = u32::try_from(messages.len()).expect("a block has fewer messages than bytes");
        Self { bytes, messages, damaged: block.count.saturating_sub(found) }
    }

    /// About what it takes in memory.
    pub(in crate::engine) fn memory_bytes(&self) -> u64 {
        (self.bytes.len() + self.messages.len() * size_of::<(MessageHeader, u32)>()) as u64
    }

    /// The message, if it is whole. Its bytes are those of the block, which live as long as it does.
    pub(in crate::engine) fn message(&self, seq: Seq, topic: &Name) -> Option<Arc<Message>> {
        let (sealed, published_at) = self.sealed(seq)?;
        Some(sealed.into_kept(topic.clone(), published_at).message)
    }

    /// The number of the message of that id.
    pub(in crate::engine) fn seq_of(&self, id: MessageId) -> Option<Seq> {
        let has_id = |(header, at): &&(MessageHeader, u32)| {
            let head = &self.bytes[*at as usize + RECORD_HEADER_BYTES..][..header.head_bytes];
            head.starts_with(id.0.as_bytes())
        };
        self.messages.iter().find(has_id).map(|(header, _)| header.place.seq)
    }

    /// What decides how long the message is kept.
    pub(super) fn keeping(&self, seq: Seq) -> Keeping {
        let Some((sealed, published_at)) = self.sealed(seq) else { return Keeping::default() };
        let key = sealed.properties.ordering_key.as_deref().map(KeyHash::of);
        Keeping { expires_at: sealed.ttl.map(|ttl| published_at.after(ttl)), key }
    }

    fn sealed(&self, seq: Seq) -> Option<(Sealed, Timestamp)> {
        let (header, at) = self.find(seq)?;
        let body = header.body(&self.bytes[at..])?;
        let (head, payload) = (self.bytes.slice_ref(body.head), self.bytes.slice_ref(body.payload));
        Some((Sealed::of_parts(head, payload, header.body_crc).ok()?, header.published_at))
    }

    /// What stands in the message's record, if it is whole.
    pub(in crate::engine) fn body(&self, seq: Seq) -> Option<MessageBody<'_>> {
        let (header, at) = self.find(seq)?;
        header.body(&self.bytes[at..])
    }

    fn find(&self, seq: Seq) -> Option<(&MessageHeader, usize)> {
        let index = self.messages.binary_search_by_key(&seq, |(header, _)| header.place.seq).ok()?;
        let (header, at) = &self.messages[index];
        Some((header, *at as usize))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        engine::{
            checkpoint::{Kind, Origin, Place, SegmentId},
            journal::Record,
        },
        model::{Draft, TopicId},
    };

    fn place(seq: u64) -> Place {
        Place { topic: TopicId(4), kind: Kind::Visible, seq: Seq(seq) }
    }

    fn name() -> Name {
        Name::parse("t").expect("valid")
    }

    fn record(seq: u64, payload: &[u8]) -> Vec<u8> {
        let draft = Draft { payload: Bytes::copy_from_slice(payload), ..Draft::default() };
        let kept = Sealed::new(draft, Timestamp::EPOCH, Duration::ZERO).into_kept(name(), Timestamp::from_millis(9));
        let mut bytes = Vec::new();
        Record::encode_message(place(seq), &kept.body(), &mut bytes);
        bytes
    }

    fn load(bytes: Vec<u8>, count: u32) -> LoadedBlock {
        let (segment, length) = (SegmentId(1), u32::try_from(bytes.len()).expect("few"));
        let (first, last) = (place(1), Seq(9));
        let (offset, expires_by, key, origin) = (0, None, None, Origin::UNKNOWN);
        let block = Block { first, last, count, segment, offset, bytes: length, expires_by, key, origin };
        LoadedBlock::of(&block, bytes.into())
    }

    fn payload(block: &LoadedBlock, seq: u64) -> Option<Vec<u8>> {
        Some(block.message(Seq(seq), &name())?.payload.to_vec())
    }

    #[test]
    fn each_message_is_found_by_its_number_and_a_damaged_one_is_missing() {
        let records = [record(1, b"one"), record(2, b"two"), record(5, b"five")];
        let whole = load(records.concat(), 3);
        assert_eq!(whole.damaged, 0);
        assert_eq!(payload(&whole, 5), Some(b"five".to_vec()));
        assert_eq!(payload(&whole, 3), None);
        for at in 0..records[1].len() {
            let mut damaged = records.clone();
            damaged[1][at] ^= 1;
            let block = load(damaged.concat(), 3);
            let found: Vec<_> = [1, 2, 5].map(|seq| payload(&block, seq)).into();
            assert_eq!(found, [Some(b"one".to_vec()), None, Some(b"five".to_vec())], "byte {at}");
            assert_eq!(block.damaged, 1);
        }
    }

    #[test]
    fn a_payload_that_looks_like_records_hides_none_even_when_it_is_damaged() {
        // Forged ones with a number that is taken, with one that is to come, and one that reaches far.
        let mut far = record(2, &[7; 500]);
        far.truncate(60);
        let forged = [record(9, b"forged"), record(5, b"forged"), far].concat();
        let mut bytes = [record(1, b"one"), record(2, &forged), record(5, b"five")].concat();
        // The header of the message that hosts them.
        bytes[record(1, b"one").len() + 2] ^= 1;
        let block = load(bytes, 3);
        assert_eq!(payload(&block, 1), Some(b"one".to_vec()));
        assert_eq!(payload(&block, 5), Some(b"five".to_vec()));
        assert_eq!(payload(&block, 9), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_hold_no_message(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let block = load(bytes, 1);
            prop_assert!((0..10).all(|seq| payload(&block, seq).is_none()));
        }
    }
}

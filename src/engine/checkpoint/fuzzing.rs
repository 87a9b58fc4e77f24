//! Whatever bytes stand in a checkpoint's files: read without a panic, and what is read is what would be written.
//!
//! Checksums are made right first, so that what stands behind them is reached.

use uuid::Uuid;

use super::{
    Place, SegmentId,
    block::LoadedBlock,
    ids, index,
    manifest::{self, Bound},
};
use crate::{
    engine::{journal, state::State},
    model::{Name, Seq},
};

/// A manifest.
pub fn manifest(bytes: &[u8]) {
    let bytes = manifest::with_checksum(bytes);
    let Ok(bound) = Bound::decode(&bytes) else { return };
    let again = Bound::decode(&bound.encode()).expect("it was written now");
    assert_eq!((again.store, again.position, &again.manifest), (bound.store, bound.position, &bound.manifest));
    // Refused, or taken; what matters is that it says which.
    let _ = State::restored(bound.manifest, [], &bound.ids);
}

/// A file of dedup ids.
pub fn dedup_ids(bytes: &[u8]) {
    let (store, id) = (Uuid::nil(), SegmentId(7));
    let bytes = ids::with_checksum(bytes, store, id);
    if let Ok(entries) = ids::decode(&bytes, store, id) {
        assert_eq!(ids::encode(&entries, store, id), bytes);
    }
}

/// An entry of a segment's index, and the block it tells of.
pub fn block(bytes: &[u8]) {
    let Some((entry, rest)) = bytes.split_at_checked(index::ENTRY_BYTES) else { return };
    let Ok(block) = index::decode_entry(entry, SegmentId(1), index::Entries::Full) else { return };
    let loaded = LoadedBlock::of(&block, journal::fuzzing::with_checksums(rest).into());
    assert!(loaded.damaged <= block.count);
    let Place { seq: first, .. } = block.first;
    let topic = Name::parse("t").expect("a name");
    for seq in (first.0..=block.last.0).take(64).map(Seq) {
        let is_whole = loaded.body(seq).is_some();
        assert!(is_whole || (loaded.message(seq, &topic).is_none()));
        let _ = loaded.keeping(seq);
    }
}

//! What a state holds, messages and all, wherever they are: for comparing two states to the last byte.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::Path,
};

use crate::engine::{
    checkpoint::{Block, LoadedBlock, load_block},
    disk::Disk,
    reading::{BlockCache, Cached},
    state::{State, Whereabouts},
};

/// The digest of the state, and of everything that the wanted messages say.
///
/// # Errors
/// Which message is not where it should be, or what of the segments is not as it is counted along.
pub(super) fn digest(state: &State, disk: &dyn Disk, dir: &Path) -> Result<u64, String> {
    let is_wanted = |block: &Block| {
        let topic = state.topic(block.first.topic);
        topic.map_or(0, |topic| state.wanted(topic).count(block.first.kind, block.first.seq, block.last))
    };
    state.segments.check(is_wanted)?;
    let mut hasher = DefaultHasher::new();
    state.digest().hash(&mut hasher);
    let mut last: Option<(Block, LoadedBlock)> = None;
    for place in state.places() {
        let name = &state.topic(place.topic).expect("it has a place").name;
        let message = match state.find(place) {
            Whereabouts::Recent(kept) => kept.message.as_ref().clone(),
            Whereabouts::Nowhere => return Err(format!("{place:?} is nowhere")),
            Whereabouts::Saved(block, seq) => {
                if last.as_ref().is_none_or(|(read, _)| *read != block) {
                    let loaded = load_block(disk, dir, &block).map_err(|e| format!("{place:?}: {e:?}"))?;
                    last = Some((block, loaded));
                }
                let found = last.as_ref().and_then(|(_, loaded)| loaded.message(seq, name));
                found.ok_or_else(|| format!("{place:?} is not in {block:?}"))?.as_ref().clone()
            }
        };
        (place, message.id, &message.payload, message.published_at, message.expires_at).hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// Has the block in memory, as the threads of an engine would.
pub(super) fn load(blocks: &mut BlockCache, block: &Block, disk: &dyn Disk, dir: &Path) {
    blocks.insert(block, Cached::Loaded(load_block(disk, dir, block).expect("readable")));
}

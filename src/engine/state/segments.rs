//! The segments: which block has which message, and how much of each segment is still wanted.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    engine::checkpoint::{Block, Kind, Origin, Place, SegmentEntry, SegmentId},
    model::{Seq, Timestamp, TopicId},
};

/// What the last checkpoints have written. Not part of what replaying restores.
///
/// Invariant: the blocks of one topic and kind do not overlap, so a place is in one of them at most.
#[derive(Debug, Default)]
pub(in crate::engine) struct Segments {
    by_id: BTreeMap<SegmentId, Segment>,
    /// By the place of their first message.
    blocks: BTreeMap<Place, Entry>,
    /// What the segments that are mostly unwanted take, less what of it is wanted.
    reclaimable_bytes: u64,
    /// How many blocks were left out because they overlapped with another one.
    #[cfg(test)]
    left_out: usize,
}

#[derive(Debug)]
struct Segment {
    bytes: u64,
    wanted_bytes: u64,
    blocks: Vec<Place>,
}

/// A block without its place.
#[derive(Debug)]
struct Entry {
    last: Seq,
    segment: SegmentId,
    offset: u64,
    bytes: u32,
    count: u32,
    wanted: u32,
    expires_by: Option<Timestamp>,
    origin: Origin,
}

impl Entry {
    fn block(&self, first: Place) -> Block {
        let Self { last, segment, offset, bytes, count, wanted: _, expires_by, origin } = *self;
        Block { first, last, count, segment, offset, bytes, expires_by, origin }
    }

    /// Its share of the block's bytes that is wanted.
    fn wanted_bytes(&self) -> u64 {
        u64::from(self.bytes) * u64::from(self.wanted) / u64::from(self.count.max(1))
    }
}

impl Segment {
    /// Most of it is not wanted: the rest is to be moved on.
    fn is_waste(&self) -> bool {
        self.wanted_bytes * 2 < self.bytes
    }

    fn reclaimable_bytes(&self) -> u64 {
        if self.is_waste() { self.bytes.saturating_sub(self.wanted_bytes) } else { 0 }
    }
}

impl Segments {
    /// Takes in a segment, each block with how many of its messages are wanted. What another block has already is left
    /// out, block by block.
    pub(super) fn add(&mut self, segment: SegmentEntry, blocks: impl IntoIterator<Item = (Block, u32)>) {
        let mut added = Segment { bytes: segment.bytes, wanted_bytes: 0, blocks: Vec::new() };
        for (block, wanted) in blocks {
            let Block { first, last, count, segment, offset, bytes, expires_by, origin } = block;
            if self.find(first).is_some() || self.find(first.at(last)).is_some() {
                #[cfg(test)]
                (self.left_out += 1);
                continue;
            }
            let wanted = wanted.min(count);
            let entry = Entry { last, segment, offset, bytes, count, wanted, expires_by, origin };
            added.wanted_bytes += entry.wanted_bytes();
            added.blocks.push(first);
            self.blocks.insert(first, entry);
        }
        self.reclaimable_bytes += added.reclaimable_bytes();
        self.by_id.insert(segment.id, added);
    }

    /// These segments are gone.
    pub(super) fn forget(&mut self, ids: &[SegmentId]) {
        for id in ids {
            let Some(gone) = self.by_id.remove(id) else { continue };
            self.reclaimable_bytes -= gone.reclaimable_bytes();
            for first in gone.blocks {
                self.blocks.remove(&first);
            }
        }
    }

    /// The block that has the message, if it stands in a segment.
    pub(in crate::engine) fn find(&self, place: Place) -> Option<Block> {
        let (first, entry) = self.blocks.range(..=place).next_back()?;
        (first.at(place.seq) == place && place.seq <= entry.last).then(|| entry.block(*first))
    }

    /// The block after this one, of the same topic and kind.
    pub(in crate::engine) fn after(&self, block: &Block) -> Option<Block> {
        let behind = block.first.at(block.last.next());
        let (first, entry) = self.blocks.range(behind..).next()?;
        (first.at(behind.seq) == behind).then(|| entry.block(*first))
    }

    /// The blocks of the topic and kind of `place`, from the one on that has it.
    pub(super) fn blocks_from(&self, place: Place) -> impl Iterator<Item = Block> + '_ {
        let first = self.find(place).map_or(place, |block| block.first);
        let blocks = self.blocks.range(first..=place.at(Seq(u64::MAX)));
        blocks.map(|(first, entry)| entry.block(*first))
    }

    /// Nobody wants the message any more.
    pub(super) fn left(&mut self, place: Place) {
        let Some((first, entry)) = self.blocks.range_mut(..=place).next_back() else { return };
        if first.at(place.seq) == place && place.seq <= entry.last {
            Self::change(&mut self.by_id, &mut self.reclaimable_bytes, entry, entry.wanted.saturating_sub(1));
        }
    }

    /// Nobody wants anything of the topic any more.
    pub(super) fn left_all(&mut self, topic: TopicId) {
        for (_, entry) in self.blocks.range_mut(range_of(topic)) {
            Self::change(&mut self.by_id, &mut self.reclaimable_bytes, entry, 0);
        }
    }

    /// Counts anew how many of each block of a topic are wanted.
    pub(super) fn recount(&mut self, topic: TopicId, wanted: impl Fn(&Block) -> u64) {
        for (first, entry) in self.blocks.range_mut(range_of(topic)) {
            let count = u32::try_from(wanted(&entry.block(*first))).unwrap_or(u32::MAX).min(entry.count);
            Self::change(&mut self.by_id, &mut self.reclaimable_bytes, entry, count);
        }
    }

    fn change(by_id: &mut BTreeMap<SegmentId, Segment>, reclaimable_bytes: &mut u64, entry: &mut Entry, wanted: u32) {
        let before = entry.wanted_bytes();
        entry.wanted = wanted;
        let Some(segment) = by_id.get_mut(&entry.segment) else { return };
        *reclaimable_bytes -= segment.reclaimable_bytes();
        segment.wanted_bytes = segment.wanted_bytes - before + entry.wanted_bytes();
        *reclaimable_bytes += segment.reclaimable_bytes();
    }

    /// How much the next checkpoint can free, in bytes.
    pub(in crate::engine) fn reclaimable_bytes(&self) -> u64 {
        self.reclaimable_bytes
    }

    /// The segments that stay, those that go, and the blocks of the latter in which something is wanted. The ones with
    /// the least go first, until about `budget` bytes are to be moved on, or one segment: so a checkpoint takes little
    /// room before it frees any, and not for ever.
    pub(super) fn sort_out(&self, budget: u64) -> (Vec<SegmentEntry>, Vec<SegmentId>, Vec<Block>) {
        let (mut stay, mut go, mut moving) = (Vec::new(), Vec::new(), Vec::new());
        let mut segments: Vec<_> = self.by_id.iter().collect();
        segments.sort_by_key(|(id, segment)| (segment.wanted_bytes, **id));
        let mut moving_bytes = 0;
        for (id, segment) in segments {
            let is_affordable = moving_bytes == 0 || moving_bytes + segment.wanted_bytes <= budget;
            if !segment.is_waste() || !is_affordable {
                stay.push(SegmentEntry { id: *id, bytes: segment.bytes });
                continue;
            }
            moving_bytes += segment.wanted_bytes;
            go.push(*id);
            let blocks = segment.blocks.iter().filter_map(|first| Some((first, self.blocks.get(first)?)));
            moving.extend(blocks.filter(|(_, entry)| entry.wanted > 0).map(|(first, entry)| entry.block(*first)));
        }
        stay.sort_by_key(|entry| entry.id);
        (stay, go, moving)
    }

    /// The segments that there are.
    pub(in crate::engine) fn ids(&self) -> BTreeSet<SegmentId> {
        self.by_id.keys().copied().collect()
    }

    /// All blocks.
    pub(in crate::engine) fn blocks(&self) -> impl Iterator<Item = Block> + '_ {
        self.blocks.iter().map(|(first, entry)| entry.block(*first))
    }

    /// Counts everything anew; what is not as it is counted along, if anything is. `wanted` tells how many messages of a
    /// block are wanted.
    #[cfg(test)]
    pub(in crate::engine) fn check(&self, wanted: impl Fn(&Block) -> u64) -> Result<(), String> {
        if self.left_out > 0 {
            return Err(format!("{} blocks stand in two segments", self.left_out));
        }
        let mut by_id: BTreeMap<SegmentId, u64> = self.by_id.keys().map(|id| (*id, 0)).collect();
        for (first, entry) in &self.blocks {
            let block = entry.block(*first);
            let count = wanted(&block).min(u64::from(block.count));
            if count != u64::from(entry.wanted) {
                return Err(format!("{count} messages are wanted, not {}, of {block:?}", entry.wanted));
            }
            *by_id.get_mut(&entry.segment).ok_or("a block without a segment")? += entry.wanted_bytes();
        }
        let counted = |(id, bytes): (&SegmentId, &u64)| self.by_id[id].wanted_bytes == *bytes;
        let reclaimable: u64 = self.by_id.values().map(Segment::reclaimable_bytes).sum();
        if !by_id.iter().all(counted) || reclaimable != self.reclaimable_bytes {
            return Err("the segments' bytes do not add up".to_owned());
        }
        Ok(())
    }

    /// Whether there is a segment of that id.
    pub(in crate::engine) fn has(&self, id: SegmentId) -> bool {
        self.by_id.contains_key(&id)
    }
}

/// All places of a topic.
fn range_of(topic: TopicId) -> std::ops::RangeInclusive<Place> {
    Place { topic, kind: Kind::Visible, seq: Seq(0) }..=Place { topic, kind: Kind::Delayed, seq: Seq(u64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(topic: u32, seq: u64) -> Place {
        Place { topic: TopicId(topic), kind: Kind::Visible, seq: Seq(seq) }
    }

    /// A block of topic 0 with one message for each place, ten bytes each.
    fn block(segment: u32, first: u64, last: u64) -> Block {
        let count = u32::try_from(last - first + 1).expect("few");
        let (first, last) = (place(0, first), Seq(last));
        let (segment, bytes, origin) = (SegmentId(segment), 10 * count, Origin::UNKNOWN);
        Block { first, last, count, segment, offset: 0, bytes, expires_by: None, origin }
    }

    fn entry(id: u32, bytes: u64) -> SegmentEntry {
        SegmentEntry { id: SegmentId(id), bytes }
    }

    fn ids(of: &[u32]) -> Vec<SegmentId> {
        of.iter().copied().map(SegmentId).collect()
    }

    #[test]
    fn what_a_segment_holds_for_nobody_counts_once_it_is_more_than_half() {
        let mut segments = Segments::default();
        segments.add(entry(1, 100), [(block(1, 0, 9), 10)]);
        assert_eq!(segments.reclaimable_bytes(), 0);
        for seq in 0..5 {
            segments.left(place(0, seq));
            assert_eq!(segments.reclaimable_bytes(), 0, "{seq}");
        }
        assert_eq!(segments.sort_out(1000), (vec![entry(1, 100)], vec![], vec![]));
        segments.left(place(0, 5));
        assert_eq!(segments.reclaimable_bytes(), 60);
        assert_eq!(segments.sort_out(0), (vec![], ids(&[1]), vec![block(1, 0, 9)]), "one goes whatever the budget");
        // Not its business.
        segments.left(place(0, 10));
        segments.left(place(1, 0));
        assert_eq!(segments.reclaimable_bytes(), 60);
        segments.forget(&ids(&[1]));
        assert_eq!(segments.reclaimable_bytes(), 0);
        assert!(segments.find(place(0, 9)).is_none());
    }

    #[test]
    fn what_was_unwanted_from_the_beginning_counts_and_nothing_is_wanted_twice() {
        let mut segments = Segments::default();
        // Of the first block more is said to be wanted than there is.
        segments.add(entry(1, 1000), [(block(1, 0, 9), 99), (block(1, 10, 19), 0), (block(1, 20, 29), 2)]);
        assert_eq!(segments.reclaimable_bytes(), 1000 - 100 - 20);
        let (stay, go, moving) = segments.sort_out(0);
        assert_eq!((stay, go, moving), (vec![], ids(&[1]), vec![block(1, 0, 9), block(1, 20, 29)]));
        segments.left_all(TopicId(1));
        assert_eq!(segments.reclaimable_bytes(), 880);
        segments.left_all(TopicId(0));
        assert_eq!(segments.reclaimable_bytes(), 1000);
        assert_eq!(segments.sort_out(0), (vec![], ids(&[1]), vec![]));
    }

    #[test]
    fn a_block_that_overlaps_with_one_that_is_there_is_left_out() {
        let mut segments = Segments::default();
        segments.add(entry(1, 100), [(block(1, 10, 19), 10)]);
        segments.add(entry(2, 400), [(block(2, 5, 10), 6), (block(2, 19, 25), 7), (block(2, 12, 13), 2)]);
        assert_eq!(segments.find(place(0, 10)), Some(block(1, 10, 19)));
        assert_eq!(segments.blocks().collect::<Vec<_>>(), [block(1, 10, 19)]);
        assert_eq!(segments.reclaimable_bytes(), 400);
        segments.add(entry(3, 100), [(block(3, 0, 9), 10), (block(3, 20, 21), 2)]);
        let all: Vec<_> = segments.blocks().collect();
        assert_eq!(all, [block(3, 0, 9), block(1, 10, 19), block(3, 20, 21)]);
        let after = |block: &Block| segments.after(block);
        assert_eq!((after(&all[0]), after(&all[1]), after(&all[2])), (Some(all[1]), Some(all[2]), None));
        assert!(segments.has(SegmentId(3)) && !segments.has(SegmentId(4)));
        assert_eq!(segments.ids().into_iter().collect::<Vec<_>>(), ids(&[1, 2, 3]));
    }

    #[test]
    fn the_emptiest_segments_go_first_and_no_more_than_is_asked_for() {
        let mut segments = Segments::default();
        // Wanted: 40, 20, 30 and 90 bytes.
        segments.add(entry(1, 100), [(block(1, 0, 9), 4)]);
        segments.add(entry(2, 100), [(block(2, 10, 19), 2)]);
        segments.add(entry(3, 100), [(block(3, 20, 29), 3)]);
        segments.add(entry(4, 100), [(block(4, 30, 39), 9)]);
        let gone = |budget| {
            let (stay, go, moving) = segments.sort_out(budget);
            assert_eq!((stay.len() + go.len(), moving.len()), (4, go.len()));
            assert!(stay.is_sorted_by_key(|entry| entry.id) && stay.contains(&entry(4, 100)));
            go
        };
        assert_eq!(gone(0), ids(&[2]));
        assert_eq!(gone(49), ids(&[2]));
        assert_eq!(gone(50), ids(&[2, 3]));
        assert_eq!(gone(89), ids(&[2, 3]));
        assert_eq!(gone(90), ids(&[2, 3, 1]));
    }
}

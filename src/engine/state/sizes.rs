//! How many bytes messages have, as they are stored.
//!
//! Of what stands in a segment only the size of its block is known, so each message of one counts as an equal share.
//! Nothing of this is part of what replaying restores: it is measured when a state is restored, and kept up from there.

use super::{Content, Queue, State, Whereabouts};
use crate::{
    engine::checkpoint::{Block, Kind, Place},
    model::{QueueId, Seq, TopicId},
};

/// What the messages of a block from the `begin`th to before the `end`th count for: together, all its bytes.
fn share(block: &Block, begin: u64, end: u64) -> u64 {
    let (bytes, count) = (u64::from(block.bytes), u64::from(block.count.max(1)));
    let until = |index: u64| bytes * index.min(count) / count;
    until(end).saturating_sub(until(begin))
}

impl State {
    /// About how many bytes a message has that is wanted.
    pub(in crate::engine) fn size_of(&self, place: Place) -> u64 {
        match self.find(place) {
            Whereabouts::Recent(kept) => kept.record_bytes(),
            Whereabouts::Nowhere => 0,
            Whereabouts::Saved(block, seq) => {
                let index = seq.0 - block.first.seq.0;
                share(&block, index, index + 1)
            }
        }
    }

    /// About how many bytes the visible messages of a topic have from `from` on.
    pub(in crate::engine) fn bytes_from(&self, id: TopicId, from: Seq) -> u64 {
        let Some(topic) = self.topic(id) else { return 0 };
        let place = |seq| Place { topic: id, kind: Kind::Visible, seq };
        let recent = topic.log.iter().filter(|(seq, _)| *seq >= from).map(|(seq, content)| match content {
            Content::Here(kept) => kept.record_bytes(),
            Content::AmongDelayed(_) => self.size_of(place(seq)),
        });
        let saved = self.segments.blocks_from(place(from)).map(|block| {
            let skipped = from.0.saturating_sub(block.first.seq.0);
            share(&block, skipped, u64::from(block.count))
        });
        recent.sum::<u64>() + saved.sum::<u64>()
    }

    /// The same of several visible ones of a topic.
    pub(in crate::engine) fn sizes_of(&self, topic: TopicId, seqs: &[Seq]) -> u64 {
        seqs.iter().map(|seq| self.size_of(Place { topic, kind: Kind::Visible, seq: *seq })).sum()
    }

    /// Measures anew how many bytes a queue has.
    pub(super) fn measure(&mut self, id: QueueId) {
        let Some(queue) = self.queue(id) else { return };
        let place = |seq: Seq| Place { topic: queue.topic, kind: Kind::Visible, seq };
        let one_by_one = queue.undelivered_before(queue.cursor()).map(|(seq, _)| self.size_of(place(seq)));
        let gone: u64 = queue.gone().iter().map(|seq| self.size_of(place(*seq))).sum();
        let bytes = one_by_one.sum::<u64>() + self.bytes_from(queue.topic, queue.cursor());
        self.change_bytes(id, |queue| queue.bytes = bytes.saturating_sub(gone));
    }

    pub(super) fn change_bytes(&mut self, id: QueueId, change: impl FnOnce(&mut Queue)) {
        if let Some(queue) = self.queues.get_mut(id.0) {
            change(queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::checkpoint::{Origin, SegmentId};

    #[test]
    fn the_shares_of_a_block_are_the_block() {
        let first = Place { topic: TopicId(0), kind: Kind::Visible, seq: Seq(5) };
        let (segment, last) = (SegmentId(1), Seq(11));
        let (offset, expires_by, origin) = (0, None, Origin::UNKNOWN);
        let block = Block { first, last, count: 7, segment, offset, bytes: 100, expires_by, origin };
        let shares: Vec<u64> = (0..7).map(|index| share(&block, index, index + 1)).collect();
        assert_eq!((shares.iter().sum::<u64>(), share(&block, 0, 7)), (100, 100));
        assert!(shares.iter().all(|share| (14..=15).contains(share)), "{shares:?}");
        assert_eq!((share(&block, 7, 9), share(&block, 3, 3)), (0, 0));
    }
}

//! What a checkpoint writes of the state, and building a state from what one has written.
//!
//! Messages stand in segments, everything else in the manifest. Which of a segment's messages are still wanted is not
//! written anywhere: it follows from the positions of the queues.

use std::{collections::BTreeSet, sync::Arc};

use super::{Content, Inconsistent, Meaning, Numbered, Queue, State, Topic, Wanted, dedup::Origin};
use crate::{
    engine::{
        checkpoint::{
            Block, DedupEntry, IdsEntry, Kind, Manifest, Place, QueueEntry, SegmentEntry, SegmentId, TopicEntry,
        },
        sealed::Kept,
    },
    model::{Name, QueueId, Seq, TopicId},
};

/// Messages of one topic that stand side by side in a segment.
#[derive(Debug)]
pub(in crate::engine) struct Piece {
    pub(in crate::engine) topic: TopicId,
    pub(in crate::engine) kind: Kind,
    /// In order.
    pub(in crate::engine) messages: Vec<(Seq, Source)>,
}

/// Where a checkpoint gets a message from.
#[derive(Debug)]
pub(in crate::engine) enum Source {
    Recent(Kept),
    /// A block of an earlier segment, where it stands under that number.
    Saved(Arc<Block>, Seq),
}

/// What the next checkpoint has to do.
#[derive(Debug, Default)]
pub(in crate::engine) struct Plan {
    /// Messages that came since the last one, and those that alone keep mostly unwanted segments alive.
    pub(in crate::engine) pieces: Vec<Piece>,
    /// Segments that stay.
    pub(in crate::engine) stay: Vec<SegmentEntry>,
    /// Segments that are not needed once the pieces are written.
    pub(in crate::engine) go: Vec<SegmentId>,
    /// Dedup ids that came since the last one.
    pub(in crate::engine) ids: Vec<DedupEntry>,
    /// Files of earlier ones that still count.
    pub(in crate::engine) ids_stay: Vec<IdsEntry>,
    /// Files of earlier ones that do not.
    pub(in crate::engine) ids_over: Vec<SegmentId>,
}

impl State {
    /// Everything but the messages.
    pub(in crate::engine) fn manifest(&self) -> Manifest {
        let topic = |topic: &Topic| TopicEntry {
            name: topic.name.clone(),
            is_inbox: topic.is_inbox,
            policy: topic.policy,
            kept_from: topic.kept_from,
            next: topic.log.next,
            next_delayed: topic.next_delayed,
            delayed: topic.delayed.clone(),
        };
        let queue = |queue: &Queue| QueueEntry {
            topic: queue.topic,
            service: queue.service.clone(),
            cursor: queue.cursor(),
            content: queue.content(),
        };
        Manifest {
            time: self.time,
            next_topic: self.next_topic(),
            topics: self.topics.iter().map(|(id, entry)| (TopicId(id), topic(entry))).collect(),
            next_queue: self.next_queue(),
            queues: self.queues.iter().map(|(id, entry)| (QueueId(id), queue(entry))).collect(),
            dedup: Vec::new(),
            imported: self.imported.iter().cloned().collect(),
            importing: self.importing.clone(),
            segments: Vec::new(),
        }
    }

    /// What a checkpoint has to do that begins now. It is to be told how that ended before the next one begins.
    ///
    /// It moves about `moving_bytes_max` on at most.
    pub(in crate::engine) fn plan_checkpoint(&mut self, moving_bytes_max: u64) -> Plan {
        let mut plan = Plan::default();
        for id in std::mem::take(&mut self.unsaved_topics) {
            let Some(topic) = self.topic(id) else { continue };
            self.saving.push((id, topic.log.next, topic.next_delayed));
        }
        for (id, ..) in &self.saving {
            if let Some(topic) = self.topic(*id) {
                plan.pieces.extend(self.recent(*id, topic));
            }
        }
        plan.ids = self.dedup.begin_saving();
        let (ids_stay, ids_over): (Vec<IdsEntry>, Vec<_>) =
            self.ids_files.iter().partition(|file| file.end > self.time);
        (plan.ids_stay, plan.ids_over) = (ids_stay, ids_over.iter().map(|file| file.id).collect());
        let (stay, go, moving) = self.segments.sort_out(moving_bytes_max);
        (plan.stay, plan.go) = (stay, go);
        let mut wanted = WantedOnce::default();
        for block in moving {
            let Place { topic, kind, seq: first } = block.first;
            let seqs = wanted.of(self, topic).map(|wanted| wanted.seqs(kind, first, block.last)).unwrap_or_default();
            let block = Arc::new(block);
            let messages = seqs.into_iter().map(|seq| (seq, Source::Saved(Arc::clone(&block), seq))).collect();
            plan.pieces.push(Piece { topic, kind, messages });
        }
        plan.pieces.retain(|piece| !piece.messages.is_empty());
        plan
    }

    /// The recent messages of a topic.
    fn recent(&self, id: TopicId, topic: &Topic) -> [Piece; 2] {
        let mut last: Option<Arc<Block>> = None;
        let mut saved = |seq| {
            let place = Place { topic: id, kind: Kind::Delayed, seq };
            let found = self.segments.find(place)?;
            let block = last.take().filter(|block| **block == found).unwrap_or_else(|| Arc::new(found));
            last = Some(Arc::clone(&block));
            Some(Source::Saved(block, seq))
        };
        let visible = topic.log.iter().filter_map(|(seq, content)| match content {
            Content::Here(kept) => Some((seq, Source::Recent(kept.clone()))),
            Content::AmongDelayed(delayed) => Some((seq, saved(*delayed)?)),
        });
        let visible = visible.collect();
        let delayed = topic.recent_delayed.iter().map(|(seq, kept)| (*seq, Source::Recent(kept.clone()))).collect();
        [(Kind::Visible, visible), (Kind::Delayed, delayed)].map(|(kind, messages)| Piece { topic: id, kind, messages })
    }

    /// The checkpoint failed: the next one has to write what it should have.
    pub(in crate::engine) fn checkpoint_failed(&mut self) {
        let topics = self.saving.drain(..).map(|(id, ..)| id);
        self.unsaved_topics.extend(topics);
        self.dedup.saving_failed();
    }

    /// The checkpoint is durable: what it covers stands in these segments, and those segments are gone.
    pub(in crate::engine) fn checkpoint_written(
        &mut self,
        added: &[(SegmentEntry, Vec<Block>)],
        removed: &[SegmentId],
        ids: &[IdsEntry],
    ) {
        self.dedup.saving_done();
        self.ids_files = ids.to_vec();
        for (id, end, end_delayed) in std::mem::take(&mut self.saving) {
            let Some(topic) = self.topics.get_mut(id.0) else { continue };
            let written = topic.log.remove_before(end);
            for content in &written {
                match content {
                    Content::Here(kept) => self.recent_bytes -= kept.memory_bytes(),
                    Content::AmongDelayed(seq) => {
                        topic.matured.remove(seq);
                        self.segments.left(Place { topic: id, kind: Kind::Delayed, seq: *seq });
                    }
                }
            }
            self.bin.put_contents(written);
            let later = topic.recent_delayed.split_off(&end_delayed);
            let saved = std::mem::replace(&mut topic.recent_delayed, later);
            self.recent_bytes -= saved.values().map(Kept::memory_bytes).sum::<u64>();
            self.bin.put_delayed(saved);
        }
        self.segments.forget(removed);
        for (segment, blocks) in added {
            self.add_segment(*segment, blocks);
        }
    }

    fn add_segment(&mut self, segment: SegmentEntry, blocks: &[Block]) {
        let mut wanted = WantedOnce::default();
        let count = |block: &Block| {
            let wanted = wanted.of(self, block.first.topic);
            let count = wanted.map_or(0, |wanted| wanted.count(block.first.kind, block.first.seq, block.last));
            (*block, u32::try_from(count).unwrap_or(u32::MAX))
        };
        let counted: Vec<_> = blocks.iter().map(count).collect();
        self.segments.add(segment, counted);
    }

    /// The files that the last checkpoint needs.
    pub(in crate::engine) fn files(&self) -> BTreeSet<SegmentId> {
        self.segments.ids().into_iter().chain(self.ids_files.iter().map(|file| file.id)).collect()
    }

    /// The state that a checkpoint has written: its manifest, the blocks of its segments, and its dedup ids.
    pub(in crate::engine) fn restored(
        manifest: Manifest,
        segments: impl IntoIterator<Item = (SegmentEntry, Vec<Block>)>,
        ids: &[DedupEntry],
    ) -> Result<Self, Inconsistent> {
        let mut state = Self { time: manifest.time, ..Self::default() };
        state.imported = manifest.imported.into_iter().collect();
        state.importing = manifest.importing;
        let origin = if manifest.dedup.is_empty() { Origin::Manifest } else { Origin::File };
        state.ids_files = manifest.dedup;
        (state.topics, state.queues) =
            (Numbered::begun_at(manifest.next_topic.0), Numbered::begun_at(manifest.next_queue.0));
        for (id, entry) in manifest.topics {
            state.restore_topic(id, entry)?;
        }
        for (id, entry) in manifest.queues {
            state.restore_queue(id, entry)?;
        }
        // A file has the ids of topics, too, that were deleted after it was written.
        for used in ids.iter().filter(|used| used.end > manifest.time && state.topics.get(used.topic.0).is_some()) {
            state.dedup.restore(used, origin);
        }
        for (segment, blocks) in segments {
            state.add_segment(segment, &blocks);
        }
        let queues: Vec<u32> = state.queues.iter().map(|(id, _)| id).collect();
        queues.into_iter().for_each(|queue| state.measure(QueueId(queue)));
        Ok(state)
    }

    fn restore_topic(&mut self, id: TopicId, entry: TopicEntry) -> Result<(), Inconsistent> {
        self.claim_name(entry.name.clone(), Meaning::Topic(id))?;
        let mut topic = Topic::new(entry.name, entry.next);
        topic.is_inbox = entry.is_inbox;
        (topic.policy, topic.kept_from) = (entry.policy, entry.kept_from);
        topic.next_delayed = entry.next_delayed;
        self.delayed.extend(entry.delayed.iter().map(|(seq, due)| (*due, id, *seq)));
        topic.delayed = entry.delayed;
        if self.topics.put_back(id.0, topic) { Ok(()) } else { Err(Inconsistent("a topic id out of order")) }
    }

    fn restore_queue(&mut self, id: QueueId, entry: QueueEntry) -> Result<(), Inconsistent> {
        let topic = self.topics.get_mut(entry.topic.0).ok_or(Inconsistent("a queue without its topic"))?;
        let name = match &entry.service {
            None => topic.name.clone(),
            Some(service) => topic.name.subscription(service).map_err(|_| Inconsistent("a queue name too long"))?,
        };
        topic.queues.push(id);
        topic.queue_names = topic.queue_names.iter().cloned().chain([name.clone()]).collect();
        match entry.service {
            None => topic.own = Some(id),
            Some(_) => self.claim_name(name.clone(), Meaning::Subscription(id))?,
        }
        let content = entry.content;
        self.deadlines.extend(content.held.iter().map(|(seq, held)| (held.deadline, id, *seq)));
        let retries = content.waiting.iter().filter_map(|(seq, waiting)| Some((waiting.retry_at?, id, *seq)));
        self.retries.extend(retries);
        let queue = Queue::new(name, entry.topic, entry.service, entry.cursor).restored(content);
        self.dead_count += queue.dead().len();
        self.passed_over_count += queue.lanes().passed_over_count();
        if self.queues.put_back(id.0, queue) { Ok(()) } else { Err(Inconsistent("a queue id out of order")) }
    }

    fn claim_name(&mut self, name: Name, meaning: Meaning) -> Result<(), Inconsistent> {
        match self.names.insert(name, meaning) {
            None => Ok(()),
            Some(_) => Err(Inconsistent("two things of one name")),
        }
    }
}

/// The wanted messages of the topic that was asked for last: blocks come topic by topic.
#[derive(Debug, Default)]
struct WantedOnce(Option<(TopicId, Option<Wanted>)>);

impl WantedOnce {
    fn of(&mut self, state: &State, id: TopicId) -> Option<&Wanted> {
        if self.0.as_ref().is_none_or(|(last, _)| *last != id) {
            self.0 = Some((id, state.topic(id).map(|topic| state.wanted(topic))));
        }
        self.0.as_ref().and_then(|(_, wanted)| wanted.as_ref())
    }
}

//! What a checkpoint writes of the state, and building a state from what one has written.
//!
//! Messages stand in segments, everything else in the manifest. Which of a segment's messages are still wanted is not
//! written anywhere: it follows from the positions of the queues.

use std::collections::{BTreeMap, BTreeSet};

use super::{Inconsistent, Meaning, Queue, State, topic::Log, topic::Topic};
use crate::{
    engine::{
        checkpoint::{Kind, Manifest, QueueEntry, SegmentEntry, SegmentId, TopicEntry},
        sealed::Kept,
    },
    model::{Name, QueueId, Seq, TopicId},
};

/// Messages of one topic that stand side by side in a segment.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Piece {
    pub(in crate::engine) topic: TopicId,
    pub(in crate::engine) kind: Kind,
    pub(in crate::engine) messages: Vec<(Seq, Kept)>,
}

/// The segments, and how much of each is still wanted.
#[derive(Debug, Default)]
pub(in crate::engine) struct Segments(BTreeMap<SegmentId, Use>);

#[derive(Debug)]
struct Use {
    bytes: u64,
    wanted_bytes: u64,
    /// Where its messages are: topic, kind, first and last place.
    runs: Vec<(TopicId, Kind, Seq, Seq)>,
}

impl Segments {
    /// Nobody wants the message any more.
    pub(super) fn left(&mut self, kept: &Kept) {
        if let Some(used) = kept.segment.and_then(|id| self.0.get_mut(&id)) {
            used.wanted_bytes = used.wanted_bytes.saturating_sub(kept.record_bytes());
        }
    }

    fn add(&mut self, id: SegmentId, bytes: u64) -> &mut Use {
        self.0.entry(id).or_insert(Use { bytes, wanted_bytes: 0, runs: Vec::new() })
    }
}

impl State {
    /// Everything but the messages.
    pub(in crate::engine) fn manifest(&self) -> Manifest {
        let topic = |topic: &Topic| TopicEntry {
            name: topic.name.clone(),
            is_inbox: topic.is_inbox,
            next: topic.log.next,
            next_delayed: topic.next_delayed,
            delayed: topic.delayed.clone(),
        };
        let queue = |queue: &Queue| QueueEntry {
            topic: queue.topic,
            service: queue.service.clone(),
            cursor: queue.cursor(),
            back: queue.back().clone(),
            held: queue.all_held().clone(),
        };
        Manifest {
            time: self.time,
            topics: self.topics.iter().map(|entry| entry.as_ref().map(topic)).collect(),
            queues: self.queues.iter().map(|entry| entry.as_ref().map(queue)).collect(),
            dedup: self.dedup.uses().map(Into::into).collect(),
            imported: self.imported.iter().cloned().collect(),
            segments: Vec::new(),
        }
    }

    /// Whether a checkpoint may begin: what an unfinished import has brought is in the journal only.
    pub(in crate::engine) fn is_settled(&self) -> bool {
        self.import.is_none()
    }

    /// The messages that the next checkpoint has to write: those that came since the last one, and those that alone keep
    /// mostly unwanted segments alive. Also which segments stay, and which are not needed once these are written.
    pub(in crate::engine) fn take_unsaved(&mut self) -> (Vec<Piece>, Vec<SegmentEntry>, Vec<SegmentId>) {
        let mut pieces = Vec::new();
        for id in std::mem::take(&mut self.unsaved_topics) {
            let Some(topic) = self.topic(id) else { continue };
            for (kind, from) in [(Kind::Visible, topic.unsaved), (Kind::Delayed, topic.unsaved_delayed)] {
                let messages = self.wanted(id, kind, from, Seq(u64::MAX)).collect();
                pieces.push(Piece { topic: id, kind, messages });
            }
            if let Some(Some(topic)) = self.topics.get_mut(id.0 as usize) {
                (topic.unsaved, topic.unsaved_delayed) = (topic.log.next, topic.next_delayed);
            }
        }
        let (mut stay, mut go) = (Vec::new(), Vec::new());
        for (id, used) in &self.segments.0 {
            if used.wanted_bytes * 2 >= used.bytes {
                stay.push(SegmentEntry { id: *id, bytes: used.bytes });
                continue;
            }
            go.push(*id);
            for (topic, kind, first, last) in &used.runs {
                let messages = self.wanted(*topic, *kind, *first, *last).filter(|(_, k)| k.segment == Some(*id));
                pieces.push(Piece { topic: *topic, kind: *kind, messages: messages.collect() });
            }
        }
        pieces.retain(|piece| !piece.messages.is_empty());
        (pieces, stay, go)
    }

    /// The messages of a topic from `first` to `last` that are still wanted.
    fn wanted(&self, id: TopicId, kind: Kind, first: Seq, last: Seq) -> Box<dyn Iterator<Item = (Seq, Kept)> + '_> {
        let Some(topic) = self.topic(id) else { return Box::new(std::iter::empty()) };
        match kind {
            Kind::Visible => Box::new(
                topic.log.iter_from(first).take_while(move |(seq, _)| *seq <= last).map(|(seq, k)| (seq, k.clone())),
            ),
            Kind::Delayed => Box::new(
                topic
                    .delayed
                    .range(first..=last)
                    .filter_map(move |(seq, due)| Some((*seq, self.delayed.get(&(*due, id, *seq))?.clone()))),
            ),
        }
    }

    /// The checkpoint failed: the next one has to write these.
    pub(in crate::engine) fn give_back_unsaved(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            let (Some((first, _)), Some(Some(topic))) =
                (piece.messages.first(), self.topics.get_mut(piece.topic.0 as usize))
            else {
                continue;
            };
            // Messages of a segment are still in it: writing them again does no harm.
            match piece.kind {
                Kind::Visible => topic.unsaved = topic.unsaved.min(*first),
                Kind::Delayed => topic.unsaved_delayed = topic.unsaved_delayed.min(*first),
            }
            self.unsaved_topics.insert(piece.topic);
        }
    }

    /// The checkpoint is durable: these messages stand in that segment now.
    pub(in crate::engine) fn saved(&mut self, segment: SegmentEntry, pieces: &[Piece]) {
        self.segments.add(segment.id, segment.bytes);
        for piece in pieces {
            let Some(Some(topic)) = self.topics.get_mut(piece.topic.0 as usize) else { continue };
            let (Some((first, _)), Some((last, _))) = (piece.messages.first(), piece.messages.last()) else { continue };
            let mut wanted_bytes = 0;
            for (seq, _) in &piece.messages {
                let kept = match piece.kind {
                    Kind::Visible => topic.log.kept_mut(*seq),
                    Kind::Delayed => {
                        topic.delayed.get(seq).and_then(|due| self.delayed.get_mut(&(*due, piece.topic, *seq)))
                    }
                };
                let Some(kept) = kept else { continue };
                self.segments.left(kept);
                kept.segment = Some(segment.id);
                wanted_bytes += kept.record_bytes();
            }
            let used = self.segments.add(segment.id, segment.bytes);
            used.wanted_bytes += wanted_bytes;
            used.runs.push((piece.topic, piece.kind, *first, *last));
        }
    }

    /// These segments are gone.
    pub(in crate::engine) fn forget_segments(&mut self, ids: &[SegmentId]) {
        ids.iter().for_each(|id| drop(self.segments.0.remove(id)));
    }

    /// The state that a checkpoint has written: its manifest, and the messages of its segments.
    pub(in crate::engine) fn restored(
        manifest: Manifest,
        pieces: impl IntoIterator<Item = (SegmentEntry, Vec<Piece>)>,
    ) -> Result<Self, Inconsistent> {
        let mut state = Self { time: manifest.time, ..Self::default() };
        state.imported = manifest.imported.into_iter().collect();
        for used in &manifest.dedup {
            state.dedup.restore(&used.as_remembered());
        }
        for (index, entry) in manifest.topics.into_iter().enumerate() {
            state.restore_topic(index, entry)?;
        }
        for (index, entry) in manifest.queues.into_iter().enumerate() {
            state.restore_queue(index, entry)?;
        }
        let mut logs = BTreeMap::<TopicId, BTreeMap<Seq, Kept>>::new();
        for (segment, pieces) in pieces {
            state.restore_segment(segment, pieces, &mut logs);
        }
        for (id, messages) in logs {
            state.restore_log(id, messages);
        }
        Ok(state)
    }

    fn restore_topic(&mut self, index: usize, entry: Option<TopicEntry>) -> Result<(), Inconsistent> {
        let Some(entry) = entry else {
            self.topics.push(None);
            return Ok(());
        };
        let id = TopicId(u32::try_from(index).map_err(|_| Inconsistent("too many topics"))?);
        self.claim_name(entry.name.clone(), Meaning::Topic(id))?;
        let mut topic = Topic::new(entry.name);
        topic.is_inbox = entry.is_inbox;
        topic.log = Log::restored(entry.next, []);
        topic.next_delayed = entry.next_delayed;
        (topic.unsaved, topic.unsaved_delayed) = (entry.next, entry.next_delayed);
        topic.delayed = entry.delayed;
        self.topics.push(Some(topic));
        self.topic_count += 1;
        Ok(())
    }

    fn restore_queue(&mut self, index: usize, entry: Option<QueueEntry>) -> Result<(), Inconsistent> {
        let Some(entry) = entry else {
            self.queues.push(None);
            return Ok(());
        };
        let id = QueueId(u32::try_from(index).map_err(|_| Inconsistent("too many queues"))?);
        let topic = self.topics.get_mut(entry.topic.0 as usize).and_then(Option::as_mut);
        let topic = topic.ok_or(Inconsistent("a queue without its topic"))?;
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
        self.deadlines.extend(entry.held.iter().map(|(seq, held)| (held.deadline, id, *seq)));
        let queue = Queue::new(name, entry.topic, entry.service, entry.cursor);
        self.queues.push(Some(queue.restored(entry.back, entry.held)));
        Ok(())
    }

    fn restore_segment(
        &mut self,
        segment: SegmentEntry,
        pieces: Vec<Piece>,
        logs: &mut BTreeMap<TopicId, BTreeMap<Seq, Kept>>,
    ) {
        self.segments.add(segment.id, segment.bytes);
        for piece in pieces {
            let Some(Some(topic)) = self.topics.get_mut(piece.topic.0 as usize) else { continue };
            let (Some((first, _)), Some((last, _))) = (piece.messages.first(), piece.messages.last()) else { continue };
            let run = (piece.topic, piece.kind, *first, *last);
            self.segments.add(segment.id, segment.bytes).runs.push(run);
            let queues: Vec<&Queue> =
                topic.queues.iter().filter_map(|id| self.queues[id.0 as usize].as_ref()).collect();
            for (seq, mut kept) in piece.messages {
                kept.segment = Some(segment.id);
                let bytes = kept.record_bytes();
                let is_wanted = match piece.kind {
                    Kind::Visible => {
                        let is_wanted = queues.is_empty() || queues.iter().any(|queue| queue.wants(seq));
                        if is_wanted {
                            logs.entry(piece.topic).or_default().insert(seq, kept);
                        }
                        is_wanted
                    }
                    Kind::Delayed => {
                        let due = topic.delayed.get(&seq);
                        due.map(|due| self.delayed.insert((*due, piece.topic, seq), kept)).is_some()
                    }
                };
                if is_wanted {
                    self.segments.add(segment.id, segment.bytes).wanted_bytes += bytes;
                }
            }
        }
    }

    fn restore_log(&mut self, id: TopicId, messages: BTreeMap<Seq, Kept>) {
        let Some(Some(topic)) = self.topics.get_mut(id.0 as usize) else { return };
        let queues: Vec<&Queue> = topic.queues.iter().filter_map(|id| self.queues[id.0 as usize].as_ref()).collect();
        let counted = messages.into_iter().map(|(seq, kept)| {
            let holders = queues.iter().filter(|queue| queue.wants(seq)).count();
            (seq, kept, holders)
        });
        topic.log = Log::restored(topic.log.next, counted);
    }

    fn claim_name(&mut self, name: Name, meaning: Meaning) -> Result<(), Inconsistent> {
        match self.names.insert(name, meaning) {
            None => Ok(()),
            Some(_) => Err(Inconsistent("two things of one name")),
        }
    }

    /// The segments that the state knows of.
    pub(in crate::engine) fn segment_ids(&self) -> BTreeSet<SegmentId> {
        self.segments.0.keys().copied().collect()
    }
}

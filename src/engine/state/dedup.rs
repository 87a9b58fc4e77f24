//! The dedup window: which publisher's ids were used lately, and for which message.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use crate::{
    engine::{checkpoint::DedupEntry, sealed::Sealed},
    model::{MessageId, Timestamp, TopicId},
};

/// The ids that still count, each until its window is over.
#[derive(Debug, Default)]
pub(in crate::engine) struct DedupWindow {
    /// By topic, so that one that goes takes no longer than it has ids.
    uses: HashMap<TopicId, HashMap<String, Use>>,
    /// The same, by when they are forgotten.
    ends: BTreeSet<(Timestamp, TopicId, String)>,
    /// Those that came since the last checkpoint began; for the next one. Not part of what replaying restores.
    unsaved: Vec<(TopicId, String)>,
    /// Those that the checkpoint under way writes.
    saving: Vec<(TopicId, String)>,
}

#[derive(Debug, Clone, Copy)]
struct Use {
    message: MessageId,
    content: Content,
    /// When it is forgotten.
    end: Timestamp,
}

/// What makes two messages the same: length and checksum of the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content {
    bytes: usize,
    crc: u32,
}

impl Content {
    fn of(message: &Sealed) -> Self {
        Self { bytes: message.payload.len(), crc: crc32c::crc32c(&message.payload) }
    }
}

/// What is known of a message's dedup id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Seen {
    /// It has none, or one that was not used within the window.
    Never,
    /// It was used for this same message.
    Same(MessageId),
    /// It was used for a message with another content.
    Other,
}

/// Where a checkpoint has kept a dedup id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// In a file of ids.
    File,
    /// In a manifest of version 1: it is in no file yet.
    Manifest,
}

impl DedupWindow {
    /// Looks the message's dedup id up, as of `now`.
    pub(in crate::engine) fn look_up(&self, topic: TopicId, message: &Sealed, now: Timestamp) -> Seen {
        let Some(dedup) = &message.dedup else { return Seen::Never };
        match self.get(topic, &dedup.id).filter(|used| used.end > now) {
            None => Seen::Never,
            Some(used) if used.content == Content::of(message) => Seen::Same(used.message),
            Some(_) => Seen::Other,
        }
    }

    /// Remembers the message's dedup id from `now` on, for the `window` of its topic if that has one of its own.
    pub(super) fn remember(&mut self, topic: TopicId, message: &Sealed, window: Option<Duration>, now: Timestamp) {
        let Some(dedup) = &message.dedup else { return };
        let end = now.after(window.unwrap_or(dedup.window));
        let used = Use { message: message.id, content: Content::of(message), end };
        self.insert(topic, dedup.id.clone(), used);
        self.unsaved.push((topic, dedup.id.clone()));
    }

    fn get(&self, topic: TopicId, id: &str) -> Option<&Use> {
        self.uses.get(&topic)?.get(id)
    }

    fn insert(&mut self, topic: TopicId, id: String, used: Use) {
        self.ends.insert((used.end, topic, id.clone()));
        if let Some(before) = self.uses.entry(topic).or_default().insert(id.clone(), used)
            && before.end != used.end
        {
            self.ends.remove(&(before.end, topic, id));
        }
    }

    /// Forgets the ids whose window is over.
    pub(super) fn expire(&mut self, now: Timestamp) {
        while self.ends.first().is_some_and(|(end, ..)| *end <= now) {
            let Some((_, topic, id)) = self.ends.pop_first() else { break };
            let Some(of_topic) = self.uses.get_mut(&topic) else { continue };
            of_topic.remove(&id);
            if of_topic.is_empty() {
                self.uses.remove(&topic);
            }
        }
    }

    /// Forgets the ids of a topic that is gone.
    pub(super) fn forget_topic(&mut self, topic: TopicId) {
        for (id, used) in self.uses.remove(&topic).unwrap_or_default() {
            self.ends.remove(&(used.end, topic, id));
        }
    }

    /// Whether there is room for `more` ids among `max`, as of `now`.
    pub(in crate::engine) fn has_room(&self, more: usize, max: usize, now: Timestamp) -> bool {
        self.ends.len() + more <= max || {
            let over = self.ends.iter().take_while(|(end, ..)| *end <= now).count();
            self.ends.len() - over + more <= max
        }
    }

    /// The ids that came since the last checkpoint began and still count.
    pub(super) fn begin_saving(&mut self) -> Vec<DedupEntry> {
        self.saving.append(&mut self.unsaved);
        let uses = self.saving.iter().filter_map(|key| Some((key, self.get(key.0, &key.1)?)));
        let entry = |((topic, id), used): (&(TopicId, String), &Use)| {
            let (bytes, crc) = (used.content.bytes as u64, used.content.crc);
            DedupEntry { topic: *topic, id: id.clone(), message: used.message, bytes, crc, end: used.end }
        };
        uses.map(entry).collect()
    }

    /// The checkpoint is durable.
    pub(super) fn saving_done(&mut self) {
        self.saving = Vec::new();
    }

    /// The checkpoint failed: the next one writes them.
    pub(super) fn saving_failed(&mut self) {
        self.saving.append(&mut self.unsaved);
        std::mem::swap(&mut self.saving, &mut self.unsaved);
    }

    /// Remembers an id as a checkpoint did, from a file of ids or not.
    pub(super) fn restore(&mut self, used: &DedupEntry, origin: Origin) {
        let content = Content { bytes: usize::try_from(used.bytes).unwrap_or(usize::MAX), crc: used.crc };
        let key = (used.topic, used.id.clone());
        if origin == Origin::Manifest {
            self.unsaved.push(key.clone());
        }
        self.insert(key.0, key.1, Use { message: used.message, content, end: used.end });
    }

    /// What decides about its future, for comparing two states.
    pub(in crate::engine) fn fingerprint(&self) -> impl Iterator<Item = &(Timestamp, TopicId, String)> {
        self.ends.iter()
    }
}

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
    uses: HashMap<(TopicId, String), Use>,
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
        match self.uses.get(&(topic, dedup.id.clone())).filter(|used| used.end > now) {
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
        self.uses.insert((topic, dedup.id.clone()), used);
        self.ends.insert((end, topic, dedup.id.clone()));
        self.unsaved.push((topic, dedup.id.clone()));
    }

    /// Forgets the ids whose window is over.
    pub(super) fn expire(&mut self, now: Timestamp) {
        while self.ends.first().is_some_and(|(end, ..)| *end <= now) {
            if let Some((_, topic, id)) = self.ends.pop_first() {
                self.uses.remove(&(topic, id));
            }
        }
    }

    /// Forgets the ids of a topic that is gone.
    pub(super) fn forget_topic(&mut self, topic: TopicId) {
        self.uses.retain(|(of, _), _| *of != topic);
        self.ends.retain(|(_, of, _)| *of != topic);
    }

    /// Whether there is room for `more` ids among `max`, as of `now`.
    pub(in crate::engine) fn has_room(&self, more: usize, max: usize, now: Timestamp) -> bool {
        self.uses.len() + more <= max || {
            let over = self.ends.iter().take_while(|(end, ..)| *end <= now).count();
            self.uses.len() - over + more <= max
        }
    }

    /// The ids that came since the last checkpoint began and still count.
    pub(super) fn begin_saving(&mut self) -> Vec<DedupEntry> {
        self.saving.append(&mut self.unsaved);
        let uses = self.saving.iter().filter_map(|key| Some((key, self.uses.get(key)?)));
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
        self.ends.insert((used.end, used.topic, used.id.clone()));
        self.uses.insert(key, Use { message: used.message, content, end: used.end });
    }

    /// What decides about its future, for comparing two states.
    pub(super) fn fingerprint(&self) -> impl Iterator<Item = &(Timestamp, TopicId, String)> {
        self.ends.iter()
    }
}

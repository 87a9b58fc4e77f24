//! The dedup window: which publisher's ids were used lately, and for which message.

use std::collections::{BTreeSet, HashMap};

use crate::{
    engine::sealed::Sealed,
    model::{MessageId, Timestamp, TopicId},
};

/// The ids that still count, each until its window is over.
#[derive(Debug, Default)]
pub(in crate::engine) struct DedupWindow {
    uses: HashMap<(TopicId, String), Use>,
    ends: BTreeSet<(Timestamp, TopicId, String)>,
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

/// A dedup id as a checkpoint writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct Remembered<'a> {
    pub(in crate::engine) topic: TopicId,
    pub(in crate::engine) id: &'a str,
    pub(in crate::engine) message: MessageId,
    /// Length and checksum of the payload.
    pub(in crate::engine) bytes: u64,
    pub(in crate::engine) crc: u32,
    pub(in crate::engine) end: Timestamp,
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

    /// Remembers the message's dedup id from `now` on.
    pub(super) fn remember(&mut self, topic: TopicId, message: &Sealed, now: Timestamp) {
        let Some(dedup) = &message.dedup else { return };
        let end = now.after(dedup.window);
        let used = Use { message: message.id, content: Content::of(message), end };
        self.uses.insert((topic, dedup.id.clone()), used);
        self.ends.insert((end, topic, dedup.id.clone()));
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

    /// Every id that is remembered, for a checkpoint.
    pub(in crate::engine) fn uses(&self) -> impl ExactSizeIterator<Item = Remembered<'_>> {
        self.uses.iter().map(|((topic, id), used)| Remembered {
            topic: *topic,
            id,
            message: used.message,
            bytes: used.content.bytes as u64,
            crc: used.content.crc,
            end: used.end,
        })
    }

    /// Remembers an id as a checkpoint did.
    pub(super) fn restore(&mut self, used: &Remembered<'_>) {
        let content = Content { bytes: usize::try_from(used.bytes).unwrap_or(usize::MAX), crc: used.crc };
        let key = (used.topic, used.id.to_owned());
        self.ends.insert((used.end, used.topic, used.id.to_owned()));
        self.uses.insert(key, Use { message: used.message, content, end: used.end });
    }

    /// What decides about its future, for comparing two states.
    pub(super) fn fingerprint(&self) -> impl Iterator<Item = &(Timestamp, TopicId, String)> {
        self.ends.iter()
    }
}

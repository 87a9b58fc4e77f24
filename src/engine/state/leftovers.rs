//! Messages that are not needed any more, until somebody frees them.
//!
//! A purge, a deletion and a checkpoint each let go of up to a few hundred thousand messages at once. Giving that many back
//! to the allocator takes a tenth of a second, in which the commit thread would do nothing else.

use std::collections::BTreeMap;

use super::{Content, Topic};
use crate::{engine::sealed::Kept, model::Seq};

/// What nobody looks at any more. Dropping it frees it.
#[derive(Debug, Default)]
pub(in crate::engine) struct Leftovers {
    contents: Vec<Vec<Content>>,
    delayed: Vec<BTreeMap<Seq, Kept>>,
    topics: Vec<Topic>,
}

impl Leftovers {
    /// About how many messages there are.
    pub(in crate::engine) fn count(&self) -> usize {
        let contents: usize = self.contents.iter().map(Vec::len).sum();
        let delayed: usize = self.delayed.iter().map(BTreeMap::len).sum();
        let topics: usize = self.topics.iter().map(|topic| topic.log.len() + topic.recent_delayed.len()).sum();
        contents + delayed + topics
    }
}

/// Where they go: nowhere, unless somebody has said that he frees them.
#[derive(Debug, Default)]
pub(super) struct Bin(Option<Leftovers>);

impl Bin {
    /// From here on they are kept until they are taken.
    pub(super) fn keep(&mut self) {
        self.0.get_or_insert_default();
    }

    pub(super) fn take(&mut self) -> Leftovers {
        self.0.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn put_contents(&mut self, contents: Vec<Content>) {
        if let Some(kept) = self.0.as_mut().filter(|_| !contents.is_empty()) {
            kept.contents.push(contents);
        }
    }

    pub(super) fn put_delayed(&mut self, delayed: BTreeMap<Seq, Kept>) {
        if let Some(kept) = self.0.as_mut().filter(|_| !delayed.is_empty()) {
            kept.delayed.push(delayed);
        }
    }

    pub(super) fn put_topic(&mut self, topic: Topic) {
        if let Some(kept) = &mut self.0 {
            kept.topics.push(topic);
        }
    }
}

//! What a name of a queue stands for where there is none yet.

use super::{Meaning, Queue, State};
use crate::{
    engine::EngineError,
    model::{Name, TopicId},
};

/// How many queues are named to whoever asks for one that is not there.
const OTHERS_MAX: usize = 3;

impl State {
    /// The own queue of a topic that has no queue, as its first receive would make it.
    pub(in crate::engine) fn queue_to_be(&self, id: TopicId) -> Option<Queue> {
        let topic = self.topic(id).filter(|topic| topic.queues.is_empty())?;
        let mut queue = Queue::new(topic.name.clone(), id, None, topic.kept_from);
        queue.bytes = self.bytes_from(id, topic.kept_from);
        Some(queue)
    }

    /// Says that there is no queue of that name, and which ones there are if it is that of a topic.
    pub(in crate::engine) fn no_such_queue(&self, name: &Name) -> EngineError {
        let queues = match self.meaning(name) {
            Some(Meaning::Topic(topic)) => self.topic(topic).map_or(&[][..], |topic| &topic.queues),
            Some(Meaning::Subscription(_)) | None => &[],
        };
        let names: Vec<_> = queues.iter().filter_map(|id| Some(self.queue(*id)?.name.as_str())).collect();
        let (shown, rest) = names.split_at(names.len().min(OTHERS_MAX));
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        let others = (!shown.is_empty()).then(|| shown.join(", ") + &more);
        EngineError::NoSuchQueue { name: name.to_string(), others }
    }
}

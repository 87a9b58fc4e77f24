//! A topic, and the services that there are, as they are now.

use super::View;
use crate::{
    engine::{
        EngineError,
        state::{Meaning, Topic},
    },
    model::{Name, TopicId, TopicPolicy},
};

/// A topic as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicView {
    /// Its name.
    pub name: Name,
    /// Whether it is the inbox of a service.
    pub is_inbox: bool,
    /// What was set of it.
    pub policy: TopicPolicy,
    /// Its queues, oldest first.
    pub queues: Vec<Name>,
    /// Messages that some queue, or no queue yet, wants; without those that are not visible.
    pub messages: u64,
    /// Messages that become visible later.
    pub delayed: u64,
}

/// A service as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceView {
    /// Its name, which is that of its inbox.
    pub name: Name,
    /// The topics on which it has a queue.
    pub topics: Vec<Name>,
}

impl View<'_> {
    /// The topics from the `from`th on that there ever was, and from where on there are more.
    pub(in crate::engine) fn topics(&self, from: u32, max: usize, prefix: &str) -> (Vec<TopicView>, Option<u32>) {
        let mut found = Vec::new();
        for (id, topic) in self.state.topics_from(TopicId(from)) {
            if !topic.name.as_str().starts_with(prefix) {
                continue;
            }
            if found.len() == max {
                return (found, Some(id.0));
            }
            found.push(self.topic_view(topic));
        }
        (found, None)
    }

    pub(in crate::engine) fn topic(&self, name: &Name) -> Result<TopicView, EngineError> {
        let topic = match self.state.meaning(name) {
            Some(Meaning::Topic(topic)) => self.state.topic(topic),
            Some(Meaning::Subscription(_)) | None => None,
        };
        topic.map(|topic| self.topic_view(topic)).ok_or_else(|| EngineError::NoSuchTopic { name: name.to_string() })
    }

    fn topic_view(&self, topic: &Topic) -> TopicView {
        TopicView {
            name: topic.name.clone(),
            is_inbox: topic.is_inbox,
            policy: topic.policy,
            queues: topic.queue_names.to_vec(),
            messages: self.state.visible_count(topic) as u64,
            delayed: topic.delayed.len() as u64,
        }
    }

    /// The services whose inboxes are among the topics from the `from`th on, and from where on there are more.
    pub(in crate::engine) fn services(&self, from: u32, max: usize) -> (Vec<ServiceView>, Option<u32>) {
        let mut found: Vec<ServiceView> = Vec::new();
        let mut next = None;
        for (id, inbox) in self.state.topics_from(TopicId(from)).filter(|(_, topic)| topic.is_inbox) {
            if found.len() == max {
                next = Some(id.0);
                break;
            }
            found.push(ServiceView { name: inbox.name.clone(), topics: Vec::new() });
        }
        let places: std::collections::HashMap<Name, usize> =
            found.iter().enumerate().map(|(at, service)| (service.name.clone(), at)).collect();
        for (queue, topic) in self.state.queues() {
            if let Some(at) = queue.service.as_ref().and_then(|service| places.get(service)) {
                found[*at].topics.push(topic.name.clone());
            }
        }
        (found, next)
    }
}

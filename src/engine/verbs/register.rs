//! Register: declare a service's inbox and its queues, all or none.

use std::collections::BTreeSet;

use super::Step;
use crate::{
    engine::{EngineError, Registered, journal::Record, state::Meaning},
    model::{Name, QueueId, TopicId},
};

/// What has to be done for a queue of a service to be there.
enum Plan {
    Exists(QueueId),
    Create,
    /// The name is held by a topic that nobody ever used: it gives way.
    Replace(TopicId),
}

impl Step<'_> {
    pub(in crate::engine) fn register(&mut self, service: &Name, topics: Vec<Name>) -> Result<Registered, EngineError> {
        let wanted: BTreeSet<&Name> = topics.iter().chain([service]).collect();
        let mut new_topics = 0;
        for name in &wanted {
            new_topics += usize::from(self.topic_named(name)?.is_none());
        }
        let mut plans = Vec::with_capacity(topics.len());
        for topic in topics.iter().collect::<BTreeSet<_>>() {
            let queue = subscription(topic, service)?;
            if wanted.contains(&queue) {
                return Err(conflict(format!(
                    "topics: '{queue}' would be a topic and the queue of '{service}' on '{topic}'"
                )));
            }
            plans.push((topic.clone(), self.plan(topic, service, &queue)?));
        }
        let inbox = self.topic_named(service)?.and_then(|inbox| self.state.topic(inbox));
        let is_inbox_new = inbox.is_none_or(|inbox| inbox.own.is_none());
        let new_queues = plans.iter().filter(|(_, plan)| !matches!(plan, Plan::Exists(_))).count();
        self.check_room(new_topics, new_queues + usize::from(is_inbox_new))?;

        let mut declared = Vec::new();
        let inbox = self.topic_or_create(service)?;
        if !self.state.topic(inbox).is_some_and(|topic| topic.is_inbox) {
            self.emit(Record::ServiceRegistered { topic: inbox });
        }
        if self.state.topic(inbox).is_some_and(|topic| topic.own.is_none()) {
            self.create_queue(inbox, None);
            declared.push(service.clone());
        }
        for (topic, plan) in plans {
            let is_new = !matches!(plan, Plan::Exists(_));
            self.carry_out(&topic, service, plan)?;
            if is_new {
                declared.push(subscription(&topic, service)?);
            }
        }
        Ok(Registered { topics, declared })
    }

    /// The queue of `service` on `topic`, declared if need be.
    pub(super) fn subscribe(&mut self, topic: &Name, service: &Name) -> Result<QueueId, EngineError> {
        let is_new = self.topic_named(topic)?.is_none();
        let plan = self.plan(topic, service, &subscription(topic, service)?)?;
        if !matches!(plan, Plan::Exists(_)) {
            self.check_room(usize::from(is_new), 1)?;
        }
        self.carry_out(topic, service, plan)
    }

    /// The topic of that name, if there is one; refused if the name is a service's queue.
    pub(in crate::engine) fn topic_named(&self, name: &Name) -> Result<Option<TopicId>, EngineError> {
        match self.state.meaning(name) {
            None => Ok(None),
            Some(Meaning::Topic(topic)) => Ok(Some(topic)),
            Some(Meaning::Subscription(queue)) => {
                let owner = self.state.queue(queue).and_then(|q| q.service.as_ref()).map_or("?", Name::as_str);
                Err(conflict(format!("'{name}' is a queue of service '{owner}' and cannot be a topic as well")))
            }
        }
    }

    fn plan(&self, topic: &Name, service: &Name, queue: &Name) -> Result<Plan, EngineError> {
        match self.state.meaning(queue) {
            None => Ok(Plan::Create),
            Some(Meaning::Topic(id)) if self.state.topic(id).is_some_and(|t| t.is_placeholder()) => {
                Ok(Plan::Replace(id))
            }
            Some(Meaning::Topic(_)) => Err(conflict(format!(
                "'{queue}' is a topic, so service '{service}' cannot have its queue on topic '{topic}'"
            ))),
            Some(Meaning::Subscription(id)) => {
                let owner = self.state.queue_and_topic(id);
                if owner.is_some_and(|(q, t)| q.service.as_ref() == Some(service) && t.name == *topic) {
                    return Ok(Plan::Exists(id));
                }
                Err(conflict(format!("'{queue}' is the queue of another service on another topic already")))
            }
        }
    }

    fn carry_out(&mut self, topic: &Name, service: &Name, plan: Plan) -> Result<QueueId, EngineError> {
        match plan {
            Plan::Exists(queue) => return Ok(queue),
            Plan::Create => {}
            Plan::Replace(placeholder) => self.emit(Record::TopicDeleted { topic: placeholder }),
        }
        let topic = self.topic_or_create(topic)?;
        Ok(self.create_queue(topic, Some(service.clone())))
    }

    fn topic_or_create(&mut self, name: &Name) -> Result<TopicId, EngineError> {
        Ok(match self.topic_named(name)? {
            Some(topic) => topic,
            None => self.create_topic(name.clone()),
        })
    }
}

pub(super) fn subscription(topic: &Name, service: &Name) -> Result<Name, EngineError> {
    topic.subscription(service).map_err(|source| EngineError::BadName { field: "topics", source })
}

fn conflict(problem: String) -> EngineError {
    EngineError::NameConflict { problem }
}

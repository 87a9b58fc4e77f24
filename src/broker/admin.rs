//! Topics, queues and services: made, changed, emptied, listed.

use std::num::NonZeroU32;

use super::{
    Broker, BrokerError, Consumer, Limits, List, PutSubscription, Redrive, Register,
    limits::{check_count, check_queue_policy, check_topic_policy},
    messages::queue_of,
    paging::{self, Listed},
};
use crate::{
    engine::{
        Base, Manage, MessageState, Pace, PurgeScope, QueueView, Redrive as Which, Registered, ServiceView,
        StateFilter, TopicView,
    },
    model::{Name, QueuePolicyPatch, TopicPolicyPatch},
};

/// How many dead letters are brought back in one step. A frame of the journal takes no more.
const REDRIVE_STEP: usize = 10_000;

/// A queue, and who consumes it.
#[derive(Debug, Clone)]
pub struct Queue {
    /// As the engine has it.
    pub view: QueueView,
    /// Who has asked for messages lately, those who are here first.
    pub consumers: Vec<Consumer>,
}

/// Something that was put, and whether it came into being by that.
#[derive(Debug, Clone)]
pub struct Put<T> {
    /// As it is now.
    pub value: T,
    /// It was not there before.
    pub is_new: bool,
}

/// Some of a list, and the token of the next page; `None` on the last one.
pub type Listing<T> = (Vec<T>, Option<String>);

impl Broker {
    /// Declares a service: its inbox, and its queue on each topic. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`BrokerError`]; all queues are declared or none.
    pub async fn register(&self, request: Register) -> Result<Registered, BrokerError> {
        let Register { service, topics } = request;
        self.limits().check_topics(&topics)?;
        Ok(self.engine()?.register(service, topics).await?)
    }

    /// Makes a topic, or sets its policy; what the patch does not say has its default.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn put_topic(&self, topic: Name, policy: TopicPolicyPatch) -> Result<Put<TopicView>, BrokerError> {
        check_topic_policy(&policy)?;
        let engine = self.engine()?;
        let put = Manage::PutTopic { topic: topic.clone(), policy, base: Base::Default };
        let is_new = engine.manage(put).await?.is_new;
        Ok(Put { value: engine.topic(topic).await?, is_new })
    }

    /// A topic.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn topic(&self, topic: Name) -> Result<TopicView, BrokerError> {
        Ok(self.engine()?.topic(topic).await?)
    }

    /// Topics, in the order in which they came into being.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn topics(&self, list: List) -> Result<Listing<TopicView>, BrokerError> {
        let (max, from) = place_of(Listed::Topics, &list)?;
        let (topics, next) = self.engine()?.topics(list.prefix, from, max).await?;
        Ok((topics, next.map(|next| paging::token(Listed::Topics, next.into()))))
    }

    /// Removes a topic with its queues; how many messages it had.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn delete_topic(&self, topic: Name) -> Result<u64, BrokerError> {
        Ok(self.engine()?.manage(Manage::DeleteTopic { topic }).await?.messages)
    }

    /// Makes the queue of a service on a topic, or sets its policy; what the patch does not say has its default.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn put_subscription(&self, request: PutSubscription) -> Result<Put<Queue>, BrokerError> {
        let PutSubscription { topic, service, policy } = request;
        check_queue_policy(&policy)?;
        let name = queue_of(&topic, Some(&service))?;
        let put = Manage::PutSubscription { topic, service, policy, base: Base::Default };
        let is_new = self.engine()?.manage(put).await?.is_new;
        Ok(Put { value: self.queue(name).await?, is_new })
    }

    /// The queue of a service on a topic.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn subscription(&self, topic: &Name, service: &Name) -> Result<Queue, BrokerError> {
        self.queue(queue_of(topic, Some(service))?).await
    }

    /// Removes the queue of a service on a topic; how many messages it had.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn delete_subscription(&self, topic: &Name, service: &Name) -> Result<u64, BrokerError> {
        self.delete_queue(queue_of(topic, Some(service))?).await
    }

    /// Services, in the order in which they were registered.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn services(&self, list: List) -> Result<Listing<ServiceView>, BrokerError> {
        let (max, from) = place_of(Listed::Services, &list)?;
        let (services, next) = self.engine()?.services(from, max).await?;
        Ok((services, next.map(|next| paging::token(Listed::Services, next.into()))))
    }

    /// A queue.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn queue(&self, queue: Name) -> Result<Queue, BrokerError> {
        let view = self.engine()?.queue(queue).await?;
        self.with_consumers(view)
    }

    /// Queues, in the order in which they came into being.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn queues(&self, list: List) -> Result<Listing<Queue>, BrokerError> {
        let (max, from) = place_of(Listed::Queues, &list)?;
        let (views, next) = self.engine()?.queues(list.prefix, from, max).await?;
        let queues = views.into_iter().map(|view| self.with_consumers(view)).collect::<Result<_, _>>()?;
        Ok((queues, next.map(|next| paging::token(Listed::Queues, next.into()))))
    }

    /// Changes what the policy of a queue says; the rest stays.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn update_queue(&self, queue: Name, policy: QueuePolicyPatch) -> Result<Queue, BrokerError> {
        check_queue_policy(&policy)?;
        self.engine()?.manage(Manage::SetQueuePolicy { queue: queue.clone(), policy }).await?;
        self.queue(queue).await
    }

    /// Removes a queue; how many messages it had.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn delete_queue(&self, queue: Name) -> Result<u64, BrokerError> {
        Ok(self.engine()?.manage(Manage::DeleteQueue { queue }).await?.messages)
    }

    /// Hands nothing out from a queue until it is resumed.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn pause(&self, queue: Name) -> Result<Queue, BrokerError> {
        self.engine()?.manage(Manage::Pause { queue: queue.clone() }).await?;
        self.queue(queue).await
    }

    /// Hands out again what comes from a queue.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn resume(&self, queue: Name) -> Result<Queue, BrokerError> {
        self.engine()?.manage(Manage::Resume { queue: queue.clone() }).await?;
        self.queue(queue).await
    }

    /// Removes messages from a queue, by default those that wait to be handed out; how many.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn purge(&self, queue: Name, states: &[StateFilter]) -> Result<u64, BrokerError> {
        let mut scope = PurgeScope { ready: states.is_empty(), ..PurgeScope::default() };
        for state in states {
            match state {
                StateFilter::Ready => scope.ready = true,
                StateFilter::Leased => scope.leased = true,
                StateFilter::Dead => scope.dead = true,
                StateFilter::Delayed => {
                    let problem = "cannot be delayed: those messages are the topic's; delete them one by one";
                    return Err(BrokerError::invalid("states", problem));
                }
            }
        }
        Ok(self.engine()?.manage(Manage::Purge { queue, scope }).await?.messages)
    }

    /// Brings dead letters back to their places in the queue; how many. All of them go in steps of 10,000, each of which
    /// is durable by itself: a broker that is killed on the way has brought back some, and each is either there or here.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn redrive(&self, request: Redrive) -> Result<u64, BrokerError> {
        let Redrive { queue, ids, max_per_second } = request;
        check_count("message_ids", ids.len(), 0, Limits::BATCH_MAX)?;
        let engine = self.engine()?;
        let begin = engine.clock().now();
        let pace_from = |count: u64| {
            let per_second = NonZeroU32::new(max_per_second)?;
            Some(Pace { begin: Pace { begin, per_second }.at(count), per_second })
        };
        if !ids.is_empty() {
            let mut seqs = Vec::new();
            for id in ids {
                let found = engine.find(queue.clone(), id).await?;
                let dead = found.filter(|(_, state)| matches!(state, MessageState::Dead { .. }));
                seqs.extend(dead.and_then(|(found, _)| found.seq));
            }
            let redrive = Manage::Redrive { queue, which: Which::These(seqs), pace: pace_from(0) };
            return Ok(engine.manage(redrive).await?.messages);
        }
        // Only those that are dead now: what dies again meanwhile stays.
        let mut left = engine.queue(queue.clone()).await?.dead;
        let mut count = 0;
        while left > 0 {
            let step = usize::try_from(left).unwrap_or(usize::MAX).min(REDRIVE_STEP);
            let (queue, which) = (queue.clone(), Which::Oldest(step));
            let redriven = engine.manage(Manage::Redrive { queue, which, pace: pace_from(count) }).await?.messages;
            if redriven == 0 {
                break;
            }
            count += redriven;
            left = left.saturating_sub(redriven);
        }
        Ok(count)
    }

    pub(super) fn with_consumers(&self, view: QueueView) -> Result<Queue, BrokerError> {
        let now = self.engine()?.clock().now();
        let consumers = self.shared.consumers.of(&view.name, now);
        Ok(Queue { view, consumers })
    }
}

/// Most entries, and from where on.
fn place_of(listed: Listed, list: &List) -> Result<(usize, Option<u32>), BrokerError> {
    let max = Limits::check_page(list.page.size)?;
    let from = paging::position(listed, &list.page.token)?;
    Ok((max, from.map(|from| u32::try_from(from).unwrap_or(u32::MAX))))
}

//! Messages in and out: publish, receive, settle, subscribe.

use std::sync::Arc;

use tracing::debug;

use super::{
    AckWhen, Broker, BrokerError, Limits, Publish, Receive, Settle, SettleAll, Subscribe,
    consumers::Presence,
    feed::{Feed, Owners, Setup, Standing},
    limits::{ack_mode, check_consumer, check_count},
};
use crate::{
    engine::{Engine, EngineError, Manage, Published, Settled, SettledAll, Settlement},
    model::{AckId, Delivery, Name},
};

/// What a consumer is called that does not say.
const NAMELESS: &str = "unnamed";

impl Broker {
    /// Stores messages.
    ///
    /// # Errors
    /// [`BrokerError`]; all messages are stored or none, unless it is [`BrokerError::OutcomeUnknown`].
    pub async fn publish(&self, request: Publish) -> Result<Published, BrokerError> {
        self.begin_publish(request).await?.await
    }

    /// As [`Broker::publish`], in two steps: with the first one the messages have their place behind whatever was begun
    /// before, with the second one they are durable.
    ///
    /// # Errors
    /// [`BrokerError`]; nothing was stored.
    pub async fn begin_publish(
        &self,
        request: Publish,
    ) -> Result<impl Future<Output = Result<Published, BrokerError>> + Send + use<>, BrokerError> {
        let Publish { topic, drafts } = request;
        self.limits().check_drafts(&drafts)?;
        let pending = self.engine()?.begin_publish(topic.clone(), drafts).await?;
        Ok(async move {
            let published = pending.await?;
            note_published(&topic, &published);
            Ok(published)
        })
    }

    /// Hands out the next messages of a queue.
    ///
    /// # Errors
    /// [`BrokerError`]. An empty queue is none: the answer is empty after the wait.
    ///
    /// # Cancel safety
    /// A message that was acked as it was handed out is gone when the future is dropped after that; a leased one goes
    /// back at once.
    pub async fn receive(&self, request: Receive) -> Result<Vec<Delivery>, BrokerError> {
        let (consumer, waits) = (request.consumer.clone(), request.wait_seconds > 0.0);
        let receive = self.limits().check_receive(request)?;
        let engine = self.engine()?;
        let queue = queue_of(&receive.queue, receive.service.as_ref())?;
        // Who neither waits nor says its name is not worth the note.
        let _presence = (waits || consumer.is_some()).then(|| self.presence_of(&engine, queue.clone(), consumer));
        let deliveries = engine.receive(receive).await?;
        note_consumed(&queue, &deliveries);
        Ok(deliveries)
    }

    /// Keeps hold of leased deliveries until they are written to their consumer: dropped before, they go back at once.
    ///
    /// # Errors
    /// [`BrokerError::NotActive`] when the instance has stopped being active meanwhile.
    pub fn hold(&self, deliveries: &[Delivery]) -> Result<Hold, BrokerError> {
        let leases: Vec<_> = deliveries.iter().filter_map(|delivery| Some(delivery.lease.as_ref()?.ack_id)).collect();
        // What was acked as it was handed out, or nothing at all, can be told also by a broker that shuts down.
        let engine = if leases.is_empty() { None } else { Some(self.engine()?) };
        Ok(Hold { engine, leases })
    }

    /// Opens a stream of deliveries.
    ///
    /// # Errors
    /// [`BrokerError`]: it is out of bounds, or the queue does not exist and is not declared by itself.
    pub async fn subscribe(&self, request: Subscribe) -> Result<Feed, BrokerError> {
        let Subscribe { queue, service, ack_deadline_seconds, consumer, credit, max_bytes } = request;
        let mode = ack_mode(ack_deadline_seconds)?;
        check_consumer(consumer.as_deref())?;
        Limits::check_credit(credit)?;
        let engine = self.engine()?;
        let name = queue_of(&queue, service.as_ref())?;
        engine.manage(Manage::DeclareQueue { queue: queue.clone(), service: service.clone() }).await?;
        let standing = Standing::new(credit, self.shared.owners.clone());
        let consumer = consumer.unwrap_or_else(|| NAMELESS.to_owned());
        let presence = self.shared.consumers.streams(name, consumer, Arc::clone(&standing), engine.clock());
        let draining = self.shared.draining.subscribe();
        Ok(Feed::new(Setup { engine, queue, service, mode, max_bytes, draining }, standing, presence))
    }

    /// Settles deliveries, each on its own; answers in order.
    ///
    /// # Errors
    /// [`BrokerError`] when none could be looked at.
    pub async fn settle(&self, request: Settle) -> Result<Vec<Settled>, BrokerError> {
        self.begin_settle(request).await?.await
    }

    /// As [`Broker::settle`], in two steps as [`Broker::begin_publish`].
    ///
    /// # Errors
    /// [`BrokerError`]; nothing was settled.
    pub async fn begin_settle(
        &self,
        request: Settle,
    ) -> Result<impl Future<Output = Result<Vec<Settled>, BrokerError>> + Send + use<>, BrokerError> {
        let engine = self.engine()?;
        let Settle { queue, settlements } = request;
        let items = self.limits().check_settlements(settlements, 1, &engine.ack_key())?;
        let pending = engine.begin_settle(queue, items.clone()).await?;
        let owners = self.shared.owners.clone();
        Ok(async move {
            let results = pending.await?;
            give_credit_back(&owners, &engine, &items, &results);
            Ok(results)
        })
    }

    /// Settles deliveries and publishes messages in one durable step.
    ///
    /// # Errors
    /// [`BrokerError`]; all of it is done or none, unless it is [`BrokerError::OutcomeUnknown`].
    pub async fn settle_all(&self, request: SettleAll) -> Result<SettledAll, BrokerError> {
        let engine = self.engine()?;
        let SettleAll { settlements, publishes } = request;
        let items = self.limits().check_settlements(settlements, 0, &engine.ack_key())?;
        let messages = publishes.iter().map(|publish| publish.drafts.len()).sum();
        check_count("publishes", messages, 0, Limits::BATCH_MAX)?;
        for (at, publish) in publishes.iter().enumerate() {
            self.limits().check_drafts(&publish.drafts).map_err(|error| error.at("publishes", at))?;
        }
        if items.is_empty() && messages == 0 {
            return Err(BrokerError::invalid("settlements", "is empty, and nothing is published either"));
        }
        let topics: Vec<_> = publishes.iter().map(|publish| publish.topic.clone()).collect();
        let publications = publishes.into_iter().map(|Publish { topic, drafts }| (topic, drafts)).collect();
        let settled = engine.settle_all(items.clone(), publications).await.map_err(|error| match error {
            EngineError::DedupMismatch { publication, .. } => BrokerError::from(error).at("publishes", publication),
            other => other.into(),
        })?;
        give_credit_back(&self.shared.owners, &engine, &items, &settled.results);
        topics.iter().zip(&settled.published).for_each(|(topic, published)| note_published(topic, published));
        Ok(settled)
    }

    /// An ack id as the text that a consumer is given.
    ///
    /// # Errors
    /// [`BrokerError::NotActive`] when the instance has stopped being active meanwhile.
    pub fn seal(&self, id: AckId) -> Result<String, BrokerError> {
        Ok(self.engine()?.ack_key().seal(id))
    }

    fn presence_of(&self, engine: &Engine, queue: Name, consumer: Option<String>) -> Presence {
        let consumer = consumer.unwrap_or_else(|| NAMELESS.to_owned());
        self.shared.consumers.pulls(queue, consumer, engine.clock())
    }
}

/// Leases whose consumer has not got its messages yet. Dropped, they end, and those deliveries do not count.
#[derive(Debug)]
pub struct Hold {
    /// `None` if there is nothing to hold.
    engine: Option<Engine>,
    leases: Vec<AckId>,
}

impl Hold {
    /// The messages are written.
    pub fn release(mut self) {
        self.leases.clear();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.as_ref().filter(|_| !self.leases.is_empty()) {
            engine.give_back(self.leases.drain(..));
        }
    }
}

/// The name of the queue that is meant.
pub(super) fn queue_of(queue: &Name, service: Option<&Name>) -> Result<Name, BrokerError> {
    let Some(service) = service else { return Ok(queue.clone()) };
    queue.subscription(service).map_err(|e| BrokerError::invalid("service", e.to_string()))
}

/// Consumers may be given others for what they have settled.
fn give_credit_back(owners: &Owners, engine: &Engine, items: &[(Option<AckId>, Settlement)], results: &[Settled]) {
    let mut settled = Vec::new();
    for ((id, settlement), result) in items.iter().zip(results) {
        match (id, settlement, result) {
            (Some(id), Settlement::Extend(by), Settled::Done) => {
                owners.extended(*id, engine.clock().now().after(*by));
            }
            (Some(id), _, Settled::Done | Settled::Stale) => settled.push(*id),
            (None, ..) | (_, _, Settled::Unknown) => {}
        }
    }
    owners.settled(settled);
}

fn note_published(topic: &Name, published: &Published) {
    for message in &published.messages {
        debug!(
            %topic, message_id = %message.id, duplicate = message.duplicate,
            "Message published to queue '{topic}' with custom durable broker (fair dispatch via FIFO)"
        );
    }
}

fn note_consumed(queue: &Name, deliveries: &[Delivery]) {
    for delivery in deliveries {
        debug!(
            %queue, message_id = %delivery.message.id, delivery_attempt = delivery.attempt.0,
            "Message consumed from queue '{queue}' (custom broker, FIFO fair dispatch)"
        );
    }
}

/// Whether messages count as acked when they are handed out.
impl AckWhen {
    /// As a transport says it: at once, or within so many seconds.
    #[must_use]
    pub fn of(deadline_seconds: Option<f64>) -> Self {
        deadline_seconds.map_or(Self::AtOnce, |seconds| Self::Later(Some(seconds)))
    }
}

//! What the broker does, in one place for every protocol: checks a request, asks the engine, says what came of it.
//!
//! Not here: HTTP, protobuf, storage. Invariant: whatever reaches the engine is within the limits of
//! [`Limits`], and an instance that is not the active one refuses before it does anything.

mod error;
mod limits;

use std::sync::{Arc, RwLock};

pub use crate::engine::{Published, Registered, Settled};
pub use error::BrokerError;
pub use limits::Limits;
use tracing::debug;
use uuid::Uuid;

use crate::{
    engine::{Engine, Receive as EngineReceive},
    model::{Delivery, Draft, Name},
};

/// Asks for the queues of a service.
#[derive(Debug, Clone)]
pub struct Register {
    /// The service; its inbox is the queue of this name.
    pub service: Name,
    /// The topics that it wants a queue of its own on.
    pub topics: Vec<Name>,
}

/// Asks for messages to be stored, all or none.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The topic; one that does not exist yet comes into being.
    pub topic: Name,
    /// The messages, in order.
    pub drafts: Vec<Draft>,
}

/// Asks for the next messages of a queue.
#[derive(Debug, Clone)]
pub struct Receive {
    /// A queue or a topic; one that does not exist yet comes into being.
    pub queue: Name,
    /// The service whose queue on the topic `queue` is meant.
    pub service: Option<Name>,
    /// Most messages to hand out.
    pub max_messages: i64,
    /// How long to wait for the first one, in seconds.
    pub wait_seconds: f64,
    /// How long the consumer may take to ack, in seconds; `None` acks at once.
    pub ack_deadline_seconds: Option<f64>,
}

/// Settles deliveries of one queue.
#[derive(Debug, Clone)]
pub struct Ack {
    /// The queue they came from.
    pub queue: Name,
    /// Their ack ids, as they were handed out.
    pub ack_ids: Vec<String>,
}

/// Whether the broker takes publishes, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Healthy,
    /// It does not, because there is little room on the disk; consumers are served.
    StorageLow,
    /// It does not, for this reason.
    Degraded(&'static str),
    /// Another instance does.
    Standby,
}

impl Health {
    /// The reason of [`Health::StorageLow`], in words.
    pub const STORAGE_LOW: &str = "the disk is nearly full: publishes are refused, consumers are served";
}

/// The broker. Clones share one state.
#[derive(Debug, Clone)]
pub struct Broker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    role: RwLock<Role>,
}

#[derive(Debug, Clone)]
enum Role {
    Standby,
    Active(Engine),
    Draining,
}

impl Broker {
    /// A broker that refuses everything as [`BrokerError::NotActive`] until it is activated.
    #[must_use]
    pub fn standby(limits: Limits) -> Self {
        Self { shared: Arc::new(Shared { limits, role: RwLock::new(Role::Standby) }) }
    }

    /// From here on requests go to `engine`.
    pub fn activate(&self, engine: Engine) {
        self.set_role(Role::Active(engine));
    }

    /// From here on requests are refused as [`BrokerError::Draining`]; those under way are finished.
    pub fn drain(&self) {
        self.set_role(Role::Draining);
    }

    /// Whether this instance is the active one.
    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self.role(), Role::Active(_))
    }

    /// The store of the active instance.
    #[must_use]
    pub fn store_uuid(&self) -> Option<Uuid> {
        self.engine().ok().map(|engine| engine.store_uuid())
    }

    /// Whether publishes are taken.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.role() {
            Role::Standby => Health::Standby,
            Role::Draining => Health::Degraded("the broker is shutting down"),
            Role::Active(engine) if engine.has_failed() => Health::Degraded("the store has failed"),
            Role::Active(engine) if engine.storage_low().is_some() => Health::StorageLow,
            Role::Active(_) => Health::Healthy,
        }
    }

    /// Declares a service: its inbox, and its queue on each topic. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`BrokerError`]; all queues are declared or none.
    pub async fn register(&self, request: Register) -> Result<Registered, BrokerError> {
        let Register { service, topics } = request;
        self.shared.limits.check_topics(&topics)?;
        Ok(self.engine()?.register(service, topics).await?)
    }

    /// Stores messages.
    ///
    /// # Errors
    /// [`BrokerError`]; all messages are stored or none, unless it is [`BrokerError::OutcomeUnknown`].
    pub async fn publish(&self, request: Publish) -> Result<Published, BrokerError> {
        let Publish { topic, drafts } = request;
        self.shared.limits.check_drafts(&drafts)?;
        let published = self.engine()?.publish(topic.clone(), drafts).await?;
        for message in &published.messages {
            debug!(
                %topic, message_id = %message.id, duplicate = message.duplicate,
                "Message published to queue '{topic}' with custom durable broker (fair dispatch via FIFO)"
            );
        }
        Ok(published)
    }

    /// Hands out the next messages of a queue.
    ///
    /// # Errors
    /// [`BrokerError`]. An empty queue is none: the answer is empty after the wait.
    ///
    /// # Cancel safety
    /// A message that was acked as it was handed out is gone when the future is dropped after that; a leased one
    /// comes back at its deadline.
    pub async fn receive(&self, request: Receive) -> Result<Vec<Delivery>, BrokerError> {
        let receive: EngineReceive = self.shared.limits.check_receive(request)?;
        let queue = receive.queue.clone();
        let deliveries = self.engine()?.receive(receive).await?;
        for delivery in &deliveries {
            debug!(
                %queue, message_id = %delivery.message.id, delivery_attempt = delivery.attempt.0,
                "Message consumed from queue '{queue}' (custom broker, FIFO fair dispatch)"
            );
        }
        Ok(deliveries)
    }

    /// Acks leased deliveries; answers each on its own, in order.
    ///
    /// # Errors
    /// [`BrokerError`] when none could be looked at.
    pub async fn ack(&self, request: Ack) -> Result<Vec<Settled>, BrokerError> {
        let engine = self.engine()?;
        let ids = self.shared.limits.check_ack(&request, &engine.ack_key())?;
        Ok(engine.ack(request.queue, ids).await?)
    }

    /// An ack id as the text that a consumer is given.
    ///
    /// # Errors
    /// [`BrokerError::NotActive`] when the instance has stopped being active meanwhile.
    pub fn seal(&self, id: crate::model::AckId) -> Result<String, BrokerError> {
        Ok(self.engine()?.ack_key().seal(id))
    }

    fn engine(&self) -> Result<Engine, BrokerError> {
        match self.role() {
            Role::Active(engine) => Ok(engine),
            Role::Standby => Err(BrokerError::NotActive),
            Role::Draining => Err(BrokerError::Draining),
        }
    }

    fn role(&self) -> Role {
        self.shared.role.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn set_role(&self, role: Role) {
        *self.shared.role.write().unwrap_or_else(std::sync::PoisonError::into_inner) = role;
    }
}

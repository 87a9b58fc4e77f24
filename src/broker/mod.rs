//! What the broker does, in one place for every protocol: checks a request, asks the engine, says what came of it.
//!
//! Not here: HTTP, protobuf, storage. Invariant: whatever reaches the engine is within the limits of
//! [`Limits`], and an instance that is not the active one refuses before it does anything.
//!
//! | file | what |
//! |---|---|
//! | `commands` | what is asked for |
//! | `messages` | publish, receive, settle, subscribe |
//! | `feed` | a stream of deliveries, bounded by credit |
//! | `requests` | publish and wait for the reply |
//! | `admin`, `looks` | topics, queues, services; messages, stories, explanations |
//! | `consumers` | who has asked for messages lately |
//! | `reading`, `words` | what every transport reads, and says, in the same way |

mod admin;
mod commands;
mod consumers;
mod error;
mod feed;
mod limits;
mod looks;
mod messages;
mod paging;
pub mod reading;
mod requests;
mod words;

use std::{
    sync::{Arc, RwLock},
    time::Duration,
};

use tokio::sync::watch;
use uuid::Uuid;

pub use self::{
    admin::{Listing, Put, Queue},
    commands::{
        AckWhen, Browse, Credit, List, Page, Publish, PutSubscription, Receive, Redrive, Register, Request, Settle,
        SettleAll, Subscribe,
    },
    consumers::{Consumer, ConsumerKind},
    error::BrokerError,
    feed::{Feed, Standing},
    limits::Limits,
    looks::{Explanation, Obstacle},
    messages::Hold,
    requests::Reply,
};
use self::{consumers::Consumers, feed::Owners, requests::Requests};
pub use crate::engine::{
    Browsed, Counters, DeadCause, Event, EventKind, HeldKey, MessageState, Nack, NackOutcome,
    Obstacle as QueueObstacle, Published, QueueView, Rates, Reason, Registered, ReturnCause, ServiceView, Settled,
    SettledAll, Settlement, StateFilter, Story, TopicView,
};
use crate::{
    engine::Engine,
    model::{Draft, Timestamp},
};

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
    is_dev: bool,
    role: RwLock<Role>,
    /// Tells streams and requests that wait.
    draining: watch::Sender<bool>,
    consumers: Consumers,
    owners: Owners,
    requests: Requests,
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
        Self::new(limits, false)
    }

    /// The same in dev mode: its clock can be moved.
    #[must_use]
    pub fn standby_in_dev_mode(limits: Limits) -> Self {
        Self::new(limits, true)
    }

    fn new(limits: Limits, is_dev: bool) -> Self {
        let shared = Shared {
            limits,
            is_dev,
            role: RwLock::new(Role::Standby),
            draining: watch::Sender::new(false),
            consumers: Consumers::default(),
            owners: Owners::default(),
            requests: Requests::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// From here on requests go to `engine`.
    pub fn activate(&self, engine: Engine) {
        self.set_role(Role::Active(engine));
    }

    /// From here on requests are refused as [`BrokerError::Draining`]; those under way are finished, and streams end.
    pub fn drain(&self) {
        self.set_role(Role::Draining);
        self.shared.draining.send_replace(true);
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

    /// Moves the clock of the store ahead; what it shows then.
    ///
    /// # Errors
    /// [`BrokerError::NotInDevMode`]; or [`BrokerError::InvalidArgument`]: no time, or more than 366 days.
    pub fn advance_clock(&self, by: Duration) -> Result<Timestamp, BrokerError> {
        if !self.shared.is_dev {
            return Err(BrokerError::NotInDevMode);
        }
        if by.is_zero() || by > Draft::DELAY_MAX {
            let problem =
                format!("is {}; it must be more than 0, and at most {}", by.as_secs_f64(), Draft::DELAY_MAX.as_secs());
            return Err(BrokerError::invalid("by_seconds", problem));
        }
        let engine = self.engine()?;
        engine.advance_clock(by);
        Ok(engine.clock().now())
    }

    /// What requests are checked against.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
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

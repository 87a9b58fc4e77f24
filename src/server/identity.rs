//! Who this process is among the instances of the broker: what `GET /health/instance` answers.

use std::sync::{Arc, OnceLock};

use axum::{Json, Router, extract::State, routing::get};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::broker::Broker;

/// What an instance does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    /// It holds the store and serves.
    Active,
    /// It waits for the store.
    Standby,
    /// It is shutting down.
    Draining,
}

/// What an instance says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    /// The process; another one after each start.
    pub(super) instance: Uuid,
    /// The store that it serves or waits for; unknown when there is none yet.
    pub(super) store: Option<Uuid>,
    pub(super) role: Role,
}

/// This process as an instance. Clones share one state.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    instance: Uuid,
    broker: Broker,
    /// The store of a standby. An active one asks its engine.
    awaited_store: Arc<OnceLock<Uuid>>,
    stop: CancellationToken,
}

impl Identity {
    pub(super) fn new(broker: Broker, stop: CancellationToken) -> Self {
        Self { instance: Uuid::new_v4(), broker, awaited_store: Arc::default(), stop }
    }

    /// Remembers the store that a standby waits for. The first one stays: a directory has one store for life.
    pub(super) fn await_store(&self, store: Uuid) {
        self.awaited_store.get_or_init(|| store);
    }

    pub(super) fn report(&self) -> Report {
        let store = self.broker.store_uuid().or_else(|| self.awaited_store.get().copied());
        let role = match (self.stop.is_cancelled(), self.broker.is_active()) {
            (true, _) => Role::Draining,
            (false, true) => Role::Active,
            (false, false) => Role::Standby,
        };
        Report { instance: self.instance, store, role }
    }

    /// The route that shows it.
    pub(super) fn router(self) -> Router {
        Router::new().route(PATH, get(async |State(me): State<Self>| Json(me.report()))).with_state(self)
    }
}

/// Where an instance says who it is.
pub(super) const PATH: &str = "/health/instance";

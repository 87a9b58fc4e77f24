//! The store of this process: opened at the start, or waited for while another instance holds it.
//!
//! Not here: what the store does. Invariant: the broker is active exactly when this process holds the store.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use tokio::{
    task::{JoinError, spawn_blocking},
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

use super::{ServeError, identity::Identity};
use crate::{
    broker::Broker,
    config::Config,
    engine::{self, Engine, OpenError, journal::file},
};

/// How often a standby asks for the store. Asking is one call to the system.
const ASK_PERIOD: Duration = Duration::from_millis(100);

/// Longest wait for the engine to carry out what it has taken on. A sync of a busy disk takes seconds, not tens.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Store {
    options: engine::Options,
    may_stand_by: bool,
    broker: Broker,
    engine: OnceLock<Engine>,
}

/// What asking for the store has come to.
enum Asked {
    Open,
    Held,
}

impl Store {
    pub(super) fn new(config: &Config, broker: Broker) -> Self {
        let options = engine::Options {
            journal_file_bytes: config.journal_file_bytes,
            limits: engine::Limits { topics_max: config.topics_max, ..engine::Limits::default() },
            free_bytes_min: config.free_bytes_min,
            dedup_window: config.dedup_window,
            auto_declare: config.auto_declare,
            waiters_max: config.waiting_receives_max,
            ..engine::Options::new(&config.data_dir)
        };
        Self { options, may_stand_by: !config.is_alone(), broker, engine: OnceLock::new() }
    }

    /// Opens the store and makes the broker active, or finds that another instance holds it and this one stands by.
    pub(super) async fn open(&self) -> Result<(), ServeError> {
        match self.ask().await? {
            Asked::Open => {}
            Asked::Held => {
                info!(data_dir = %self.options.data_dir.display(), "standing by: another instance is active")
            }
        }
        Ok(())
    }

    /// Waits for the store if another instance holds it, then for the store to fail. `activated` is called in between.
    ///
    /// # Cancel safety
    /// Dropped, it may leave the store open.
    pub(super) async fn tend(&self, identity: &Identity, activated: impl FnOnce()) -> Result<(), ServeError> {
        let engine = loop {
            if let Some(engine) = self.engine.get() {
                break engine;
            }
            self.learn_uuid(identity).await?;
            let asked = Instant::now();
            if let Asked::Open = self.ask().await? {
                info!(took_ms = asked.elapsed().as_millis() as u64, "took over");
                continue;
            }
            sleep(ASK_PERIOD).await;
        };
        activated();
        engine.failed().await;
        error!("the store has failed: ending, so that a restart or another instance reads what is stored");
        Ok(())
    }

    /// Ends the engine once it has carried out what it took on, and lets go of the store: another instance may open it.
    /// Receives that wait are answered, with nothing.
    pub(super) async fn close(self) {
        self.broker.drain();
        let Some(engine) = self.engine.get() else { return };
        if timeout(CLOSE_TIMEOUT, engine.close()).await.is_err() {
            warn!(
                waited_ms = CLOSE_TIMEOUT.as_millis() as u64,
                "the store did not close in time; the next start recovers it"
            );
        }
    }

    async fn ask(&self) -> Result<Asked, ServeError> {
        let options = self.options.clone();
        let opened = spawn_blocking(|| Engine::open(options)).await.map_err(opening_failed)?;
        let engine = match opened {
            Ok(engine) => engine,
            Err(error) if self.may_stand_by && error.is_held().is_some() => return Ok(Asked::Held),
            Err(source) => return Err(self.refused(source)),
        };
        self.report(&engine);
        let engine = self.engine.get_or_init(|| engine);
        self.broker.activate(engine.clone());
        Ok(Asked::Open)
    }

    fn report(&self, engine: &Engine) {
        let recovery = engine.recovery();
        for file in &recovery.imported {
            info!(?file, "a file of the original broker was taken over");
        }
        info!(
            data_dir = %self.options.data_dir.display(),
            store = %engine.store_uuid(),
            frames = recovery.frames,
            records = recovery.records,
            topics = recovery.topics,
            messages = recovery.messages,
            took_ms = recovery.took.as_millis() as u64,
            "store opened"
        );
    }

    fn refused(&self, source: OpenError) -> ServeError {
        ServeError::Open { data_dir: self.options.data_dir.clone(), source: Box::new(source) }
    }

    /// Which store is waited for. A holder that is just making it has not written it down yet.
    async fn learn_uuid(&self, identity: &Identity) -> Result<(), ServeError> {
        if identity.report().store.is_some() {
            return Ok(());
        }
        let data_dir = self.options.data_dir.clone();
        let found = spawn_blocking(move || file::store_uuid(&data_dir)).await.map_err(opening_failed)?;
        // An error is not final: it is asked again, and if it stays, opening the store says so.
        if let Ok(Some(uuid)) = found {
            identity.await_store(uuid);
        }
        Ok(())
    }
}

fn opening_failed(source: JoinError) -> ServeError {
    ServeError::Task { task: "opening of the store", source }
}

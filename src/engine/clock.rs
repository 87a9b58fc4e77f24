//! The engine's clock: the system's, and what tests and the dev mode add to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use crate::model::Timestamp;

/// Where the engine reads the time. Clones show the same time.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// What a clock that stands still shows before it is moved; `None` for one that goes with the system's.
    stands_at: Option<Timestamp>,
    ahead_ms: Arc<AtomicU64>,
    moves: Arc<watch::Sender<()>>,
}

impl Clock {
    /// A clock that stands still until it is moved.
    #[must_use]
    pub fn standing_at(moment: Timestamp) -> Self {
        Self { stands_at: Some(moment), ..Self::default() }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.stands_at
            .unwrap_or_else(Timestamp::now)
            .after(Duration::from_millis(self.ahead_ms.load(Ordering::Relaxed)))
    }

    /// Changes whenever the clock is moved.
    #[must_use]
    pub fn moves(&self) -> watch::Receiver<()> {
        self.moves.subscribe()
    }

    /// Moves the clock ahead; see [`Engine::advance_clock`](super::Engine::advance_clock), which also wakes the engine.
    pub(super) fn advance(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        let add = |ahead: u64| Some(ahead.saturating_add(ms));
        // The closure always answers Some, so the update cannot fail.
        let _ = self.ahead_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        self.moves.send_replace(());
    }
}

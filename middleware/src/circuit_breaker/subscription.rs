//! Waiting for a circuit to change its state.

use tokio::sync::watch;

use super::CircuitState;

/// The state and the generation that it began with.
pub(super) type Current = (u64, CircuitState);

/// Tells of changes of state, the newest only: who looks seldom does not see each of them.
#[derive(Debug, Clone)]
pub struct Subscription {
    receiver: watch::Receiver<Current>,
}

impl Subscription {
    pub(super) fn new(receiver: watch::Receiver<Current>) -> Self {
        Self { receiver }
    }

    /// The state as it was told last.
    #[must_use]
    pub fn state(&self) -> CircuitState {
        self.receiver.borrow().1
    }

    /// Waits for the state to change since this was last asked; the new one. `None` when nobody holds the breaker any
    /// more.
    ///
    /// # Cancel safety
    /// Dropped early, the change is told the next time.
    pub async fn changed(&mut self) -> Option<CircuitState> {
        self.receiver.changed().await.ok()?;
        Some(self.receiver.borrow_and_update().1)
    }
}

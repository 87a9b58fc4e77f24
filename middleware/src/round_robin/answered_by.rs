//! Which instance a response came from, for logs and for callers that want to know.

use crate::{CircuitState, Instance};

/// Which instance answered, in the extensions of a [`RoundRobin`](super::RoundRobin)'s responses. Also in those of its
/// rejections, unless no instance was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweredBy {
    instance: std::sync::Arc<str>,
    attempts: u32,
    circuit: CircuitState,
}

impl AnsweredBy {
    pub(super) fn new<S>(instance: &Instance<S>, attempts: u32) -> Self {
        Self { instance: instance.shared_name(), attempts, circuit: instance.breaker().state() }
    }

    /// The name of the instance that was asked last.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// How many attempts were made at the request, at least 1. Skipped instances are not counted.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The instance's circuit when the head of its response was there.
    #[must_use]
    pub fn circuit(&self) -> CircuitState {
        self.circuit
    }
}

//! What a round robin tells about itself. Plain values; nothing here changes anything.

use std::{fmt, sync::Arc};

use super::{Instance, failover::Rules};
use crate::Snapshot;

/// A round robin at one moment. Its `Display` is a few lines for people: one for all, and one for each instance.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoundRobinSnapshot {
    /// The instances, in their order.
    pub instances: Vec<InstanceSnapshot>,
    /// How many requests were repeated, ever, because an attempt that may have been processed failed.
    pub repeats_total: u64,
    /// How many repeats are paid for now; `None` without a [`RetryBudget`](crate::RetryBudget).
    pub budget_left: Option<u32>,
}

impl RoundRobinSnapshot {
    pub(super) fn new<S>(instances: &[Instance<S>], rules: &Rules) -> Self {
        Self {
            instances: instances.iter().map(Instance::snapshot).collect(),
            repeats_total: rules.repeats_total(),
            budget_left: rules.budget_left(),
        }
    }
}

/// One instance at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InstanceSnapshot {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it is not known to be out of service.
    pub is_ready: bool,
    /// Whether it is ready and its circuit is closed, or disabled.
    pub is_available: bool,
    /// Whether it is in this process.
    pub is_local: bool,
    /// Its weight.
    pub weight: u32,
    /// How many attempts were made on it, ever.
    pub attempts_total: u64,
    /// Its breaker.
    pub breaker: Snapshot,
}

/// For example:
///
/// ```text
/// 1 of 2 instances available; 3 requests repeated, 7 more repeats paid for
///   a: ready, weight 1, 120 attempts; a: closed; opened 0 times, refused 0 calls
///   b: not ready, weight 2, 7 attempts; b: open (failure_rate) for 3.0 s more; opened 1 time, refused 4 calls
/// ```
impl fmt::Display for RoundRobinSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let available = self.instances.iter().filter(|instance| instance.is_available).count();
        write!(f, "{available} of {} instances available", self.instances.len())?;
        let requests = if self.repeats_total == 1 { "request" } else { "requests" };
        write!(f, "; {} {requests} repeated", self.repeats_total)?;
        if let Some(left) = self.budget_left {
            write!(f, ", {left} more repeats paid for")?;
        }
        self.instances.iter().try_for_each(|instance| write!(f, "\n  {instance}"))
    }
}

impl fmt::Display for InstanceSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ready = if self.is_ready { "ready" } else { "not ready" };
        let local = if self.is_local { ", in this process" } else { "" };
        let attempts = if self.attempts_total == 1 { "attempt" } else { "attempts" };
        let Self { name, weight, attempts_total, breaker, .. } = self;
        write!(f, "{name}: {ready}{local}, weight {weight}, {attempts_total} {attempts}; {breaker}")
    }
}

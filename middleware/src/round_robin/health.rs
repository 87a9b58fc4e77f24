//! Asking an instance, over and over, whether it serves.
//!
//! How it is asked is the caller's: a GET of a health route, `grpc.health.v1`, a query. Invariant: the instance becomes
//! ready or not ready only after as many answers of the same kind in a row as the settings say.

use std::{convert::Infallible, time::Duration};

use tokio::time::{sleep, timeout};

use super::Instance;

/// How an instance is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthCheck {
    /// From an answer to the next question, more or less a tenth, so that many clients do not ask at once. Default: 5 s.
    pub interval: Duration,
    /// The longest wait for an answer; none in time is a bad one. Default: 1 s.
    pub timeout: Duration,
    /// Good answers in a row until an instance that was not ready is. At least 1. Default: 2.
    pub healthy_after: u32,
    /// Bad answers in a row until an instance that was ready is not. At least 1. Default: 3.
    pub unhealthy_after: u32,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), timeout: Duration::from_secs(1), healthy_after: 2, unhealthy_after: 3 }
    }
}

impl HealthCheck {
    /// Asks `instance` with `probe`, whose answer is whether it serves, and tells it by [`Instance::set_ready`]. Never
    /// completes; spawn it where it is ended with the round robin. Says nothing to the breaker: an answer to a health
    /// check must not hide that requests fail.
    ///
    /// Needs a tokio runtime with its timer enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the asking; the instance stays as it is.
    ///
    /// ```
    /// use campanile_middleware::{CircuitBreaker, HealthCheck, Instance};
    ///
    /// # async fn health_of(_: &str) -> bool { true }
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let instance = Instance::new("a", (), CircuitBreaker::builder("a").build());
    /// let watch = HealthCheck::default().watch(instance, || health_of("http://a/health"));
    /// let task = tokio::spawn(watch);
    /// # task.abort();
    /// # });
    /// ```
    pub async fn watch<S, F: Future<Output = bool>>(
        self,
        instance: Instance<S>,
        mut probe: impl FnMut() -> F,
    ) -> Infallible {
        let mut run = 0;
        loop {
            let is_good = timeout(self.timeout, probe()).await.unwrap_or(false);
            if is_good == instance.is_ready() {
                run = 0;
            } else {
                run += 1;
                let enough = if is_good { self.healthy_after } else { self.unhealthy_after };
                if run >= enough.max(1) {
                    run = 0;
                    #[cfg(feature = "tracing")]
                    if is_good {
                        tracing::info!(instance = instance.name(), "instance serves again");
                    } else {
                        tracing::warn!(instance = instance.name(), "instance does not serve");
                    }
                    instance.set_ready(is_good);
                }
            }
            sleep(self.interval.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
        }
    }
}

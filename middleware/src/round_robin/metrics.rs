//! What a round robin and its instances tell the recorder of the `metrics` crate. Without the feature it is nothing, and
//! costs nothing.
//!
//! Labels are names that were given to instances and round robins, never anything of a request.

use std::sync::Arc;

/// Of one instance, by its name.
#[cfg(feature = "metrics")]
pub(super) struct InstanceMetrics {
    attempts: metrics::Counter,
    ready: metrics::Gauge,
}

#[cfg(feature = "metrics")]
impl InstanceMetrics {
    pub(super) fn new(name: &Arc<str>) -> Self {
        let labels = [("instance", name.to_string())];
        let attempts = metrics::counter!("round_robin_attempts_total", &labels);
        let ready = metrics::gauge!("round_robin_instance_ready", &labels);
        ready.set(1.0);
        Self { attempts, ready }
    }

    pub(super) fn attempted(&self) {
        self.attempts.increment(1);
    }

    /// `now` reads whether it is ready.
    pub(super) fn changed(&self, now: impl Fn() -> bool) {
        loop {
            let shown = now();
            self.ready.set(if shown { 1.0 } else { 0.0 });
            // Another thread may have told of a later change in between, and this has overwritten it.
            if now() == shown {
                return;
            }
        }
    }
}

#[cfg(not(feature = "metrics"))]
pub(super) struct InstanceMetrics;

#[cfg(not(feature = "metrics"))]
impl InstanceMetrics {
    pub(super) fn new(_: &Arc<str>) -> Self {
        Self
    }

    pub(super) fn attempted(&self) {}

    pub(super) fn changed(&self, _: impl Fn() -> bool) {}
}

/// Of all requests of one round robin; nothing until it is named.
#[cfg(feature = "metrics")]
#[derive(Clone, Default)]
pub(super) struct RoundMetrics(Option<(metrics::Counter, metrics::Counter)>);

#[cfg(feature = "metrics")]
impl RoundMetrics {
    pub(super) fn named(name: &Arc<str>) -> Self {
        let labels = [("round_robin", name.to_string())];
        let repeated = metrics::counter!("round_robin_repeats_total", &labels);
        Self(Some((repeated, metrics::counter!("round_robin_repeats_refused_total", &labels))))
    }

    pub(super) fn repeated(&self) {
        if let Some((repeated, _)) = &self.0 {
            repeated.increment(1);
        }
    }

    /// The budget did not pay for a repeat.
    pub(super) fn refused(&self) {
        if let Some((_, refused)) = &self.0 {
            refused.increment(1);
        }
    }
}

#[cfg(not(feature = "metrics"))]
#[derive(Clone, Default)]
pub(super) struct RoundMetrics {}

#[cfg(not(feature = "metrics"))]
impl RoundMetrics {
    pub(super) fn named(_: &Arc<str>) -> Self {
        Self {}
    }

    pub(super) fn repeated(&self) {}

    pub(super) fn refused(&self) {}
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use std::{
        future::{Ready, ready},
        task::{Context, Poll},
    };

    use tower_service::Service;

    use crate::{
        CircuitBreaker, Failover, GenericRoundRobin, Instance, RetryBudget,
        told::{Metric, Told},
    };

    /// Always fails.
    #[derive(Clone)]
    struct Broken;

    impl Service<()> for Broken {
        type Response = ();
        type Error = ();
        type Future = Ready<Result<(), ()>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            ready(Err(()))
        }
    }

    #[tokio::test]
    async fn attempts_repeats_and_those_that_were_not_paid_for_are_told() {
        let told = Told::default();
        let budget = Some(RetryBudget { percent: 0, reserve: 1 });
        let mut round = told.recording(|| {
            let breaker = |name| CircuitBreaker::builder(name).consecutive_failures(u32::MAX).build();
            GenericRoundRobin::new(["a", "b"].map(|name| Instance::new(name, Broken, breaker(name))))
                .start(0)
                .named("stores")
                .idempotent(|_| true)
                .clone_request(|&()| Some(()))
                .failover(Failover { attempts: 2, budget, ..Failover::default() })
        });
        for _ in 0..3 {
            round.call(()).await.expect_err("both are broken");
        }
        let of_round = |told: &Told| -> Vec<_> {
            told.now().into_iter().filter(|Metric(name, _)| name.starts_with("round_robin_")).collect()
        };
        let expected = [
            ("round_robin_attempts_total a", 2.0),
            ("round_robin_attempts_total b", 2.0),
            ("round_robin_instance_ready a", 1.0),
            ("round_robin_instance_ready b", 1.0),
            ("round_robin_repeats_refused_total stores", 2.0),
            ("round_robin_repeats_total stores", 1.0),
        ];
        assert_eq!(of_round(&told), expected);
        let ready = |told: &Told| of_round(told).iter().filter(|Metric(name, _)| name.contains("ready")).count();
        round.instances()[0].set_ready(false);
        assert_eq!(ready(&told), 1);
        round.instances()[0].set_ready(true);
        assert_eq!(ready(&told), 2);
    }
}

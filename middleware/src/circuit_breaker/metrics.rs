//! What a breaker tells the recorder of the `metrics` crate. Without the feature it is nothing, and costs nothing.
//!
//! It looks up its counters once, when the breaker is built. Invariant: after the last change of state has been told, the
//! gauges show it, in whatever order threads told.

use super::CircuitState;

/// One counter and one gauge for each state, and one for the refusals.
#[cfg(feature = "metrics")]
pub(super) struct Metrics {
    states: [(CircuitState, metrics::Gauge, metrics::Counter); 5],
    rejected: metrics::Counter,
}

#[cfg(feature = "metrics")]
impl Metrics {
    pub(super) fn new(name: &std::sync::Arc<str>) -> Self {
        use CircuitState::{Closed, Disabled, HalfOpen, Isolated, Open};
        let states = [Closed, Open, HalfOpen, Isolated, Disabled].map(|state| {
            let labels = [("breaker", name.to_string()), ("state", state.to_string())];
            let gauge = metrics::gauge!("circuit_breaker_state", &labels);
            (state, gauge, metrics::counter!("circuit_breaker_transitions_total", &labels))
        });
        let rejected = metrics::counter!("circuit_breaker_rejected_total", "breaker" => name.to_string());
        let metrics = Self { states, rejected };
        metrics.show(|| Closed);
        metrics
    }

    pub(super) fn rejected(&self) {
        self.rejected.increment(1);
    }

    /// Entered `to`; `now` reads the state as it is.
    pub(super) fn transition(&self, to: CircuitState, now: impl Fn() -> CircuitState) {
        for (state, _, entered) in &self.states {
            if *state == to {
                entered.increment(1);
            }
        }
        self.show(now);
    }

    fn show(&self, now: impl Fn() -> CircuitState) {
        loop {
            let shown = now();
            for (state, gauge, _) in &self.states {
                gauge.set(if *state == shown { 1.0 } else { 0.0 });
            }
            // Another thread may have told of a later state in between, and these have overwritten it.
            if now() == shown {
                return;
            }
        }
    }
}

#[cfg(not(feature = "metrics"))]
pub(super) struct Metrics;

#[cfg(not(feature = "metrics"))]
impl Metrics {
    pub(super) fn new(_: &std::sync::Arc<str>) -> Self {
        Self
    }

    pub(super) fn rejected(&self) {}

    pub(super) fn transition(&self, _: CircuitState, _: impl Fn() -> CircuitState) {}
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    use crate::{CircuitBreaker, Verdict};

    #[test]
    fn states_transitions_and_refusals_are_told() {
        let recorder = DebuggingRecorder::new();
        let breaker = metrics::with_local_recorder(&recorder, || {
            CircuitBreaker::builder("a").consecutive_failures(1).open_for(Duration::from_secs(60)).build()
        });
        let told = || -> BTreeMap<String, f64> {
            let told = recorder.snapshotter().snapshot().into_vec().into_iter();
            told.map(|(key, _, _, value)| {
                let labels: Vec<_> = key.key().labels().map(|label| label.value().to_owned()).collect();
                let value = match value {
                    DebugValue::Counter(count) => count as f64,
                    DebugValue::Gauge(value) => value.into_inner(),
                    DebugValue::Histogram(_) => f64::NAN,
                };
                (format!("{} {}", key.key().name(), labels.join(" ")), value)
            })
            .filter(|(_, value)| *value != 0.0)
            .collect()
        };
        assert_eq!(told(), [("circuit_breaker_state a closed".to_owned(), 1.0)].into());
        breaker.try_acquire().expect("closed").complete(Verdict::Failure);
        breaker.try_acquire().expect_err("open");
        breaker.try_acquire().expect_err("open");
        // A debugging counter is read once: it begins again at zero.
        let expected = [
            ("circuit_breaker_rejected_total a", 2.0),
            ("circuit_breaker_state a open", 1.0),
            ("circuit_breaker_transitions_total a open", 1.0),
        ];
        assert_eq!(told(), expected.map(|(key, value)| (key.to_owned(), value)).into());
        breaker.reset();
        let expected = [("circuit_breaker_state a closed", 1.0), ("circuit_breaker_transitions_total a closed", 1.0)];
        assert_eq!(told(), expected.map(|(key, value)| (key.to_owned(), value)).into());
    }
}

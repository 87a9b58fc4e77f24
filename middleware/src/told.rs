//! For tests: a recorder of metrics that can be read as often as one likes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

#[derive(Default)]
pub(crate) struct Told(Mutex<BTreeMap<String, Number>>);

/// The bits of an integer or of a float.
enum Number {
    Counter(Arc<AtomicU64>),
    Gauge(Arc<AtomicU64>),
}

/// A metric's name with the values of its labels, and its value.
#[derive(Debug)]
pub(crate) struct Metric(pub(crate) String, pub(crate) f64);

impl PartialEq<(&str, f64)> for Metric {
    fn eq(&self, (name, value): &(&str, f64)) -> bool {
        self.0 == *name && self.1 == *value
    }
}

impl Told {
    /// Runs `run` with this recorder installed.
    pub(crate) fn recording<T>(&self, run: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(self, run)
    }

    /// What is not zero, by name.
    pub(crate) fn now(&self) -> Vec<Metric> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = told.iter().map(|(name, number)| match number {
            Number::Counter(count) => Metric(name.clone(), count.load(SeqCst) as f64),
            Number::Gauge(bits) => Metric(name.clone(), f64::from_bits(bits.load(SeqCst))),
        });
        now.filter(|Metric(_, value)| *value != 0.0).collect()
    }

    fn register(&self, key: &Key, number: impl Fn(Arc<AtomicU64>) -> Number) -> Arc<AtomicU64> {
        let labels = key.labels().map(|label| label.value());
        let name = [key.name()].into_iter().chain(labels).collect::<Vec<_>>().join(" ");
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (Number::Counter(bits) | Number::Gauge(bits)) = told.entry(name).or_insert_with(|| number(Arc::default()));
        bits.clone()
    }
}

impl Recorder for Told {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.register(key, Number::Counter))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.register(key, Number::Gauge))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

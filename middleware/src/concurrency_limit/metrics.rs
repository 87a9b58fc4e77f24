//! What a limit tells the recorder of the `metrics` crate once it has a name. Without the feature it is nothing, and costs
//! nothing.
//!
//! Invariant: what is counted up is counted down once, so the gauges of a limit at rest are zero.

#[cfg(feature = "metrics")]
use std::sync::OnceLock;

/// Nothing until it is named.
#[cfg(feature = "metrics")]
#[derive(Default)]
pub(super) struct Metrics(OnceLock<Told>);

#[cfg(feature = "metrics")]
struct Told {
    max: metrics::Gauge,
    in_flight: metrics::Gauge,
    queued: metrics::Gauge,
    rejected: metrics::Counter,
}

#[cfg(feature = "metrics")]
impl Metrics {
    /// Looks up its gauges, and tells how it stands. The first name stays.
    pub(super) fn named(&self, name: &str, max: usize, in_flight: usize) {
        let told = self.0.get_or_init(|| {
            let labels = [("limit", name.to_owned())];
            Told {
                max: metrics::gauge!("concurrency_limit_max", &labels),
                in_flight: metrics::gauge!("concurrency_limit_in_flight", &labels),
                queued: metrics::gauge!("concurrency_limit_queued", &labels),
                rejected: metrics::counter!("concurrency_limit_rejected_total", &labels),
            }
        });
        told.max.set(max as f64);
        told.in_flight.set(in_flight as f64);
    }

    pub(super) fn limited(&self, max: usize) {
        self.tell(|told| told.max.set(max as f64));
    }

    #[inline]
    pub(super) fn entered(&self) {
        self.tell(|told| told.in_flight.increment(1.0));
    }

    #[inline]
    pub(super) fn left(&self) {
        self.tell(|told| told.in_flight.decrement(1.0));
    }

    pub(super) fn joined_queue(&self) {
        self.tell(|told| told.queued.increment(1.0));
    }

    pub(super) fn left_queue(&self) {
        self.tell(|told| told.queued.decrement(1.0));
    }

    pub(super) fn rejected(&self) {
        self.tell(|told| told.rejected.increment(1));
    }

    #[inline]
    fn tell(&self, tell: impl FnOnce(&Told)) {
        if let Some(told) = self.0.get() {
            tell(told);
        }
    }
}

#[cfg(not(feature = "metrics"))]
#[derive(Default)]
pub(super) struct Metrics {}

#[cfg(not(feature = "metrics"))]
impl Metrics {
    pub(super) fn named(&self, _: &str, _: usize, _: usize) {}

    pub(super) fn limited(&self, _: usize) {}

    pub(super) fn entered(&self) {}

    pub(super) fn left(&self) {}

    pub(super) fn joined_queue(&self) {}

    pub(super) fn left_queue(&self) {}

    pub(super) fn rejected(&self) {}
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use std::{task::Context, time::Duration};

    use crate::{ConcurrencyLimit, OverflowQueue, told::Told};

    #[tokio::test]
    async fn places_queue_limit_and_refusals_are_told() {
        let told = Told::default();
        let limit = told.recording(|| ConcurrencyLimit::fixed(1).named("a"));
        assert_eq!(told.now(), [("concurrency_limit_max a", 1.0)]);
        let place = limit.try_acquire().expect("free");
        limit.try_acquire().expect_err("taken");
        let queue = OverflowQueue { len: 1, timeout: Duration::from_secs(60) };
        let mut waits = Box::pin(limit.acquire(queue));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(waits.as_mut().poll(&mut cx).is_pending());
        limit.acquire(queue).await.expect_err("the queue is full");
        let expected = [
            ("concurrency_limit_in_flight a", 1.0),
            ("concurrency_limit_max a", 1.0),
            ("concurrency_limit_queued a", 1.0),
            ("concurrency_limit_rejected_total a", 2.0),
        ];
        assert_eq!(told.now(), expected);
        limit.set_limit(7);
        drop(place);
        let place = waits.await.expect("a place");
        assert_eq!(
            told.now(),
            [
                ("concurrency_limit_in_flight a", 1.0),
                ("concurrency_limit_max a", 7.0),
                ("concurrency_limit_rejected_total a", 2.0)
            ]
        );
        drop(place);
        assert_eq!(told.now(), [("concurrency_limit_max a", 7.0), ("concurrency_limit_rejected_total a", 2.0)]);
    }

    #[tokio::test]
    async fn one_that_leaves_the_queue_is_not_counted_any_more() {
        let told = Told::default();
        let limit = told.recording(|| ConcurrencyLimit::fixed(0).named("a"));
        let queue = OverflowQueue { len: 1, timeout: Duration::from_secs(60) };
        let waits = limit.acquire(queue);
        assert_eq!(told.now(), [("concurrency_limit_queued a", 1.0)]);
        drop(waits);
        assert!(told.now().is_empty());
    }

    #[test]
    fn a_limit_without_a_name_tells_nothing() {
        let told = Told::default();
        let limit = told.recording(|| ConcurrencyLimit::fixed(1));
        let _place = told.recording(|| limit.try_acquire().expect("free"));
        assert!(told.now().is_empty());
    }
}

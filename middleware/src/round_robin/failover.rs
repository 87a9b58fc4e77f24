//! When a request is tried on another instance: the settings, and the three questions that only the user can answer.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{Method, request::Parts};

use super::{RetryBudget, budget::Bucket, ledger::Repeat, metrics::RoundMetrics};
use crate::{RejectReason, Rejected};

/// What is done when an attempt at a request fails.
///
/// An attempt that provably never started costs nothing but time: the next instance is tried, for any request, once per
/// instance. One that may have been processed is repeated only for an idempotent request, and only `attempts` times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failover {
    /// How many attempts at one request may have been processed by an instance, the first included. At least 1. Default: 3.
    pub attempts: u32,
    /// How long an attempt may take to the head of its response, on instances that are not
    /// [`local`](crate::Instance::local). Must be longer than the longest poll. Default: none.
    pub per_try: Option<Duration>,
    /// How much of an HTTP request's body is kept to be sent again, in bytes. Once more than that was sent, there is no
    /// further attempt. Default: 64 KiB.
    pub replay_limit: usize,
    /// How long a request waits when every instance was asked in vain and it may still be sent, because none has started
    /// it or because it is idempotent: until an instance becomes ready, trying again every 50 ms. Default: none, which is
    /// not at all.
    pub wait_for_ready: Option<Duration>,
    /// How many requests may be repeated, over all requests together; `None` is no bound but `attempts`. Default: 20 % of
    /// the requests, and 10 more.
    pub budget: Option<RetryBudget>,
}

impl Default for Failover {
    fn default() -> Self {
        Self {
            attempts: 3,
            per_try: None,
            replay_limit: 64 * 1024,
            wait_for_ready: None,
            budget: Some(RetryBudget::default()),
        }
    }
}

pub(super) type Ask<T> = dyn Fn(&T) -> bool + Send + Sync;

/// The settings that hold for any protocol, and what all requests share.
#[derive(Clone)]
pub(super) struct Rules {
    pub(super) failover: Failover,
    /// Circuits are ignored while a smaller part of the instances than this is available.
    pub(super) panic_below: f64,
    bucket: Option<Arc<Bucket>>,
    repeats_total: Arc<AtomicU64>,
    pub(super) metrics: RoundMetrics,
}

impl Rules {
    pub(super) fn set_failover(&mut self, failover: Failover) {
        self.bucket = failover.budget.map(|budget| Arc::new(Bucket::new(budget)));
        self.failover = failover;
    }

    /// A request came.
    pub(super) fn begun(&self) {
        if let Some(bucket) = &self.bucket {
            bucket.deposit();
        }
    }

    /// Whether a request that may have been processed may be repeated as far as all the others are concerned. If so, it
    /// counts as repeated.
    pub(super) fn pays_for_repeat(&self) -> bool {
        let paid = self.bucket.as_ref().is_none_or(|bucket| bucket.withdraw());
        if paid {
            self.repeats_total.fetch_add(1, Relaxed);
            self.metrics.repeated();
        } else {
            self.metrics.refused();
        }
        paid
    }

    /// Whether a circuit is ignored, so few of the instances are available.
    pub(super) fn ignores(&self, rejected: &Rejected, (available, count): (usize, usize)) -> bool {
        rejected.reason != RejectReason::Isolated && (available as f64) < self.panic_below * count as f64
    }

    pub(super) fn repeats_total(&self) -> u64 {
        self.repeats_total.load(Relaxed)
    }

    pub(super) fn budget_left(&self) -> Option<u32> {
        self.bucket.as_ref().map(|bucket| bucket.left())
    }
}

impl Default for Rules {
    fn default() -> Self {
        let failover = Failover::default();
        Self {
            failover,
            panic_below: 0.0,
            bucket: failover.budget.map(|budget| Arc::new(Bucket::new(budget))),
            repeats_total: Arc::default(),
            metrics: RoundMetrics::default(),
        }
    }
}

/// The settings with the answers to what they depend on: of a request `Q`, its response `R` and its error `E`.
pub(super) struct Policy<Q, R, E> {
    pub(super) rules: Arc<Rules>,
    pub(super) never_sent: Option<Arc<Ask<E>>>,
    pub(super) refused: Option<Arc<Ask<R>>>,
    pub(super) idempotent: Arc<Ask<Q>>,
}

impl<Q, R, E> Policy<Q, R, E> {
    pub(super) fn new(idempotent: impl Fn(&Q) -> bool + Send + Sync + 'static) -> Self {
        Self { rules: Arc::default(), never_sent: None, refused: None, idempotent: Arc::new(idempotent) }
    }

    pub(super) fn rules(&mut self) -> &mut Rules {
        Arc::make_mut(&mut self.rules)
    }

    pub(super) fn repeat(&self, request: &Q) -> Repeat {
        if (self.idempotent)(request) { Repeat::Idempotent } else { Repeat::Never }
    }

    pub(super) fn is_never_sent(&self, error: &E) -> bool {
        self.never_sent.as_ref().is_some_and(|ask| ask(error))
    }

    pub(super) fn is_refused(&self, response: &R) -> bool {
        self.refused.as_ref().is_some_and(|ask| ask(response))
    }

    /// Whether any outcome can tell that an instance did nothing.
    pub(super) fn knows_refusals(&self) -> bool {
        self.never_sent.is_some() || self.refused.is_some()
    }
}

impl<Q, R, E> Clone for Policy<Q, R, E> {
    fn clone(&self) -> Self {
        Self {
            rules: self.rules.clone(),
            never_sent: self.never_sent.clone(),
            refused: self.refused.clone(),
            idempotent: self.idempotent.clone(),
        }
    }
}

impl<Q, R, E> fmt::Debug for Policy<Q, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules.failover.fmt(f)
    }
}

/// By the method (RFC 9110), or by the client's word.
pub(super) fn is_idempotent(request: &Parts) -> bool {
    matches!(
        request.method,
        Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS | Method::TRACE
    ) || request.headers.contains_key("idempotency-key")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn a_post_is_idempotent_only_with_a_key() {
        let ask = |request: http::request::Builder| is_idempotent(&request.body(()).expect("valid").into_parts().0);
        assert!(ask(Request::get("/")));
        assert!(ask(Request::delete("/")));
        assert!(!ask(Request::post("/")));
        assert!(!ask(Request::patch("/")));
        assert!(ask(Request::post("/").header("Idempotency-Key", "1")));
    }
}

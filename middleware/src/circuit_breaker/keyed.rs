//! One breaker per key in front of a service: per route, per operation, per tenant.
//!
//! Invariant: the number of breakers is bounded. Keys beyond the bound share one breaker; nothing is ever evicted, as an
//! evicted circuit would forget that it is open.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::{CircuitBreaker, CircuitBreakerFuture, VerdictGuard};
use crate::{AutoClassify, AutoReject, Classify, GuardedBody, Protocol, RejectResponse};

/// Default of [`KeyedCircuitBreakerLayer::max_keys`].
const KEYS_MAX: usize = 1024;

type KeyOf<K> = dyn Fn(&Parts) -> Option<K> + Send + Sync;
type Make<K> = dyn Fn(&K) -> CircuitBreaker + Send + Sync;

/// Puts one [`CircuitBreaker`] per key in front of services.
///
/// Clones, and all services made from them, share the breakers.
pub struct KeyedCircuitBreakerLayer<K, C = AutoClassify, R = AutoReject> {
    breakers: Arc<RwLock<HashMap<K, CircuitBreaker>>>,
    key: Arc<KeyOf<K>>,
    make: Arc<Make<K>>,
    max_keys: usize,
    overflow: CircuitBreaker,
    classify: C,
    reject: R,
}

impl<K> KeyedCircuitBreakerLayer<K> {
    /// `key` finds a request's key from its head; a request without a key passes unguarded. `make` builds the breaker
    /// when a key is seen for the first time; it runs under the lock of the map, so it should only build.
    #[must_use]
    pub fn new(
        key: impl Fn(&Parts) -> Option<K> + Send + Sync + 'static,
        make: impl Fn(&K) -> CircuitBreaker + Send + Sync + 'static,
    ) -> Self {
        Self {
            breakers: Arc::default(),
            key: Arc::new(key),
            make: Arc::new(make),
            max_keys: KEYS_MAX,
            overflow: CircuitBreaker::builder("overflow").build(),
            classify: AutoClassify,
            reject: AutoReject,
        }
    }
}

impl<K, C, R> KeyedCircuitBreakerLayer<K, C, R> {
    /// How many keys get a breaker of their own. Default: 1024.
    #[must_use]
    pub fn max_keys(self, max_keys: usize) -> Self {
        Self { max_keys, ..self }
    }

    /// The breaker that the keys beyond [`max_keys`](Self::max_keys) share. Default: one named `overflow`, with the
    /// default settings.
    #[must_use]
    pub fn overflow(self, overflow: CircuitBreaker) -> Self {
        Self { overflow, ..self }
    }

    /// What counts as a failure.
    #[must_use]
    pub fn classify<D: Classify>(self, classify: D) -> KeyedCircuitBreakerLayer<K, D, R> {
        let Self { breakers, key, make, max_keys, overflow, classify: _, reject } = self;
        KeyedCircuitBreakerLayer { breakers, key, make, max_keys, overflow, classify, reject }
    }

    /// How a refusal is written.
    #[must_use]
    pub fn on_reject<Q: RejectResponse>(self, reject: Q) -> KeyedCircuitBreakerLayer<K, C, Q> {
        let Self { breakers, key, make, max_keys, overflow, classify, reject: _ } = self;
        KeyedCircuitBreakerLayer { breakers, key, make, max_keys, overflow, classify, reject }
    }
}

impl<K: Clone + Eq + Hash, C, R> KeyedCircuitBreakerLayer<K, C, R> {
    /// All the keys that were seen so far with their breakers, in no order; without the shared one.
    #[must_use]
    pub fn breakers(&self) -> Vec<(K, CircuitBreaker)> {
        let breakers = self.breakers.read().unwrap_or_else(PoisonError::into_inner);
        breakers.iter().map(|(key, breaker)| (key.clone(), breaker.clone())).collect()
    }

    /// The breaker of this key, made now if it must be.
    #[must_use]
    pub fn breaker(&self, key: &K) -> CircuitBreaker {
        let breakers = self.breakers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(breaker) = breakers.get(key) {
            return breaker.clone();
        }
        if breakers.len() >= self.max_keys {
            return self.overflow.clone();
        }
        drop(breakers);
        let mut breakers = self.breakers.write().unwrap_or_else(PoisonError::into_inner);
        if breakers.len() >= self.max_keys && !breakers.contains_key(key) {
            return self.overflow.clone();
        }
        breakers.entry(key.clone()).or_insert_with(|| (self.make)(key)).clone()
    }
}

impl<K, C: Clone, R: Clone> Clone for KeyedCircuitBreakerLayer<K, C, R> {
    fn clone(&self) -> Self {
        Self {
            breakers: self.breakers.clone(),
            key: self.key.clone(),
            make: self.make.clone(),
            max_keys: self.max_keys,
            overflow: self.overflow.clone(),
            classify: self.classify.clone(),
            reject: self.reject.clone(),
        }
    }
}

impl<K, C, R> fmt::Debug for KeyedCircuitBreakerLayer<K, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCircuitBreakerLayer").field("max_keys", &self.max_keys).finish_non_exhaustive()
    }
}

impl<S, K, C: Clone, R: Clone> Layer<S> for KeyedCircuitBreakerLayer<K, C, R> {
    type Service = KeyedCircuitBreakerService<S, K, C, R>;

    fn layer(&self, inner: S) -> Self::Service {
        KeyedCircuitBreakerService { inner, layer: self.clone() }
    }
}

/// A service behind a [`KeyedCircuitBreakerLayer`].
pub struct KeyedCircuitBreakerService<S, K, C = AutoClassify, R = AutoReject> {
    inner: S,
    layer: KeyedCircuitBreakerLayer<K, C, R>,
}

impl<S: Clone, K, C: Clone, R: Clone> Clone for KeyedCircuitBreakerService<S, K, C, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S: fmt::Debug, K, C, R> fmt::Debug for KeyedCircuitBreakerService<S, K, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCircuitBreakerService").field("inner", &self.inner).field("layer", &self.layer).finish()
    }
}

impl<S, K, C, R, ReqB, ResB> Service<Request<ReqB>> for KeyedCircuitBreakerService<S, K, C, R>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    K: Clone + Eq + Hash,
    C: Classify,
    R: RejectResponse + Clone,
    ResB: Body<Data = Bytes>,
{
    type Response = Response<GuardedBody<ResB, VerdictGuard<C::Response>>>;
    type Error = S::Error;
    type Future = CircuitBreakerFuture<S::Future, C::Response, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let breaker = (self.layer.key)(&parts).map(|key| self.layer.breaker(&key));
        let request = Request::from_parts(parts, body);
        match breaker.map(|breaker| breaker.try_acquire()).transpose() {
            Ok(permit) => {
                let guard = permit.map(|permit| VerdictGuard::new(permit, self.layer.classify.request(&request)));
                CircuitBreakerFuture::call(self.inner.call(request), guard)
            }
            Err(refused) => {
                CircuitBreakerFuture::refused(refused, Protocol::of(request.headers()), self.layer.reject.clone())
            }
        }
    }
}

//! Layers that keep a service standing, over HTTP and gRPC alike: circuit breaker, round robin with failover, concurrency
//! limit, deadline, and the small ones around them.
//!
//! They work over any tower service of `http` requests: an axum `Router`, a tonic server, a tonic or hyper client. What
//! they have in common:
//!
//! - A rejection is a *response*, in the protocol of the request. The service's error type passes through untouched, and
//!   no layer fails in `poll_ready`.
//! - State belongs to the layer, not to the services made from it: applied once per route or once per connection, it is
//!   still one circuit and one limit.
//! - What is taken (a permit, a place) is taken in `call` and comes back by drop.
//! - No layer boxes futures or bodies, or needs its service to be `Clone` (except a round robin, which clones one for every
//!   attempt, and a queue of a concurrency limit).
//! - Breaker, limit and round robin also come for any `Service<Req>` at all: [`GenericCircuitBreakerLayer`],
//!   [`GenericConcurrencyLimitLayer`], [`GenericRoundRobin`].
//!
//! # A server's stack
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//!
//! use axum::{Router, body::Body, routing::get};
//! use campanile_middleware::*;
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let router = Router::new().route("/", get(|| async { "hello" }));
//! let breakers = KeyedCircuitBreakerLayer::new(
//!     |request| Some(request.uri.path().to_owned()),
//!     |path| CircuitBreaker::builder(path.as_str()).consecutive_failures(5).open_for(Duration::from_secs(30)).build(),
//! );
//! let here = Instance::new("here", router, CircuitBreaker::builder("here").build()).local();
//!
//! // Read top to bottom: a request meets the layers in this order, its response in the reverse.
//! let service = ServiceBuilder::new()
//!     // Outermost, so that whatever happens carries the id.
//!     .layer(RequestIdLayer::new())
//!     // Outside all that may refuse, so that refusals are logged too.
//!     .layer(AccessLogLayer::new())
//!     // A panic further in is still answered and logged.
//!     .layer(CatchPanicLayer::new())
//!     // Before anything is taken: a request that runs in a circle must not use up places.
//!     .layer(HopLimitLayer::new(3))
//!     // Bounds memory: nothing below ever holds more requests than this.
//!     .layer(ConcurrencyLimitLayer::fixed(1024))
//!     // Sees what the deadline does.
//!     .layer(breakers.clone())
//!     // Bounds all the attempts below together.
//!     .layer(DeadlineLayer::new(Duration::from_secs(30)))
//!     .service(RoundRobin::<_, Infallible, Body>::new([here]));
//!
//! let request = http::Request::get("/").body(Body::empty()).unwrap();
//! assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
//! assert_eq!(breakers.breakers().len(), 1);
//! # }
//! ```
//!
//! # Features
//!
//! - `tracing` (default): events for transitions, skipped instances and panics, and the access log.
//! - `metrics`: what breakers, limits and round robins do, for the recorder of the `metrics` crate that is installed when
//!   they are built; listed at [`CircuitBreaker`], [`ConcurrencyLimit`] and [`RoundRobin`].
//! - `h2`, `hyper`: [`is_never_sent`] knows more of the errors that prove that a request was not processed.
//! - `tower-http`: its classifiers decide what a failure is (`TowerHttpClassify`).

#[cfg(feature = "tracing")]
mod access_log;
mod answer;
mod body;
mod catch_panic;
mod circuit_breaker;
mod classify;
mod concurrency_limit;
mod deadline;
mod grpc_code;
mod hop_limit;
mod protocol;
mod reject;
mod request_id;
mod round_robin;
mod stack;
mod sync;
#[cfg(all(test, feature = "metrics"))]
mod told;
mod unwind;
mod verdict;

#[cfg(feature = "tracing")]
pub use access_log::{AccessLogFuture, AccessLogLayer, AccessLogService, Entry, Route};
pub use answer::AnswerFuture;
pub use body::{BodyGuard, GuardedBody, ReplayBody, ReplayError};
pub use catch_panic::{CatchPanicFuture, CatchPanicLayer, CatchPanicService};
pub use circuit_breaker::{
    Backoff, CircuitBreaker, CircuitBreakerBuilder, CircuitBreakerError, CircuitBreakerFuture, CircuitBreakerLayer,
    CircuitBreakerService, CircuitState, ErrorIsFailure, GenericCircuitBreakerFuture, GenericCircuitBreakerLayer,
    GenericCircuitBreakerService, HalfOpen, Judge, KeyedCircuitBreakerLayer, KeyedCircuitBreakerService, OpenCause,
    Permit, RecentCalls, RejectReason, Rejected, Snapshot, Subscription, Transition, VerdictGuard, Window,
};
pub use classify::{AutoClassify, AutoResponse, Classify, ClassifyResponse};
#[cfg(feature = "tower-http")]
pub use classify::{TowerHttpClassify, TowerHttpResponse};
pub use concurrency_limit::{
    Acquire, AdaptiveLimit, ConcurrencyLimit, ConcurrencyLimitError, ConcurrencyLimitFuture, ConcurrencyLimitLayer,
    ConcurrencyLimitService, GenericConcurrencyLimitFuture, GenericConcurrencyLimitLayer,
    GenericConcurrencyLimitService, Hold, LimitSnapshot, OverflowQueue, OverflowReject, Overloaded, Place, Turn,
};
pub use deadline::{DeadlineFuture, DeadlineLayer, DeadlineService};
pub use grpc_code::GrpcCode;
pub use hop_limit::{HopLimitLayer, HopLimitService, Hops};
pub use protocol::Protocol;
pub use reject::{AutoReject, RejectResponse, Rejection, RejectionCode};
pub use request_id::{RequestId, RequestIdFuture, RequestIdLayer, RequestIdService};
pub use round_robin::{
    AnsweredBy, Direct, Failover, GenericRoundRobin, GenericRoundRobinFuture, GenericRoundRobinLayer,
    GenericRoundRobinService, HealthCheck, Instance, InstanceSnapshot, RetryBudget, RoundRobin, RoundRobinError,
    RoundRobinFuture, RoundRobinLayer, RoundRobinService, RoundRobinSnapshot, ToAddress, is_never_sent,
};
pub use stack::{ClientStack, Guards, ServerFront, ServerStack};
pub use verdict::Verdict;

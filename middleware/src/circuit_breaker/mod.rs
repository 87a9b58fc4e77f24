//! A circuit breaker: stops calling a service that keeps failing, and finds out carefully when it is back.
//!
//! ```text
//!             failures in a row,                open time over, asked
//!             failure rate, slow calls
//!  ┌────────┐ ───────────────▶ ┌──────┐ ─────────────────────▶ ┌──────────┐
//!  │ Closed │                  │ Open │                        │ HalfOpen │
//!  └────────┘                  └──────┘ ◀───────────────────── └──────────┘
//!      ▲                                   a probe failed           │
//!      └────────────────────────────────────────────────────────────┘
//!                         enough probes succeeded
//!       isolate() ──▶ Isolated     disable() ──▶ Disabled     reset() ──▶ Closed
//! ```

mod backoff;
mod breaker;
mod builder;
mod future;
mod generic;
mod guard;
mod keyed;
mod layer;
mod machine;
mod metrics;
#[cfg(all(test, campanile_loom))]
mod orders;
mod permit;
mod snapshot;
mod subscription;
mod window;
mod word;

pub use backoff::Backoff;
pub use breaker::CircuitBreaker;
pub use builder::{CircuitBreakerBuilder, HalfOpen};
pub use future::CircuitBreakerFuture;
pub use generic::{
    CircuitBreakerError, ErrorIsFailure, GenericCircuitBreakerFuture, GenericCircuitBreakerLayer,
    GenericCircuitBreakerService, Judge,
};
pub use guard::VerdictGuard;
pub use keyed::{KeyedCircuitBreakerLayer, KeyedCircuitBreakerService};
pub use layer::{CircuitBreakerLayer, CircuitBreakerService};
pub use permit::{Permit, RejectReason, Rejected};
pub use snapshot::{CircuitState, OpenCause, RecentCalls, Snapshot, Transition};
pub use subscription::Subscription;
pub use window::Window;

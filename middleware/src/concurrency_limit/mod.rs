//! At most so many requests at once: a fixed number, or one that follows the service's latency. The next one is
//! refused, or waits its turn in a bounded queue.
//!
//! It is not a rate limit and knows no priorities. Invariants: one limit over everything that a layer and its clones are
//! applied to; a place is taken in `call` (readiness reserves nothing, so idle clones starve nobody) and comes back by
//! drop; who waits is served first come, first served, and nobody overtakes.

mod acquire;
mod admission;
mod future;
mod generic;
mod gradient;
mod layer;
mod limit;
mod metrics;
#[cfg(all(test, campanile_loom))]
mod orders;
mod overflow;
mod place;
mod queue;
mod word;

pub use acquire::Acquire;
pub use admission::Turn;
pub use future::ConcurrencyLimitFuture;
pub use generic::{
    ConcurrencyLimitError, GenericConcurrencyLimitFuture, GenericConcurrencyLimitLayer, GenericConcurrencyLimitService,
};
pub use gradient::AdaptiveLimit;
pub use layer::{ConcurrencyLimitLayer, ConcurrencyLimitService};
pub use limit::{ConcurrencyLimit, LimitSnapshot};
pub use overflow::{OverflowQueue, OverflowReject, Overloaded};
pub use place::{Hold, Place};

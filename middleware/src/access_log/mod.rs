//! One event per request, at the end of its response's body or at its drop.
//!
//! It logs no query, no header but the request id, no body. Invariant: a request that was begun while the log was on is
//! logged exactly once, however it ends.

mod entry;
mod layer;
mod route;

pub use entry::Entry;
pub use layer::{AccessLogFuture, AccessLogLayer, AccessLogService};
pub use route::Route;

//! Requests go to the instances of one service in turn, past those that are broken, and on to the next one when an
//! instance provably did nothing.

mod answered_by;
mod attempt;
mod failover;
mod future;
mod instance;
mod rotation;
mod service;

pub use answered_by::AnsweredBy;
pub use failover::Failover;
pub use future::RoundRobinFuture;
pub use instance::Instance;
pub use service::RoundRobin;

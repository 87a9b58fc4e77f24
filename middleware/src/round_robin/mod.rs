//! Requests go to the instances of one service in turn, past those that are broken, and on to the next one when an
//! instance provably did nothing.

mod answered_by;
mod budget;
mod drive;
mod exchange;
mod failover;
mod future;
mod health;
mod instance;
mod ledger;
mod never_sent;
mod pass;
mod replayed;
mod rotation;
mod service;
mod snapshot;
mod turns;
mod warm_up;

pub use answered_by::AnsweredBy;
pub use budget::RetryBudget;
pub use failover::Failover;
pub use future::RoundRobinFuture;
pub use health::HealthCheck;
pub use instance::Instance;
pub use never_sent::is_never_sent;
pub use service::RoundRobin;
pub use snapshot::{InstanceSnapshot, RoundRobinSnapshot};

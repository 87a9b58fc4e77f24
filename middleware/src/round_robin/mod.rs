//! Requests go to the instances of one service in turn, past those that are broken, and on to the next one when an
//! instance provably did nothing.

mod answered_by;
mod budget;
mod copied;
mod direct;
mod drive;
mod exchange;
mod failover;
mod future;
mod generic;
mod generic_layer;
mod health;
mod instance;
mod layer;
mod ledger;
mod metrics;
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
pub use copied::{GenericRoundRobinFuture, RoundRobinError};
pub use direct::{Direct, ToAddress};
pub use failover::Failover;
pub use future::RoundRobinFuture;
pub use generic::GenericRoundRobin;
pub use generic_layer::{GenericRoundRobinLayer, GenericRoundRobinService};
pub use health::HealthCheck;
pub use instance::Instance;
pub use layer::{RoundRobinLayer, RoundRobinService};
pub use never_sent::is_never_sent;
pub use service::RoundRobin;
pub use snapshot::{InstanceSnapshot, RoundRobinSnapshot};

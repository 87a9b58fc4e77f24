//! The running process: two ports, one stack, one broker, and its life from start to end.
//!
//! ```text
//!   listener ──► stack ──┬──► health, reflection, /health/instance
//!   (both ports)         └──► serving ──► this process: rest::router, grpc::routes ──► Broker
//!                                  └────► peers: another instance, over HTTP/2
//! ```
//! Not here: what requests mean. Invariants: nothing waits for ever, and nothing outlives [`run`].

mod branch;
mod dispatch;
mod error;
mod fork;
mod forward;
mod identity;
mod listener;
mod member;
mod operation;
mod patient_body;
mod patient_io;
mod peers;
mod probe;
mod run;
mod serving;
mod signals;
mod stack;
mod store;
mod verdict;

pub use error::ServeError;
pub use run::{End, run};
pub use stack::stack;

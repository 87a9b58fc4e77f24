//! The broker over gRPC: the original contract's two calls, `campanile.v1.Broker`, health and reflection.
//!
//! A call is read here into what [`crate::broker`] takes. Not here: limits on the number of calls, the circuit breaker,
//! deadlines, the socket. Invariant: a call means the same as over REST, and is refused with the same code.

mod health;
mod message_broker;
mod routes;
mod status;
mod v1;

#[cfg(test)]
mod tests;

pub use routes::{Options, health_routes, routes};

/// Messages, clients and servers as the protos declare them: `proto/message.proto` here.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::missing_errors_doc,
    clippy::allow_attributes_without_reason,
    reason = "generated code; which of these it needs depends on the generator"
)]
pub mod proto {
    tonic::include_proto!("_");

    /// As `proto/campanile/v1/broker.proto` declares them.
    pub mod v1 {
        tonic::include_proto!("campanile.v1");
    }

    /// The descriptors of all protos, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

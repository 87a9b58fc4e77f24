//! The broker over HTTP: the calls of the original contract, the settling of leased messages, and health.
//!
//! A request is read here into what [`crate::broker`] takes, and its answer is written as JSON. Not here: limits on the
//! number of requests, the circuit breaker, deadlines, the socket. Invariants: a payload leaves as the very bytes that
//! came in, and every refusal is a problem document with a stable code, naming the field that is wrong.

mod ack;
mod answer;
mod body;
mod consume;
mod delivery;
mod draft;
mod error;
mod fields;
mod health;
mod publish;
mod query;
mod register;
mod router;

#[cfg(test)]
mod tests;

pub use router::{Options, health_router, router};

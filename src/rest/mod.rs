//! The broker over HTTP: the calls of the original contract, those under `/v1`, health, and the description of all.
//!
//! A request is read here into what [`crate::broker`] takes, and its answer is written as JSON. Not here: limits on the
//! number of requests, the circuit breaker, deadlines, the socket. Invariants: a payload leaves as the very bytes that
//! came in, and every refusal is a problem document with a stable code, naming the field that is wrong.

mod answer;
mod asked;
mod body;
mod consume;
mod delivery;
mod docs;
mod draft;
mod error;
mod fields;
mod health;
mod held;
mod problems;
mod publish;
mod query;
mod register;
mod router;
mod v1;

#[cfg(test)]
mod tests;

pub use router::{Options, health_router, router, unknown_path};

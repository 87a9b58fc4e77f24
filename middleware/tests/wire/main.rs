//! The layers over real servers and clients on the loopback interface: what stands on the wire.

mod clients;
mod grpc;
#[cfg(feature = "hyper")]
mod hyper_errors;
#[cfg(feature = "h2")]
mod refused_streams;
mod rest;
mod servers;
mod streams;

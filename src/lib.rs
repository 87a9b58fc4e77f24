//! Campanile is a durable message broker: REST and gRPC over one file-backed engine, behind one stack of tower Layers.
//!
//! # Promises
//! 1. A 2xx or OK answer means that what it says is on disk: written and synced, not in a buffer.
//! 2. Nothing acknowledged is lost by kill -9, power loss, a torn write or a failed sync; damage that a crash cannot
//!    explain is refused with a clear message, or costs the one message that it hit and is reported; never skipped
//!    silently.
//! 3. Every queue is first in, first out in publish order; a message is with one consumer at a time; a late ack cannot
//!    remove a message that somebody else holds by now.
//! 4. The same request means the same over REST and gRPC, and meets the same layers in the same order.
//! 5. What was consumed takes no room, and what waits takes room on the disk alone: neither memory nor the start grows with
//!    either.
//! 6. Overload, a full disk, a standby and a failing store get a fast, typed refusal with a time to retry after; they
//!    never hang.
//!
//! # The picture
//! ```text
//!        REST clients :8001                     gRPC clients :50051
//!               │                                       │
//!   ┌───────────▼───────────────────────────────────────▼───────────┐
//!   │ server::stack      the same layers, the same order, one state │
//!   │  request id · access log · catch panic · hop limit            │
//!   │  concurrency limit · circuit breaker · deadline ·             │
//!   │  round robin over the broker's instances                      │
//!   └───────────┬───────────────────────────────────────┬───────────┘
//!          rest::router                            grpc::routes
//!               └───────────────────┬───────────────────┘
//!                            broker::Broker   checks, roles, log events
//!                                   │
//!                            engine::Engine   one deterministic state machine
//!                                   │
//!                       engine::journal       ordered, durable frames in files
//! ```
//! Data flows one way, and so do names: a module names those to its right only, never a sibling.
//! `cli → server | client → config → rest | grpc → observability → broker → engine → model`. The layers themselves are a crate
//! of their own, `campanile-middleware`, which names none of these.
//!
//! # Glossary
//! One word for each thing, here, in JSON, in the protos, in logs and in the documentation.
//!
//! - **topic**: a named, ordered log of messages.
//! - **queue**: a durable, named position in a topic. Consumers of one queue compete for its messages. `T` is the own
//!   queue of topic T, `T.S` that of service S on it.
//! - **service**: who has a queue of its own on topics, and an inbox: the topic and queue of its name.
//! - **message**: an id, a payload that is kept byte for byte, and what travels beside it.
//! - **delivery**: a message handed to a consumer.
//! - **lease**: a consumer's hold on a message, until it acks or the ack deadline is over.
//! - **ack id**: the opaque name of one delivery.
//! - **attempt**: a delivery that counts. One that was released does not.
//! - **dead letter**: a message that a queue has given up, with the reason; a **redrive** brings it back.
//! - **ordering key**: messages of one key are delivered one at a time, in publish order.
//! - **policy**: what was set of a topic or a queue: deadlines, attempts, backoff, limits.
//! - **credit**: how much the consumer of a stream may hold that it has not settled.
//! - **story**: what has happened to a message.
//! - **journal**: all changes, in order, on disk.
//! - **frame**: what one write and one sync make durable, all or nothing.
//! - **record**: one change within a frame.
//! - **checkpoint**: what the journal has brought so far, written where it need not be replayed from.
//! - **segment**: a file of messages that a checkpoint has written.
//! - **block**: a stretch of a segment that is read at once.
//! - **instance**: one process of the broker. Of those that share a data directory one is *active*, the others are
//!   *standbys*.

pub mod broker;
pub mod cli;
pub mod client;
pub mod config;
pub mod engine;
pub mod grpc;
pub mod model;
pub mod observability;
pub mod rest;
pub mod server;

//! What the layers promise, tested in one process and mostly on a paused clock.

mod access_log;
mod allocations;
mod balancing;
mod body_ends;
mod breaker_model;
mod circuit_breaker;
mod concurrency_limit;
mod contracts;
mod deadline;
mod generic;
mod generic_round_robin;
mod keyed;
mod limit_model;
mod limit_queue;
mod rates;
mod round_robin;
mod round_robin_layer;
mod simulation;
mod small_layers;
mod stacks;
mod support;
mod told;
mod unready;
mod why_it_must_exist;

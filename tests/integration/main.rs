//! The broker from outside: the real program as a process of its own, asked over REST and gRPC.
//!
//! Not here: how anything is done inside. What a test's name says is what the broker promises.

mod bad_input;
mod cli;
mod clients;
mod conformance;
mod contract;
mod crash;
mod doctor;
mod examples;
mod full_disk;
mod high_availability;
mod import;
mod ledger;
mod lifecycle;
mod original_clients;
mod process;
mod refused_start;
mod stack;
mod stage;
mod v1;

//! What the shared state of the layers is made of: the standard library's. With `--cfg campanile_loom` it is loom's,
//! which tries every order in which threads can meet there (`circuit_breaker/orders.rs`).

#[cfg(campanile_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};
pub(crate) use std::sync::PoisonError;
#[cfg(not(campanile_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

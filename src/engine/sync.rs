//! What the engine's threads are made of and meet at: the standard library's.
//!
//! With `--cfg campanile_shuttle` they are shuttle's instead, whose scheduler decides who runs next at each of these
//! calls; `tests::schedules` runs the engine under many such schedules. There a wait with a time limit never times out,
//! so that progress which only a time limit makes is found as a deadlock.

#[cfg(campanile_shuttle)]
pub(super) use shuttle::{
    sync::{Condvar, Mutex, MutexGuard, mpsc},
    thread::{self, JoinHandle},
};
#[cfg(not(campanile_shuttle))]
pub(super) use std::{
    sync::{Condvar, Mutex, MutexGuard, mpsc},
    thread::{self, JoinHandle},
};

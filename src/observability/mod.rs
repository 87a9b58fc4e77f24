//! What an operator sees of the running process: its log.
//!
//! Not here: what is logged (each module logs its own events). Invariant: the log goes to standard error only, so
//! that standard output stays free for what a command answers.

mod log;

pub use log::{BadFilter, LogFilter, LogFormat, Options, start};

//! Looking into a data directory: what is in it, and everything that is wrong with it.
//!
//! It changes nothing, makes nothing, takes no lock and syncs nothing ([`read_only`] sees to it), so it works on a
//! read-only mount and beside a broker at work; what it then sees may change under it. It is no part of any start, and
//! repairs nothing. The invariant: it finds nothing wrong with files exactly where a start would not refuse them. What
//! else a start needs it does not try: the lock, the right to write, room on the disk and for the topics of an import.
//!
//! Memory: the state, as at a start, and beside it one frame and a bounded report; the lists of files are as long as the
//! folders are.
//!
//! ```text
//!   names ──► Directory          journal::file::survey ──► frames ──► Replay ──► History, Contents
//!   LOCK ───► Holder                        └────────────► defects ──► Problem
//!   *.jsonl ► import::check                                               ▲
//!                └────────────────────────────────────────────────────────┘
//! ```

mod contents;
mod diagnosis;
mod examine;
mod problem;
mod read_only;
mod replay;

#[cfg(test)]
mod tests;

pub use self::{
    contents::{Contents, QueueContents},
    diagnosis::{Checkpoint, Diagnosis, Directory, WaitingFile},
    examine::diagnose,
    problem::Problem,
    replay::History,
};

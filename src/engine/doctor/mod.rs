//! Looking into a data directory: what is in it, and everything that is wrong with it.
//!
//! Looking changes nothing, makes nothing, takes no lock and syncs nothing ([`read_only`] sees to it), so it works on a
//! read-only mount and beside a broker at work; what it then sees may change under it. It is no part of any start. The
//! invariant: it finds nothing wrong with files exactly where a start would not refuse them. What else a start needs it
//! does not try: the lock, the right to write, room on the disk and for the topics of an import.
//!
//! Only a [`repair`] changes something, under the lock, and it removes nothing: see there.
//!
//! Memory: the state, as at a start, and beside it one frame and a bounded report; the lists of files are as long as the
//! folders are.
//!
//! ```text
//!   names ──► Directory          journal::file::survey ──► frames ──► Replay ──► History, Contents
//!   LOCK ───► Holder                        └────────────► defects ──► Problem
//!   *.jsonl ► import::check                                               ▲  └──► Plan ──► repair
//!                └────────────────────────────────────────────────────────┘
//! ```

mod contents;
mod diagnosis;
mod examine;
mod plan;
mod problem;
mod read_only;
mod repair;
mod replay;
mod report;
mod surgery;

#[cfg(test)]
mod repair_tests;
#[cfg(test)]
mod tests;

pub use self::{
    contents::{Contents, QueueContents},
    diagnosis::{Checkpoint, Diagnosis, Directory, WaitingFile},
    examine::diagnose,
    plan::{Action, GivenUp, Plan},
    problem::{Problem, Remedy},
    repair::{Repair, RepairError, repair},
    replay::History,
};

//! What was found in a data directory.

use std::{collections::BTreeSet, path::PathBuf};

use super::{Contents, History, Plan, Problem, Remedy};
use crate::engine::journal::{
    Position,
    file::{Holder, JournalReport},
};

/// What is in a data directory, and what is wrong with it.
#[derive(Debug)]
pub struct Diagnosis {
    /// The folder.
    pub data_dir: PathBuf,
    /// What it is. Of a folder that is not ours nothing else is looked at.
    pub directory: Directory,
    /// Who writes to it. If somebody does, what was seen may have changed under the look.
    pub holder: Holder,
    /// The last checkpoint; `None` if there is none, or none that can be used.
    pub checkpoint: Option<Checkpoint>,
    /// The files of the journal.
    pub journal: JournalReport,
    /// What could be read from the checkpoint, or else from the beginning, without a gap. All there is, if nothing is wrong.
    pub readable: History,
    /// What can be read behind a gap. A broker would not use it.
    pub behind: History,
    /// What the checkpoint and [`Diagnosis::readable`] amount to.
    pub contents: Contents,
    /// Files of the original broker that the next start takes over.
    pub waiting: Vec<WaitingFile>,
    /// Files of the original broker that have been taken over. They are not needed any more.
    pub taken_over: Vec<PathBuf>,
    /// What else is in the folder, and means nothing.
    pub others: Vec<PathBuf>,
    /// Everything that is wrong; the first [`Diagnosis::PROBLEMS_MAX`] of it.
    pub problems: Vec<Problem>,
    /// How many problems there are beyond these.
    pub problems_left_out: u64,
    /// What a repair would do; `None` if nothing has to be done, or nothing can.
    pub plan: Option<Plan>,
    /// What the problems ask for, those included that are left out.
    pub(super) remedies: BTreeSet<Remedy>,
    /// A broker replaced files during every look, so that what was missed may be no problem at all: none is told.
    pub is_inconclusive: bool,
}

/// A checkpoint: what stands in it need not be read from the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// It covers the journal up to this position.
    pub position: Position,
    /// How many segments hold its messages.
    pub segments: usize,
    /// How many messages it has that are still wanted, delayed ones included.
    pub messages: usize,
}

/// What a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directory {
    /// There is none.
    Missing,
    /// It cannot be listed.
    Unreadable,
    /// Somebody else's.
    Foreign,
    /// Nothing of ours stands in it yet.
    Empty,
    /// A store, or the beginnings of one.
    Ours,
}

/// A file of the original broker that waits to be taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingFile {
    /// The file.
    pub path: PathBuf,
    /// Lines with a message.
    pub messages: usize,
    /// Lines that cannot be read.
    pub damaged: usize,
    /// Whether its messages are in the store already, so that it will only be renamed.
    pub is_stored: bool,
}

impl Diagnosis {
    /// Most problems that are listed. A disk that is damaged all over would give millions, of which one learns no more.
    pub const PROBLEMS_MAX: usize = 100;

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether a broker does not start here until something has been done.
    #[must_use]
    pub fn stops_a_start(&self) -> bool {
        self.problems.iter().any(Problem::stops_a_start)
    }

    /// Whether something that stops a start cannot be repaired.
    #[must_use]
    pub fn is_beyond_repair(&self) -> bool {
        self.remedies.contains(&Remedy::None)
    }

    /// Adds a problem that is found behind another one: what it is about is given up when that one is repaired.
    pub(super) fn add_behind(&mut self, problem: Problem) {
        let remedies = self.remedies.clone();
        self.add(problem);
        self.remedies = remedies;
    }

    /// Adds a problem to the list.
    pub(super) fn add(&mut self, problem: Problem) {
        self.remedies.insert(problem.remedy());
        if self.problems.len() < Self::PROBLEMS_MAX {
            self.problems.push(problem);
        } else {
            self.problems_left_out += 1;
        }
    }
}

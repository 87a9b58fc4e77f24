//! What was found in a data directory.

use std::path::PathBuf;

use super::{Contents, History, Problem};
use crate::engine::journal::file::{Holder, JournalReport};

/// What is in a data directory, and what is wrong with it.
#[derive(Debug)]
pub struct Diagnosis {
    /// The folder.
    pub data_dir: PathBuf,
    /// What it is. Of a folder that is not ours nothing else is looked at.
    pub directory: Directory,
    /// Who writes to it. If somebody does, what was seen may have changed under the look.
    pub holder: Holder,
    /// The files of the journal.
    pub journal: JournalReport,
    /// What could be read from the beginning without a gap. All there is, if nothing is wrong.
    pub readable: History,
    /// What can be read behind a gap. A broker would not use it.
    pub behind: History,
    /// What [`Diagnosis::readable`] amounts to.
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

    /// Adds a problem to the list.
    pub(super) fn add(&mut self, problem: Problem) {
        if self.problems.len() < Self::PROBLEMS_MAX {
            self.problems.push(problem);
        } else {
            self.problems_left_out += 1;
        }
    }
}

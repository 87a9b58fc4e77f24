//! The thread that has the next journal file ready before it is needed, and parks those that are needed no more.
//!
//! It never touches a file that is being appended to. There is at most one file ahead, and nothing is tried twice unless
//! it is asked for again: a failure is handed to whoever takes the file.
//!
//! ```text
//!   want(plan) ──► wanted ──► (thread: make) ──► ready ──► take()
//!   retire(ids) ─► retired ─► (thread: park, in order)
//! ```

use std::{collections::VecDeque, io, sync::Arc};

use super::{
    file_id::FileId,
    ring::{Plan, ReadyFile, Ring},
};
use crate::engine::sync::{Condvar, JoinHandle, Mutex, MutexGuard, thread};

/// The owner of the thread; dropping it ends the thread, and waits for that.
#[derive(Debug)]
pub(super) struct Preparer {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

/// Where the thread and the appender meet. The lock is never held during I/O.
#[derive(Debug, Default)]
struct Desk {
    papers: Mutex<Papers>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Papers {
    phase: Phase,
    wanted: Option<Plan>,
    ready: Option<io::Result<ReadyFile>>,
    retired: VecDeque<FileId>,
    /// Why the first of `retired` is still there. Nothing is parked until somebody has been told.
    retire_failure: Option<io::Error>,
    /// The thread waits until somebody waits for it, so that its calls and the appender's come in the same order always.
    #[cfg(test)]
    is_held: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Running,
    /// The owner wants the thread to end.
    Closing,
    /// The thread has ended.
    Over,
}

enum Job {
    Park(FileId),
    Make(Plan),
}

impl Preparer {
    /// Starts the thread, which owns `ring` from here on, with the first file that it shall make.
    pub(super) fn start(ring: Ring, first: Plan) -> io::Result<Self> {
        let desk = Arc::new(Desk::default());
        desk.papers().wanted = Some(first);
        let thread = thread::Builder::new().name("journal-prepare".to_owned()).spawn({
            let desk = Arc::clone(&desk);
            move || desk.work(ring)
        })?;
        Ok(Self { desk, thread: Some(thread) })
    }

    /// Asks for the file after the one that was taken last.
    pub(super) fn want(&self, plan: Plan) {
        self.desk.papers().wanted = Some(plan);
        self.desk.changed.notify_all();
    }

    /// The file that was asked for, as soon as the disk has it.
    pub(super) fn take(&self) -> io::Result<ReadyFile> {
        let mut papers = self.desk.papers();
        loop {
            if let Some(ready) = papers.ready.take() {
                return ready;
            }
            if papers.phase == Phase::Over {
                return Err(io::Error::other("the thread that prepares journal files has ended"));
            }
            papers = self.desk.changed.wait(papers).expect("nobody panics with the papers in hand");
        }
    }

    /// The file that was asked for, if it is ready.
    pub(super) fn try_take(&self) -> Option<io::Result<ReadyFile>> {
        self.desk.papers().ready.take()
    }

    /// Hands over files that are needed no more, oldest first.
    ///
    /// # Errors
    /// Why an earlier one could not be parked; it is tried again now.
    pub(super) fn retire(&self, ids: impl IntoIterator<Item = FileId>) -> io::Result<()> {
        let mut papers = self.desk.papers();
        papers.retired.extend(ids);
        let failure = papers.retire_failure.take();
        self.desk.changed.notify_all();
        failure.map_or(Ok(()), Err)
    }

    /// From here on the thread works only while somebody waits for it to settle.
    #[cfg(test)]
    pub(super) fn hold(&self) {
        self.desk.papers().is_held = true;
    }

    /// Waits until there is nothing left to do.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        let mut papers = self.desk.papers();
        let was_held = std::mem::take(&mut papers.is_held);
        self.desk.changed.notify_all();
        while papers.wanted.is_some() || !(papers.retired.is_empty() || papers.retire_failure.is_some()) {
            papers = self.desk.changed.wait(papers).expect("nobody panics with the papers in hand");
        }
        papers.is_held = was_held;
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        let mut papers = self.desk.papers();
        if papers.phase == Phase::Running {
            papers.phase = Phase::Closing;
        }
        drop(papers);
        self.desk.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened, and failed the append that waited for it.
            let _ = thread.join();
        }
    }
}

impl Desk {
    fn papers(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().expect("nobody panics with the papers in hand")
    }

    fn work(&self, mut ring: Ring) {
        let _over = Over(self);
        while let Some(job) = self.next_job() {
            match job {
                Job::Park(id) => {
                    let parked = ring.park(id);
                    self.papers().parked(parked);
                }
                Job::Make(plan) => {
                    let made = ring.make(plan, &|| self.papers().phase != Phase::Running);
                    let mut papers = self.papers();
                    papers.wanted = None;
                    papers.ready = Some(made);
                }
            }
            self.changed.notify_all();
        }
    }

    /// Waits for something to do; `None` when it is time to end. Parking comes first: it is quick, and gives a spare.
    fn next_job(&self) -> Option<Job> {
        let mut papers = self.papers();
        loop {
            if papers.phase != Phase::Running {
                return None;
            }
            #[cfg(test)]
            if papers.is_held {
                papers = self.changed.wait(papers).expect("nobody panics with the papers in hand");
                continue;
            }
            match (papers.retired.front(), &papers.retire_failure, papers.wanted) {
                (Some(&id), None, _) => return Some(Job::Park(id)),
                (_, _, Some(plan)) => return Some(Job::Make(plan)),
                _ => papers = self.changed.wait(papers).expect("nobody panics with the papers in hand"),
            }
        }
    }
}

impl Papers {
    fn parked(&mut self, outcome: io::Result<()>) {
        match outcome {
            Ok(()) => drop(self.retired.pop_front()),
            Err(error) => self.retire_failure = Some(error),
        }
    }
}

/// Tells whoever waits that the thread has ended, also when it panicked.
struct Over<'a>(&'a Desk);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.papers().phase = Phase::Over;
        self.0.changed.notify_all();
    }
}

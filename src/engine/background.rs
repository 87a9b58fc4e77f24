//! Checkpoints beside the commit thread: at most one at a time, on a thread of its own.
//!
//! The commit thread begins one between two frames, with a copy of what it needs, and takes note of it when it is done;
//! nothing waits for it but the end of the engine. Invariants: the journal is trimmed only up to the position of a durable
//! checkpoint; no checkpoint is written any more once [`Checkpoints`] is gone.

use std::{
    path::PathBuf,
    sync::{Arc, mpsc::TryRecvError},
    time::{Duration, Instant},
};

use tracing::{debug, error, warn};

use super::{
    checkpoint::{CheckpointStore, Failed, Removal, SegmentId, Written},
    disk::Disk,
    inbox::Inbox,
    journal::Journal,
    space::Space,
    state::State,
    sync::{
        JoinHandle,
        mpsc::{self, Receiver},
        thread,
    },
};

/// How long after a checkpoint that failed the next one is tried: the journal keeps everything meanwhile.
const RETRY_AFTER: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(10) };

/// How many times as much as makes a checkpoint due may be in memory while it is written. With segments of 64 MiB that
/// is 32 MiB, and 128 MiB at most.
const RECENT_MAX_FACTOR: u64 = 4;

/// Which part of a segment is worth a checkpoint while there is little room on the disk.
const RECLAIM_LOW_DIVISOR: u64 = 16;

type Outcome = Result<Written, Failed>;

/// The checkpoints of an open store.
#[derive(Debug)]
pub(super) struct Checkpoints {
    store: CheckpointStore,
    space: Arc<Space>,
    running: Option<Running>,
    removing: Option<JoinHandle<()>>,
    retry_at: Option<Instant>,
    /// What a job was to write is lost, so no later one may let the journal forget it: only a restart helps.
    is_over: bool,
}

/// A checkpoint that is being written.
#[derive(Debug)]
struct Running {
    thread: JoinHandle<()>,
    /// Holds what has come of it before the commit thread is woken for that.
    outcome: Receiver<Outcome>,
}

/// Wakes the commit thread, also when the checkpoint has panicked.
struct WakeOnDrop(Arc<Inbox>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.wake();
    }
}

impl Checkpoints {
    pub(super) fn new(store: CheckpointStore, space: Arc<Space>) -> Self {
        Self { store, space, running: None, removing: None, retry_at: None, is_over: false }
    }

    /// Takes note of a checkpoint that is done, and begins one if it is due. To be called between two frames.
    pub(super) fn tend(&mut self, state: &mut State, journal: &mut dyn Journal, inbox: &Arc<Inbox>) {
        match self.running.as_ref().map(|running| running.outcome.try_recv()) {
            Some(Err(TryRecvError::Empty)) => return,
            Some(Ok(outcome)) => self.take_note(Some(outcome), state, journal),
            Some(Err(TryRecvError::Disconnected)) => self.take_note(None, state, journal),
            None => {}
        }
        if self.may_begin() && self.is_due(state, journal) {
            self.begin(state, journal, inbox);
        }
    }

    /// In how long [`Checkpoints::tend`] is to be called although nothing happens.
    pub(super) fn next_try(&self, state: &State, journal: &dyn Journal) -> Option<Duration> {
        if self.running.is_some() || self.is_over || !self.is_due(state, journal) {
            return None;
        }
        Some(self.retry_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now())))
    }

    /// Whether no more messages may come until a checkpoint has been written.
    pub(super) fn hold_back(&self, state: &State, journal: &dyn Journal) -> bool {
        journal.is_full() || state.recent_bytes() >= self.recent_bytes_target() * RECENT_MAX_FACTOR
    }

    /// Whether none will be written soon.
    pub(super) fn are_stuck(&self) -> bool {
        self.is_over || (self.running.is_none() && !self.may_begin())
    }

    /// What the files are read with.
    pub(super) fn place(&self) -> (Arc<dyn Disk>, PathBuf) {
        self.store.place()
    }

    /// A segment was found damaged.
    pub(super) fn is_damaged(&mut self, id: SegmentId) {
        self.store.is_damaged(id);
    }

    fn may_begin(&self) -> bool {
        !self.is_over && self.retry_at.is_none_or(|at| at <= Instant::now())
    }

    fn is_due(&self, state: &State, journal: &dyn Journal) -> bool {
        journal.is_long()
            || state.recent_bytes() >= self.recent_bytes_target()
            || state.segments.reclaimable_bytes() >= self.reclaim_bytes()
    }

    /// How much there has to be freed for that alone to be worth a checkpoint, in bytes.
    fn reclaim_bytes(&self) -> u64 {
        let is_low = self.space.is_low();
        if is_low { self.store.segment_bytes() / RECLAIM_LOW_DIVISOR } else { self.store.segment_bytes() }
    }

    /// Whether there is room on the disk.
    pub(super) fn space(&self) -> Arc<Space> {
        Arc::clone(&self.space)
    }

    /// How much of recent messages may be in memory before they are written, in bytes.
    fn recent_bytes_target(&self) -> u64 {
        self.store.segment_bytes() / 2
    }

    fn begin(&mut self, state: &mut State, journal: &dyn Journal, inbox: &Arc<Inbox>) {
        let job = self.store.begin(state, journal.end());
        let wake = WakeOnDrop(Arc::clone(inbox));
        let (sender, outcome) = mpsc::channel();
        let run = move || {
            let _wake = wake;
            // Dropped first, whatever happens: who is woken finds an outcome, or that there will be none.
            let sender = sender;
            // The commit thread has ended: it does not want to know any more.
            let _ = sender.send(job.run());
        };
        match thread::Builder::new().name("checkpoint".into()).spawn(run) {
            Ok(thread) => self.running = Some(Running { thread, outcome }),
            Err(failure) => {
                error!(error = &failure as &dyn std::error::Error, "no thread: no more checkpoints until a restart");
                self.is_over = true;
            }
        }
    }

    /// Removes what is not needed any more, beside the commit thread: freeing a large file takes a while.
    fn remove(&mut self, removal: Removal) {
        if let Some(removing) = self.removing.take() {
            // A thread that panicked has said so; the next start removes what it left.
            let _ = removing.join();
        }
        let thread = thread::Builder::new().name("remove".into()).spawn(move || removal.run());
        // Without a thread, the next start removes it.
        self.removing = thread.ok();
    }

    /// Waits for the checkpoint under way, if there is one, and takes note of it.
    pub(super) fn finish(&mut self, state: &mut State, journal: &mut dyn Journal) {
        if let Some(running) = &self.running {
            let outcome = running.outcome.recv().ok();
            self.take_note(outcome, state, journal);
        }
    }

    fn take_note(&mut self, outcome: Option<Outcome>, state: &mut State, journal: &mut dyn Journal) {
        if let Some(running) = self.running.take() {
            // It has told what came of it, or panicked, which is an outcome as well.
            let _ = running.thread.join();
        }
        match outcome {
            Some(Ok(written)) => {
                if written.lost > 0 {
                    error!(messages = written.lost, "messages that were to be moved on are damaged: they are lost");
                }
                let (position, removal) = self.store.finish(state, written);
                self.retry_at = None;
                self.remove(removal);
                debug!(%position, "checkpoint written");
                if let Err(failure) = journal.trim(position) {
                    // It is tried again with the next checkpoint.
                    warn!(error = &failure as &dyn std::error::Error, "the journal was not trimmed");
                }
            }
            Some(Err(failed)) => {
                let failure = &failed.error as &dyn std::error::Error;
                error!(error = failure, "checkpoint failed: the journal keeps everything");
                self.store.give_up(state, &failed);
                self.retry_at = Some(Instant::now() + RETRY_AFTER);
            }
            None => {
                error!("the checkpoint thread panicked: no more checkpoints until a restart");
                self.is_over = true;
            }
        }
    }
}

/// Whoever has a checkpoint written waits for it, however it ends itself: the lock on the directory is given back after
/// this, and who gets it next must be alone there.
impl Drop for Checkpoints {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // What came of it is for the next start to find.
            let _ = running.thread.join();
        }
        if let Some(removing) = self.removing.take() {
            // As in `remove`.
            let _ = removing.join();
        }
    }
}

#[cfg(test)]
mod tests;

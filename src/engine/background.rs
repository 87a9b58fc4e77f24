//! Checkpoints beside the commit thread: at most one at a time, on a thread of its own.
//!
//! The commit thread begins one between two frames, with a copy of what it needs, and takes note of it when it is done;
//! nothing waits for it. Invariant: the journal is trimmed only up to the position of a durable checkpoint.

use std::{
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tracing::{debug, error, warn};

use super::{
    checkpoint::{CheckpointStore, Failed, Written},
    inbox::Inbox,
    journal::Journal,
    state::State,
};

/// How long after a checkpoint that failed the next one is tried: the journal keeps everything meanwhile.
const RETRY_AFTER: Duration = Duration::from_secs(10);

type Outcome = Result<Written, Failed>;

/// The checkpoints of an open store.
#[derive(Debug)]
pub(super) struct Checkpoints {
    store: CheckpointStore,
    running: Option<JoinHandle<Outcome>>,
    retry_at: Option<Instant>,
    /// What a job was to write is lost, so no later one may let the journal forget it: only a restart helps.
    is_over: bool,
}

impl Checkpoints {
    pub(super) fn new(store: CheckpointStore) -> Self {
        Self { store, running: None, retry_at: None, is_over: false }
    }

    /// Takes note of a checkpoint that is done, and begins one if it is due. To be called between two frames.
    pub(super) fn tend(&mut self, state: &mut State, journal: &mut dyn Journal, inbox: &Arc<Inbox>) {
        if self.running.as_ref().is_some_and(|running| !running.is_finished()) {
            return;
        }
        self.finish(state, journal);
        let may_try = self.retry_at.is_none_or(|at| at <= Instant::now());
        if may_try && !self.is_over && journal.is_long() && state.is_settled() {
            self.begin(state, journal, inbox);
        }
    }

    fn begin(&mut self, state: &mut State, journal: &dyn Journal, inbox: &Arc<Inbox>) {
        let job = self.store.begin(state, journal.end());
        let inbox = Arc::clone(inbox);
        let run = move || {
            let outcome = job.run();
            inbox.wake();
            outcome
        };
        match std::thread::Builder::new().name("checkpoint".into()).spawn(run) {
            Ok(thread) => self.running = Some(thread),
            Err(failure) => {
                error!(error = &failure as &dyn std::error::Error, "no thread: no more checkpoints until a restart");
                self.is_over = true;
            }
        }
    }

    /// Waits for the checkpoint under way, if there is one, and takes note of it.
    pub(super) fn finish(&mut self, state: &mut State, journal: &mut dyn Journal) {
        let Some(running) = self.running.take() else { return };
        match running.join() {
            Ok(Ok(written)) => {
                let position = self.store.finish(state, written);
                self.retry_at = None;
                debug!(%position, "checkpoint written");
                if let Err(failure) = journal.trim(position) {
                    // It is tried again with the next checkpoint.
                    warn!(error = &failure as &dyn std::error::Error, "the journal was not trimmed");
                }
            }
            Ok(Err(failed)) => {
                let failure = &failed.error as &dyn std::error::Error;
                error!(error = failure, "checkpoint failed: the journal keeps everything");
                self.store.give_up(state, &failed);
                self.retry_at = Some(Instant::now() + RETRY_AFTER);
            }
            Err(_) => {
                error!("the checkpoint thread panicked: no more checkpoints until a restart");
                self.is_over = true;
            }
        }
    }
}

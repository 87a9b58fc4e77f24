//! The engine: one deterministic state machine over a [`journal::Journal`], and the semantics of the broker in it.
//!
//! Not here: HTTP, gRPC, and who asks. Promises, each with a test behind it:
//!
//! - An answer that says *done* leaves after the records that make it so have been written and synced. An answer shows
//!   nothing that is not durable.
//! - The state changes by applying records in order, and by nothing else; so a restart, which applies them again, ends
//!   in the same state.
//! - Messages of a queue are handed out in publish order, each to one consumer at a time. A message that was given back
//!   is handed out again in its old place. A late ack does nothing.
//! - A failed write or sync ends the engine: what was under way is answered as *outcome unknown*, nothing more is taken,
//!   and only a restart, which reads the journal again, tells what is stored.
//!
//! ```text
//!   callers' tasks          commit thread
//!   seal: encode, checksum ──► Inbox ──► Step decides ──► FrameBuf ──► Journal: write, sync ──► answers
//!                                            │  ▲
//!                                            ▼  │
//!                                           State
//! ```
//!
//! Beside the commit thread, checkpoints write what stays of the journal into segments and a manifest, so that the
//! journal can be cut off: disk and start depend on what waits, not on what has passed through (see `checkpoint`). The state itself, with the messages that wait, is in memory.
//!
//! A step decides on a state that is ahead of the disk by at most the open frame. That is sound because nobody sees it:
//! every answer, refusals and empty ones included, waits for the frame; and when the frame fails, state and thread go.

mod background;
mod checkpoint;
mod clock;
mod commit;
pub mod disk;
mod doctor;
mod error;
mod import;
mod inbox;
pub mod journal;
mod open;
mod options;
mod reply;
mod request;
mod sealed;
mod state;
mod verbs;
mod waiters;

#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::{oneshot, watch};
use uuid::Uuid;

pub use self::{
    checkpoint::LoadError,
    clock::Clock,
    doctor::{Checkpoint, Contents, Diagnosis, Directory, History, Problem, QueueContents, WaitingFile, diagnose},
    error::{EngineError, OpenError},
    import::{ImportError, ImportReport},
    open::Recovery,
    options::Options,
    reply::{AckMode, Acked, Published, PublishedMessage, QueueStatistics, Receive, Registered, Statistics},
    sealed::{Dedup, Sealed},
};
use self::{inbox::Inbox, request::Verb};
use crate::model::{AckId, AckKey, Delivery, Draft, Name};

/// An open engine. Clones share it.
#[derive(Debug, Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inbox: Arc<Inbox>,
    failed: watch::Receiver<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
    options: Options,
    store_uuid: Uuid,
    ack_key: AckKey,
    recovery: Recovery,
    /// Held for as long as the engine lives.
    _lock: Option<journal::file::DirLock>,
}

impl Engine {
    /// Stores messages in a topic, all or none; a topic that does not exist yet comes into being.
    ///
    /// # Errors
    /// [`EngineError`].
    ///
    /// # Cancel safety
    /// Dropped early, the messages may or may not be stored.
    pub async fn publish(&self, topic: Name, drafts: Vec<Draft>) -> Result<Published, EngineError> {
        let window = self.shared.options.dedup_window;
        let messages: Vec<_> = drafts.into_iter().map(|draft| Sealed::new(draft, window)).collect();
        self.check_fits(&messages)?;
        self.ask(|reply| Verb::Publish { topic, messages, reply }).await
    }

    /// Declares the inbox of a service and its queues on topics, all or none.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn register(&self, service: Name, topics: Vec<Name>) -> Result<Registered, EngineError> {
        self.ask(|reply| Verb::Register { service, topics, reply }).await
    }

    /// Hands out the next messages of a queue, waiting for the first one if it is asked to.
    ///
    /// # Errors
    /// [`EngineError`].
    ///
    /// # Cancel safety
    /// A dropped receive that still waits takes nothing. One that is dropped while its messages become durable has
    /// taken them: acked at once they are gone, leased they come back at their deadline.
    pub async fn receive(&self, receive: Receive) -> Result<Vec<Delivery>, EngineError> {
        self.ask(|reply| Verb::Receive { receive, reply }).await
    }

    /// Acks deliveries of a queue, each on its own; `None` stands for an ack id that could not be read.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn ack(&self, queue: Name, ids: Vec<Option<AckId>>) -> Result<Vec<Acked>, EngineError> {
        self.ask(|reply| Verb::Ack { queue, ids, reply }).await
    }

    /// Counts what the engine holds. Looks at every message, so it is for tests and for people, not for every second.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn statistics(&self) -> Result<Statistics, EngineError> {
        self.ask(|reply| Verb::Statistics { reply }).await
    }

    /// Moves the engine's clock ahead, for tests.
    pub fn advance_clock(&self, by: Duration) {
        self.shared.options.clock.advance(by);
        self.shared.inbox.wake();
    }

    /// Takes no more requests, carries out those that are in, and ends.
    pub async fn close(&self) {
        self.shared.inbox.close();
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A thread that panicked has said so; there is nothing left to do for it.
            let _ = tokio::task::spawn_blocking(|| thread.join()).await;
        }
    }

    /// Completes when the store has failed; never if it does not.
    pub async fn failed(&self) {
        let mut failed = self.shared.failed.clone();
        if failed.wait_for(|failed| *failed).await.is_err() {
            // The thread ended in order.
            std::future::pending::<()>().await;
        }
    }

    /// Whether the store has failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        *self.shared.failed.borrow()
    }

    /// The store's id.
    #[must_use]
    pub fn store_uuid(&self) -> Uuid {
        self.shared.store_uuid
    }

    /// What signs the ack ids of this store.
    #[must_use]
    pub fn ack_key(&self) -> AckKey {
        self.shared.ack_key.clone()
    }

    /// What the start found.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.shared.recovery
    }

    fn check_fits(&self, messages: &[Sealed]) -> Result<(), EngineError> {
        let (bytes, max) = (request::frame_bytes_of(messages), self.shared.options.frame_bytes_max());
        if bytes > max { Err(EngineError::MessageTooLarge { bytes, max }) } else { Ok(()) }
    }

    async fn ask<T>(
        &self,
        verb: impl FnOnce(oneshot::Sender<Result<T, EngineError>>) -> Verb,
    ) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.shared.inbox.put(verb(reply)).await?;
        // The thread ended without an answer only if it panicked: what it was doing is not known.
        answer.await.unwrap_or(Err(EngineError::OutcomeUnknown))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.inbox.close();
        if let Some(thread) = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            // As in `close`.
            let _ = thread.join();
        }
    }
}

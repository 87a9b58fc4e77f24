//! The engine: one deterministic state machine over a [`journal::Journal`], and the semantics of the broker in it.
//!
//! Not here: HTTP, gRPC, and who asks. This page is for whoever has to trust it: what it promises, where everything is,
//! what a start does, what is answered when the disk fails, and how each of that is proved.
//!
//! # Promises
//! - An answer that says *done* leaves after the records that make it so have been written and synced. An answer shows
//!   nothing that is not durable.
//! - The state changes by applying records in order, and by nothing else; so a restart, which applies them again, ends
//!   in the same state.
//! - Messages of a queue are handed out in publish order, each to one consumer at a time. A message that was given back
//!   is handed out again in its old place. A late ack does nothing.
//! - A failed write or sync of the journal ends the engine: what was under way is answered as *outcome unknown*, nothing
//!   more is taken, and only a restart, which reads the journal again, tells what is stored.
//! - Neither memory nor the time of a start depends on how much waits: messages wait on the disk.
//!
//! # How a request is carried out
//! ```text
//!   callers' tasks          commit thread
//!   seal: encode, checksum ──► Inbox ──► Step decides ──► FrameBuf ──► Journal: write, sync ──► answers
//!                                            │  ▲                │
//!                                            ▼  │                └──► State: what is recent, in memory
//!                                           State                              │ checkpoint thread
//!                                               ▲                              ▼
//!                                               └── reading threads ◄── segments, dedup ids, manifest
//! ```
//! A step decides on a state that is ahead of the disk by at most the open frame. That is sound because nobody sees it:
//! every answer, refusals and empty ones included, waits for the frame; and when the frame fails, state and thread go.
//!
//! The state knows positions: what each queue has been handed out, what its consumers hold, what came back. A message
//! has no object in it. Which ones are wanted follows from the positions, and where each stands from the index of the
//! segments, about a hundred bytes for each 128 KiB of messages. Messages that no checkpoint has written yet are in
//! memory as well, 128 MiB of them at most; then publishers wait until one has, and consumers do not.
//!
//! What came back, and what waits for another message of its ordering key, stands in the lanes of its queue (`state::lanes`):
//! one for each key, in publish order, which take turns. A receive looks a thousand messages ahead for keys that are free,
//! and passes over 20,000 of a queue at most; behind those no further key is looked for, and `explain` says so.
//!
//! Looks ([`Engine::browse`], [`Engine::explain`], [`Engine::story`]) are answered by the commit thread from the state, and
//! read messages that are not in memory themselves. The story of a message is what this instance has seen: it is in memory,
//! the latest 100,000 events of what went well and as many of what did not.
//!
//! A receive whose message is not in memory stands in line, in its turn, until a thread has read the block that has it,
//! and what comes after it is read ahead. The commit thread itself never reads.
//!
//! # Where everything is
//! | file | what | its format |
//! |---|---|---|
//! | `STORE` | which store this is, and the key that signs ack ids | `journal::file::store` |
//! | `LOCK` | who has the directory open | `journal::file::lock` |
//! | `journal/<id>.wal` | frames of records, 64 MiB a file, recycled | `journal::file` (`file_header`, `frame_header`), [`journal::Record`] |
//! | `MANIFEST` | positions, names and files, as of a position in the journal; replaced as a whole | `checkpoint::manifest`, `checkpoint::queue_content` |
//! | `segments/<id>.seg` | messages that stay, side by side per topic, with an index; written once | `checkpoint::segment`, `checkpoint::index` |
//! | `segments/<id>.ids` | dedup ids whose window is not over; written once | `checkpoint::ids` |
//! | `segments/<id>.damaged` | a segment in which something was damaged, once nothing in it is wanted any more | as a segment |
//! | `set-aside/<time>/` | what `campanile doctor --repair` has put aside | `doctor` |
//!
//! Each format has its ruler on the page named. All are little-endian, begin with magic and version, and have a CRC-32C
//! over everything; a message's own checksum is computed where it enters and verified on every delivery from the disk.
//!
//! # Checkpoints
//! When three journal files are full, or 32 MiB of messages are in memory only, or a segment's worth of room can be
//! freed, a thread of its own writes what is recent and still wanted to new segments, syncs, replaces the manifest, and
//! only then the journal is cut off. What was consumed by then is never written twice. A segment of which less than half
//! is wanted has the rest moved on, at most about a segment's worth each time, so that one straggler holds up no more
//! than itself; so the disk holds at most twice what waits, and the journal.
//!
//! # What a start does
//! 1. Takes the lock. A directory that somebody else has open is left alone; whoever had it has ended then, with the
//!    checkpoint that it may have had under way.
//! 2. Syncs the folders before anything is done about what stands in them: where only the process was killed, not all that
//!    can be seen is durable.
//! 3. Reads the manifest and the indexes of the segments it names; what an unfinished checkpoint left is removed. An index
//!    that is damaged is made again from the records.
//! 4. Reads the journal from the manifest's position on, past the page cache, and applies it. A frame that was cut off by
//!    a crash is the end; damage to what had been synced refuses the start, by name and place (see
//!    `journal::file::recovery` for how the two are told apart, and for the one case in which they cannot be: the very last
//!    frame).
//! 5. Begins a new journal file, never behind a torn frame.
//!
//! # When the disk fails
//! | what | answer |
//! |---|---|
//! | writing or syncing the journal | requests under way are answered [`EngineError::OutcomeUnknown`], the engine ends; a sync is never tried again |
//! | a checkpoint | it is tried again every 10 s; the journal keeps everything; when no more fits, publishes are refused as [`EngineError::Full`] and consumers go on |
//! | reading a segment | [`EngineError::Unreadable`], and the next receive tries again; of a block only some pages of which can be read, the messages in these are delivered |
//! | a message in a segment is damaged | it is reported, counted as done with, and never delivered; the others are; the segment is set aside, not removed |
//! | little room | publishes are refused as [`EngineError::StorageFull`], consumers go on and free it (see `space`) |
//!
//! # Proof
//! - *Crash simulator* (`tests::crash`): every operation of a workload on a disk in memory is a moment at which the power
//!   may fail, or the process alone be killed and the power fail later; images of what may be left then, torn and reordered,
//!   are recovered, also with another crash in the recovery, and compared to the last byte with the states that were. 20,000
//!   images in each test run; 1,000,044 with 3,046 checkpoints in one hunt without a violation
//!   (`CAMPANILE_CRASH_IMAGES=1000000 CAMPANILE_CRASH_SEED=11000001 cargo test --release --lib nothing_acknowledged`, with
//!   `CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true`, ten minutes). Five mistakes made on purpose are each caught: an ack before the sync, a folder
//!   that is not synced, a journal cut off before its checkpoint, appending behind a torn frame, a checksum without the
//!   file's id.
//! - *Faults* (`tests::faults`): every kind of call of a whole engine fails once, at one place after the other, with EIO,
//!   ENOSPC, a short write, a sync that leaves clean pages: when it starts, appends, writes checkpoints, moves messages on,
//!   removes segments, takes over a file. What clients were told is kept. `CAMPANILE_EVERY_FAULT` tries every single call.
//!   The same for repairs (`doctor`), also with the power lost at every call.
//! - *Model* (`tests::model`): random operations against plain lists, over the journal in files and the one in memory,
//!   with restarts; another engine that applies the same frames comes to the same state and delivers the same.
//! - *Damage* (`tests::damage`; more closely `tests::checkpoints`, `journal::file`, `doctor`): bits flipped in every kind of
//!   file, and each cut off: a refusal that names the file, or the one message lost that stood there.
//! - *Decoders* (`tests::decoders`, `tests/fuzz`): arbitrary bytes behind checksums that were made right, in every run and
//!   for a fuzzer; no panic, and what is read is what would be written.
//! - *Formats* (`tests::formats`): a directory of each earlier format opens with everything in it.
//! - *Schedules* (`tests::schedules`): publishers, receivers, checkpoints, readers and the end of the engine under 2,400
//!   schedules of their threads in each run of the checks, chance and priorities; nobody waits for ever.
//! - *Kills*: the real binary, with producers and consumers that keep a ledger (`tests/integration/crash.rs`).
//!
//! Figures: `cargo bench --bench engine`.

mod background;
mod checkpoint;
mod clock;
mod commit;
pub mod disk;
mod doctor;
mod error;
mod freeing;
mod import;
mod inbox;
pub mod journal;
mod looking;
mod manage;
mod open;
mod options;
mod reading;
mod reply;
mod request;
mod sealed;
mod space;
mod state;
mod sync;
mod verbs;
mod views;
mod waiters;

#[cfg(test)]
mod tests;

/// What reads bytes that others may have changed, for a fuzzer: see `tests/fuzz`.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing {
    pub use super::{
        checkpoint::fuzzing::{block, dedup_ids, manifest},
        import::fuzz_line as import_line,
        journal::fuzzing::records,
    };
}

use std::{
    pin::Pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::{oneshot, watch};
use uuid::Uuid;

pub use self::{
    checkpoint::LoadError,
    clock::Clock,
    doctor::{
        Action, Checkpoint, Contents, Diagnosis, Directory, GivenUp, History, Plan, Problem, QueueContents, Remedy,
        Repair, RepairError, WaitingFile, diagnose, repair,
    },
    error::{EngineError, OpenError},
    import::{DamagedLines, ImportError, ImportObserver, ImportPass, ImportProgress, ImportReport},
    journal::{DeadCause, Reason, ReturnCause},
    manage::{Base, Manage, Managed, Pace, PurgeScope, Redrive},
    open::Recovery,
    options::{Limits, Options},
    reply::{
        AckMode, Counters, Nack, NackOutcome, Published, PublishedMessage, QueueStatistics, Receive, Registered,
        Settled, SettledAll, Settlement, Statistics,
    },
    sealed::{Dedup, Sealed},
    space::StorageLow,
    views::{
        Browse, Browsed, Event, EventKind, Explanation, Found, HeldKey, MessageState, Obstacle, Page, QueueState,
        QueueView, ServiceView, StateFilter, Story, TopicView,
    },
};
use self::{
    inbox::Inbox,
    request::Verb,
    space::{Space, SpaceWatch},
    sync::{JoinHandle, Mutex},
    verbs::Publication,
};
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
    space: Option<Arc<Space>>,
    /// Both are held for as long as the engine lives.
    _watch: Option<SpaceWatch>,
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
        self.begin_publish(topic, drafts).await?.await
    }

    /// As [`Engine::publish`], in two steps: with the first one the messages have their place behind whatever was begun
    /// before, with the second one they are durable.
    ///
    /// # Errors
    /// [`EngineError`].
    ///
    /// # Cancel safety
    /// Dropped in the first step, nothing is stored.
    pub async fn begin_publish(&self, topic: Name, drafts: Vec<Draft>) -> Result<Pending<Published>, EngineError> {
        let publication = self.seal(topic, drafts);
        self.check_fits(request::frame_bytes_of(&publication.messages))?;
        self.check_storage()?;
        self.begin(|reply| Verb::Publish { publication, reply }).await
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
    /// taken them: acked at once they are gone, leased they go back at once, and those deliveries do not count.
    pub async fn receive(&self, receive: Receive) -> Result<Vec<Delivery>, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.shared.inbox.put(Verb::Receive { receive, reply }).await?;
        let mut claim = Claim { inbox: &self.shared.inbox, answer };
        // As in `ask`.
        (&mut claim.answer).await.unwrap_or(Err(EngineError::OutcomeUnknown))
    }

    /// Lets go of leases whose client has gone: those of them that still stand end, and the deliveries do not count.
    /// Neither waits nor fails; it is not durable when it returns.
    pub fn give_back(&self, leases: impl IntoIterator<Item = AckId>) {
        self.shared.inbox.give_back(leases);
    }

    /// Acks deliveries of a queue, each on its own; `None` stands for an ack id that could not be read.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn ack(&self, queue: Name, ids: Vec<Option<AckId>>) -> Result<Vec<Settled>, EngineError> {
        let items = ids.into_iter().map(|id| (id, Settlement::Ack)).collect();
        self.settle_each(Some(queue), items).await
    }

    /// Settles deliveries, each on its own; `None` stands for an ack id that could not be read. With the name of a queue,
    /// only deliveries of that queue are settled.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn settle_each(
        &self,
        queue: Option<Name>,
        items: Vec<(Option<AckId>, Settlement)>,
    ) -> Result<Vec<Settled>, EngineError> {
        self.begin_settle(queue, items).await?.await
    }

    /// As [`Engine::settle_each`], in two steps as [`Engine::begin_publish`].
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn begin_settle(
        &self,
        queue: Option<Name>,
        items: Vec<(Option<AckId>, Settlement)>,
    ) -> Result<Pending<Vec<Settled>>, EngineError> {
        self.begin(|reply| Verb::SettleEach { queue, items, reply }).await
    }

    /// Settles deliveries, of whatever queues, and publishes messages, in one durable step: all of it, or nothing.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn settle_all(
        &self,
        items: Vec<(Option<AckId>, Settlement)>,
        publications: Vec<(Name, Vec<Draft>)>,
    ) -> Result<SettledAll, EngineError> {
        let publications: Vec<_> = publications.into_iter().map(|(topic, drafts)| self.seal(topic, drafts)).collect();
        let bytes = publications.iter().map(|publication| request::frame_bytes_of(&publication.messages)).sum();
        self.check_fits(bytes)?;
        if !publications.is_empty() {
            self.check_storage()?;
        }
        self.ask(|reply| Verb::SettleAll { items, publications, reply }).await
    }

    /// Counts what the engine holds. Looks at every message, so it is for tests and for people, not for every second.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn statistics(&self) -> Result<Statistics, EngineError> {
        self.ask(|reply| Verb::Statistics { reply }).await
    }

    /// The engine's clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared.options.clock
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

    /// How much room is missing on the disk, if publishes are refused for that.
    #[must_use]
    pub fn storage_low(&self) -> Option<StorageLow> {
        self.shared.space.as_ref()?.low()
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

    fn seal(&self, topic: Name, drafts: Vec<Draft>) -> Publication {
        let (now, window) = (self.shared.options.clock.now(), self.shared.options.dedup_window);
        let messages = drafts.into_iter().map(|draft| Sealed::new(draft, now, window)).collect();
        Publication { topic, messages }
    }

    fn check_fits(&self, bytes: usize) -> Result<(), EngineError> {
        let max = self.shared.options.frame_bytes_max();
        if bytes > max { Err(EngineError::MessageTooLarge { bytes, max }) } else { Ok(()) }
    }

    fn check_storage(&self) -> Result<(), EngineError> {
        match self.storage_low() {
            Some(StorageLow { free_bytes, reserve_bytes }) => {
                Err(EngineError::StorageFull { free_bytes, reserve_bytes })
            }
            None => Ok(()),
        }
    }

    async fn ask<T>(
        &self,
        verb: impl FnOnce(oneshot::Sender<Result<T, EngineError>>) -> Verb,
    ) -> Result<T, EngineError> {
        self.begin(verb).await?.await
    }

    async fn begin<T>(
        &self,
        verb: impl FnOnce(oneshot::Sender<Result<T, EngineError>>) -> Verb,
    ) -> Result<Pending<T>, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.shared.inbox.put(verb(reply)).await?;
        Ok(Pending { answer })
    }
}

/// Something that was begun: completes when it is durable, or refused.
///
/// # Cancel safety
/// Dropped, it may or may not have been carried out.
#[derive(Debug)]
#[must_use = "nothing is known of it before it is awaited"]
pub struct Pending<T> {
    answer: oneshot::Receiver<Result<T, EngineError>>,
}

impl<T> Future for Pending<T> {
    type Output = Result<T, EngineError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // The thread ended without an answer only if it panicked: what it was doing is not known.
        Pin::new(&mut self.answer).poll(context).map(|answer| answer.unwrap_or(Err(EngineError::OutcomeUnknown)))
    }
}

/// An answer that is waited for. Dropped before it is taken, what it hands out goes back.
struct Claim<'a> {
    inbox: &'a Inbox,
    answer: oneshot::Receiver<Result<Vec<Delivery>, EngineError>>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.answer.close();
        if let Ok(Ok(deliveries)) = self.answer.try_recv() {
            self.inbox.give_back(deliveries.into_iter().filter_map(|delivery| Some(delivery.lease?.ack_id)));
        }
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

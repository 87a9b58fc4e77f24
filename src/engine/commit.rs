//! The commit thread: takes what has arrived, decides it, makes it durable with one sync, answers.
//!
//! ```text
//!   inbox ──► decide + encode (Step) ──► Journal::append ──► answers
//!     ▲                                       │
//!     └── what arrives meanwhile waits ◄──────┘   natural group commit, no linger
//! ```
//!
//! Invariant: an answer leaves only after the frame that holds its records is durable, and no record of a later frame
//! was decided before. When an append fails nothing is answered as done, the thread ends, and the engine has failed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, watch};
use tracing::error;

use super::{
    EngineError, Options, Receive, Statistics,
    background::Checkpoints,
    checkpoint::CheckpointStore,
    clock::Clock,
    inbox::{Inbox, Look},
    journal::{AppendError, FrameBuf, Journal, Position},
    request::{Answer, Fate, Request, Verb},
    state::State,
    verbs::{Step, next_event},
    waiters::{Waiter, Waiters},
};
use crate::model::{Delivery, QueueId, Timestamp};

/// How long nothing is appended before the journal is told so.
const IDLE_AFTER: Duration = Duration::from_millis(20);

/// A frame is closed when it has reached this size, so that nobody waits for a long write. Writing and syncing 1 MiB
/// takes about four times as long as 256 KiB (0.2 ms and 0.9 ms measured), and larger frames gain nothing.
const FRAME_BYTES_TARGET: usize = 1 << 20;

/// What the thread works on.
pub(super) struct Committer {
    pub(super) state: State,
    pub(super) journal: Box<dyn Journal>,
    pub(super) position: Position,
    pub(super) clock: Clock,
    pub(super) options: Options,
    pub(super) frame: FrameBuf,
    pub(super) frames_appended: u64,
    pub(super) waiters: Waiters,
    pub(super) answers: Vec<Answer>,
    checkpoints: Option<Checkpoints>,
    /// Messages that were leased for a client who has gone: they go back in the next frame.
    unclaimed: Vec<Delivery>,
}

impl Committer {
    pub(super) fn new(state: State, journal: Box<dyn Journal>, options: Options) -> Self {
        Self {
            position: journal.end(),
            state,
            journal,
            clock: options.clock.clone(),
            options,
            frame: FrameBuf::new(),
            frames_appended: 0,
            waiters: Waiters::default(),
            answers: Vec::new(),
            checkpoints: None,
            unclaimed: Vec::new(),
        }
    }

    /// Also writes checkpoints, whenever the journal has become long.
    pub(super) fn with_checkpoints(self, store: CheckpointStore) -> Self {
        Self { checkpoints: Some(Checkpoints::new(store)), ..self }
    }

    /// Works until the inbox is closed or the journal fails.
    pub(super) fn run(mut self, inbox: &Arc<Inbox>, failed: &watch::Sender<bool>) {
        let _end = EndOfThread { inbox: Arc::clone(inbox), failed };
        let mut requests = Vec::new();
        let mut last_append = Some(Instant::now());
        loop {
            let look = inbox.take(&mut requests, self.wait(last_append));
            if look == Look::Closed {
                break;
            }
            if last_append.is_some_and(|at| at.elapsed() >= IDLE_AFTER) && requests.is_empty() {
                self.journal.idle();
                last_append = None;
            }
            if let Some(checkpoints) = &mut self.checkpoints {
                checkpoints.tend(&mut self.state, self.journal.as_mut(), inbox);
            }
            match self.round(&mut requests) {
                Ok(true) => last_append = Some(Instant::now()),
                Ok(false) => {}
                Err(failure) => return self.fail(&failure, inbox, requests, failed),
            }
        }
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.finish(&mut self.state, self.journal.as_mut());
        }
        for waiter in self.waiters.drain() {
            drop(Answer::deliveries(waiter.reply, Ok(Vec::new())).give(Fate::Durable));
        }
        self.journal.idle();
    }

    /// How long the inbox may be waited for.
    fn wait(&self, last_append: Option<Instant>) -> Option<Duration> {
        let now = self.clock.now();
        let event = next_event(&self.state).into_iter().chain(self.waiters.next_deadline()).min();
        let until_event = event.map(|at| at.since(now));
        if !self.unclaimed.is_empty() {
            return Some(Duration::ZERO);
        }
        let until_idle = last_append.map(|at| IDLE_AFTER.saturating_sub(at.elapsed()));
        until_event.into_iter().chain(until_idle).min()
    }

    /// Carries out what has arrived and what is due; answers whether anything was appended.
    fn round(&mut self, requests: &mut Vec<Request>) -> Result<bool, AppendError> {
        let before = self.frames_appended;
        let now = self.clock.now().max(self.state.time);
        let unclaimed = std::mem::take(&mut self.unclaimed);
        let mut step = self.step(now);
        step.tick();
        step.release(unclaimed);
        for request in requests.drain(..) {
            let bytes = self.frame.records().len() + request.verb.frame_bytes();
            if bytes > self.options.frame_bytes_max() || self.frame.records().len() >= FRAME_BYTES_TARGET {
                self.commit()?;
            }
            self.decide(now, request);
        }
        self.serve_waiters(now);
        self.commit()?;
        Ok(self.frames_appended > before)
    }

    pub(super) fn step(&mut self, now: Timestamp) -> Step<'_> {
        Step {
            state: &mut self.state,
            frame: &mut self.frame,
            now,
            topics_max: self.options.topics_max,
            dedup_ids_max: self.options.dedup_ids_max,
        }
    }

    fn decide(&mut self, now: Timestamp, request: Request) {
        let Request { verb, room } = request;
        let answer = match verb {
            Verb::Publish { topic, messages, reply } => {
                Answer::new(reply, self.step(now).publish(topic, messages), room)
            }
            Verb::Register { service, topics, reply } => {
                Answer::new(reply, self.step(now).register(&service, topics), room)
            }
            Verb::Ack { queue, ids, reply } => Answer::new(reply, self.step(now).ack(&queue, &ids), room),
            Verb::Statistics { reply } => Answer::new(reply, Ok(self.statistics()), room),
            Verb::Receive { reply, .. } if reply.is_closed() => return,
            Verb::Receive { receive, reply } => match self.receive(now, &receive, room) {
                Ok((queue, deliveries)) if deliveries.is_empty() && !receive.wait.is_zero() => {
                    let Receive { max_messages, mode, wait, .. } = receive;
                    return self.waiters.add(queue, now.after(wait), Waiter { max_messages, mode, reply });
                }
                result => Answer::deliveries(reply, result.map(|(_, deliveries)| deliveries)),
            },
        };
        self.answers.push(answer);
    }

    fn receive(
        &mut self,
        now: Timestamp,
        receive: &Receive,
        _room: OwnedSemaphorePermit,
    ) -> Result<(QueueId, Vec<Delivery>), EngineError> {
        let waiters_are_full = self.waiters.len() >= self.options.waiters_max;
        let mut step = self.step(now);
        let queue = step.queue_for(&receive.queue, receive.service.as_ref())?;
        let deliveries = step.receive(queue, receive.max_messages, receive.mode);
        if deliveries.is_empty() && !receive.wait.is_zero() && waiters_are_full {
            return Err(EngineError::Full { what: "as many receives are waiting as may wait; retry later" });
        }
        Ok((queue, deliveries))
    }

    /// Gives what has come to those who waited for it.
    fn serve_waiters(&mut self, now: Timestamp) {
        for queue in self.state.take_stirred() {
            while self.waiters.is_awaited(queue) {
                let is_empty = self.state.queue_and_topic(queue).is_none_or(|(q, t)| q.ready(&t.log).next().is_none());
                if is_empty {
                    break;
                }
                let Some(waiter) = self.waiters.first(queue) else { break };
                let deliveries = self.step(now).receive(queue, waiter.max_messages, waiter.mode);
                // Empty when all that had come was expired: then this client's wait ends a little early.
                self.answers.push(Answer::deliveries(waiter.reply, Ok(deliveries)));
            }
        }
        for waiter in self.waiters.expire(now) {
            self.answers.push(Answer::deliveries(waiter.reply, Ok(Vec::new())));
        }
    }

    /// Makes the open frame durable and gives the answers that waited for it.
    pub(super) fn commit(&mut self) -> Result<(), AppendError> {
        if !self.frame.is_empty() {
            self.position = self.journal.append(&mut self.frame, self.position)?;
            self.frames_appended += 1;
            self.frame.clear();
        }
        for answer in self.answers.drain(..) {
            // What was acked as it was handed out is done with, whoever got it.
            let unclaimed = answer.give(Fate::Durable);
            self.unclaimed.extend(unclaimed.into_iter().filter(|delivery| delivery.lease.is_some()));
        }
        Ok(())
    }

    fn fail(mut self, failure: &AppendError, inbox: &Inbox, requests: Vec<Request>, failed: &watch::Sender<bool>) {
        error!(error = failure as &dyn std::error::Error, "the journal failed: nothing more is acknowledged");
        failed.send_replace(true);
        inbox.close();
        self.answers.drain(..).for_each(|answer| drop(answer.give(Fate::Unknown)));
        requests.into_iter().for_each(|request| request.verb.refuse(EngineError::Stopped));
    }

    fn statistics(&self) -> Statistics {
        let queue = |(queue, topic): (&super::state::Queue, &super::state::Topic)| super::QueueStatistics {
            name: queue.name.clone(),
            ready: queue.ready_count(&topic.log),
            leased: queue.held_count(),
        };
        Statistics {
            topics: self.state.topic_count(),
            queues: self.state.queues().map(queue).collect(),
            messages: self.state.message_count(),
            delayed: self.state.delayed.len(),
            waiting: self.waiters.len(),
            frames: self.frames_appended,
            digest: self.state.digest(),
        }
    }
}

impl std::fmt::Debug for Committer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Committer").field("position", &self.position).finish_non_exhaustive()
    }
}

/// Whatever ends the thread, a panic included, lets nobody wait for it any more.
struct EndOfThread<'a> {
    inbox: Arc<Inbox>,
    failed: &'a watch::Sender<bool>,
}

impl Drop for EndOfThread<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.failed.send_replace(true);
        }
        self.inbox.close();
        let mut left = Vec::new();
        self.inbox.take(&mut left, Some(Duration::ZERO));
        left.into_iter().for_each(|request| request.verb.refuse(EngineError::Stopped));
    }
}

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
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{oneshot, watch};
use tracing::error;

use super::{
    AckMode, EngineError, Options, Receive, Statistics,
    background::Checkpoints,
    checkpoint::{BlockError, CheckpointStore},
    clock::Clock,
    freeing::Freeing,
    inbox::{Inbox, Look},
    journal::{AppendError, FrameBuf, Journal, Position},
    reading::{Cached, Outcome, Reading},
    request::{Answer, Fate, Request, Verb},
    space::Space,
    state::State,
    verbs::{Fill, Next, Received, Step, Wanted, next_event},
    views::{History, View},
    waiters::{Waiter, Waiters},
};
use crate::model::{AckId, Delivery, QueueId, Timestamp};

/// How long nothing is appended before the journal is told so.
const IDLE_AFTER: Duration = Duration::from_millis(20);

/// A frame is closed when it has reached this size, so that nobody waits for a long write. Writing and syncing 1 MiB
/// takes about four times as long as 256 KiB (0.2 ms and 0.9 ms measured), and larger frames gain nothing.
const FRAME_BYTES_TARGET: usize = 1 << 20;

/// How long a receive that waits for nothing but the disk stands in line at most.
const READ_PATIENCE: Duration = Duration::from_secs(60);

/// How often blocks are read for one receive until it is answered with what is there. Once is enough, unless they are
/// moved on meanwhile, or pushed out of the cache by others.
const READS_MAX: u8 = 3;

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
    pub(super) checkpoints: Option<Checkpoints>,
    pub(super) reading: Reading,
    history: History,
    /// Publishes that wait until a checkpoint has been written. Bounded by the room of the inbox, which they keep.
    held_back: VecDeque<Request>,
    /// Leases of clients who have gone: the messages go back in the next frame.
    unclaimed: Vec<AckId>,
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
            reading: Reading::default(),
            history: History::default(),
            held_back: VecDeque::new(),
            unclaimed: Vec::new(),
        }
    }

    /// Also writes checkpoints, whenever the journal has become long.
    pub(super) fn with_checkpoints(self, store: CheckpointStore, space: Arc<Space>) -> Self {
        Self { checkpoints: Some(Checkpoints::new(store, space)), ..self }
    }

    /// Works until the inbox is closed or the journal fails.
    pub(super) fn run(mut self, inbox: &Arc<Inbox>, failed: &watch::Sender<bool>) {
        let _end = EndOfThread { inbox: Arc::clone(inbox), failed };
        if let Some(checkpoints) = &self.checkpoints {
            let (disk, data_dir) = checkpoints.place();
            self.reading.start(disk, data_dir, inbox);
        }
        let freeing = Freeing::start();
        self.state.keep_leftovers();
        let mut requests = Vec::new();
        let mut last_append = Some(Instant::now());
        loop {
            let at_most = self.wait(last_append);
            let look = inbox.take(&mut requests, &mut self.unclaimed, at_most);
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
            self.take_loaded();
            match self.round(&mut requests) {
                Ok(true) => last_append = Some(Instant::now()),
                Ok(false) => {}
                Err(failure) => return self.fail(&failure, inbox, requests, failed),
            }
            freeing.free(self.state.take_leftovers());
        }
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.finish(&mut self.state, self.journal.as_mut());
        }
        self.held_back.drain(..).for_each(|request| request.verb.refuse(EngineError::Stopped));
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
        let checkpoint = self.checkpoints.as_ref().and_then(|c| c.next_try(&self.state, self.journal.as_ref()));
        let until_idle = last_append.map(|at| IDLE_AFTER.saturating_sub(at.elapsed()));
        until_event.into_iter().chain(until_idle).chain(checkpoint).min()
    }

    /// Carries out what has arrived and what is due; answers whether anything was appended.
    fn round(&mut self, requests: &mut Vec<Request>) -> Result<bool, AppendError> {
        let before = self.frames_appended;
        let now = self.clock.now().max(self.state.time);
        let unclaimed = std::mem::take(&mut self.unclaimed);
        let mut step = self.step(now);
        step.tick();
        step.give_back(unclaimed);
        if self.may_publish() {
            requests.splice(..0, self.held_back.drain(..));
        } else if self.is_stuck() {
            let held_back = std::mem::take(&mut self.held_back);
            held_back.into_iter().for_each(|request| self.hold_back(request));
        }
        for request in requests.drain(..) {
            if request.verb.brings_messages() && !self.may_publish() {
                self.hold_back(request);
                continue;
            }
            let bytes = self.frame.records().len() + request.verb.frame_bytes();
            if bytes > self.options.frame_bytes_max() || self.frame.records().len() >= FRAME_BYTES_TARGET {
                self.commit()?;
            }
            self.decide(now, request);
        }
        self.serve_waiters(now);
        self.commit()?;
        self.reading.cache.trim();
        Ok(self.frames_appended > before)
    }

    /// Whether there is room for more messages before the next checkpoint is written.
    fn may_publish(&self) -> bool {
        self.checkpoints.as_ref().is_none_or(|c| !c.hold_back(&self.state, self.journal.as_ref()))
    }

    fn is_stuck(&self) -> bool {
        self.checkpoints.as_ref().is_some_and(Checkpoints::are_stuck)
    }

    /// Keeps a publish until there is room, unless nothing is under way that makes any.
    fn hold_back(&mut self, request: Request) {
        if self.is_stuck() {
            let what = "the last checkpoint failed, and no more messages fit until one is written; retry later";
            return request.verb.refuse(EngineError::Full { what });
        }
        self.held_back.push_back(request);
    }

    /// Takes note of the blocks that have been read.
    fn take_loaded(&mut self) {
        for Outcome { block, loaded, queues } in self.reading.collect() {
            let cached = match loaded {
                Ok(loaded) => {
                    if loaded.damaged > 0 {
                        let (segment, offset, messages) = (block.segment, block.offset, loaded.damaged);
                        error!(%segment, offset, messages, "messages of a segment are damaged: they are lost");
                        self.checkpoints.iter_mut().for_each(|c| c.is_damaged(segment));
                    }
                    Some(Cached::Loaded(loaded))
                }
                Err(BlockError::Io(failure)) => {
                    error!(segment = %block.segment, error = &failure as &dyn std::error::Error, "cannot read");
                    Some(Cached::Failed(failure.to_string()))
                }
                Err(BlockError::NotThere) if self.state.segments.has(block.segment) => {
                    error!(segment = %block.segment, "a segment is missing");
                    Some(Cached::Failed("its segment is missing".to_owned()))
                }
                // Its messages have been moved on: they are looked for again.
                Err(BlockError::NotThere) => None,
            };
            if let Some(cached) = cached {
                self.reading.cache.insert(&block, cached);
            }
            queues.into_iter().for_each(|queue| self.state.stir(queue));
        }
    }

    pub(super) fn step(&mut self, now: Timestamp) -> Step<'_> {
        Step {
            state: &mut self.state,
            frame: &mut self.frame,
            blocks: &mut self.reading.cache,
            now,
            limits: self.options.limits,
            declares: self.options.auto_declare,
            history: &mut self.history,
        }
    }

    fn view(&self, now: Timestamp) -> View<'_> {
        View { state: &self.state, waiters: &self.waiters, history: &self.history, now }
    }

    fn decide(&mut self, now: Timestamp, request: Request) {
        let Request { verb, room } = request;
        let answer = match verb {
            Verb::Publish { publication, reply } => Answer::new(reply, self.step(now).publish(publication), room),
            Verb::Register { service, topics, reply } => {
                Answer::new(reply, self.step(now).register(&service, topics), room)
            }
            Verb::SettleEach { queue, items, reply } => {
                Answer::new(reply, self.step(now).settle_each(queue.as_ref(), &items), room)
            }
            Verb::SettleAll { items, publications, reply } => {
                Answer::new(reply, self.step(now).settle_all(&items, publications), room)
            }
            Verb::Manage { manage, reply } => Answer::new(reply, self.step(now).manage(manage), room),
            Verb::Look { look } => look.look(&self.view(now), room),
            Verb::Statistics { reply } => Answer::new(reply, Ok(self.statistics()), room),
            Verb::Receive { reply, .. } if reply.is_closed() => return,
            Verb::Receive { receive, reply } => return self.receive(now, &receive, reply),
        };
        self.answers.push(answer);
    }

    fn receive(
        &mut self,
        now: Timestamp,
        receive: &Receive,
        reply: oneshot::Sender<Result<Vec<Delivery>, EngineError>>,
    ) {
        let queue = match self.step(now).queue_for(&receive.queue, receive.service.as_ref()) {
            Ok(queue) => queue,
            Err(refusal) => return self.answers.push(Answer::deliveries(reply, Err(refusal))),
        };
        let Receive { max_messages, max_bytes, mode, wait, .. } = *receive;
        let wanted = Wanted { messages_max: max_messages, bytes_max: max_bytes, mode };
        let waiter = Waiter { is_patient: !wait.is_zero(), wanted, reads: 0, reply };
        // Behind those who came before, when it is the disk that they wait for.
        let is_behind = self.waiters.is_awaited(queue) && self.is_ready(queue);
        let waiter = if is_behind { Some(waiter) } else { self.serve(now, queue, waiter) };
        let Some(waiter) = waiter else { return };
        if self.waiters.len() >= self.options.waiters_max {
            let what = "as many receives are waiting as may wait; retry later";
            return self.answers.push(Answer::deliveries(waiter.reply, Err(EngineError::Full { what })));
        }
        let until = now.after(if waiter.is_patient { wait } else { READ_PATIENCE });
        self.waiters.add(queue, until, waiter);
    }

    /// Answers the waiter, or gives it back if it has to wait.
    fn serve(&mut self, now: Timestamp, queue: QueueId, waiter: Waiter) -> Option<Waiter> {
        let Waiter { mut wanted, reads, .. } = waiter;
        let fill = if reads < READS_MAX { Fill::Whole } else { Fill::Some };
        if wanted.mode != AckMode::AtOnce {
            let room = self.options.limits.leases_max.saturating_sub(self.state.deadlines.len());
            wanted.messages_max = wanted.messages_max.min(room);
        }
        if wanted.messages_max == 0 {
            let what = "as many messages are under a lease as may be; ack some, or retry later";
            self.answers.push(Answer::deliveries(waiter.reply, Err(EngineError::Full { what })));
            return None;
        }
        let Received { deliveries, next, is_further } = self.step(now).receive(queue, wanted, fill);
        let answer = match next {
            Next::Missing(blocks) if deliveries.is_empty() => {
                let count = if fill == Fill::Whole { blocks.len() } else { 1 };
                blocks.iter().take(count).for_each(|block| self.reading.request(block, queue));
                // Only what brings it no further counts.
                return Some(Waiter { reads: if is_further { 0 } else { reads.saturating_add(1) }, ..waiter });
            }
            Next::Failed(problem) if deliveries.is_empty() => Err(EngineError::Unreadable { problem }),
            Next::Ahead(block) => {
                self.reading.request_ahead(&block);
                Ok(deliveries)
            }
            Next::Nothing | Next::Missing(_) | Next::Failed(_) => Ok(deliveries),
        };
        if waiter.is_patient && answer.as_ref().is_ok_and(Vec::is_empty) {
            return Some(waiter);
        }
        self.answers.push(Answer::deliveries(waiter.reply, answer));
        None
    }

    fn is_ready(&self, queue: QueueId) -> bool {
        self.state.queue_and_topic(queue).is_some_and(|(queue, topic)| queue.is_ready(topic.log.next))
    }

    /// Gives what has come to those who waited for it.
    fn serve_waiters(&mut self, now: Timestamp) {
        for queue in self.state.take_stirred() {
            while self.waiters.is_awaited(queue) && self.is_ready(queue) {
                let Some((until, waiter)) = self.waiters.first(queue) else { break };
                if let Some(waiter) = self.serve(now, queue, waiter) {
                    self.waiters.put_back(queue, until, waiter);
                    break;
                }
            }
            if !self.is_ready(queue) {
                for waiter in self.waiters.take_impatient(queue) {
                    self.answers.push(Answer::deliveries(waiter.reply, Ok(Vec::new())));
                }
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
            self.unclaimed.extend(unclaimed.into_iter().filter_map(|delivery| Some(delivery.lease?.ack_id)));
        }
        Ok(())
    }

    fn fail(mut self, failure: &AppendError, inbox: &Inbox, requests: Vec<Request>, failed: &watch::Sender<bool>) {
        error!(error = failure as &dyn std::error::Error, "the journal failed: nothing more is acknowledged");
        failed.send_replace(true);
        inbox.close();
        self.answers.drain(..).for_each(|answer| drop(answer.give(Fate::Unknown)));
        let held_back = self.held_back.drain(..);
        requests.into_iter().chain(held_back).for_each(|request| request.verb.refuse(EngineError::Stopped));
    }

    fn statistics(&self) -> Statistics {
        let queue = |(queue, topic): (&super::state::Queue, &super::state::Topic)| super::QueueStatistics {
            name: queue.name.clone(),
            ready: queue.ready_count(topic.log.next),
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
        self.inbox.take(&mut left, &mut Vec::new(), Some(Duration::ZERO));
        left.into_iter().for_each(|request| request.verb.refuse(EngineError::Stopped));
    }
}

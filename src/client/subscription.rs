//! The two halves of a `StreamingPull`: deliveries come out at one, settlements go in at the other.
//!
//! ```text
//!   frames ──► a task ──┬──► Deliveries
//!                       └──► who waits for a confirmation, by its tag ◄── Settler
//! ```
//! Invariant: whoever waits for a confirmation gets it, or learns that the stream has ended. The task ends when the
//! deliveries are dropped, and the stream with it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tonic::{Request, Streaming};

use super::{error::ClientError, stack::Stack};
use crate::grpc::proto::v1::{
    Credit, Delivery, SettleResult, Settlement, StreamingPullRequest, StreamingPullResponse, StreamingPullSettle,
    StreamingPullStart, broker_client::BrokerClient, streaming_pull_request::Frame as Asked,
    streaming_pull_response::Frame as Told,
};

/// Frames that wait to be written to the connection.
const WAITING_MAX: usize = 64;

/// Hands out deliveries. When it is dropped, what is held goes back to the queue.
#[derive(Debug)]
pub struct Deliveries {
    /// Not bounded by itself: the credit bounds what the broker sends.
    frames: mpsc::UnboundedReceiver<Result<Vec<Delivery>, ClientError>>,
    ready: VecDeque<Delivery>,
    /// Came behind those that are ready.
    broken: Option<ClientError>,
    task: JoinHandle<()>,
}

/// Settles deliveries of the stream. Clones settle on the same one.
#[derive(Debug, Clone)]
pub struct Settler {
    requests: mpsc::Sender<StreamingPullRequest>,
    waiting: Arc<Mutex<Waiting>>,
}

/// Who waits for which confirmation.
#[derive(Debug)]
enum Waiting {
    Open { next_tag: u64, by_tag: HashMap<u64, oneshot::Sender<Vec<SettleResult>>> },
    Ended,
}

pub(super) async fn open(
    mut broker: BrokerClient<Stack>,
    start: StreamingPullStart,
) -> Result<(Deliveries, Settler), ClientError> {
    let (requests, mut frames) = mpsc::channel(WAITING_MAX);
    let first = StreamingPullRequest { frame: Some(Asked::Start(start)) };
    requests.send(first).await.map_err(|_| ClientError::Ended)?;
    let stream = futures_util::stream::poll_fn(move |cx| frames.poll_recv(cx));
    let answers = broker.streaming_pull(Request::new(stream)).await?.into_inner();

    let waiting = Arc::new(Mutex::new(Waiting::Open { next_tag: 1, by_tag: HashMap::new() }));
    let (deliver, frames) = mpsc::unbounded_channel();
    let settler = Settler { requests, waiting: Arc::clone(&waiting) };
    let sorting = Sorting { waiting, _settler: settler.clone() };
    let task = tokio::spawn(sorting.run(answers, deliver));
    Ok((Deliveries { frames, ready: VecDeque::new(), broken: None, task }, settler))
}

/// The task. However it ends, nobody waits in vain any more.
struct Sorting {
    waiting: Arc<Mutex<Waiting>>,
    /// The stream must not end because nobody settles.
    _settler: Settler,
}

impl Sorting {
    /// Gives each frame to whom it is for, until the stream ends.
    async fn run(
        self,
        mut answers: Streaming<StreamingPullResponse>,
        deliver: mpsc::UnboundedSender<Result<Vec<Delivery>, ClientError>>,
    ) {
        let error = loop {
            match answers.message().await {
                Ok(Some(StreamingPullResponse { frame: Some(Told::Deliveries(frame)) })) => {
                    // Nobody takes them: then the task is about to be aborted.
                    let _ = deliver.send(Ok(frame.deliveries));
                }
                Ok(Some(StreamingPullResponse { frame: Some(Told::Settled(settled)) })) => {
                    let waits = lock(&self.waiting).take(settled.tag);
                    // Who does not wait any more does not want to know.
                    let _ = waits.map(|waits| waits.send(settled.results));
                }
                // A frame of a later version.
                Ok(Some(StreamingPullResponse { frame: None })) => {}
                Ok(None) => break None,
                Err(status) => break Some(ClientError::from(status)),
            }
        };
        if let Some(error) = error {
            // As above.
            let _ = deliver.send(Err(error));
        }
    }
}

impl Drop for Sorting {
    fn drop(&mut self) {
        *lock(&self.waiting) = Waiting::Ended;
    }
}

impl Deliveries {
    /// The next delivery, as soon as there is one; none when the broker has ended the stream.
    ///
    /// # Errors
    /// The stream broke. What is held goes back to the queue.
    ///
    /// # Cancel safety
    /// Nothing is lost by a call that was dropped.
    pub async fn next(&mut self) -> Result<Option<Delivery>, ClientError> {
        while self.ready.is_empty() {
            if let Some(error) = self.broken.take() {
                return Err(error);
            }
            match self.frames.recv().await {
                Some(deliveries) => self.ready.extend(deliveries?),
                None => return Ok(None),
            }
        }
        Ok(self.ready.pop_front())
    }

    /// The next delivery, if it has come already.
    pub fn try_next(&mut self) -> Option<Delivery> {
        while self.ready.is_empty() && self.broken.is_none() {
            match self.frames.try_recv().ok()? {
                Ok(deliveries) => self.ready.extend(deliveries),
                Err(error) => self.broken = Some(error),
            }
        }
        self.ready.pop_front()
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Settler {
    /// Acks, nacks or extends 1 to 1000 deliveries, and waits until that is durable: one result for each, in order.
    ///
    /// # Errors
    /// The stream has ended, or ends before the confirmation: then it may or may not have been done.
    ///
    /// # Cancel safety
    /// What a dropped call was to settle may be settled or not.
    pub async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<SettleResult>, ClientError> {
        let (waits, result) = oneshot::channel();
        let tag = lock(&self.waiting).add(waits).ok_or(ClientError::Ended)?;
        let frame = Asked::Settle(StreamingPullSettle { tag, settlements });
        self.send(frame).await?;
        result.await.map_err(|_| ClientError::Ended)
    }

    /// Changes how much may be outstanding.
    ///
    /// # Errors
    /// The stream has ended.
    pub async fn set_credit(&self, credit: Credit) -> Result<(), ClientError> {
        self.send(Asked::Credit(credit)).await
    }

    async fn send(&self, frame: Asked) -> Result<(), ClientError> {
        let request = StreamingPullRequest { frame: Some(frame) };
        self.requests.send(request).await.map_err(|_| ClientError::Ended)
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waiting {
    /// The tag by which the confirmation is known; none when there will be none.
    fn add(&mut self, waits: oneshot::Sender<Vec<SettleResult>>) -> Option<u64> {
        let Self::Open { next_tag, by_tag } = self else { return None };
        let tag = *next_tag;
        *next_tag += 1;
        by_tag.insert(tag, waits);
        Some(tag)
    }

    fn take(&mut self, tag: u64) -> Option<oneshot::Sender<Vec<SettleResult>>> {
        match self {
            Self::Open { by_tag, .. } => by_tag.remove(&tag),
            Self::Ended => None,
        }
    }
}

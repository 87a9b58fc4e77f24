//! `StreamingPull`: deliveries out as long as there is credit, settlements in.
//!
//! ```text
//!   requests ──► settle in order, WINDOW at a time ──┐
//!                                                     ├──► frames ──► the consumer
//!   feed ──► deliveries ─────────────────────────────┘
//! ```
//!
//! Invariant: when either side ends, both do, and the feed goes with them: what the consumer holds goes back at once.

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::{read, write};
use crate::{
    broker::{Broker, BrokerError, Feed, Settle, Settled, Standing},
    grpc::{
        proto::v1::{self as proto, streaming_pull_request::Frame as Asked, streaming_pull_response::Frame as Told},
        status::v1_status_of,
    },
};

/// Most settling frames of a stream that are not confirmed.
const WINDOW: usize = 64;

type Frame = Result<proto::StreamingPullResponse, Status>;

/// A settling frame on its way.
struct Settling {
    tag: u64,
    ack_ids: Vec<String>,
    results: Result<Vec<Settled>, BrokerError>,
}

/// Serves one stream, until either side ends.
pub(super) async fn serve(
    broker: Broker,
    feed: Feed,
    requests: Streaming<proto::StreamingPullRequest>,
    frames: mpsc::Sender<Frame>,
) {
    let standing = feed.standing();
    let end = tokio::select! {
        end = deliver(&broker, feed, &frames) => end,
        end = settle(&broker, &standing, requests, &frames) => end,
        () = frames.closed() => return,
    };
    if let Err(status) = end {
        // Nobody is there any more to be told: that is fine.
        let _ = frames.send(Err(status)).await;
    }
}

/// Hands messages out, until the broker shuts down or the consumer is gone.
async fn deliver(broker: &Broker, mut feed: Feed, frames: &mpsc::Sender<Frame>) -> Result<(), Status> {
    loop {
        let deliveries = feed.next().await.map_err(|error| v1_status_of(&error))?;
        let deliveries = write::deliveries(broker, &deliveries).map_err(|error| v1_status_of(&error))?;
        if tell(frames, Told::Deliveries(proto::Deliveries { deliveries })).await.is_err() {
            return Ok(());
        }
    }
}

/// Settles what the consumer says, until it says no more.
async fn settle(
    broker: &Broker,
    standing: &Standing,
    mut requests: Streaming<proto::StreamingPullRequest>,
    frames: &mpsc::Sender<Frame>,
) -> Result<(), Status> {
    let mut pending: FuturesOrdered<BoxFuture<'static, Settling>> = FuturesOrdered::new();
    let mut is_open = true;
    while is_open || !pending.is_empty() {
        tokio::select! {
            request = requests.message(), if is_open && pending.len() < WINDOW => match request? {
                Some(request) => {
                    let begun = begin(broker, standing, request).await.map_err(|error| v1_status_of(&error))?;
                    pending.extend(begun);
                }
                None => is_open = false,
            },
            Some(Settling { tag, ack_ids, results }) = pending.next() => {
                let results = write::results(ack_ids, &results.map_err(|error| v1_status_of(&error))?);
                if tell(frames, Told::Settled(proto::StreamingPullSettled { tag, results })).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

async fn begin(
    broker: &Broker,
    standing: &Standing,
    request: proto::StreamingPullRequest,
) -> Result<Option<BoxFuture<'static, Settling>>, BrokerError> {
    match request.frame {
        Some(Asked::Settle(proto::StreamingPullSettle { tag, settlements })) => {
            let settlements = read::settlements(settlements)?;
            let ack_ids = settlements.iter().map(|(id, _)| id.clone()).collect();
            let begun = broker.begin_settle(Settle { queue: None, settlements }).await?;
            Ok(Some(begun.map(move |results| Settling { tag, ack_ids, results }).boxed()))
        }
        Some(Asked::Credit(credit)) => standing.set_credit(read::credit(credit)).map(|()| None),
        Some(Asked::Start(_)) => Err(BrokerError::invalid("start", "comes once, in the first frame")),
        None => Err(BrokerError::invalid("frame", "is missing, or of a kind that this broker does not know")),
    }
}

async fn tell(frames: &mpsc::Sender<Frame>, frame: Told) -> Result<(), mpsc::error::SendError<Frame>> {
    frames.send(Ok(proto::StreamingPullResponse { frame: Some(frame) })).await
}

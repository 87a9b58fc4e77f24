//! The two halves of a `PublishStream`: messages go in at one, confirmations come out at the other.
//!
//! Invariant: messages are confirmed in the order in which they were sent, each once.

use std::collections::VecDeque;

use tokio::sync::mpsc;
use tonic::{Request, Streaming};

use super::{error::ClientError, stack::Stack};
use crate::grpc::proto::v1::{
    Confirmation, NewMessage, PublishStreamRequest, PublishStreamResponse, broker_client::BrokerClient,
};

/// Messages that wait to be written to the connection.
const WAITING_MAX: usize = 64;

/// Sends messages. When it is dropped the broker confirms what it was sent, and the confirmations end.
#[derive(Debug)]
pub struct Publisher {
    requests: mpsc::Sender<PublishStreamRequest>,
}

/// Tells what became of the messages. When it is dropped the stream is abandoned.
#[derive(Debug)]
pub struct Confirmations {
    frames: Streaming<PublishStreamResponse>,
    ready: VecDeque<Confirmation>,
}

pub(super) async fn open(
    mut broker: BrokerClient<Stack>,
    topic: &str,
) -> Result<(Publisher, Confirmations), ClientError> {
    let (requests, mut waiting) = mpsc::channel(WAITING_MAX);
    let mut topic = Some(topic.to_owned());
    let stream = futures_util::stream::poll_fn(move |cx| {
        waiting.poll_recv(cx).map(|request: Option<PublishStreamRequest>| {
            // It holds for those that follow.
            request.map(|request| PublishStreamRequest { topic: topic.take().unwrap_or_default(), ..request })
        })
    });
    let frames = broker.publish_stream(Request::new(stream)).await?.into_inner();
    Ok((Publisher { requests }, Confirmations { frames, ready: VecDeque::new() }))
}

impl Publisher {
    /// Sends a message, as soon as there is room: the broker takes only so many that are not confirmed, so somebody has to
    /// read the confirmations meanwhile.
    ///
    /// # Errors
    /// The stream has ended; the confirmations say why.
    ///
    /// # Cancel safety
    /// A message of a call that was dropped was not sent.
    pub async fn send(&self, message: NewMessage) -> Result<(), ClientError> {
        let request = PublishStreamRequest { topic: String::new(), message: Some(message) };
        self.requests.send(request).await.map_err(|_| ClientError::Ended)
    }
}

impl Confirmations {
    /// What became of the next message; none when all are confirmed and the publisher is gone.
    ///
    /// # Errors
    /// The stream broke. What is not confirmed may or may not have been stored.
    ///
    /// # Cancel safety
    /// Nothing is lost by a call that was dropped.
    pub async fn next(&mut self) -> Result<Option<Confirmation>, ClientError> {
        while self.ready.is_empty() {
            match self.frames.message().await? {
                Some(frame) => self.ready.extend(frame.confirmations),
                None => return Ok(None),
            }
        }
        Ok(self.ready.pop_front())
    }
}

//! `PublishStream`: messages in, confirmations out, in order.
//!
//! Each message is stored by itself. They are begun one after the other, so that their order is that of the stream, and as
//! many as [`WINDOW`] may be on their way to the disk at a time: whatever arrives while one write is under way shares the
//! next one. Confirmations that are ready together travel in one frame.

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::{
    read::{self, Trace},
    write,
};
use crate::{
    broker::{Broker, BrokerError, Publish, Published, reading},
    grpc::{
        proto::v1::{self as proto, confirmation::Outcome},
        status::{problem_of, v1_status_of},
    },
    model::Name,
};

/// Most messages of a stream that are not confirmed. Their bytes are bounded by the store's room for requests.
const WINDOW: usize = 1024;
/// Most confirmations of a frame.
const CONFIRMATIONS_MAX: usize = 256;

type Frame = Result<proto::PublishStreamResponse, Status>;
type Pending = BoxFuture<'static, Result<Published, BrokerError>>;

/// Reads the messages of one stream and sends its confirmations, until either side ends.
pub(super) async fn serve(
    broker: Broker,
    trace: Trace,
    mut requests: Streaming<proto::PublishStreamRequest>,
    frames: mpsc::Sender<Frame>,
) {
    let mut pending: FuturesOrdered<Pending> = FuturesOrdered::new();
    let mut topic = None;
    let mut confirmed = 0;
    let mut is_open = true;
    while is_open || !pending.is_empty() {
        let end = tokio::select! {
            request = requests.message(), if is_open && pending.len() < WINDOW => match request {
                Ok(Some(request)) => match begin(&broker, &trace, &mut topic, request).await {
                    Ok(publish) => {
                        pending.push_back(publish);
                        continue;
                    }
                    Err(status) => Some(status),
                },
                Ok(None) => {
                    is_open = false;
                    continue;
                }
                // The client is gone, or sends what cannot be read.
                Err(status) => Some(status),
            },
            Some(first) = pending.next() => {
                let confirmations = confirm(&mut pending, first, &mut confirmed);
                if frames.send(Ok(proto::PublishStreamResponse { confirmations })).await.is_err() {
                    return;
                }
                continue;
            }
            () = frames.closed() => return,
        };
        if let Some(status) = end {
            // What is on its way is confirmed before.
            while let Some(first) = pending.next().await {
                let confirmations = confirm(&mut pending, first, &mut confirmed);
                if frames.send(Ok(proto::PublishStreamResponse { confirmations })).await.is_err() {
                    return;
                }
            }
            // Nobody is there any more to be told: that is fine.
            let _ = frames.send(Err(status)).await;
            return;
        }
    }
}

/// Gives a message its place. What is wrong with the message becomes its confirmation; what is wrong with the broker ends the
/// stream.
async fn begin(
    broker: &Broker,
    trace: &Trace,
    topic: &mut Option<Name>,
    request: proto::PublishStreamRequest,
) -> Result<Pending, Status> {
    match publish_of(trace, topic, request) {
        Ok(publish) => match broker.begin_publish(publish).await {
            Ok(publish) => Ok(publish.boxed()),
            Err(error) if ends_the_stream(&error) => Err(v1_status_of(&error)),
            Err(error) => Ok(std::future::ready(Err(error)).boxed()),
        },
        Err(error) => Ok(std::future::ready(Err(error)).boxed()),
    }
}

fn publish_of(
    trace: &Trace,
    topic: &mut Option<Name>,
    request: proto::PublishStreamRequest,
) -> Result<Publish, BrokerError> {
    if !request.topic.is_empty() {
        // A bad name does not leave the messages behind it to another topic.
        *topic = None;
        *topic = Some(reading::name("topic", &request.topic)?);
    }
    let topic = topic.clone().ok_or_else(|| BrokerError::invalid("topic", "has to be set in the first frame"))?;
    let message = request.message.ok_or_else(|| BrokerError::invalid("message", "is missing"))?;
    let draft = read::draft(message, trace).map_err(BrokerError::in_the_message)?;
    Ok(Publish { topic, drafts: vec![draft] })
}

/// The same, said of the fields of a frame, which has one message.
fn of_the_stream(error: BrokerError) -> BrokerError {
    error.renamed(|field| field.replacen("messages[0]", "message", 1))
}

/// Whether no message that follows could fare better.
fn ends_the_stream(error: &BrokerError) -> bool {
    matches!(error, BrokerError::Draining | BrokerError::NotActive | BrokerError::OutcomeUnknown)
}

/// The confirmation of the first message, and of those behind it that are ready, too.
fn confirm(
    pending: &mut FuturesOrdered<Pending>,
    first: Result<Published, BrokerError>,
    confirmed: &mut u64,
) -> Vec<proto::Confirmation> {
    let mut confirmations = vec![confirmation(first, confirmed)];
    while confirmations.len() < CONFIRMATIONS_MAX
        && let Some(Some(next)) = pending.next().now_or_never()
    {
        confirmations.push(confirmation(next, confirmed));
    }
    confirmations
}

fn confirmation(outcome: Result<Published, BrokerError>, confirmed: &mut u64) -> proto::Confirmation {
    let index = *confirmed;
    *confirmed += 1;
    let outcome = match outcome {
        Ok(published) => {
            let message = write::published(&published).messages.pop().expect("one message was published");
            Outcome::Stored(message)
        }
        Err(error) => Outcome::Refused(problem_of(&of_the_stream(error))),
    };
    proto::Confirmation { index, outcome: Some(outcome) }
}

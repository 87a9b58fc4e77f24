//! The client and its calls: one method for each call of the contract.
//!
//! Not here: the layers below, and the two streams' own halves. Invariant: a repetition after a pause is made only of what
//! was not begun.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{
    ClientBuilder,
    budget::Budget,
    error::{ClientError, pause_before_repetition},
    publishing::{self, Confirmations, Publisher},
    stack::{Repeatable, Stack},
    subscription::{self, Deliveries, Settler},
};
use crate::grpc::proto::v1::{self as proto, broker_client::BrokerClient};

/// A client of a broker, at one address or several. Clones share connections, circuits and the budget for repetitions.
///
/// A call goes to the next address in turn, and on to the others when one cannot be reached or did nothing. If nothing was
/// done anywhere and the broker says when to come again, it is made again then, up to
/// [`attempts`](ClientBuilder::attempts) times and within a budget. A call that may have been carried out is made again
/// only if that does no harm: see each.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) broker: BrokerClient<Stack>,
    pub(super) budget: Arc<Budget>,
    pub(super) timeout: Duration,
    pub(super) attempts: u32,
}

/// Whether a call may be carried out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Harmless,
    Never,
}

/// Thin methods: the request as the contract has it, the answer likewise.
macro_rules! calls {
    ($($(#[$words:meta])* $name:ident($request:ident) -> $answer:ident, $repeat:expr;)*) => {
        impl Client {
            $(
                $(#[$words])*
                ///
                /// # Errors
                /// See [`ClientError`].
                pub async fn $name(&self, request: proto::$request) -> Result<proto::$answer, ClientError> {
                    let repeat: fn(&proto::$request) -> Repeat = $repeat;
                    let repeat = repeat(&request);
                    self.call(request, repeat, async |mut broker, request| broker.$name(request).await).await
                }
            )*
        }
    };
}

impl Client {
    /// A client with the default settings. Connections are opened when they are needed.
    ///
    /// # Errors
    /// There is no address, or something that is not `HOST:PORT`.
    pub fn connect(addresses: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, ClientError> {
        Self::builder(addresses).build()
    }

    /// Settings to change before it is made. Addresses are `HOST:PORT`, the gRPC ports of instances of one broker.
    #[must_use]
    pub fn builder(addresses: impl IntoIterator<Item = impl Into<String>>) -> ClientBuilder {
        ClientBuilder::new(addresses.into_iter().map(Into::into).collect())
    }

    /// Publishes messages to a topic as they come, and has each confirmed in order. What was not confirmed when the stream
    /// breaks may or may not have been stored.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn publish_stream(&self, topic: &str) -> Result<(Publisher, Confirmations), ClientError> {
        publishing::open(self.broker.clone(), topic).await
    }

    /// Has messages of a queue handed out as they come, and settles them. When both halves are dropped, or the deliveries
    /// alone, what is held goes back to the queue at once.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn subscribe(&self, start: proto::StreamingPullStart) -> Result<(Deliveries, Settler), ClientError> {
        subscription::open(self.broker.clone(), start).await
    }

    async fn call<Q: Clone, A>(
        &self,
        message: Q,
        repeat: Repeat,
        mut make: impl AsyncFnMut(BrokerClient<Stack>, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, ClientError> {
        let end = Instant::now() + self.timeout;
        let mut attempt = 1;
        loop {
            let mut request = Request::new(message.clone());
            request.set_timeout(end.saturating_duration_since(Instant::now()));
            if repeat == Repeat::Harmless {
                request.extensions_mut().insert(Repeatable);
            }
            let status = match make(self.broker.clone(), request).await {
                Ok(answer) => {
                    self.budget.succeeded();
                    return Ok(answer.into_inner());
                }
                Err(status) => status,
            };
            let again = pause_before_repetition(&status).map(|pause| Instant::now() + pause);
            match again {
                Some(at) if self.budget.failed() && attempt < self.attempts && at < end => {
                    tokio::time::sleep_until(at).await;
                }
                _ => return Err(status.into()),
            }
            attempt += 1;
        }
    }
}

calls! {
    /// Stores messages in a topic, all or none. Made again if all of them have a dedup id.
    publish(PublishRequest) -> PublishResponse, |request| {
        let is_known_again = request.messages.iter().all(|message| !message.dedup_id.is_empty());
        if is_known_again { Repeat::Harmless } else { Repeat::Never }
    };
    /// Hands out the next messages of a queue. Made again if they are handed out under a lease: those of a lost answer come
    /// back when it ends.
    pull(PullRequest) -> PullResponse, |request| if request.auto_ack { Repeat::Never } else { Repeat::Harmless };
    /// Acks, nacks and extends deliveries. Never made again: a second ack would be answered as stale.
    settle(SettleRequest) -> SettleResponse, |_| Repeat::Never;
    /// Has leases end at another time. Made again unless that gives the messages back.
    modify_ack_deadline(ModifyAckDeadlineRequest) -> ModifyAckDeadlineResponse, |request| {
        let is_zero = request.ack_deadline.as_ref().is_none_or(|time| time.seconds == 0 && time.nanos == 0);
        if is_zero { Repeat::Never } else { Repeat::Harmless }
    };
    /// Publishes a message and waits for the answer to it. Never made again.
    request(RequestRequest) -> RequestResponse, |_| Repeat::Never;
    /// Shows messages of a queue, page by page. Made again.
    browse(BrowseRequest) -> BrowseResponse, |_| Repeat::Harmless;
    /// Shows one message of a queue. Made again.
    get_message(GetMessageRequest) -> BrowsedMessage, |_| Repeat::Harmless;
    /// Removes one message from a queue. Never made again: it would not be found.
    delete_message(DeleteMessageRequest) -> DeleteMessageResponse, |_| Repeat::Never;
    /// Tells what has happened to a message. Made again.
    get_story(GetStoryRequest) -> Story, |_| Repeat::Harmless;
    /// Says why a queue hands nothing out, or that it would. Made again.
    explain(ExplainRequest) -> Explanation, |_| Repeat::Harmless;
    /// Removes messages from a queue. Never made again: it would remove what came since.
    purge(PurgeRequest) -> PurgeResponse, |_| Repeat::Never;
    /// Brings dead letters back to their queue. Never made again: it would bring back what died since.
    redrive(RedriveRequest) -> RedriveResponse, |_| Repeat::Never;
    /// Hands nothing out from a queue until it is resumed. Made again.
    pause(PauseRequest) -> Queue, |_| Repeat::Harmless;
    /// Hands messages out again. Made again.
    resume(ResumeRequest) -> Queue, |_| Repeat::Harmless;
    /// Makes a topic, or sets the policy of one that exists. Made again.
    put_topic(PutTopicRequest) -> Topic, |_| Repeat::Harmless;
    /// Shows a topic. Made again.
    get_topic(GetTopicRequest) -> Topic, |_| Repeat::Harmless;
    /// Shows topics, page by page. Made again.
    list_topics(ListTopicsRequest) -> ListTopicsResponse, |_| Repeat::Harmless;
    /// Removes a topic, with its queues and everything in them. Never made again: it would not be found.
    delete_topic(DeleteTopicRequest) -> DeleteTopicResponse, |_| Repeat::Never;
    /// Makes the queue of a service on a topic, or sets its policy. Made again.
    put_subscription(PutSubscriptionRequest) -> Queue, |_| Repeat::Harmless;
    /// Shows the queue of a service on a topic. Made again.
    get_subscription(GetSubscriptionRequest) -> Queue, |_| Repeat::Harmless;
    /// Removes the queue of a service on a topic. Never made again: it would not be found.
    delete_subscription(DeleteSubscriptionRequest) -> DeleteQueueResponse, |_| Repeat::Never;
    /// Declares a service: its inbox, and its queue on each of the topics. Made again.
    register_service(RegisterServiceRequest) -> Service, |_| Repeat::Harmless;
    /// Shows services, page by page. Made again.
    list_services(ListServicesRequest) -> ListServicesResponse, |_| Repeat::Harmless;
    /// Shows a queue. Made again.
    get_queue(GetQueueRequest) -> Queue, |_| Repeat::Harmless;
    /// Shows queues, page by page. Made again.
    list_queues(ListQueuesRequest) -> ListQueuesResponse, |_| Repeat::Harmless;
    /// Changes what the policy of a queue says. Made again.
    update_queue(UpdateQueueRequest) -> Queue, |_| Repeat::Harmless;
    /// Removes a queue, with everything in it. Never made again: it would not be found.
    delete_queue(DeleteQueueRequest) -> DeleteQueueResponse, |_| Repeat::Never;
    /// Moves the broker's clock ahead, in dev mode. Never made again.
    advance_clock(AdvanceClockRequest) -> AdvanceClockResponse, |_| Repeat::Never;
}

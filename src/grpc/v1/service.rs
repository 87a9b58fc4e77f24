//! The calls of `campanile.v1.Broker`: each reads its request, asks the broker, writes the answer.

use std::pin::Pin;

use tokio::sync::mpsc;
use tonic::{
    Request, Response, Status, Streaming,
    codegen::tokio_stream::{Stream, wrappers::ReceiverStream},
};

use super::{
    held::Held,
    publish_stream,
    read::{self, Trace},
    shown, streaming_pull, write,
};
use crate::{
    broker::{
        Broker, BrokerError, Browse, PutSubscription, Redrive, Register, Request as AnsweredRequest, Settle, SettleAll,
        Settled, reading,
    },
    grpc::{
        proto::v1::{
            self as proto, broker_server::Broker as BrokerService, streaming_pull_request::Frame as StreamingPullFrame,
        },
        status::v1_status_of,
    },
    model::Name,
};

/// How many frames of a stream wait for a client that does not read.
const FRAMES_MAX: usize = 4;

type Frames<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Serves `campanile.v1.Broker`.
#[derive(Debug, Clone)]
pub(in crate::grpc) struct Service {
    broker: Broker,
}

impl Service {
    pub(in crate::grpc) fn new(broker: Broker) -> Self {
        Self { broker }
    }
}

/// What a call came to, as tonic wants it.
fn answered<T>(result: Result<T, BrokerError>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| v1_status_of(&error))
}

fn queue(text: &str) -> Result<Name, BrokerError> {
    reading::name("queue", text)
}

fn topic(text: &str) -> Result<Name, BrokerError> {
    reading::name("topic", text)
}

fn service(text: &str) -> Result<Name, BrokerError> {
    reading::name("service", text)
}

impl Service {
    async fn publish(&self, request: Request<proto::PublishRequest>) -> Result<proto::PublishResponse, BrokerError> {
        let (metadata, _, request) = request.into_parts();
        let published = self.broker.publish(read::publish(request, &Trace::of(&metadata))?).await?;
        Ok(write::published(&published))
    }

    async fn pull(&self, request: Request<proto::PullRequest>) -> Result<Response<proto::PullResponse>, BrokerError> {
        let (metadata, _, request) = request.into_parts();
        let deliveries = self.broker.receive(read::receive(request, &metadata)?).await?;
        let hold = self.broker.hold(&deliveries)?;
        let deliveries = write::deliveries(&self.broker, &deliveries)?;
        let mut response = Response::new(proto::PullResponse { deliveries });
        response.extensions_mut().insert(Held::new(hold));
        Ok(response)
    }

    async fn settle(&self, request: Request<proto::SettleRequest>) -> Result<proto::SettleResponse, BrokerError> {
        let (metadata, _, request) = request.into_parts();
        let proto::SettleRequest { settlements, all_or_nothing, publishes } = request;
        let settlements = read::settlements(settlements)?;
        let ack_ids = settlements.iter().map(|(id, _)| id.clone()).collect();
        if !all_or_nothing {
            if !publishes.is_empty() {
                return Err(BrokerError::invalid("publishes", "goes with all_or_nothing only"));
            }
            let results = self.broker.settle(Settle { queue: None, settlements }).await?;
            return Ok(proto::SettleResponse { results: write::results(ack_ids, &results), published: Vec::new() });
        }
        let trace = Trace::of(&metadata);
        let publish = |(at, publish)| read::publish(publish, &trace).map_err(|error| error.at("publishes", at));
        let publishes = publishes.into_iter().enumerate().map(publish).collect::<Result<_, _>>()?;
        let settled = self.broker.settle_all(SettleAll { settlements, publishes }).await?;
        Ok(proto::SettleResponse {
            results: write::results(ack_ids, &settled.results),
            published: settled.published.iter().map(write::published).collect(),
        })
    }

    async fn modify_ack_deadline(
        &self,
        request: proto::ModifyAckDeadlineRequest,
    ) -> Result<Vec<proto::SettleResult>, BrokerError> {
        let queue = if request.queue.is_empty() { None } else { Some(queue(&request.queue)?) };
        let deadline =
            request.ack_deadline.ok_or_else(|| BrokerError::invalid("ack_deadline_seconds", "is missing"))?;
        let extend = crate::broker::Settlement::Extend(read::duration("ack_deadline_seconds", deadline)?);
        let settlements = request.ack_ids.iter().map(|id| (id.clone(), extend.clone())).collect();
        let rename = |field: &str| if field == "settlements" { "ack_ids" } else { "ack_deadline_seconds" }.to_owned();
        let results = self.broker.settle(Settle { queue, settlements }).await;
        let results: Vec<Settled> = results.map_err(|error| error.renamed(rename))?;
        Ok(write::results(request.ack_ids, &results))
    }

    async fn request(&self, request: Request<proto::RequestRequest>) -> Result<proto::RequestResponse, BrokerError> {
        let (metadata, _, request) = request.into_parts();
        let message = request.message.ok_or_else(|| BrokerError::invalid("message", "is missing"))?;
        let reply = self
            .broker
            .request(AnsweredRequest {
                topic: topic(&request.topic)?,
                draft: read::draft(message, &Trace::of(&metadata)).map_err(BrokerError::in_the_message)?,
                timeout_seconds: request.timeout.map(read::seconds),
            })
            .await?;
        Ok(proto::RequestResponse {
            message_id: reply.message_id.to_string(),
            reply: Some(write::message(&reply.message)),
        })
    }

    async fn browse(&self, request: proto::BrowseRequest) -> Result<proto::BrowseResponse, BrokerError> {
        let browse = Browse {
            queue: queue(&request.queue)?,
            state: read::state("state", request.state)?,
            page: read::page(request.page_size, request.page_token),
        };
        let (messages, next) = self.broker.browse(browse).await?;
        Ok(proto::BrowseResponse {
            messages: messages.into_iter().map(shown::browsed).collect(),
            next_page_token: next.unwrap_or_default(),
        })
    }

    async fn purge(&self, request: proto::PurgeRequest) -> Result<proto::PurgeResponse, BrokerError> {
        let state = |(at, state): (usize, &i32)| read::state(format!("states[{at}]"), *state);
        let states = request.states.iter().enumerate().map(state).collect::<Result<Vec<_>, _>>()?;
        let messages = self.broker.purge(queue(&request.queue)?, &states).await?;
        Ok(proto::PurgeResponse { messages })
    }

    async fn redrive(&self, request: proto::RedriveRequest) -> Result<proto::RedriveResponse, BrokerError> {
        let id = |(at, id): (usize, &String)| reading::message_id(format!("message_ids[{at}]"), id);
        let ids = request.message_ids.iter().enumerate().map(id).collect::<Result<_, _>>()?;
        let redrive = Redrive { queue: queue(&request.queue)?, ids, max_per_second: request.max_per_second };
        Ok(proto::RedriveResponse { messages: self.broker.redrive(redrive).await? })
    }

    async fn register(&self, request: proto::RegisterServiceRequest) -> Result<proto::Service, BrokerError> {
        let service = service(&request.service)?;
        let name = |(at, text): (usize, &String)| reading::name(format!("topics[{at}]"), text);
        let topics = request.topics.iter().enumerate().map(name).collect::<Result<_, _>>()?;
        let registered = self.broker.register(Register { service: service.clone(), topics }).await?;
        let topics = registered.topics.iter().map(ToString::to_string).collect();
        Ok(proto::Service { name: service.to_string(), topics })
    }

    async fn list_topics(&self, request: proto::ListTopicsRequest) -> Result<proto::ListTopicsResponse, BrokerError> {
        let list = read::list(request.page_size, request.page_token, request.prefix);
        let (topics, next) = self.broker.topics(list).await?;
        let topics = topics.into_iter().map(shown::topic).collect();
        Ok(proto::ListTopicsResponse { topics, next_page_token: next.unwrap_or_default() })
    }

    async fn list_queues(&self, request: proto::ListQueuesRequest) -> Result<proto::ListQueuesResponse, BrokerError> {
        let list = read::list(request.page_size, request.page_token, request.prefix);
        let (queues, next) = self.broker.queues(list).await?;
        let queues = queues.into_iter().map(shown::queue).collect();
        Ok(proto::ListQueuesResponse { queues, next_page_token: next.unwrap_or_default() })
    }

    async fn list_services(
        &self,
        request: proto::ListServicesRequest,
    ) -> Result<proto::ListServicesResponse, BrokerError> {
        let list = read::list(request.page_size, request.page_token, String::new());
        let (services, next) = self.broker.services(list).await?;
        let services = services.into_iter().map(shown::service).collect();
        Ok(proto::ListServicesResponse { services, next_page_token: next.unwrap_or_default() })
    }

    async fn put_subscription(&self, request: proto::PutSubscriptionRequest) -> Result<proto::Queue, BrokerError> {
        let put = PutSubscription {
            topic: topic(&request.topic)?,
            service: service(&request.service)?,
            policy: read::queue_policy(request.policy)?,
        };
        Ok(shown::queue(self.broker.put_subscription(put).await?.value))
    }

    async fn update_queue(&self, request: proto::UpdateQueueRequest) -> Result<proto::Queue, BrokerError> {
        let policy = read::cleared(read::queue_policy(request.policy)?, &request.clear_limits)?;
        Ok(shown::queue(self.broker.update_queue(queue(&request.queue)?, policy).await?))
    }

    async fn advance_clock(
        &self,
        request: proto::AdvanceClockRequest,
    ) -> Result<proto::AdvanceClockResponse, BrokerError> {
        let by = request.by.ok_or_else(|| BrokerError::invalid("by_seconds", "is missing"))?;
        let now = self.broker.advance_clock(read::duration("by_seconds", by)?)?;
        Ok(proto::AdvanceClockResponse { now: Some(write::timestamp(now)) })
    }
}

#[tonic::async_trait]
impl BrokerService for Service {
    type PublishStreamStream = Frames<proto::PublishStreamResponse>;
    type StreamingPullStream = Frames<proto::StreamingPullResponse>;

    async fn publish(
        &self,
        request: Request<proto::PublishRequest>,
    ) -> Result<Response<proto::PublishResponse>, Status> {
        answered(self.publish(request).await)
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<proto::PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let (metadata, _, requests) = request.into_parts();
        let (sender, frames) = mpsc::channel(FRAMES_MAX);
        // It ends when the client's side of either direction does.
        tokio::spawn(publish_stream::serve(self.broker.clone(), Trace::of(&metadata), requests, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(frames))))
    }

    async fn pull(&self, request: Request<proto::PullRequest>) -> Result<Response<proto::PullResponse>, Status> {
        self.pull(request).await.map_err(|error| v1_status_of(&error))
    }

    async fn streaming_pull(
        &self,
        request: Request<Streaming<proto::StreamingPullRequest>>,
    ) -> Result<Response<Self::StreamingPullStream>, Status> {
        let (metadata, _, mut requests) = request.into_parts();
        let start = match requests.message().await?.and_then(|request| request.frame) {
            Some(StreamingPullFrame::Start(start)) => start,
            _ => return answered(Err(BrokerError::invalid("start", "has to come in the first frame"))),
        };
        let subscribe = read::subscribe(start, &metadata).map_err(|error| v1_status_of(&error))?;
        let feed = self.broker.subscribe(subscribe).await.map_err(|error| v1_status_of(&error))?;
        let (sender, frames) = mpsc::channel(FRAMES_MAX);
        // As above.
        tokio::spawn(streaming_pull::serve(self.broker.clone(), feed, requests, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(frames))))
    }

    async fn settle(&self, request: Request<proto::SettleRequest>) -> Result<Response<proto::SettleResponse>, Status> {
        answered(self.settle(request).await)
    }

    async fn modify_ack_deadline(
        &self,
        request: Request<proto::ModifyAckDeadlineRequest>,
    ) -> Result<Response<proto::ModifyAckDeadlineResponse>, Status> {
        let results = self.modify_ack_deadline(request.into_inner()).await;
        answered(results.map(|results| proto::ModifyAckDeadlineResponse { results }))
    }

    async fn request(
        &self,
        request: Request<proto::RequestRequest>,
    ) -> Result<Response<proto::RequestResponse>, Status> {
        answered(self.request(request).await)
    }

    async fn browse(&self, request: Request<proto::BrowseRequest>) -> Result<Response<proto::BrowseResponse>, Status> {
        answered(self.browse(request.into_inner()).await)
    }

    async fn get_message(
        &self,
        request: Request<proto::GetMessageRequest>,
    ) -> Result<Response<proto::BrowsedMessage>, Status> {
        let request = request.into_inner();
        let message = async {
            let id = reading::message_id("message_id", &request.message_id)?;
            self.broker.message(queue(&request.queue)?, id).await.map(shown::browsed)
        };
        answered(message.await)
    }

    async fn delete_message(
        &self,
        request: Request<proto::DeleteMessageRequest>,
    ) -> Result<Response<proto::DeleteMessageResponse>, Status> {
        let request = request.into_inner();
        let deleted = async {
            let id = reading::message_id("message_id", &request.message_id)?;
            self.broker.delete_message(queue(&request.queue)?, id).await
        };
        answered(deleted.await.map(|()| proto::DeleteMessageResponse {}))
    }

    async fn get_story(&self, request: Request<proto::GetStoryRequest>) -> Result<Response<proto::Story>, Status> {
        let request = request.into_inner();
        let story = async {
            let id = reading::message_id("message_id", &request.message_id)?;
            self.broker.story(id).await.map(shown::story)
        };
        answered(story.await)
    }

    async fn explain(&self, request: Request<proto::ExplainRequest>) -> Result<Response<proto::Explanation>, Status> {
        let request = request.into_inner();
        let explained = async { self.broker.explain(queue(&request.queue)?).await.map(shown::explanation) };
        answered(explained.await)
    }

    async fn purge(&self, request: Request<proto::PurgeRequest>) -> Result<Response<proto::PurgeResponse>, Status> {
        answered(self.purge(request.into_inner()).await)
    }

    async fn redrive(
        &self,
        request: Request<proto::RedriveRequest>,
    ) -> Result<Response<proto::RedriveResponse>, Status> {
        answered(self.redrive(request.into_inner()).await)
    }

    async fn pause(&self, request: Request<proto::PauseRequest>) -> Result<Response<proto::Queue>, Status> {
        let request = request.into_inner();
        let paused = async { self.broker.pause(queue(&request.queue)?).await.map(shown::queue) };
        answered(paused.await)
    }

    async fn resume(&self, request: Request<proto::ResumeRequest>) -> Result<Response<proto::Queue>, Status> {
        let request = request.into_inner();
        let resumed = async { self.broker.resume(queue(&request.queue)?).await.map(shown::queue) };
        answered(resumed.await)
    }

    async fn put_topic(&self, request: Request<proto::PutTopicRequest>) -> Result<Response<proto::Topic>, Status> {
        let request = request.into_inner();
        let put = async {
            let policy = read::topic_policy(request.policy)?;
            self.broker.put_topic(topic(&request.topic)?, policy).await.map(|put| shown::topic(put.value))
        };
        answered(put.await)
    }

    async fn get_topic(&self, request: Request<proto::GetTopicRequest>) -> Result<Response<proto::Topic>, Status> {
        let request = request.into_inner();
        let found = async { self.broker.topic(topic(&request.topic)?).await.map(shown::topic) };
        answered(found.await)
    }

    async fn list_topics(
        &self,
        request: Request<proto::ListTopicsRequest>,
    ) -> Result<Response<proto::ListTopicsResponse>, Status> {
        answered(self.list_topics(request.into_inner()).await)
    }

    async fn delete_topic(
        &self,
        request: Request<proto::DeleteTopicRequest>,
    ) -> Result<Response<proto::DeleteTopicResponse>, Status> {
        let request = request.into_inner();
        let deleted = async { self.broker.delete_topic(topic(&request.topic)?).await };
        answered(deleted.await.map(|messages| proto::DeleteTopicResponse { messages }))
    }

    async fn put_subscription(
        &self,
        request: Request<proto::PutSubscriptionRequest>,
    ) -> Result<Response<proto::Queue>, Status> {
        answered(self.put_subscription(request.into_inner()).await)
    }

    async fn get_subscription(
        &self,
        request: Request<proto::GetSubscriptionRequest>,
    ) -> Result<Response<proto::Queue>, Status> {
        let request = request.into_inner();
        let found = async {
            let (topic, service) = (topic(&request.topic)?, service(&request.service)?);
            self.broker.subscription(&topic, &service).await.map(shown::queue)
        };
        answered(found.await)
    }

    async fn delete_subscription(
        &self,
        request: Request<proto::DeleteSubscriptionRequest>,
    ) -> Result<Response<proto::DeleteQueueResponse>, Status> {
        let request = request.into_inner();
        let deleted = async {
            let (topic, service) = (topic(&request.topic)?, service(&request.service)?);
            self.broker.delete_subscription(&topic, &service).await
        };
        answered(deleted.await.map(|messages| proto::DeleteQueueResponse { messages }))
    }

    async fn register_service(
        &self,
        request: Request<proto::RegisterServiceRequest>,
    ) -> Result<Response<proto::Service>, Status> {
        answered(self.register(request.into_inner()).await)
    }

    async fn list_services(
        &self,
        request: Request<proto::ListServicesRequest>,
    ) -> Result<Response<proto::ListServicesResponse>, Status> {
        answered(self.list_services(request.into_inner()).await)
    }

    async fn get_queue(&self, request: Request<proto::GetQueueRequest>) -> Result<Response<proto::Queue>, Status> {
        let request = request.into_inner();
        let found = async { self.broker.queue(queue(&request.queue)?).await.map(shown::queue) };
        answered(found.await)
    }

    async fn list_queues(
        &self,
        request: Request<proto::ListQueuesRequest>,
    ) -> Result<Response<proto::ListQueuesResponse>, Status> {
        answered(self.list_queues(request.into_inner()).await)
    }

    async fn update_queue(
        &self,
        request: Request<proto::UpdateQueueRequest>,
    ) -> Result<Response<proto::Queue>, Status> {
        answered(self.update_queue(request.into_inner()).await)
    }

    async fn delete_queue(
        &self,
        request: Request<proto::DeleteQueueRequest>,
    ) -> Result<Response<proto::DeleteQueueResponse>, Status> {
        let request = request.into_inner();
        let deleted = async { self.broker.delete_queue(queue(&request.queue)?).await };
        answered(deleted.await.map(|messages| proto::DeleteQueueResponse { messages }))
    }

    async fn advance_clock(
        &self,
        request: Request<proto::AdvanceClockRequest>,
    ) -> Result<Response<proto::AdvanceClockResponse>, Status> {
        answered(self.advance_clock(request.into_inner()).await)
    }
}

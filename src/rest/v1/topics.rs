//! Topics, the subscriptions on them, and services: made, shown, removed.

use axum::{body::Body, extract::State, http::StatusCode, response::Response};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    PageQuery, PrefixQuery, TopicPath,
    policy::{NewQueuePolicy, NewTopicPolicy},
    queue_view::{Queue, Service, Topic},
    read,
};
use crate::{
    broker::{List, PutSubscription},
    rest::{
        answer,
        asked::Asked,
        error::Problem,
        problems::{Changing, Looking, Steering},
        router::{Calls, LIST_BODY_BYTES_MAX},
    },
};

/// The queue of a service on a topic in a path.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only describes the path")]
struct SubscriptionPath {
    topic: String,
    service: String,
}

/// How many messages went.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Removed {
    pub(super) messages: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TopicList {
    topics: Vec<Topic>,
    /// Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServiceList {
    services: Vec<Service>,
    /// Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// The status of something that was put.
fn put_status(is_new: bool) -> StatusCode {
    if is_new { StatusCode::CREATED } else { StatusCode::OK }
}

/// Makes a topic, or sets the policy of one that exists. What the policy does not say has its default.
#[utoipa::path(put, path = "/v1/topics/{topic}", tag = "topics", params(TopicPath), request_body = Option<NewTopicPolicy>,
    responses((status = 201, body = Topic, description = "made"), (status = 200, body = Topic, description = "its policy is set"), Changing))]
pub(super) async fn put_topic(State(calls): State<Calls>, asked: Asked, body: Body) -> Result<Response, Problem> {
    let body = read::json_body(&asked.headers, body, LIST_BODY_BYTES_MAX).await?;
    let policy = read::strict::<NewTopicPolicy>(&body)?.patch()?;
    let put = calls.broker.put_topic(asked.name("topic")?, policy).await?;
    Ok(answer::with_status(put_status(put.is_new), &Topic::from(put.value)))
}

/// Shows a topic.
#[utoipa::path(get, path = "/v1/topics/{topic}", tag = "topics", params(TopicPath),
    responses((status = 200, body = Topic, description = "the topic"), Looking))]
pub(super) async fn get_topic(State(calls): State<Calls>, asked: Asked) -> Result<Response, Problem> {
    Ok(answer::plain(&Topic::from(calls.broker.topic(asked.name("topic")?).await?)))
}

/// Removes a topic, with its queues and everything in them.
#[utoipa::path(delete, path = "/v1/topics/{topic}", tag = "topics", params(TopicPath),
    responses((status = 200, body = Removed, description = "how many messages went with it"), Steering))]
pub(super) async fn delete_topic(State(calls): State<Calls>, asked: Asked) -> Result<Response, Problem> {
    let messages = calls.broker.delete_topic(asked.name("topic")?).await?;
    Ok(answer::plain(&Removed { messages }))
}

/// Shows topics, in the order in which they came into being.
#[utoipa::path(get, path = "/v1/topics", tag = "topics", params(PageQuery, PrefixQuery),
    responses((status = 200, body = TopicList, description = "a page of topics"), Looking))]
pub(super) async fn list_topics(State(calls): State<Calls>, asked: Asked) -> Result<Response, Problem> {
    let (topics, next_page_token) = calls.broker.topics(asked.list()?).await?;
    Ok(answer::plain(&TopicList { topics: topics.into_iter().map(Topic::from).collect(), next_page_token }))
}

/// Makes the queue of a service on a topic, or sets the policy of one that exists. What the policy does not say has its
/// default.
#[utoipa::path(put, path = "/v1/topics/{topic}/subscriptions/{service}", tag = "topics", params(SubscriptionPath),
    request_body = Option<NewQueuePolicy>,
    responses((status = 201, body = Queue, description = "made"), (status = 200, body = Queue, description = "its policy is set"), Changing))]
pub(super) async fn put_subscription(
    State(calls): State<Calls>,
    asked: Asked,
    body: Body,
) -> Result<Response, Problem> {
    let body = read::json_body(&asked.headers, body, LIST_BODY_BYTES_MAX).await?;
    let put = PutSubscription {
        topic: asked.name("topic")?,
        service: asked.name("service")?,
        policy: read::strict::<NewQueuePolicy>(&body)?.patch()?,
    };
    let put = calls.broker.put_subscription(put).await?;
    Ok(answer::with_status(put_status(put.is_new), &Queue::from(put.value)))
}

/// Shows the queue of a service on a topic.
#[utoipa::path(get, path = "/v1/topics/{topic}/subscriptions/{service}", tag = "topics", params(SubscriptionPath),
    responses((status = 200, body = Queue, description = "the queue"), Looking))]
pub(super) async fn get_subscription(State(calls): State<Calls>, asked: Asked) -> Result<Response, Problem> {
    let queue = calls.broker.subscription(&asked.name("topic")?, &asked.name("service")?).await?;
    Ok(answer::plain(&Queue::from(queue)))
}

/// Removes the queue of a service on a topic, with everything in it.
#[utoipa::path(delete, path = "/v1/topics/{topic}/subscriptions/{service}", tag = "topics", params(SubscriptionPath),
    responses((status = 200, body = Removed, description = "how many messages it had"), Steering))]
pub(super) async fn delete_subscription(State(calls): State<Calls>, asked: Asked) -> Result<Response, Problem> {
    let messages = calls.broker.delete_subscription(&asked.name("topic")?, &asked.name("service")?).await?;
    Ok(answer::plain(&Removed { messages }))
}

/// Shows services, in the order in which they were registered.
#[utoipa::path(get, path = "/v1/services", tag = "topics", params(PageQuery),
    responses((status = 200, body = ServiceList, description = "a page of services"), Looking))]
pub(super) async fn list_services(State(calls): State<Calls>, asked: Asked) -> Result<Response, Problem> {
    let list = List { prefix: String::new(), page: asked.page_beside(&[])? };
    let (services, next_page_token) = calls.broker.services(list).await?;
    Ok(answer::plain(&ServiceList { services: services.into_iter().map(Service::from).collect(), next_page_token }))
}

//! Queues: shown, changed, removed.

use axum::{body::Body, extract::State, response::Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{PageQuery, PrefixQuery, QueuePath, policy::NewQueuePolicy, queue_view::Queue, read, topics::Removed};
use crate::rest::{
    answer,
    asked::Asked,
    error::Problem,
    problems::{Changing, Looking, Steering},
    router::{Calls, LIST_BODY_BYTES_MAX},
};

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QueueList {
    queues: Vec<Queue>,
    /// Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// Shows queues, in the order in which they came into being.
#[utoipa::path(get, path = "/v1/queues", tag = "queues", params(PageQuery, PrefixQuery),
    responses((status = 200, body = QueueList, description = "a page of queues"), Looking))]
pub(super) async fn list_queues(State(calls): State<Calls>, asked: Asked) -> Result<Response, Problem> {
    let (queues, next_page_token) = calls.broker.queues(asked.list()?).await?;
    Ok(answer::plain(&QueueList { queues: queues.into_iter().map(Queue::from).collect(), next_page_token }))
}

/// Shows a queue.
#[utoipa::path(get, path = "/v1/queues/{queue}", tag = "queues", params(QueuePath),
    responses((status = 200, body = Queue, description = "the queue"), Looking))]
pub(super) async fn get_queue(State(calls): State<Calls>, asked: Asked) -> Result<Response, Problem> {
    Ok(answer::plain(&Queue::from(calls.broker.queue(asked.name("queue")?).await?)))
}

/// Changes what the policy of a queue says: the fields that are given; a limit that is `null` is taken away. The own queue
/// of a topic that exists comes into being for that.
#[utoipa::path(patch, path = "/v1/queues/{queue}", tag = "queues", params(QueuePath), request_body = Option<NewQueuePolicy>,
    responses((status = 200, body = Queue, description = "the queue as it is now"), Changing))]
pub(super) async fn update_queue(State(calls): State<Calls>, asked: Asked, body: Body) -> Result<Response, Problem> {
    let body = read::json_body(&asked.headers, body, LIST_BODY_BYTES_MAX).await?;
    let policy = read::strict::<NewQueuePolicy>(&body)?.patch()?;
    Ok(answer::plain(&Queue::from(calls.broker.update_queue(asked.name("queue")?, policy).await?)))
}

/// Removes a queue, with everything in it.
#[utoipa::path(delete, path = "/v1/queues/{queue}", tag = "queues", params(QueuePath),
    responses((status = 200, body = Removed, description = "how many messages it had"), Steering))]
pub(super) async fn delete_queue(State(calls): State<Calls>, asked: Asked) -> Result<Response, Problem> {
    let messages = calls.broker.delete_queue(asked.name("queue")?).await?;
    Ok(answer::plain(&Removed { messages }))
}

//! Queues are emptied, paused and resumed, and dead letters brought back.

use axum::{body::Body, extract::State, response::Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{QueuePath, message_view::State as Shown, queue_view::Queue, read, topics::Removed};
use crate::{
    broker::{Redrive, StateFilter, reading},
    rest::{
        answer,
        asked::Asked,
        error::Problem,
        problems::{Changing, Steering},
        router::{Calls, LIST_BODY_BYTES_MAX},
    },
};

/// What is removed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Purge {
    /// Default: `ready`. `delayed` is not allowed: those messages are the topic's.
    states: Option<Vec<Shown>>,
}

/// What is brought back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRedrive {
    /// Which dead letters, at most 1000. Default: all.
    #[schema(value_type = Option<Vec<String>>, max_items = 1000)]
    message_ids: Option<Vec<String>>,
    /// How many become deliverable per second. Default 0: all at once.
    #[schema(format = "uint32", maximum = 4_294_967_295_u32)]
    max_per_second: Option<u32>,
}

/// Removes messages from a queue.
#[utoipa::path(post, path = "/v1/queues/{queue}/purge", tag = "queues", params(QueuePath), request_body = Option<Purge>,
    responses((status = 200, body = Removed, description = "how many are gone"), Changing))]
pub(super) async fn purge(State(calls): State<Calls>, asked: Asked, body: Body) -> Result<Response, Problem> {
    let body = read::json_body(&asked.headers, body, LIST_BODY_BYTES_MAX).await?;
    let Purge { states } = read::strict(&body)?;
    let states: Vec<_> = states.unwrap_or_default().into_iter().map(StateFilter::from).collect();
    let messages = calls.broker.purge(asked.name("queue")?, &states).await?;
    Ok(answer::plain(&Removed { messages }))
}

/// Brings dead letters back to their places in the queue, as if they had never been delivered.
#[utoipa::path(post, path = "/v1/queues/{queue}/redrive", tag = "queues", params(QueuePath),
    request_body = Option<NewRedrive>,
    responses((status = 200, body = Removed, description = "how many are back"), Changing))]
pub(super) async fn redrive(State(calls): State<Calls>, asked: Asked, body: Body) -> Result<Response, Problem> {
    let body = read::json_body(&asked.headers, body, LIST_BODY_BYTES_MAX).await?;
    let NewRedrive { message_ids, max_per_second } = read::strict(&body)?;
    let ids = message_ids.unwrap_or_default();
    let ids = ids.iter().enumerate().map(|(at, id)| reading::message_id(format!("message_ids[{at}]"), id));
    let redrive = Redrive {
        queue: asked.name("queue")?,
        ids: ids.collect::<Result<_, _>>()?,
        max_per_second: max_per_second.unwrap_or(0),
    };
    let messages = calls.broker.redrive(redrive).await?;
    Ok(answer::plain(&Removed { messages }))
}

/// Hands nothing out from a queue until it is resumed. What consumers hold they can settle. The own queue of a topic that has
/// no queue comes into being for that, as for resume, purge and redrive.
#[utoipa::path(post, path = "/v1/queues/{queue}/pause", tag = "queues", params(QueuePath),
    responses((status = 200, body = Queue, description = "the queue as it is now"), Steering))]
pub(super) async fn pause(State(calls): State<Calls>, asked: Asked) -> Result<Response, Problem> {
    Ok(answer::plain(&Queue::from(calls.broker.pause(asked.name("queue")?).await?)))
}

/// Hands messages out again.
#[utoipa::path(post, path = "/v1/queues/{queue}/resume", tag = "queues", params(QueuePath),
    responses((status = 200, body = Queue, description = "the queue as it is now"), Steering))]
pub(super) async fn resume(State(calls): State<Calls>, asked: Asked) -> Result<Response, Problem> {
    Ok(answer::plain(&Queue::from(calls.broker.resume(asked.name("queue")?).await?)))
}

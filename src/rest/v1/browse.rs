//! Looks at messages and queues. Nothing happens to them, but for the message that is deleted.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize as _, Serialize, de::IntoDeserializer as _};
use utoipa::{IntoParams, ToSchema};

use super::{
    PageQuery, QueuePath,
    message_view::{BrowsedMessage, Explanation, State as Shown, Story},
};
use crate::{
    broker::{BrokerError, Browse, StateFilter},
    rest::{
        answer,
        asked::Asked,
        error::Problem,
        problems::{Looking, Steering},
        router::Calls,
    },
};

/// Which messages are shown.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only describes the query")]
struct StateQuery {
    /// Default `ready`.
    #[param(inline)]
    state: Option<Shown>,
}

/// A message of a queue in a path.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only describes the path")]
struct MessagePath {
    queue: String,
    #[param(format = "uuid")]
    message_id: String,
}

/// A message in a path.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only describes the path")]
struct IdPath {
    #[param(format = "uuid")]
    message_id: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MessageList<'a> {
    messages: Vec<BrowsedMessage<'a>>,
    /// Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// Shows messages of a queue, page by page, in publish order. Nothing happens to them. A topic without a queue shows what it
/// keeps for the first one.
#[utoipa::path(get, path = "/v1/queues/{queue}/messages", tag = "queues", params(QueuePath, StateQuery, PageQuery),
    responses((status = 200, body = MessageList<'_>, description = "a page of messages"), Looking))]
pub(super) async fn browse(State(calls): State<Calls>, asked: Asked) -> Result<Response, Problem> {
    let page = asked.page_beside(&["state"])?;
    let state = asked.query.text("state")?.map_or(Ok(StateFilter::Ready), |text| filter_of("state", text))?;
    let browse = Browse { queue: asked.name("queue")?, state, page };
    let (messages, next_page_token) = calls.broker.browse(browse).await?;
    let messages = messages.iter().map(BrowsedMessage::of).collect();
    Ok(answer::plain(&MessageList { messages, next_page_token }))
}

/// Shows one message of a queue.
#[utoipa::path(get, path = "/v1/queues/{queue}/messages/{message_id}", tag = "queues", params(MessagePath),
    responses((status = 200, body = BrowsedMessage<'_>, description = "the message"), Looking))]
pub(super) async fn get_message(State(calls): State<Calls>, asked: Asked) -> Result<Response, Problem> {
    let message = calls.broker.message(asked.name("queue")?, asked.message_id("message_id")?).await?;
    Ok(answer::plain(&BrowsedMessage::of(&message)))
}

/// Removes one message from a queue, wherever it is. One that is not visible yet is removed for all queues of its topic.
#[utoipa::path(delete, path = "/v1/queues/{queue}/messages/{message_id}", tag = "queues", params(MessagePath),
    responses((status = 204, description = "it is gone"), Steering))]
pub(super) async fn delete_message(State(calls): State<Calls>, asked: Asked) -> Result<Response, Problem> {
    calls.broker.delete_message(asked.name("queue")?, asked.message_id("message_id")?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Says why a queue hands nothing out, or that it would.
#[utoipa::path(get, path = "/v1/queues/{queue}/explain", tag = "queues", params(QueuePath),
    responses((status = 200, body = Explanation, description = "the obstacles"), Looking))]
pub(super) async fn explain(State(calls): State<Calls>, asked: Asked) -> Result<Response, Problem> {
    Ok(answer::plain(&Explanation::from(calls.broker.explain(asked.name("queue")?).await?)))
}

/// Tells what has happened to a message, and what is up with it now.
#[utoipa::path(get, path = "/v1/messages/{message_id}", tag = "queues", params(IdPath),
    responses((status = 200, body = Story<'_>, description = "its story"), Looking))]
pub(super) async fn get_story(State(calls): State<Calls>, asked: Asked) -> Result<Response, Problem> {
    let story = calls.broker.story(asked.message_id("message_id")?).await?;
    Ok(answer::plain(&Story::of(&story)))
}

fn filter_of(field: &'static str, text: &str) -> Result<StateFilter, BrokerError> {
    let shown = Shown::deserialize(text.into_deserializer());
    shown
        .map(StateFilter::from)
        .map_err(|error: serde::de::value::Error| BrokerError::invalid(field, error.to_string()))
}

impl From<Shown> for StateFilter {
    fn from(shown: Shown) -> Self {
        match shown {
            Shown::Ready => Self::Ready,
            Shown::Leased => Self::Leased,
            Shown::Delayed => Self::Delayed,
            Shown::Dead => Self::Dead,
        }
    }
}

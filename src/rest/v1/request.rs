//! Request and reply: a publish that waits for the answer to it.

use axum::{body::Body, extract::State, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    TopicPath,
    message::Message,
    new_message::NewMessage,
    read::{self, Object},
};
use crate::{
    broker::{BrokerError, Request},
    rest::{answer, asked::Asked, error::Problem, problems::Storing, router::Calls},
};

/// A message, and how long its answer is waited for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRequest<'a> {
    /// Its `reply_to` and `correlation_id` are the broker's to set.
    #[serde(borrow)]
    #[schema(value_type = NewMessage, required = true)]
    message: Option<Object<NewMessage<'a>>>,
    /// How long to wait for the answer, in seconds: 0.001 to 60. Default 30.
    #[schema(minimum = 0.001, maximum = 60)]
    timeout_seconds: Option<f64>,
}

/// The answer to a request.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RequestAnswer<'a> {
    /// The id of the message that was published.
    #[schema(format = "uuid")]
    message_id: String,
    /// The answer to it.
    reply: Message<'a>,
}

/// Publishes a message and waits for the answer to it: the first message that is published to the `reply_to` that the
/// broker puts on it, with its correlation id. 504 when nobody has answered in time.
#[utoipa::path(post, path = "/v1/request/{topic}", tag = "messages", params(TopicPath), request_body = NewRequest<'_>,
    responses((status = 200, body = RequestAnswer<'_>, description = "the answer"), Storing))]
pub(super) async fn request(State(calls): State<Calls>, asked: Asked, body: Body) -> Result<Response, Problem> {
    let body = read::json_body(&asked.headers, body, calls.publish_bytes_max).await?;
    let topic = asked.name("topic")?;
    let NewRequest { message, timeout_seconds } = read::strict(&body)?;
    let Object(message) = read::required("message", message)?;
    let draft = message.draft(&asked.headers, &body).map_err(BrokerError::in_the_message)?;
    let reply = calls.broker.request(Request { topic, draft, timeout_seconds }).await?;
    let (message_id, reply) = (reply.message_id.to_string(), &reply.message);
    Ok(answer::plain(&RequestAnswer { message_id, reply: Message::of(reply) }))
}

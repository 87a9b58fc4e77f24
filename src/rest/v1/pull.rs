//! Messages out, on request.

use axum::{body::Body, extract::State, response::Response};
use campanile_middleware::GuardedBody;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{QueuePath, message::Delivery, read};
use crate::{
    broker::{AckWhen, BrokerError, Receive},
    rest::{
        answer,
        asked::{self, Asked},
        error::Problem,
        held::Held,
        problems::Pulling,
        router::{Calls, LIST_BODY_BYTES_MAX},
    },
};

/// What is asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Pull {
    /// The service whose queue on the topic is meant, if `queue` is the name of a topic.
    service: Option<String>,
    /// Default 1.
    #[schema(minimum = 1, maximum = 1000)]
    max_messages: Option<i64>,
    /// How long to wait for the first message, in seconds, at most 60. Default 0.
    #[schema(minimum = 0, maximum = 60)]
    wait_seconds: Option<f64>,
    /// How long the consumer may take to settle, 10 s to 12 h. Default: as the queue's policy says, by default 30 s.
    #[schema(minimum = 10, maximum = 43_200)]
    ack_deadline_seconds: Option<f64>,
    /// The messages count as acked when they are handed out. Not together with `ack_deadline_seconds`.
    auto_ack: Option<bool>,
    /// Who asks, for people who look at the queue, at most 255 bytes. Default: how the user agent begins.
    #[schema(max_length = 255)]
    consumer: Option<String>,
}

/// What is handed out.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Pulled<'a> {
    /// Empty if there was no message in time.
    messages: Vec<Delivery<'a>>,
}

/// Hands out the next messages of a queue under a lease, or acked at once. One that does not exist yet comes into being. If
/// the client hangs up before the answer is written, the leases end at once, and those deliveries do not count.
#[utoipa::path(post, path = "/v1/queues/{queue}/pull", tag = "messages", params(QueuePath), request_body = Option<Pull>,
    responses((status = 200, body = Pulled<'_>, description = "the messages; none is fine"), Pulling))]
pub(super) async fn pull(State(calls): State<Calls>, asked: Asked, body: Body) -> Result<Response, Problem> {
    let body = read::json_body(&asked.headers, body, LIST_BODY_BYTES_MAX).await?;
    let deliveries = calls.broker.receive(receive_of(&asked, read::strict(&body)?)?).await?;
    let held = Held(calls.broker.hold(&deliveries)?);
    let messages = deliveries.iter().map(|delivery| Delivery::of(delivery, &calls.broker)).collect::<Result<_, _>>()?;
    Ok(answer::plain(&Pulled { messages }).map(|body| Body::new(GuardedBody::new(body, held))))
}

fn receive_of(asked: &Asked, pull: Pull) -> Result<Receive, BrokerError> {
    let ack = match (pull.auto_ack, pull.ack_deadline_seconds) {
        (Some(true), None) => AckWhen::AtOnce,
        (Some(true), Some(_)) => {
            return Err(BrokerError::invalid("ack_deadline_seconds", "cannot be given together with auto_ack"));
        }
        (Some(false) | None, deadline) => AckWhen::Later(deadline),
    };
    Ok(Receive {
        service: read::optional_name("service", pull.service.as_deref())?,
        max_messages: pull.max_messages.unwrap_or(1),
        wait_seconds: pull.wait_seconds.unwrap_or(0.0),
        ack,
        consumer: asked::consumer(pull.consumer.as_deref(), &asked.headers),
        ..Receive::now(asked.name("queue")?)
    })
}

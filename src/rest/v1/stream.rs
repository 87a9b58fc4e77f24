//! Messages out, as they come: server-sent events, bounded by the consumer's credit.
//!
//! Invariant: the next event is made when the last one has been taken. When the answer is dropped, whatever the consumer
//! holds goes back to its queue at once.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{
        IntoResponse as _, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures_util::stream::{self, Stream};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::{QueuePath, message::Delivery};
use crate::{
    broker::{Broker, BrokerError, Credit, Feed, Subscribe},
    model,
    rest::{
        asked::{self, Asked},
        error::Problem,
        problems::Receiving,
        router::Calls,
    },
};

/// How often a stream says that it is still there: what stands between often closes what is silent for 30 s or more.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Most bytes that wait for their turn to be written, unless one message alone has more.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// How a stream is set up.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only describes the query")]
struct StreamQuery {
    /// The service whose queue on the topic is meant, if `queue` is the name of a topic.
    service: Option<String>,
    /// Most messages that the consumer may hold that it has not settled. Default 1000.
    #[param(minimum = 1, maximum = 10_000)]
    max_outstanding_messages: Option<u64>,
    /// Most bytes of these; the last message may bring it over. Default 16 MiB.
    #[param(minimum = 1)]
    max_outstanding_bytes: Option<u64>,
    /// How long the consumer may take to settle, 10 s to 12 h. Default: as the queue's policy says, by default 30 s.
    #[param(minimum = 10, maximum = 43_200)]
    ack_deadline_seconds: Option<f64>,
    /// Who asks, for people who look at the queue, at most 255 bytes. Default: how the user agent begins.
    #[param(max_length = 255)]
    consumer: Option<String>,
}

/// Why a stream has ended.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StreamEnd {
    /// The code of it, such as `draining`.
    code: &'static str,
    /// The same as a sentence.
    detail: String,
}

struct Streaming {
    broker: Broker,
    feed: Feed,
    /// Handed out, and not written yet.
    next: VecDeque<model::Delivery>,
}

/// Hands out messages as they come, for as long as the consumer has credit: server-sent events `message` with a delivery,
/// whose `id` is that of the message, and at last `end` with the reason. Settle them with `ack`, `nack` and `settle`. When
/// the connection ends, what the consumer holds goes back to the queue at once, and those deliveries do not count.
#[utoipa::path(get, path = "/v1/queues/{queue}/stream", tag = "messages", params(QueuePath, StreamQuery),
    responses((status = 200, body = Delivery<'_>, content_type = "text/event-stream", description = "the data of each event `message`"),
        Receiving))]
pub(super) async fn stream(State(calls): State<Calls>, asked: Asked) -> Result<Response, Problem> {
    let feed = calls.broker.subscribe(subscribe_of(&asked)?).await?;
    let streaming = Streaming { broker: calls.broker, feed, next: VecDeque::new() };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    let mut response = Sse::new(events(streaming)).keep_alive(keep_alive).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn subscribe_of(asked: &Asked) -> Result<Subscribe, BrokerError> {
    let query = asked.query.only(&[
        "service",
        "max_outstanding_messages",
        "max_outstanding_bytes",
        "ack_deadline_seconds",
        "consumer",
    ])?;
    let default = Credit::default();
    let whole = "a whole number";
    Ok(Subscribe {
        queue: asked.name("queue")?,
        service: query.name("service")?,
        ack_deadline_seconds: query.number("ack_deadline_seconds", "a number of seconds")?,
        consumer: asked::consumer(query.text("consumer")?, &asked.headers),
        credit: Credit {
            messages_max: query.number("max_outstanding_messages", whole)?.unwrap_or(default.messages_max),
            bytes_max: query.number("max_outstanding_bytes", whole)?.unwrap_or(default.bytes_max),
        },
        max_bytes: BATCH_BYTES_MAX,
    })
}

/// The events, up to the one that says why there are no more.
fn events(streaming: Streaming) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(Some(streaming), async |streaming| {
        let mut streaming = streaming?;
        Some(match streaming.next_event().await {
            Ok(event) => (Ok(event), Some(streaming)),
            // Nothing is held any more when the client learns of it.
            Err(error) => {
                drop(streaming);
                (Ok(end_event(error)), None)
            }
        })
    })
}

impl Streaming {
    async fn next_event(&mut self) -> Result<Event, BrokerError> {
        loop {
            if let Some(delivery) = self.next.pop_front() {
                let event = Event::default().event("message").id(delivery.message.id.to_string());
                let shown = Delivery::of(&delivery, &self.broker)?;
                return Ok(event.json_data(shown).expect("texts and numbers can be written as JSON"));
            }
            self.next = self.feed.next().await?.into();
        }
    }
}

fn end_event(error: BrokerError) -> Event {
    let detail = error.to_string();
    let end = StreamEnd { code: Problem::from(error).code(), detail };
    Event::default().event("end").json_data(end).expect("texts can be written as JSON")
}

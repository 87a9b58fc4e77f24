//! Deliveries are ended or extended: each on its own, or all together with publishes.

use axum::{body::Body, extract::State, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    QueuePath,
    message::{PublishAnswer, SettleResult},
    new_message::NewMessage,
    publish::drafts_of,
    read::{self, Object},
};
use crate::{
    broker::{self, BrokerError, Limits, Publish, Settle, SettleAll, Settlement},
    model::Name,
    rest::{
        answer,
        asked::Asked,
        error::Problem,
        problems::{Settling, Storing},
        router::{Calls, LIST_BODY_BYTES_MAX},
    },
};

/// Deliveries that are done.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Acks {
    /// 1 to 1000.
    #[schema(value_type = Vec<String>, required = true, min_items = 1, max_items = 1000)]
    ack_ids: Option<Vec<String>>,
}

/// Deliveries that are not done.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nacks {
    /// 1 to 1000.
    #[schema(value_type = Vec<String>, required = true, min_items = 1, max_items = 1000)]
    ack_ids: Option<Vec<String>>,
    /// What becomes of them. Default RETRY.
    outcome: Option<Outcome>,
    /// With RETRY: after how long they may be delivered again, at most 12 h. Default: as the queue's policy says.
    #[schema(minimum = 0, maximum = 43_200)]
    delay_seconds: Option<f64>,
    /// Why, for people. At most 1024 bytes.
    #[schema(max_length = 1024)]
    reason: Option<String>,
}

/// One delivery that is not done.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewNack {
    #[schema(value_type = String, required = true)]
    ack_id: Option<String>,
    /// What becomes of it. Default RETRY.
    outcome: Option<Outcome>,
    /// With RETRY: after how long it may be delivered again, at most 12 h. Default: as the queue's policy says.
    #[schema(minimum = 0, maximum = 43_200)]
    delay_seconds: Option<f64>,
    /// Why, for people. At most 1024 bytes.
    #[schema(max_length = 1024)]
    reason: Option<String>,
}

/// What becomes of a delivery that is not done.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schema(as = NackOutcome)]
pub(super) enum Outcome {
    /// Back in its place at once, as if it had not been delivered: a consumer that shuts down.
    Release,
    /// It failed: the message waits for the next delivery, or was delivered often enough and is dead.
    Retry,
    /// Dead.
    DeadLetter,
}

/// Deliveries whose leases end at another time.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Extensions {
    /// 1 to 1000.
    #[schema(value_type = Vec<String>, required = true, min_items = 1, max_items = 1000)]
    ack_ids: Option<Vec<String>>,
    /// 10 s to 12 h from now; or 0, which gives the messages back at once, and those deliveries do not count.
    #[schema(value_type = f64, required = true, minimum = 0, maximum = 43_200)]
    ack_deadline_seconds: Option<f64>,
}

/// What is done in one durable step: all of it, or nothing.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSettle<'a> {
    /// Ack ids of deliveries that are done.
    #[schema(max_items = 1000)]
    ack: Option<Vec<String>>,
    /// Deliveries that are not. With `ack`, at most 1000 in all.
    #[schema(value_type = Option<Vec<NewNack>>)]
    nack: Option<Vec<Object<NewNack>>>,
    /// Messages to publish, at most 1000 in all.
    #[serde(borrow)]
    #[schema(value_type = Option<Vec<NewPublish>>)]
    publish: Option<Vec<Object<NewPublish<'a>>>>,
}

/// Messages for a topic.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPublish<'a> {
    #[schema(value_type = String, required = true)]
    topic: Option<String>,
    #[serde(borrow)]
    #[schema(value_type = Vec<NewMessage>, required = true, min_items = 1, max_items = 1000)]
    messages: Option<Vec<Object<NewMessage<'a>>>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SettleAnswer {
    /// One for each ack id, in order.
    results: Vec<SettleResult>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SettleAllAnswer {
    /// One for each ack id, in order; first those of `ack`.
    results: Vec<SettleResult>,
    /// One for each entry of `publish`, in order.
    published: Vec<PublishAnswer>,
}

/// Acks deliveries, each on its own.
#[utoipa::path(post, path = "/v1/queues/{queue}/ack", tag = "messages", params(QueuePath), request_body = Acks,
    responses((status = 200, body = SettleAnswer, description = "what became of each"), Settling))]
pub(super) async fn ack(State(calls): State<Calls>, asked: Asked, body: Body) -> Result<Response, Problem> {
    let body = read::json_body(&asked.headers, body, LIST_BODY_BYTES_MAX).await?;
    let Acks { ack_ids } = read::strict(&body)?;
    each(&calls, &asked, ack_ids, Settlement::Ack).await
}

/// Nacks deliveries, each on its own.
#[utoipa::path(post, path = "/v1/queues/{queue}/nack", tag = "messages", params(QueuePath), request_body = Nacks,
    responses((status = 200, body = SettleAnswer, description = "what became of each"), Settling))]
pub(super) async fn nack(State(calls): State<Calls>, asked: Asked, body: Body) -> Result<Response, Problem> {
    let body = read::json_body(&asked.headers, body, LIST_BODY_BYTES_MAX).await?;
    let nacks: Nacks = read::strict(&body)?;
    let settlement = nack_of(nacks.outcome, nacks.delay_seconds, nacks.reason)?;
    each(&calls, &asked, nacks.ack_ids, settlement).await
}

/// Has leases end at another time, each on its own.
#[utoipa::path(post, path = "/v1/queues/{queue}/modify-ack-deadline", tag = "messages", params(QueuePath),
    request_body = Extensions,
    responses((status = 200, body = SettleAnswer, description = "what became of each"), Settling))]
pub(super) async fn modify_ack_deadline(
    State(calls): State<Calls>,
    asked: Asked,
    body: Body,
) -> Result<Response, Problem> {
    let body = read::json_body(&asked.headers, body, LIST_BODY_BYTES_MAX).await?;
    let Extensions { ack_ids, ack_deadline_seconds } = read::strict(&body)?;
    let by = read::required("ack_deadline_seconds", ack_deadline_seconds)?;
    let extend = Settlement::Extend(Limits::duration("ack_deadline_seconds", by)?);
    each(&calls, &asked, ack_ids, extend).await
}

/// Acks, nacks and publishes in one durable step: all of it, or nothing. One ack id whose lease has ended refuses all of it
/// (`stale_ack`).
#[utoipa::path(post, path = "/v1/settle", tag = "messages", request_body = NewSettle<'_>,
    responses((status = 200, body = SettleAllAnswer, description = "all of it is on disk"), Storing))]
pub(super) async fn settle(State(calls): State<Calls>, asked: Asked, body: Body) -> Result<Response, Problem> {
    let body = read::json_body(&asked.headers, body, calls.publish_bytes_max).await?;
    let NewSettle { ack, nack, publish } = read::strict(&body)?;
    let mut settlements: Vec<_> = ack.unwrap_or_default().into_iter().map(|id| (id, Settlement::Ack)).collect();
    let acks_count = settlements.len();
    for (at, Object(nack)) in nack.unwrap_or_default().into_iter().enumerate() {
        settlements.push(nack.read().map_err(|error| error.at("nack", at))?);
    }
    let publishes = publish.unwrap_or_default().into_iter().enumerate();
    let publish = |(at, Object(publish)): (usize, Object<NewPublish<'_>>)| {
        publish.read(&asked, &body).map_err(|error| error.at("publish", at))
    };
    let publishes = publishes.map(publish).collect::<Result<_, _>>()?;
    let ack_ids = settlements.iter().map(|(id, _)| id.clone()).collect();
    let settled = calls.broker.settle_all(SettleAll { settlements, publishes }).await;
    let settled = settled.map_err(|error| error.renamed(|field| field_of(field, acks_count)))?;
    Ok(answer::plain(&SettleAllAnswer {
        results: SettleResult::all(ack_ids, &settled.results),
        published: settled.published.iter().map(PublishAnswer::of).collect(),
    }))
}

async fn each(
    calls: &Calls,
    asked: &Asked,
    ack_ids: Option<Vec<String>>,
    settlement: Settlement,
) -> Result<Response, Problem> {
    let queue = Some(asked.name("queue")?);
    let ack_ids = read::required("ack_ids", ack_ids)?;
    let settlements = ack_ids.iter().map(|id| (id.clone(), settlement.clone())).collect();
    let settled = calls.broker.settle(Settle { queue, settlements }).await;
    let settled = settled.map_err(|error| error.renamed(|field| common_field_of(field).to_owned()))?;
    Ok(answer::plain(&SettleAnswer { results: SettleResult::all(ack_ids, &settled) }))
}

/// The field of a settlement, where one outcome is given for all of them.
fn common_field_of(field: &str) -> &str {
    match field.split_once("].") {
        Some((_, "extend")) => "ack_deadline_seconds",
        Some((_, of_nack)) => of_nack.trim_start_matches("nack."),
        None if field == "settlements" => "ack_ids",
        None => field,
    }
}

/// The field of a settlement, where acks come first, and nacks behind them.
fn field_of(field: &str, acks_count: usize) -> String {
    if let Some(publish) = field.strip_prefix("publishes") {
        return format!("publish{publish}");
    }
    let of_one = field.strip_prefix("settlements[").and_then(|rest| rest.split_once("]."));
    let Some((at, part)) = of_one.and_then(|(at, part)| Some((at.parse::<usize>().ok()?, part))) else {
        return field.replace("settlements", "ack");
    };
    match at.checked_sub(acks_count) {
        None => format!("ack[{at}]"),
        Some(at) => format!("nack[{at}].{}", part.trim_start_matches("nack.")),
    }
}

fn nack_of(
    outcome: Option<Outcome>,
    delay_seconds: Option<f64>,
    reason: Option<String>,
) -> Result<Settlement, BrokerError> {
    let outcome = match outcome {
        Some(Outcome::Release) => broker::NackOutcome::Release,
        Some(Outcome::Retry) | None => broker::NackOutcome::Retry,
        Some(Outcome::DeadLetter) => broker::NackOutcome::DeadLetter,
    };
    let delay = delay_seconds.map(|delay| Limits::duration("delay_seconds", delay)).transpose()?;
    Ok(Settlement::Nack(broker::Nack { outcome, delay, reason: reason.unwrap_or_default() }))
}

impl NewNack {
    fn read(self) -> Result<(String, Settlement), BrokerError> {
        let ack_id = read::required("ack_id", self.ack_id)?;
        Ok((ack_id, nack_of(self.outcome, self.delay_seconds, self.reason)?))
    }
}

impl NewPublish<'_> {
    fn read(self, asked: &Asked, body: &bytes::Bytes) -> Result<Publish, BrokerError> {
        let topic = read::required("topic", self.topic)?;
        let topic = Name::parse(&topic).map_err(|e| BrokerError::invalid("topic", e.to_string()))?;
        let drafts = drafts_of(read::required("messages", self.messages)?, &asked.headers, body)?;
        Ok(Publish { topic, drafts })
    }
}

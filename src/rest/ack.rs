//! `POST /v1/queues/{queue}/ack`: settles leased messages, each on its own.

use axum::{
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::HeaderMap,
    response::Response,
};
use serde::Serialize;

use super::{
    answer, body,
    error::Problem,
    fields::Fields,
    router::{Calls, LIST_BODY_BYTES_MAX, queue_of},
};
use crate::broker::{Settle, Settled, Settlement};

#[derive(Serialize)]
struct Answer<'a> {
    results: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    ack_id: &'a str,
    code: &'static str,
}

pub(super) async fn ack(
    State(calls): State<Calls>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let queue = queue_of(path)?;
    let body = body::read(&headers, body, LIST_BODY_BYTES_MAX).await?;
    let ack_ids = Fields::parse(&body, &["ack_ids"])?.required_texts("ack_ids")?;
    let outcomes = calls
        .broker
        .settle(Settle {
            queue: Some(queue),
            settlements: ack_ids.iter().map(|id| (id.clone(), Settlement::Ack)).collect(),
        })
        .await?;
    let pairs = ack_ids.iter().zip(&outcomes);
    let results = pairs.map(|(ack_id, outcome)| Entry { ack_id, code: code_of(*outcome) }).collect();
    Ok(answer::plain(&Answer { results }))
}

fn code_of(outcome: Settled) -> &'static str {
    match outcome {
        Settled::Done => "ok",
        Settled::Stale => "stale_ack",
        Settled::Unknown => "not_found",
    }
}

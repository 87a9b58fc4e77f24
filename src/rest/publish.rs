//! `POST /publish`: stores one message.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use bytes::Bytes;
use serde::Serialize;

use super::{answer, body, draft, error::Problem, fields::Fields, router::Calls};
use crate::{
    broker::{BrokerError, Publish},
    model::Name,
};

#[derive(Serialize)]
struct Answer<'a> {
    status: &'static str,
    delivered_to: usize,
    message_id: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
    queues: Vec<&'a str>,
}

pub(super) async fn publish(State(calls): State<Calls>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let body = body::read(&headers, body, calls.publish_bytes_max).await?;
    let published = calls.broker.publish(request_of(&headers, &body)?).await?;
    let message = published.messages.first().expect("one message was published");
    Ok(answer::signed(
        StatusCode::OK,
        &Answer {
            status: "ok",
            delivered_to: published.delivered_to(),
            message_id: message.id.to_string(),
            duplicate: message.duplicate,
            queues: published.queues.iter().map(Name::as_str).collect(),
        },
    ))
}

fn request_of(headers: &HeaderMap, body: &Bytes) -> Result<Publish, BrokerError> {
    let fields = Fields::parse(body, draft::FIELDS)?;
    let topic = fields.required_name("topic")?;
    let draft = draft::draft_of(headers, body, &fields)?;
    Ok(Publish { topic, drafts: vec![draft] })
}

//! `POST /register`: declares the queues of a service.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    answer, body,
    error::Problem,
    fields::Fields,
    problems::Original,
    router::{Calls, LIST_BODY_BYTES_MAX},
};
use crate::{
    broker::{BrokerError, Register},
    model::Name,
};

/// A service, and the topics that it wants a queue of its own on.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body")]
struct RegisterBody {
    service_name: String,
    /// At most 1000.
    #[schema(max_items = 1000)]
    topics: Vec<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Registered)]
pub(super) struct Answer<'a> {
    status: &'static str,
    registered_topics: Vec<&'a str>,
}

/// Declares the queues of a service: its inbox, and its queue on each topic. Doing it again changes nothing.
#[utoipa::path(post, path = "/register", tag = "original", request_body = RegisterBody,
    responses((status = 200, body = Answer<'_>, description = "they are there"), Original))]
pub(super) async fn register(State(calls): State<Calls>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let body = body::read(&headers, body, LIST_BODY_BYTES_MAX).await?;
    let registered = calls.broker.register(request_of(&body)?).await?;
    let registered_topics = registered.topics.iter().map(Name::as_str).collect();
    Ok(answer::signed(StatusCode::OK, &Answer { status: "ok", registered_topics }))
}

fn request_of(body: &[u8]) -> Result<Register, BrokerError> {
    let fields = Fields::parse(body, &["service_name", "topics"])?;
    Ok(Register { service: fields.required_name("service_name")?, topics: fields.required_names("topics")? })
}

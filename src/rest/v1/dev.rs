//! The clock, which can be moved in dev mode.

use axum::{body::Body, extract::State, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::read;
use crate::{
    broker::Limits,
    rest::{
        answer,
        asked::Asked,
        error::Problem,
        problems::Changing,
        router::{Calls, LIST_BODY_BYTES_MAX},
    },
};

/// How far the clock is moved.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Advance {
    /// More than 0, at most 366 days.
    #[schema(value_type = f64, required = true, exclusive_minimum = 0, maximum = 31_622_400)]
    by_seconds: Option<f64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Advanced {
    /// What the clock shows now.
    #[schema(format = "date-time")]
    now: String,
}

/// Moves the broker's clock ahead: leases, delays, times to live and backoff with it. Only in dev mode (`--dev`), else 409
/// `not_in_dev_mode`.
#[utoipa::path(post, path = "/v1/dev/clock/advance", tag = "dev", request_body = Advance,
    responses((status = 200, body = Advanced, description = "what the clock shows now"), Changing))]
pub(super) async fn advance_clock(State(calls): State<Calls>, asked: Asked, body: Body) -> Result<Response, Problem> {
    let body = read::json_body(&asked.headers, body, LIST_BODY_BYTES_MAX).await?;
    let Advance { by_seconds } = read::strict(&body)?;
    let by = Limits::duration("by_seconds", read::required("by_seconds", by_seconds)?)?;
    let now = calls.broker.advance_clock(by)?;
    Ok(answer::plain(&Advanced { now: now.to_string() }))
}

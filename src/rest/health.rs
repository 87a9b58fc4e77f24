//! `GET /health`, `/health/live` and `/health/ready`.

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer;
use crate::broker::{Broker, Health};

#[derive(Serialize, ToSchema)]
#[schema(as = Health)]
pub(super) struct Answer {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// Whether publishes are taken, as `/health` says it.
#[utoipa::path(get, path = "/health/ready", tag = "health", responses((status = 200, body = Answer, description = "they are"),
    (status = 503, body = Answer, description = "they are not; `reason` says why")))]
pub(super) async fn ready(broker: State<Broker>) -> Response {
    health(broker).await
}

/// Whether publishes are taken. A standby takes them by passing them on, so it is healthy.
#[utoipa::path(get, path = "/health", tag = "health", responses((status = 200, body = Answer, description = "they are"),
    (status = 503, body = Answer, description = "they are not; `reason` says why")))]
pub(super) async fn health(State(broker): State<Broker>) -> Response {
    let active = broker.is_active().then_some("active");
    let (code, answer) = match broker.health() {
        Health::Healthy => (StatusCode::OK, Answer { status: "healthy", role: Some("active"), reason: None }),
        Health::Standby => (StatusCode::OK, Answer { status: "healthy", role: Some("standby"), reason: None }),
        // It serves consumers, and only they can help it: nobody should take it out of service.
        Health::StorageLow => {
            (StatusCode::OK, Answer { status: "degraded", role: active, reason: Some(Health::STORAGE_LOW) })
        }
        Health::Degraded(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, Answer { status: "degraded", role: active, reason: Some(reason) })
        }
    };
    let mut response = answer::signed(code, &answer);
    if code == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Whether the process answers at all; restarting it would not help a broker that is merely not ready.
#[utoipa::path(get, path = "/health/live", tag = "health",
    responses((status = 200, body = Answer, description = "it does")))]
pub(super) async fn live() -> Response {
    answer::signed(StatusCode::OK, &Answer { status: "alive", role: None, reason: None })
}

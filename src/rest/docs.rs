//! `/openapi.json`, the description of every call, and `/docs`, a page that shows it.
//!
//! Invariant: nothing of the page comes from another address.

use axum::Router;
use utoipa::{OpenApi, openapi::OpenApi as Document};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::error;

/// What the description says of the whole. The calls add themselves.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Campanile",
        description = "A durable message broker. An answer that says that something was done is given when that is on disk. \
            Durations are numbers of seconds, times RFC 3339. A refusal is a problem document (RFC 9457) with a stable `code`.",
    ),
    components(schemas(error::Document<'_>)),
    tags(
        (name = "messages", description = "Messages in and out"),
        (name = "queues", description = "See and steer"),
        (name = "topics", description = "Topics, the subscriptions on them, and services"),
        (name = "dev", description = "Only in dev mode"),
        (name = "original", description = "The calls of the original broker"),
        (name = "health", description = "Whether the broker serves"),
    )
)]
pub(super) struct Description;

/// The two addresses.
pub(super) fn router<S: Clone + Send + Sync + 'static>(document: Document) -> Router<S> {
    // Unless it is told not to, the page asks another address whether the description is valid.
    let config = Config::default().validator_url("none");
    SwaggerUi::new("/docs").config(config).url("/openapi.json", document).into()
}

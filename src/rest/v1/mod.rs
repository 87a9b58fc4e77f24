//! The calls under `/v1`. Each reads its request, asks the broker and writes the answer; what it is called, takes and can
//! answer is described beside it, and the OpenAPI document is made of that.
//!
//! | file | what |
//! |---|---|
//! | `publish`, `request` | messages in |
//! | `pull`, `stream`, `settle` | messages out |
//! | `browse`, `steer` | see and steer |
//! | `topics`, `queues` | topics, subscriptions, services, queues |
//! | `dev` | the clock |
//! | `read`, `new_message`, `policy` | bodies |
//! | `message`, `queue_view`, `message_view` | answers |
//!
//! Invariant: a body is read strictly. What a call does not know it refuses by name.

mod browse;
mod dev;
mod message;
mod message_view;
mod new_message;
mod policy;
mod publish;
mod pull;
mod queue_view;
mod queues;
mod read;
mod request;
mod settle;
mod steer;
mod stream;
mod topics;

#[cfg(test)]
mod tests;

use utoipa::{IntoParams, OpenApi};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::router::{Calls, without_head};

/// What stands in no call's own description.
#[derive(Debug, OpenApi)]
#[openapi(components(schemas(message::Delivery<'_>, message::Message<'_>, stream::StreamEnd)))]
struct Schemas;

/// The routes with their descriptions.
pub(super) fn routes() -> OpenApiRouter<Calls> {
    OpenApiRouter::with_openapi(Schemas::openapi())
        .routes(routes!(topics::put_topic, topics::get_topic, topics::delete_topic))
        .routes(routes!(topics::list_topics))
        .routes(routes!(topics::put_subscription, topics::get_subscription, topics::delete_subscription))
        .routes(routes!(topics::list_services))
        .routes(routes!(publish::publish_batch))
        .routes(routes!(publish::publish_raw))
        .routes(routes!(request::request))
        .routes(routes!(queues::list_queues))
        .routes(routes!(queues::get_queue, queues::update_queue, queues::delete_queue))
        .routes(routes!(pull::pull))
        .routes(without_head(routes!(stream::stream)))
        .routes(routes!(settle::ack))
        .routes(routes!(settle::nack))
        .routes(routes!(settle::modify_ack_deadline))
        .routes(routes!(settle::settle))
        .routes(routes!(browse::browse))
        .routes(routes!(browse::get_message, browse::delete_message))
        .routes(routes!(browse::explain))
        .routes(routes!(browse::get_story))
        .routes(routes!(steer::purge))
        .routes(routes!(steer::redrive))
        .routes(routes!(steer::pause))
        .routes(routes!(steer::resume))
        .routes(routes!(dev::advance_clock))
}

/// A queue in a path.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only describes the path")]
struct QueuePath {
    /// The queue: `order.created`, `order.created.billing` of a service, or `billing`, its inbox. 1 to 255 bytes of
    /// A-Z a-z 0-9 . _ - in parts separated by dots, none of them empty.
    queue: String,
}

/// A topic in a path.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only describes the path")]
struct TopicPath {
    /// The topic. 1 to 255 bytes of A-Z a-z 0-9 . _ - in parts separated by dots, none of them empty.
    topic: String,
}

/// The page of a list in a query.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only describes the query")]
struct PageQuery {
    /// Most entries. Default 100.
    #[param(minimum = 1, maximum = 1000)]
    page_size: Option<i64>,
    /// What the page before ended with; absent: the first page.
    page_token: Option<String>,
}

/// Which names a list shows.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only describes the query")]
struct PrefixQuery {
    /// Only names that begin so.
    prefix: Option<String>,
}

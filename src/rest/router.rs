//! Which path and method is which call.

use axum::{
    Router,
    extract::{Path, rejection::PathRejection},
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use utoipa::OpenApi as _;
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouter},
    routes,
};

use super::{consume, docs, error::Problem, health, publish, register, v1};
use crate::{
    broker::{Broker, BrokerError},
    model::Name,
};

/// Longest body of a call that takes a list of names or ack ids: 1000 of either take less than 300 KiB.
pub(super) const LIST_BODY_BYTES_MAX: usize = 1 << 20;

/// What the body of a publish may hold beside the payload: names, attributes, JSON syntax. The attributes alone may have
/// 125 KiB, several times that when written with escapes.
const PUBLISH_OVERHEAD_BYTES: usize = 1 << 20;

/// How the routes are set up.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The broker's longest payload, in bytes. The body of a publish may have 1 MiB more.
    pub message_bytes_max: usize,
}

/// What the calls share.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    pub(super) broker: Broker,
    pub(super) publish_bytes_max: usize,
}

/// The calls that belong behind the concurrency limit and the breaker. Unknown paths are answered here, too.
pub fn router(broker: Broker, options: Options) -> Router {
    let publish_bytes_max = options.message_bytes_max.saturating_add(PUBLISH_OVERHEAD_BYTES);
    let (router, mut api) = calls().split_for_parts();
    api.merge(health_calls().into_openapi());
    router
        .merge(docs::router(api))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(unknown_path)
        .with_state(Calls { broker, publish_bytes_max })
}

/// Health and readiness, which must be answered under overload and with an open breaker, too. It has no fallback, so
/// that it can be merged with [`router`].
pub fn health_router(broker: Broker) -> Router {
    Router::from(health_calls()).method_not_allowed_fallback(method_not_allowed).with_state(broker)
}

/// The calls with their descriptions.
fn calls() -> OpenApiRouter<Calls> {
    OpenApiRouter::with_openapi(docs::Description::openapi())
        .routes(routes!(register::register))
        .routes(routes!(publish::publish))
        .routes(without_head(routes!(consume::consume)))
        .merge(v1::routes())
}

fn health_calls() -> OpenApiRouter<Broker> {
    OpenApiRouter::new().routes(routes!(health::health)).routes(routes!(health::live)).routes(routes!(health::ready))
}

/// HEAD would take messages and show none, so it is not implied by GET here.
pub(super) fn without_head(routes: UtoipaMethodRouter<Calls>) -> UtoipaMethodRouter<Calls> {
    let (schemas, paths, methods) = routes;
    (schemas, paths, methods.head(get_only).fallback(get_only))
}

/// The queue that a path names.
pub(super) fn queue_of(path: Result<Path<String>, PathRejection>) -> Result<Name, BrokerError> {
    let Path(text) = path.map_err(|rejection| BrokerError::invalid("queue", rejection.body_text()))?;
    Name::parse(&text).map_err(|e| BrokerError::invalid("queue", e.to_string()))
}

/// The answer where no call has the path.
pub async fn unknown_path() -> Response {
    Problem::unknown_path().into_response()
}

async fn method_not_allowed() -> Problem {
    Problem::method_not_allowed()
}

async fn get_only() -> Response {
    let mut response = Problem::method_not_allowed().into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
    response
}

#[cfg(test)]
mod tests {
    use axum::{
        body::{Body, to_bytes},
        http::{Method, Request, StatusCode},
    };
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;
    use crate::broker::Limits;

    /// A standby checks a request and then refuses it, so no store is needed to see what is wrong with one.
    async fn ask(method: Method, uri: &str, body: impl Into<Body>) -> (StatusCode, Response, Value) {
        let broker = Broker::standby(Limits::default());
        let router = router(broker.clone(), Options { message_bytes_max: 1000 }).merge(health_router(broker));
        let request = Request::builder().method(method).uri(uri).body(body.into()).expect("a valid request");
        let mut response = router.oneshot(request).await.expect("infallible");
        let body = std::mem::take(response.body_mut());
        let bytes = to_bytes(body, usize::MAX).await.expect("readable");
        let value = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).expect("JSON") };
        (response.status(), response, value)
    }

    fn refused(answer: &(StatusCode, Response, Value)) -> (u16, &str, &str) {
        let text = |key: &str| answer.2[key].as_str().unwrap_or_default();
        (answer.0.as_u16(), text("code"), text("field"))
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_request_is_named() {
        let post = |uri: &'static str, body: &'static str| ask(Method::POST, uri, body);
        for (body, field) in [
            ("", "body"),
            ("[]", "body"),
            ("{\"topic\": \"t\"", "body"),
            ("{\"topic\": \"t\"} x", "body"),
            ("{\"message\": 1}", "topic"),
            ("{\"topic\": \"t\"}", "message"),
            ("{\"topic\": 5, \"message\": 1}", "topic"),
            ("{\"topic\": \"../t\", \"message\": 1}", "topic"),
            ("{\"topic\": \"t\", \"topic\": \"u\", \"message\": 1}", "topic"),
            ("{\"topic\": \"t\", \"message\": 1, \"reply_to\": {}}", "reply_to"),
            ("{\"topic\": \"t\", \"message\": 1, \"ttl_seconds\": \"5\"}", "ttl_seconds"),
        ] {
            assert_eq!(refused(&post("/publish", body).await), (400, "invalid_argument", field), "{body}");
        }
        for (body, field) in [
            ("{\"topics\": []}", "service_name"),
            ("{\"service_name\": \"s\"}", "topics"),
            ("{\"service_name\": \"s\", \"topics\": \"t\"}", "topics"),
            ("{\"service_name\": \"s\", \"topics\": [\"a\", 1]}", "topics[1]"),
            ("{\"service_name\": \"s\", \"topics\": [\"a\", \"b..c\"]}", "topics[1]"),
        ] {
            assert_eq!(refused(&post("/register", body).await), (400, "invalid_argument", field), "{body}");
        }
        for body in ["{}", "{\"ack_ids\": 1}"] {
            assert_eq!(refused(&post("/v1/queues/q/ack", body).await), (400, "invalid_argument", "ack_ids"), "{body}");
        }
    }

    #[tokio::test]
    async fn a_bad_path_or_query_is_named() {
        for (uri, field) in [
            ("/consume/..", "queue"),
            ("/consume/%2e%2e", "queue"),
            ("/consume/a%2Fb", "queue"),
            ("/consume/%ff", "queue"),
            ("/consume/q?max_messages=0", "max_messages"),
            ("/consume/q?max_messages=-1", "max_messages"),
            ("/consume/q?max_messages=abc", "max_messages"),
            ("/consume/q?max_messages=1000000000", "max_messages"),
            ("/consume/q?max_messages=", "max_messages"),
            ("/consume/q?max_messages=1&max_messages=1", "max_messages"),
            ("/consume/q?wait_seconds=nan", "wait_seconds"),
            ("/consume/q?service=a/b", "service"),
            ("/consume/q?ack_deadline_seconds=soon", "ack_deadline_seconds"),
        ] {
            assert_eq!(refused(&ask(Method::GET, uri, "").await), (400, "invalid_argument", field), "{uri}");
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_too_large_however_it_comes() {
        let body = vec![b' '; 1000 + PUBLISH_OVERHEAD_BYTES + 1];
        let whole = ask(Method::POST, "/publish", body.clone()).await;
        assert_eq!(refused(&whole), (413, "too_large", "body"));
        let unannounced =
            http_body_util::BodyExt::boxed_unsync(http_body_util::StreamBody::new(tonic::codegen::tokio_stream::iter(
                vec![Ok::<_, axum::Error>(http_body::Frame::data(bytes::Bytes::from(body)))],
            )));
        let streamed = ask(Method::POST, "/publish", Body::new(unannounced)).await;
        assert_eq!(refused(&streamed), (413, "too_large", "body"));
    }

    #[tokio::test]
    async fn a_refusal_says_that_nothing_was_done_and_when_to_try_again() {
        let answer = ask(Method::POST, "/publish", "{\"topic\": \"t\", \"message\": null}").await;
        assert_eq!(refused(&answer), (503, "not_active", ""));
        let headers = answer.1.headers();
        assert_eq!(headers["campanile-refusal"], "not_active");
        assert_eq!(headers[header::RETRY_AFTER], "1");
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
    }

    #[tokio::test]
    async fn unknown_paths_and_methods_are_problems() {
        assert_eq!(refused(&ask(Method::GET, "/nothing", "").await), (404, "not_found", ""));
        assert_eq!(refused(&ask(Method::GET, "/consume/", "").await), (404, "not_found", ""));
        for (method, uri, allow) in [
            (Method::GET, "/publish", "POST"),
            (Method::POST, "/consume/q", "GET"),
            (Method::HEAD, "/consume/q", "GET"),
            (Method::DELETE, "/health", "GET,HEAD"),
        ] {
            let answer = ask(method, uri, "").await;
            assert_eq!(answer.0, StatusCode::METHOD_NOT_ALLOWED, "{uri}");
            assert_eq!(answer.1.headers()[header::ALLOW], allow, "{uri}");
        }
    }

    #[tokio::test]
    async fn a_standby_is_healthy_and_a_draining_broker_is_not() {
        let (status, _, body) = ask(Method::GET, "/health", "").await;
        assert_eq!((status, &body["status"], &body["role"]), (StatusCode::OK, &"healthy".into(), &"standby".into()));
        assert_eq!(body["load_balancing"], "fair_dispatch");
        let broker = Broker::standby(Limits::default());
        broker.drain();
        let request = Request::get("/health/ready").body(Body::empty()).expect("a valid request");
        let response = health_router(broker).oneshot(request).await.expect("infallible");
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}

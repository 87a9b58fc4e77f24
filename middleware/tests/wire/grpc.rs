//! Rejections over gRPC, through a generated client and as frames.

use std::time::Duration;

use axum::{Router, routing::post};
use campanile_middleware::{CatchPanicLayer, CircuitBreakerLayer, CircuitState, ConcurrencyLimitLayer, DeadlineLayer};
use http::{Request, Response};
use http_body::Body as _;
use tonic::{Code, body::Body, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::{Service, ServiceBuilder, ServiceExt};

use crate::servers::{breaker, channel, health, open, serve, serve_tonic};

/// Sends a gRPC request without a message, and returns the response when its head is there.
async fn head(mut channel: Channel, path: &str) -> Response<Body> {
    let request = Request::post(path).header("content-type", "application/grpc").body(Body::empty()).expect("valid");
    channel.ready().await.expect("connects lazily").call(request).await.expect("the server listens")
}

/// END_STREAM came with the HEADERS frame: the body is over without being asked.
fn assert_trailers_only(response: &Response<Body>, grpc_status: &str) {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/grpc");
    assert_eq!(response.headers()["grpc-status"], grpc_status);
    assert!(response.body().is_end_stream(), "END_STREAM on HEADERS");
}

#[tokio::test]
async fn an_open_circuit_over_tonics_server_is_unavailable_with_a_pushback() {
    let breaker = breaker();
    let address = serve_tonic(CircuitBreakerLayer::new(breaker.clone())).await;
    let mut client = HealthClient::new(channel(address));
    client.check(HealthCheckRequest::default()).await.expect("it serves");
    assert_eq!(breaker.state(), CircuitState::Closed, "the trailers were read");

    open(&breaker);
    let status = client.check(HealthCheckRequest::default()).await.expect_err("refused");
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the circuit is open: recent calls failed"));
    let pushback = status.metadata().get("grpc-retry-pushback-ms").expect("a pushback").to_str().expect("a number");
    let pushback_ms: u64 = pushback.parse().expect("a number");
    assert!((500_000..=600_000).contains(&pushback_ms), "{pushback_ms}");
    assert_trailers_only(&head(channel(address), "/grpc.health.v1.Health/Check").await, "14");
}

#[tokio::test]
async fn a_full_limit_over_an_axum_router_is_trailers_only() {
    let address = serve(health().into_axum_router().layer(ConcurrencyLimitLayer::fixed(0))).await;
    let status = HealthClient::new(channel(address)).check(HealthCheckRequest::default()).await.expect_err("refused");
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "too many requests at once"));
    let response = head(channel(address), "/grpc.health.v1.Health/Check").await;
    assert_trailers_only(&response, "14");
    assert_eq!(response.headers()["grpc-retry-pushback-ms"], "1000");
}

#[tokio::test]
async fn a_panic_and_a_missed_deadline_are_internal_and_deadline_exceeded() {
    async fn panics() -> &'static str {
        panic!("in the handler")
    }
    let router =
        Router::new().route("/s/Panics", post(panics)).route("/s/Hangs", post(std::future::pending::<&'static str>));
    let stack = ServiceBuilder::new()
        .layer(CatchPanicLayer::new().on_panic(|_| {}))
        // The server's own: a `grpc-timeout` would already be enforced by the client.
        .layer(DeadlineLayer::new(Duration::from_millis(1)));
    let address = serve(router.layer(stack)).await;
    assert_trailers_only(&head(channel(address), "/s/Panics").await, "13");
    assert_trailers_only(&head(channel(address), "/s/Hangs").await, "4");
}

#[tokio::test]
async fn one_circuit_over_a_rest_router_and_a_grpc_server() {
    let breaker = breaker();
    let layer = CircuitBreakerLayer::new(breaker.clone());
    let fails = || async { (http::StatusCode::INTERNAL_SERVER_ERROR, "broken") };
    let rest = serve(Router::new().route("/", axum::routing::get(fails)).layer(layer.clone())).await;
    let grpc = serve_tonic(layer).await;
    let answer = crate::servers::raw(rest, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.ends_with("broken"), "{answer}");
    let status = HealthClient::new(channel(grpc)).check(HealthCheckRequest::default()).await.expect_err("refused");
    assert_eq!(status.code(), Code::Unavailable);
}

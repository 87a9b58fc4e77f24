//! Rejections over HTTP/1, byte for byte.

use std::time::Duration;

use axum::{Router, routing::get};
use campanile_middleware::{CatchPanicLayer, CircuitBreakerLayer, DeadlineLayer, HopLimitLayer, RequestIdLayer};

use crate::servers::{breaker, open, raw, serve};

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

async fn pending() -> &'static str {
    std::future::pending().await
}

async fn panics() -> &'static str {
    panic!("in the handler")
}

#[tokio::test]
async fn an_open_circuit_is_a_problem_with_a_time_to_retry_after() {
    let breaker = breaker();
    let router = Router::new().route("/", get(|| async { "hello" })).layer(CircuitBreakerLayer::new(breaker.clone()));
    let address = serve(router).await;
    assert!(raw(address, GET).await.ends_with("\r\n\r\nhello"));
    open(&breaker);
    let answer = raw(address, GET).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let head = head.to_lowercase();
    assert!(head.starts_with("http/1.1 503 service unavailable\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/problem+json\r\n"), "{head}");
    assert!(head.contains("\r\nretry-after: 600\r\n"), "{head}");
    assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{head}");
    assert_eq!(
        body,
        r#"{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the circuit is open: recent calls failed","code":"circuit_open"}"#
    );
}

#[tokio::test]
async fn a_panic_in_a_handler_is_answered_and_the_connection_lives() {
    let router = Router::new().route("/", get(panics)).route("/fine", get(|| async { "fine" }));
    let address = serve(router.layer(CatchPanicLayer::new().on_panic(|_| {}))).await;
    let both = "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /fine HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = raw(address, both).await;
    assert!(answer.starts_with("HTTP/1.1 500 Internal Server Error\r\n"), "{answer}");
    assert!(answer.contains(r#""code":"internal""#), "{answer}");
    assert!(answer.ends_with("\r\n\r\nfine"), "{answer}");
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_a_504_with_the_requests_id() {
    let router = Router::new().route("/", get(pending)).layer(DeadlineLayer::new(Duration::from_millis(1)));
    let address = serve(router.layer(RequestIdLayer::new())).await;
    let request = "GET / HTTP/1.1\r\nhost: a\r\nx-request-id: id-7\r\nconnection: close\r\n\r\n";
    let answer = raw(address, request).await;
    assert!(answer.starts_with("HTTP/1.1 504 Gateway Timeout\r\n"), "{answer}");
    assert!(answer.contains("x-request-id: id-7\r\n"), "{answer}");
    assert!(answer.contains(r#""code":"deadline_exceeded""#), "{answer}");
}

#[tokio::test]
async fn a_circle_is_a_508() {
    let router = Router::new().route("/", get(|| async { "hello" })).layer(HopLimitLayer::new(3));
    let address = serve(router).await;
    let request = "GET / HTTP/1.1\r\nhost: a\r\nx-campanile-hop: 4\r\nconnection: close\r\n\r\n";
    let answer = raw(address, request).await;
    assert!(answer.starts_with("HTTP/1.1 508 Loop Detected\r\n"), "{answer}");
}

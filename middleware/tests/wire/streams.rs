//! Bodies that stream, and clients that go away.

use std::{
    convert::Infallible,
    io::{Read, Write},
    net::TcpStream,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use campanile_middleware::{CircuitBreakerLayer, CircuitState, ConcurrencyLimitLayer};
use http_body::Frame;
use tokio::sync::Notify;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::ServiceBuilder;

use crate::servers::{breaker, channel, eventually, serve, serve_tonic};

/// One chunk, and then nothing more.
struct Endless(Option<Bytes>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.take().map_or(Poll::Pending, |chunk| Poll::Ready(Some(Ok(Frame::data(chunk)))))
    }
}

#[tokio::test]
async fn a_grpc_stream_holds_its_place_until_the_client_cancels_it() {
    let (limit, breaker) = (ConcurrencyLimitLayer::fixed(1), breaker());
    let stack = ServiceBuilder::new().layer(limit.clone()).layer(CircuitBreakerLayer::new(breaker.clone()));
    let address = serve_tonic(stack.into_inner()).await;
    let mut client = HealthClient::new(channel(address));
    let mut stream = client.watch(HealthCheckRequest::default()).await.expect("it serves").into_inner();
    stream.message().await.expect("a message").expect("the status");
    assert_eq!(limit.in_flight(), 1);
    let refused = client.check(HealthCheckRequest::default()).await.expect_err("the stream holds the place");
    assert_eq!(refused.message(), "too many requests at once");
    drop(stream);
    eventually("the place comes back", || limit.in_flight() == 0).await;
    client.check(HealthCheckRequest::default()).await.expect("it serves");
    assert_eq!(breaker.state(), CircuitState::Closed, "a cancelled stream is no failure");
}

#[tokio::test]
async fn a_rest_stream_gives_its_place_back_when_the_client_closes() {
    let limit = ConcurrencyLimitLayer::fixed(1);
    let endless = || async { Body::new(Endless(Some(Bytes::from_static(b"chunk")))) };
    let address = serve(Router::new().route("/", get(endless)).layer(limit.clone())).await;
    let read_a_chunk = move || {
        let mut stream = TcpStream::connect(address).expect("the server listens");
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").expect("the server reads");
        let mut read = Vec::new();
        while !read.ends_with(b"chunk\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("the server streams");
            read.push(byte[0]);
        }
        stream
    };
    let stream = tokio::task::spawn_blocking(read_a_chunk).await.expect("no panic");
    assert_eq!(limit.in_flight(), 1);
    drop(stream);
    eventually("the place comes back", || limit.in_flight() == 0).await;
}

#[tokio::test]
async fn a_client_that_is_gone_before_the_head_gives_its_place_back_and_is_no_failure() {
    let (limit, breaker) = (ConcurrencyLimitLayer::fixed(1), breaker());
    let began = Arc::new(Notify::new());
    let tell = began.clone();
    let hangs = move || {
        tell.notify_one();
        std::future::pending::<&'static str>()
    };
    let stack = ServiceBuilder::new().layer(limit.clone()).layer(CircuitBreakerLayer::new(breaker.clone()));
    let address = serve(Router::new().route("/", get(hangs)).layer(stack)).await;
    let ask = move || {
        let mut stream = TcpStream::connect(address).expect("the server listens");
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").expect("the server reads");
        stream
    };
    let stream = tokio::task::spawn_blocking(ask).await.expect("no panic");
    began.notified().await;
    assert_eq!(limit.in_flight(), 1);
    drop(stream);
    eventually("the place comes back", || limit.in_flight() == 0).await;
    assert_eq!(breaker.state(), CircuitState::Closed);
}

//! Servers on a free port, and the simplest of clients.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use axum::Router;
use campanile_middleware::{CircuitBreaker, Verdict};
use tokio::net::TcpListener;
use tonic::{
    service::Routes,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

/// Opens with the first failure, for a time that ends within no test.
pub(crate) fn breaker() -> CircuitBreaker {
    CircuitBreaker::builder("test").consecutive_failures(1).open_for(Duration::from_secs(600)).build()
}

pub(crate) fn open(breaker: &CircuitBreaker) {
    breaker.try_acquire().expect("closed").complete(Verdict::Failure);
}

/// Serves HTTP/1 and HTTP/2 without TLS until the test is over.
pub(crate) async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// gRPC's own health service, which always serves.
pub(crate) fn health() -> Routes {
    Routes::new(tonic_health::server::health_reporter().1)
}

/// Serves the health service by tonic's own server, behind this layer.
pub(crate) async fn serve_tonic<L, B>(layer: L) -> SocketAddr
where
    L: tower::Layer<Routes> + Clone + Send + 'static,
    L::Service: tower::Service<
            http::Request<tonic::body::Body>,
            Response = http::Response<B>,
            Future: Send,
            Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
        > + Clone
        + Send
        + 'static,
    B: http_body::Body<Data = bytes::Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let server = Server::builder().layer(layer).add_routes(health());
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    address
}

pub(crate) fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy()
}

/// Sends these bytes and reads until the server closes.
pub(crate) async fn raw(address: SocketAddr, request: &'static str) -> String {
    let exchange = move || {
        let mut stream = TcpStream::connect(address).expect("the server listens");
        stream.write_all(request.as_bytes()).expect("the server reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the server answers and closes");
        answer
    };
    tokio::task::spawn_blocking(exchange).await.expect("no panic")
}

/// Waits until it is so; fails the test after ten seconds.
pub(crate) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), wait).await.is_ok(), "never: {what}");
}

//! The layers on the client's side.

use std::error::Error;

use campanile_middleware::{CircuitBreakerLayer, CircuitState, Instance, ReplayBody, RoundRobin, VerdictGuard};
use http::Request;
use tonic::{Code, ConnectError, body::Body, transport};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::{Layer, ServiceBuilder, layer::util::Identity};

use crate::servers::{breaker, channel, serve_tonic};

/// An address that refuses connections.
fn nobody() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound")
}

fn never_sent(error: &transport::Error) -> bool {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[tokio::test]
async fn a_breaker_over_a_tonic_channel_opens_and_answers_itself() {
    let breaker = breaker();
    let mut client = HealthClient::new(CircuitBreakerLayer::new(breaker.clone()).layer(channel(nobody())));
    client.check(HealthCheckRequest::default()).await.expect_err("nobody is there");
    assert_eq!(breaker.state(), CircuitState::Open);
    let status = client.check(HealthCheckRequest::default()).await.expect_err("refused");
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the circuit is open: recent calls failed"));
    assert!(status.metadata().contains_key("grpc-retry-pushback-ms"));
}

#[tokio::test]
async fn a_round_robin_over_tonic_channels_passes_over_a_dead_one() {
    let alive = serve_tonic(Identity::new()).await;
    let instances = [("dead", nobody()), ("alive", alive)].map(|(name, address)| {
        let to_channel = |request: Request<ReplayBody<Body>>| request.map(Body::new);
        let service = ServiceBuilder::new().map_request(to_channel).service(channel(address));
        Instance::new(name, service, breaker())
    });
    let balancer = RoundRobin::new(instances.clone()).start(0).never_sent(never_sent);
    let mut client = HealthClient::new(balancer);
    for _ in 0..4 {
        client.check(HealthCheckRequest::default()).await.expect("the other one serves");
    }
    assert_eq!(instances[0].breaker().state(), CircuitState::Open);
    assert_eq!(instances[1].breaker().state(), CircuitState::Closed);
}

/// The names of bodies and guards are public, so that a stack's type can be written down.
#[expect(dead_code, reason = "it is enough that it compiles")]
type ClientBody = campanile_middleware::GuardedBody<Body, VerdictGuard<campanile_middleware::AutoResponse>>;

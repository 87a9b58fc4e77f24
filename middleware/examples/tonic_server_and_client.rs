//! gRPC on both sides: a tonic server with a limit and a circuit, and a tonic client that goes round two addresses, at
//! one of which nobody is.
//!
//! ```text
//! cargo run -p campanile-middleware --example tonic_server_and_client
//! ```
//! The protocol is gRPC's own health protocol, so that the example needs no proto of its own.

use std::{error::Error, net::SocketAddr, time::Duration};

use campanile_middleware::{
    CircuitBreaker, CircuitBreakerLayer, ClientStack, ConcurrencyLimitLayer, Instance, ReplayBody, RoundRobin,
    ServerStack,
};
use http::Request;
use tokio::net::TcpListener;
use tonic::{
    ConnectError,
    body::Body,
    transport::{self, Endpoint, Server, server::TcpIncoming},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::{Layer, ServiceBuilder};

/// Whether the request provably never left: no connection was made.
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

async fn serve() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let breaker = CircuitBreaker::builder("server").build();
    let stack = ServerStack::new()
        .concurrency_limit(ConcurrencyLimitLayer::fixed(256))
        .breaker(CircuitBreakerLayer::new(breaker))
        .deadline(Duration::from_secs(10));
    let (_, health) = tonic_health::server::health_reporter();
    let server = Server::builder().layer(stack).add_service(health);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    Ok(address)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let nobody = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let addresses = [nobody, serve().await?];

    let instance = |address: SocketAddr| -> Result<_, transport::Error> {
        let channel = Endpoint::from_shared(format!("http://{address}"))?.connect_lazy();
        // The body of a request is kept, up to a limit, so that it can be sent to another instance.
        let to_channel = |request: Request<ReplayBody<Body>>| request.map(Body::new);
        let service = ServiceBuilder::new().map_request(to_channel).service(channel);
        let breaker = CircuitBreaker::builder(address.to_string()).consecutive_failures(2).build();
        Ok(Instance::new(address.to_string(), service, breaker))
    };
    let instances = addresses.into_iter().map(instance).collect::<Result<Vec<_>, _>>()?;
    let round = RoundRobin::new(instances).never_sent(never_sent);

    // No circuit around all of them: each instance has its own.
    let stack = ClientStack::new().deadline(Duration::from_secs(2));
    let mut client = HealthClient::new(stack.layer(round.clone()));
    for _ in 0..6 {
        let answer = client.check(HealthCheckRequest::default()).await?;
        println!("{:?}", answer.into_inner().status());
    }
    for instance in &*round.instances() {
        println!("{}: circuit {}", instance.name(), instance.breaker().state());
    }
    Ok(())
}

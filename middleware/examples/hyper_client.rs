//! An HTTP client over two servers, one of which goes away: no request fails, and the dead one is soon left alone.
//!
//! ```text
//! cargo run -p campanile-middleware --example hyper_client
//! ```

use std::{error::Error, net::SocketAddr};

use axum::{Router, body::Body, routing::post};
use campanile_middleware::{AnsweredBy, CircuitBreaker, Instance, ReplayBody, RoundRobin};
use http::{Request, Uri};
use hyper_util::{
    client::legacy::{Client, Error as ClientError},
    rt::TokioExecutor,
};
use tokio::{net::TcpListener, task::AbortHandle};
use tower::{ServiceBuilder, ServiceExt};

async fn serve() -> std::io::Result<(SocketAddr, AbortHandle)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let app = Router::new().route("/orders", post(async |body: String| body.to_uppercase()));
    let server = tokio::spawn(async { axum::serve(listener, app).await });
    Ok((address, server.abort_handle()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let ((one, server_one), (other, _)) = (serve().await?, serve().await?);

    // No idle connections: a kept one could break just when a request is written to it, and then nobody knows what became
    // of it. With them, declare what may be sent twice with `.idempotent(..)`.
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    let instance = |address: SocketAddr| {
        let readdress = move |request: Request<ReplayBody<Body>>| {
            let (mut parts, body) = request.into_parts();
            let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            let uri = Uri::builder().scheme("http").authority(address.to_string()).path_and_query(path);
            parts.uri = uri.build().expect("an address and a path make a URI");
            Request::from_parts(parts, body)
        };
        let service = ServiceBuilder::new().map_request(readdress).service(client.clone());
        let breaker = CircuitBreaker::builder(address.to_string()).consecutive_failures(2).build();
        Instance::new(address.to_string(), service, breaker)
    };
    let orders = RoundRobin::new([instance(one), instance(other)]).never_sent(ClientError::is_connect);

    for number in 0..8 {
        if number == 2 {
            println!("{one} goes away");
            server_one.abort();
        }
        let request = Request::post("/orders").body(Body::from(format!("order {number}")))?;
        let response = orders.clone().oneshot(request).await?;
        let by = response.extensions().get::<AnsweredBy>().ok_or("an instance was asked")?;
        println!("{} by {} after {} attempts", response.status(), by.instance(), by.attempts());
    }
    for instance in &*orders.instances() {
        println!("{}: circuit {}", instance.name(), instance.breaker().state());
    }
    Ok(())
}

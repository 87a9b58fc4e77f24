//! An axum server with the whole stack: start it, and ask it with curl.
//!
//! ```text
//! cargo run -p campanile-middleware --example axum_server
//! curl -i localhost:3000/orders/7      # an answer with its x-request-id
//! curl -i localhost:3000/broken        # three times 500, then 503 with Retry-After: the circuit of this route is open
//! curl -i localhost:3000/panics        # 500 as a problem+json; the connection lives on
//! curl -i localhost:3000/slow          # 504 after two seconds
//! curl -i localhost:3000/health        # answers whatever happens to the others
//! ```

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::{ConnectInfo, MatchedPath, Path},
    http::StatusCode,
    routing::get,
};
use campanile_middleware::{
    AccessLogLayer, CircuitBreaker, ConcurrencyLimitLayer, KeyedCircuitBreakerLayer, Route, ServerStack,
};
use tokio::net::TcpListener;
use tracing_subscriber::filter::LevelFilter;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    tracing_subscriber::fmt().with_max_level(LevelFilter::DEBUG).init();

    // One circuit per route, not per path: the number of circuits is that of the routes.
    let circuits = KeyedCircuitBreakerLayer::new(
        |request| request.extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned()),
        |route| {
            CircuitBreaker::builder(route.as_str()).consecutive_failures(3).open_for(Duration::from_secs(10)).build()
        },
    );
    let log = AccessLogLayer::new()
        .peer(|extensions| extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0))
        .route(|extensions| extensions.get::<MatchedPath>().map(|path| Route::from(path.as_str())));
    let stack = ServerStack::new()
        .access_log(log)
        .concurrency_limit(ConcurrencyLimitLayer::fixed(1024))
        .breaker(circuits)
        .deadline(Duration::from_secs(2));

    let work = Router::new()
        .route("/orders/{id}", get(async |Path(id): Path<u32>| format!("order {id}\n")))
        .route("/broken", get(async || StatusCode::INTERNAL_SERVER_ERROR))
        .route("/panics", get(async || -> &'static str { panic!("a handler panics") }))
        .route("/slow", get(async || tokio::time::sleep(Duration::from_secs(60)).await))
        .layer(stack.guards());
    // Outside of limit and circuits: overload must stay observable.
    let health = Router::new().route("/health", get(async || "up\n"));
    let app = work.merge(health).layer(stack.front());

    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await
}

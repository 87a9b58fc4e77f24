//! The layers without the broker: a web application in axum, and the tonic client that it uses, both guarded by
//! `campanile-middleware` alone.
//!
//! ```text
//!   browser ──► axum app ─────────────────────────────► tonic client ──► inventory service
//!               limit, a circuit for each route         a circuit        (breaks, and is mended)
//! ```
//!
//! ```text
//! cargo run --example circuit_breaker_in_your_app
//! ```
//! The protocol of the inventory service is gRPC's own health protocol, so that the example needs no proto of its own.

use std::{
    error::Error,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing::get,
};
use campanile_middleware::{
    CatchPanicLayer, CircuitBreaker, CircuitBreakerLayer, CircuitBreakerService, CircuitState, ConcurrencyLimitLayer,
    KeyedCircuitBreakerLayer, RequestIdLayer,
};
use tokio::net::TcpListener;
use tonic::{
    Request, Status,
    codegen::BoxStream,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_client::HealthClient,
    health_server::{Health, HealthServer},
};
use tower::{Layer as _, ServiceBuilder};

/// How long a circuit stays open. Short, so that the example is.
const OPEN_FOR: Duration = Duration::from_millis(300);

/// The client that the application uses: an ordinary tonic client over a guarded channel.
type Inventory = HealthClient<CircuitBreakerService<Channel>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let inventory = Arc::new(InventoryService::default());
    let inventory_addr = serve_inventory(Arc::clone(&inventory)).await?;

    // Three failures in a row open it. Whoever clones the client shares the circuit.
    let breaker = CircuitBreaker::builder("inventory")
        .consecutive_failures(3)
        .open_for(OPEN_FOR)
        .on_transition(|change| println!("circuit of {}: {} -> {}", change.name, change.from, change.to))
        .build();
    let channel = Endpoint::from_shared(format!("http://{inventory_addr}"))?.connect_lazy();
    let client = HealthClient::new(CircuitBreakerLayer::new(breaker.clone()).layer(channel));

    let url = serve_app(app(client)).await?;
    let ask = async |path: &str| -> Result<u16, reqwest::Error> {
        let response = reqwest::get(format!("{url}{path}")).await?;
        let again = response.headers().get(RETRY_AFTER).map(|at| format!(", retry after {at:?} s")).unwrap_or_default();
        println!("GET {path}: {}{again}", response.status());
        Ok(response.status().as_u16())
    };

    println!("-- all is well");
    ask("/stock").await?;

    println!("-- the inventory service breaks: after three failures it is left alone");
    inventory.is_broken.store(true, SeqCst);
    for _ in 0..5 {
        ask("/stock").await?;
    }
    println!("the inventory service was asked {} times", inventory.asked.load(SeqCst));

    println!("-- it is mended: one request tries it, and the circuit closes");
    inventory.is_broken.store(false, SeqCst);
    while breaker.state() != CircuitState::Closed {
        tokio::time::sleep(OPEN_FOR / 3).await;
        ask("/stock").await?;
    }

    println!("-- one route of the application panics: it is answered, and only that route is shut");
    for path in ["/report", "/report", "/report", "/stock"] {
        ask(path).await?;
    }
    Ok(())
}

/// The application. The layers' state is theirs, so that one limit and one circuit per route hold for all connections.
fn app(inventory: Inventory) -> Router {
    let layers = ServiceBuilder::new()
        .layer(RequestIdLayer::new())
        // One request more is refused at once, with 503 and a time to retry after.
        .layer(ConcurrencyLimitLayer::fixed(100))
        .layer(KeyedCircuitBreakerLayer::new(
            |request| Some(request.uri.path().to_owned()),
            |path| CircuitBreaker::builder(path.as_str()).consecutive_failures(2).open_for(OPEN_FOR).build(),
        ))
        // Innermost, so that the circuit sees the answer that a panic becomes.
        .layer(CatchPanicLayer::new().on_panic(|what| println!("a handler panicked: {what}")));
    let report = get(async || -> StatusCode { panic!("the report has no data") });
    Router::new().route("/stock", get(stock)).route("/report", report).layer(layers).with_state(inventory)
}

async fn stock(State(mut inventory): State<Inventory>) -> Response {
    match inventory.check(HealthCheckRequest::default()).await {
        Ok(answer) => format!("{:?}", answer.into_inner().status()).into_response(),
        // The page without its stock figure is better than an error, so this is no failure of the route.
        Err(status) => (StatusCode::NOT_FOUND, status.message().to_owned()).into_response(),
    }
}

async fn serve_app(app: Router) -> Result<String, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async { axum::serve(listener, app).await });
    Ok(format!("http://{addr}"))
}

/// A service that somebody else runs, and that breaks.
#[derive(Debug, Default)]
struct InventoryService {
    is_broken: AtomicBool,
    asked: AtomicU32,
}

#[tonic::async_trait]
impl Health for InventoryService {
    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        self.asked.fetch_add(1, SeqCst);
        if self.is_broken.load(SeqCst) {
            return Err(Status::unavailable("the inventory's database is away"));
        }
        Ok(tonic::Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    type WatchStream = BoxStream<HealthCheckResponse>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<tonic::Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("nobody watches"))
    }
}

async fn serve_inventory(service: Arc<InventoryService>) -> Result<SocketAddr, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let server = Server::builder().add_service(HealthServer::from_arc(service));
    tokio::spawn(async { server.serve_with_incoming(TcpIncoming::from(listener)).await });
    Ok(addr)
}
